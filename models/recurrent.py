"""How likely is each outcome, by a recurrent network? GRU-D (Che, Sci Rep 2018;8:6085), on the transformer's batches.

Each row is read for itself: its network starts empty at its oldest visit within the look-back and ends at the
prediction time, so that nothing older is carried along. Between two visits what the network remembers fades, and the
last measured values fade towards the train patients' middle (nought on the quantile scale), each at a learned pace.

Otherwise than in the paper, codes come along as the vector of the visit, and a pace has no constant part: no time
fades nothing, and what fades over two gaps is what fades over their sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from features.points import DAY_US, DAYS_PER_YEAR
from models.batches import SequenceBatch
from models.network_settings import NetworkSettings
from models.risk_transformer import HazardHead
from models.sequences import Sequences, Spans
from models.visit_encoder import EncoderShape, VisitEncoder, partly_hidden


class RecurrentSettings(NetworkSettings, frozen=True, extra="forbid"):
    """Size and training of GRU-D or RETAIN."""

    kind: Literal["gru_d", "retain"] = Field(default="gru_d", description="RETAIN where its own explanation is wanted.")
    width: int = Field(default=32, gt=0, description="Numbers that describe a visit, and that are remembered.")
    most_measured: int = Field(default=32, gt=0, description="The commonest measured codes, whose values fade.")
    most_visits: int = Field(default=64, gt=0, description="Newest visits of the look-back that are read.")
    value_knots: int = 6
    dropout: float = 0.4
    event_dropout: float = 0.3
    epochs: int = 5
    patience: int = 2
    weight_decay: float = 0.05


@dataclass(frozen=True)
class RowSteps:
    """The visits that each of N rows reads, oldest first, and the row itself as the last step; padded to L steps.

    places (N, L): where each step stands among the places of the batch; lengths (N,); gaps_years (N, L): since the step
    before, 0 for the first, whatever came before the look-back.
    """

    places: Tensor
    lengths: Tensor
    gaps_years: Tensor


def row_steps(batch: SequenceBatch, most_visits: int) -> RowSteps:
    """What each row of the batch reads: the newest `most_visits` of its past, then itself. Padding repeats the row."""
    places_of_stretch, visits = batch.is_seen.shape[1:]
    stretch = batch.row_places // places_of_stretch
    seen = batch.is_seen.flatten(0, 1)[batch.row_places]  # (N, V), one run of trues
    sizes = seen.sum(dim=1)
    stop = (
        torch.where(sizes > 0, (seen * torch.arange(1, visits + 1, device=seen.device)).amax(dim=1), 0)
        if visits
        else sizes
    )
    lengths = sizes.clamp(max=most_visits) + 1
    step = torch.arange(int(lengths.max()), device=seen.device)
    of_visit = (stretch * places_of_stretch + stop - (lengths - 1))[:, None] + step  # (N, L)
    is_visit = step < (lengths - 1)[:, None]
    places = torch.where(is_visit, of_visit, batch.row_places[:, None])
    years = batch.moments_us.flatten()[places].double() / (DAY_US * DAYS_PER_YEAR)
    gaps = years.diff(dim=1, prepend=years[:, :1]).clamp(min=0)
    return RowSteps(places, lengths, gaps.float())


@dataclass(frozen=True)
class PackedSteps:
    """The same steps without padding: first that of every row, then the second of all rows that have one, and so on.

    P steps of N rows, those with the most steps first: order (N,) says which rows these are, sizes how many of them
    take part in each turn. places, rows, gaps_years (P,).
    """

    places: Tensor
    rows: Tensor
    gaps_years: Tensor
    sizes: list[int]
    order: Tensor


def packed(steps: RowSteps) -> PackedSteps:
    """Leave out the padding."""
    order = steps.lengths.argsort(descending=True, stable=True)
    turn = torch.arange(steps.places.shape[1], device=order.device)[:, None]
    takes_part = turn < steps.lengths[order]  # (L, N)
    return PackedSteps(
        places=steps.places[order].T[takes_part],
        rows=order.expand_as(takes_part)[takes_part],
        gaps_years=steps.gaps_years[order].T[takes_part],
        sizes=takes_part.sum(dim=1).tolist(),
        order=order,
    )


def faded(values: Tensor, measured: Tensor, rates: Tensor, steps: PackedSteps) -> Tensor:
    """The last value of each code at each step, faded towards 0: exp(-rate x years) of it is left.

    Shapes: X places, M codes: values, measured (X, M), rates (M,) per year -> (P, M). measured is 1 where there is a
    value and 0 where there is none; a part between mixes the two.
    """
    left = torch.exp(-steps.gaps_years[:, None] * rates)
    new = (values * measured).index_select(0, steps.places)
    kept = (1 - measured).index_select(0, steps.places) * left
    held = values.new_zeros(len(steps.order), values.shape[1])
    turns = []
    for at_step, share in zip(new.split(steps.sizes), kept.split(steps.sizes), strict=True):
        held = at_step + share * held[: len(at_step)]
        turns.append(held)
    return torch.cat(turns)


class GruD(nn.Module):
    """A gated recurrent unit whose memory and inputs fade with time.

    Shapes: X places, N rows, D width, M measured codes: visits (X, D), values and measured (X, M) -> (N, D), what is
    remembered after the last step of each row.
    """

    def __init__(self, width: int, measured: int) -> None:
        super().__init__()
        self.from_visit = nn.Linear(width + measured, 3 * width)
        self.from_held = nn.Linear(measured, 3 * width, bias=False)
        self.from_memory = nn.Linear(width, 3 * width)
        # Softplus of these is the pace per year: 0.7 at first, so half is left after a year.
        self.value_pace = nn.Parameter(torch.zeros(measured))
        self.memory_pace = nn.Parameter(torch.zeros(width))

    def forward(self, visits: Tensor, values: Tensor, measured: Tensor, steps: PackedSteps) -> Tensor:
        """Read the steps one after the other."""
        held = faded(values, measured, F.softplus(self.value_pace), steps)  # (P, M)
        # A visit is worked out once for all rows that read it.
        of_visit = self.from_visit(torch.cat([visits, measured], dim=-1)).index_select(0, steps.places)  # (P, 3D)
        gates = (of_visit + self.from_held(held)).split(steps.sizes)
        left = torch.exp(-steps.gaps_years[:, None] * F.softplus(self.memory_pace)).split(steps.sizes)
        memories = remembered(gates, left, self.from_memory)
        finished = [
            memory[len(after) :] for memory, after in zip(memories, [*memories[1:], memories[0][:0]], strict=True)
        ]
        return torch.cat(finished[::-1])[steps.order.argsort()]


def remembered(gates: Sequence[Tensor], left: Sequence[Tensor] | None, from_memory: nn.Linear) -> list[Tensor]:
    """What a gated recurrent unit remembers after each turn; `left` is how much is left of what was before it.

    Shapes: n rows in a turn, never more than before: gates (n, 3D), left (n, D) -> (n, D), one for each turn.
    """
    memory = gates[0].new_zeros(len(gates[0]), gates[0].shape[1] // 3)
    memories = []
    for turn, at_step in enumerate(gates):
        memory = memory[: len(at_step)] if left is None else memory[: len(at_step)] * left[turn]
        reset, update, new = at_step.chunk(3, dim=-1)
        old_reset, old_update, old_new = from_memory(memory).chunk(3, dim=-1)
        update = torch.sigmoid(update + old_update)
        candidate = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
        memory = candidate + update * (memory - candidate)
        memories.append(memory)
    return memories


class RecurrentRisk(nn.Module):
    """Hazards of every task at every prediction time, by GRU-D. Shapes as in RiskTransformer."""

    columns: Tensor

    def __init__(
        self, shape: EncoderShape, measured: list[int], tasks: int, intervals: int, settings: RecurrentSettings
    ):
        super().__init__()
        self.tasks, self.most_visits, self.dropout = tasks, settings.most_visits, settings.dropout
        self.encoder = VisitEncoder(shape, settings.width, settings.value_knots, settings.event_dropout)
        self.event_dropout = settings.event_dropout
        self.memory = GruD(settings.width, len(measured))
        self.norm = nn.LayerNorm(settings.width)
        self.to_hazards = HazardHead(settings.width, self.encoder.wide, tasks, intervals)
        columns = torch.full((shape.tokens,), -1)
        columns[measured] = torch.arange(len(measured))
        self.measured = len(measured)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, batch: SequenceBatch, event_weights: Tensor | None = None) -> Tensor:
        """Hazard logits of the batch's rows, in their order. event_weights (E,): how much of each event is there."""
        if event_weights is None:
            event_weights = partly_hidden(torch.ones_like(batch.values), self.event_dropout, self.training)
        encoded, wide = self.encoder(batch, event_weights)
        places = partly_hidden(encoded.flatten(0, 1), self.dropout, self.training)  # (S * T, D)
        values, measured = measured_values(batch, self.columns, self.measured, event_weights)
        summary = self.memory(places, values, measured, packed(row_steps(batch, self.most_visits)))
        summary = self.norm(summary + places[batch.row_places])  # sex and lasting conditions stand at the row itself
        summary = partly_hidden(summary, self.dropout, self.training)
        row = batch.row_places % encoded.shape[1] - batch.is_seen.shape[-1]
        return self.to_hazards(summary, wide[batch.row_places // encoded.shape[1], row])


def measured_values(batch: SequenceBatch, columns: Tensor, width: int, event_weights: Tensor) -> tuple[Tensor, Tensor]:
    """The mean value of each measured code at each place, 0 where none, and how much of a value there is (0 to 1).

    Shapes: columns (tokens,), the column of each token or -1 -> (S * T, width) twice.
    """
    place = torch.arange(len(batch.bag_sizes), device=batch.tokens.device).repeat_interleave(batch.bag_sizes)  # (E,)
    is_measured = (columns[batch.tokens] >= 0) & ~batch.values.isnan()
    cell = (place * width + columns[batch.tokens])[is_measured]
    weight = event_weights[is_measured].clamp(max=1)  # what dropout leaves in place is a whole value
    zeros = weight.new_zeros(len(batch.bag_sizes) * width)
    total = zeros.index_add(0, cell, weight * batch.values[is_measured])
    weights = zeros.index_add(0, cell, weight)
    return (total / weights.clamp(min=1e-6)).view(-1, width), weights.clamp(max=1).view(-1, width)


def commonest_measured(sequences: Sequences, rows: NDArray[np.integer], most: int) -> list[int]:
    """The tokens with the most values in the past of `rows` (train rows), commonest first; at most `most`."""
    visits = np.unique(sequences.past[rows].places())
    sizes = np.diff(sequences.visit_ends)[visits]
    places = Spans(sequences.visit_ends[visits], sizes).places()
    tokens, values = (sequences.events[name].to_numpy()[places] for name in ("token", "value"))
    counts = np.bincount(tokens[~np.isnan(values)])
    order = np.argsort(-counts, kind="stable")[:most]
    return order[counts[order] > 0].tolist()
