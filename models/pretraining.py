"""What can a network learn from timelines without any label? To foresee what the record says next.

At every visit four things are asked: the codes of the next visit, the time to it, the time until each common code
comes again or for the first time (as MOTOR does, Steinberg 2023: discrete hazards, censored at the timeline's end), and
the next value of each measured code. The network is then fine-tuned on the labels, of which there may be few.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.batches import SequenceBatch
from models.sequences import Sequences, Spans

MOST_CODES = 512
EDGES_DAYS = (0.0, 30.0, 180.0, 365.0, 730.0, 1825.0)  # of the time to a code
GAP_EDGES_DAYS = (7.0, 30.0, 90.0, 180.0, 365.0)  # of the time to the next visit: six classes


@dataclass(frozen=True)
class Foreseen:
    """What is foreseen: `place` (tokens,) of each token among the C codes that are, -1 for the others, and of each code
    whether it has values (C,)."""

    place: Tensor
    has_values: Tensor


def foreseen_codes(sequences: Sequences, visits: NDArray[np.integer], tokens: int) -> Foreseen:
    """The commonest tokens of these `visits` (places), those of train patients; at most 512."""
    of_visits = Spans(sequences.visit_ends[visits], np.diff(sequences.visit_ends)[visits]).places()
    token = sequences.events["token"].to_numpy()[of_visits]
    counts = np.bincount(token, minlength=tokens)
    chosen: NDArray[np.int64] = np.sort(np.argsort(-counts, kind="stable")[:MOST_CODES])
    chosen = chosen[counts[chosen] > 0]
    has_value = ~np.isnan(sequences.events["value"].to_numpy()[of_visits])
    measured = np.bincount(token, weights=has_value, minlength=tokens)
    place = torch.full((tokens,), -1)
    place[torch.from_numpy(chosen)] = torch.arange(len(chosen))
    return Foreseen(place, torch.from_numpy(measured[chosen] > 0))


class PretrainingHeads(nn.Module):
    """Answers at every visit. Shapes: summaries (S, V, D) -> next codes (S, V, C), gap (S, V, G), hazards (S, V, C, K),
    next values (S, V, C)."""

    def __init__(self, width: int, codes: int) -> None:
        super().__init__()
        self.codes = codes
        self.to_next = nn.Linear(width, codes)
        self.to_gap = nn.Linear(width, len(GAP_EDGES_DAYS) + 1)
        self.to_hazards = nn.Linear(width, codes * (len(EDGES_DAYS) - 1))
        self.to_values = nn.Linear(width, codes)
        for head in (self.to_next, self.to_hazards):
            nn.init.constant_(head.bias, -3.0)

    def forward(self, summaries: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four answers."""
        hazards = self.to_hazards(summaries).unflatten(-1, (self.codes, -1))
        return self.to_next(summaries), self.to_gap(summaries), hazards, self.to_values(summaries)


@dataclass(frozen=True)
class NextEvents:
    """What followed each visit: is_asked (S, V): whether another visit follows at all; is_next (S, V, C); gap_class
    (S, V); days (S, V, C) until each code, inf when it never comes; followed_days (S, V); values (S, V, C), NaN."""

    is_asked: Tensor
    is_next: Tensor
    gap_class: Tensor
    days: Tensor
    followed_days: Tensor
    values: Tensor


def next_events(batch: SequenceBatch, foreseen: Foreseen) -> NextEvents:
    """Read off the visits of the batch what followed each of them; stretches should be whole timelines."""
    stretches, places = batch.days.shape
    visits, here = batch.is_seen.shape[-1], batch.days.device
    place_of_event = torch.repeat_interleave(batch.bag_sizes)
    code = foreseen.place.to(here)[batch.tokens]
    counts = (place_of_event % places < visits) & (code >= 0)
    at = torch.stack([place_of_event // places, place_of_event % places, code])  # (3, E)
    shape = (stretches, visits, len(foreseen.has_values))
    day = batch.days[:, :visits].float()
    is_there = torch.zeros(shape, dtype=torch.bool, device=here)
    is_there[tuple(at[:, counts])] = True
    value = torch.full(shape, torch.nan, device=here)
    is_valued = counts & ~batch.values.isnan()  # what came without a number must not hide one of the same day
    value[tuple(at[:, is_valued])] = batch.values[is_valued]
    never = torch.full((stretches, 1, shape[-1]), torch.inf, device=here)
    coming = later(torch.where(is_there, day[..., None], torch.inf), never)
    order = torch.arange(visits, device=here)[:, None]
    measured = later(torch.where(value.isnan(), visits, order), torch.full_like(never, visits, dtype=torch.int64))
    padded = torch.cat([value, never * torch.nan], dim=1)
    exists = batch.is_seen[:, :visits].any(dim=-1)  # a visit sees itself
    has_next = torch.cat([exists[:, 1:], torch.zeros_like(exists[:, :1])], dim=1)
    gap = torch.cat([day[:, 1:], day[:, -1:]], dim=1) - day
    # With one more, so that there is a last one even where no stretch has a visit.
    last = F.pad(torch.where(exists, day, -torch.inf), (0, 1), value=-torch.inf).amax(dim=1, keepdim=True)
    return NextEvents(
        is_asked=has_next,
        is_next=torch.cat([is_there[:, 1:], torch.zeros_like(is_there[:, :1])], dim=1),
        gap_class=torch.bucketize(gap, torch.tensor(GAP_EDGES_DAYS, device=here)),
        days=coming - day[..., None],
        followed_days=last - day,
        values=padded.gather(1, measured),
    )


def later(by_visit: Tensor, never: Tensor) -> Tensor:
    """The least of what stands at later visits. Shapes: (S, V, C), (S, 1, C) -> (S, V, C)."""
    following = torch.cat([by_visit[:, 1:], never], dim=1)[:, : by_visit.shape[1]]
    return following.flip(1).cummin(dim=1)[0].flip(1)


def pretraining_loss(heads: PretrainingHeads, summaries: Tensor, following: NextEvents, foreseen: Foreseen) -> Tensor:
    """The four losses together of each visit that another follows, those of codes summed over codes and intervals.

    Shapes: summaries (S, V, D) -> (M,). The sums over codes are divided by ten, about the codes of a visit.
    """
    asked = following.is_asked
    following_codes, gap, hazards, values = heads(summaries[asked])  # (M, ...)
    code_loss = F.binary_cross_entropy_with_logits(
        following_codes, following.is_next[asked].to(following_codes), reduction="none"
    ).sum(dim=-1)
    gap_loss = F.cross_entropy(gap, following.gap_class[asked], reduction="none")
    edges = torch.tensor(EDGES_DAYS, device=summaries.device)
    days, followed = following.days[asked][..., None], following.followed_days[asked][:, None, None]
    at_risk = (days > edges[:-1]) & ((followed >= edges[1:]) | (days <= edges[1:]))
    comes = (days > edges[:-1]) & (days <= edges[1:])
    hazard_loss = F.binary_cross_entropy_with_logits(hazards, comes.to(hazards), reduction="none")
    hazard_loss = (hazard_loss * at_risk).sum(dim=(-1, -2))
    known = following.values[asked]
    is_missing = known.isnan() | ~foreseen.has_values.to(known.device)
    value_loss = (values - known.nan_to_num()).abs().masked_fill(is_missing, 0).sum(dim=-1)
    return gap_loss + (code_loss + hazard_loss + value_loss) / 10
