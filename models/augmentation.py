"""How do few timelines become more? Each time one is learnt from, it is changed a little, as it might have been.

Whole events are hidden by the visit encoder (`event_dropout`); here are the other changes. None adds anything that is
not in the row's own look-back, and what is done to a visit is done for every row that sees it.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from features.points import DAY_US
from models.batches import SequenceBatch


@dataclass(frozen=True)
class Siblings:
    """For each token the others of its closest heading: `tokens` from `starts` on, `sizes` of them."""

    tokens: Tensor
    starts: Tensor
    sizes: Tensor


def siblings_of(headings: list[list[int]], with_values: list[int]) -> Siblings:
    """The tokens without values that share the smallest of a token's headings. A token with values has none."""
    members: dict[int, list[int]] = {}
    for token, of_token in enumerate(headings):
        for heading in of_token if token not in set(with_values) else []:
            members.setdefault(heading, []).append(token)
    lists = []
    for token, of_token in enumerate(headings):
        closest = min((members.get(heading, []) for heading in of_token), key=len, default=[])
        lists.append([other for other in closest if other != token] if token in closest else [])
    sizes = torch.tensor([len(one) for one in lists], dtype=torch.int64)
    return Siblings(
        torch.tensor([token for one in lists for token in one] or [0]),
        torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(dim=0)[:-1]]),
        sizes,
    )


def augmented(
    batch: SequenceBatch, siblings: Siblings, *, time_jitter_days: float, crop_share: float, swap_share: float
) -> SequenceBatch:
    """The batch, changed at random (torch's global random state).

    time_jitter_days: visits move by up to this in both directions; who sees them stays as it is. crop_share: of this
    share of the stretches the record begins later, anywhere in it: nobody sees the visits before. swap_share: this
    share of the events of visits becomes another code of its closest heading.
    """
    visits = batch.is_seen.shape[-1]
    if time_jitter_days:
        moved = (torch.rand(batch.moments_us[:, :visits].shape) * 2 - 1) * time_jitter_days * DAY_US
        moments = batch.moments_us.clone()
        moments[:, :visits] += moved.long()
        moments[:, :visits].clamp_(max=0)
        batch = replace(batch, moments_us=moments)
    if crop_share:
        first = batch.days.amin(dim=1, keepdim=True)  # (S, 1), at most 0
        begins = torch.where(torch.rand(first.shape) < crop_share, torch.rand(first.shape) * first, first)
        is_seen = batch.is_seen & (batch.days[:, None, :visits] >= begins[..., None])
        batch = replace(batch, is_seen=is_seen, gaps=batch.gaps * is_seen.any(dim=-1))
    if swap_share:
        sizes = siblings.sizes[batch.tokens]
        other = siblings.starts[batch.tokens] + (torch.rand(sizes.shape) * sizes).long()
        is_swapped = (torch.rand(sizes.shape) < swap_share) & (sizes > 0) & ~batch.is_state
        swapped = siblings.tokens[other.clamp(max=len(siblings.tokens) - 1)]
        batch = replace(batch, tokens=torch.where(is_swapped, swapped, batch.tokens))
    return batch
