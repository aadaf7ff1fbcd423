"""How likely is each outcome, by a network whose sum can be read? RETAIN (Choi, NeurIPS 2016) on the same batches.

Two recurrent networks read a row's visits from the newest to the oldest. One says how much each visit counts, the other
how much each of its numbers does; the summary is the sum of the visits so weighted, and a visit is the sum of its
events. So each event adds a known amount to the logit, and the amounts sum to it: no other explanation is needed.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.batches import SequenceBatch
from models.hazards import EVENT, NONE
from models.recurrent import PackedSteps, RecurrentSettings, RowSteps, packed, remembered, row_steps
from models.visit_encoder import partly_hidden

AGE_KNOTS_YEARS = (20.0, 40.0, 55.0, 65.0, 75.0)


@dataclass(frozen=True)
class Contributions:
    """What each event, and age at each row's visits, adds to its row's logit; of N rows with E events.

    events (E,), in the order of the batch, 0 for what the row does not read; ages (N,); logits (N,) their sum: the
    log-odds of the event against nothing in an interval, less the bias, in the mean of the intervals asked for.
    """

    events: Tensor
    ages: Tensor
    logits: Tensor


class ReverseAttention(nn.Module):
    """How much each number of each visit counts, judged from the newest visit back.

    Shapes: X places, P steps, D width: visits (X, D) -> (P, D), of each row's steps, newest first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_visit = nn.Linear(width, 6 * width)  # for two recurrent networks
        self.from_gap = nn.Linear(1, 6 * width, bias=False)
        self.visit_memory = nn.Linear(width, 3 * width)
        self.number_memory = nn.Linear(width, 3 * width)
        self.to_visit = nn.Linear(width, 1)
        self.to_number = nn.Linear(width, width)

    def forward(self, visits: Tensor, steps: PackedSteps) -> Tensor:
        """Weights that are read beside the visits, not instead of them."""
        gaps = (steps.gaps_years * 12).log1p()[:, None]  # months, on a log scale
        gates = self.from_visit(visits).index_select(0, steps.places) + self.from_gap(gaps)  # (P, 6D)
        of_visit, of_number = (
            torch.cat(remembered(half.split(steps.sizes), None, memory))
            for half, memory in zip(gates.chunk(2, dim=1), (self.visit_memory, self.number_memory), strict=True)
        )
        scores = self.to_visit(of_visit)  # (P, 1)
        nought = scores.new_zeros(len(steps.order), 1)
        # Of each row, not of the batch: beside a row with far higher scores another's would all vanish.
        highest = nought.scatter_reduce(0, steps.rows[:, None], scores.detach(), "amax", include_self=False)
        strength = (scores - highest.index_select(0, steps.rows)).exp()
        together = nought.index_add(0, steps.rows, strength)
        return strength / together.index_select(0, steps.rows) * torch.tanh(self.to_number(of_number))


class PlainHead(nn.Module):
    """A weight of its own for every hazard, so that each is a plain sum. Shapes: (N, D) -> (N, Q, K, 3)."""

    def __init__(self, width: int, tasks: int, intervals: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(tasks, intervals, 3, width) / 100)
        self.bias = nn.Parameter(torch.zeros(tasks, intervals, 3))

    def forward(self, summaries: Tensor) -> Tensor:
        """Logits, of which a softmax over the last dimension gives chances."""
        return torch.einsum("nd,qkcd->nqkc", summaries, self.weight) + self.bias


class Retain(nn.Module):
    """Hazards of every task at every prediction time, by RETAIN. Shapes as in RiskTransformer.

    An event is its code's vector plus its value, where it has one, times the code's value vector.
    """

    def __init__(self, tokens: int, tasks: int, intervals: int, settings: RecurrentSettings) -> None:
        super().__init__()
        self.tasks, self.most_visits = tasks, settings.most_visits
        self.dropout, self.event_dropout = settings.dropout, settings.event_dropout
        self.code = nn.Embedding(tokens, settings.width)
        self.value = nn.Embedding(tokens, settings.width)
        self.age = nn.Linear(len(AGE_KNOTS_YEARS) + 1, settings.width, bias=False)
        self.attention = ReverseAttention(settings.width)
        self.to_hazards = PlainHead(settings.width, tasks, intervals)
        for embedding in (self.code, self.value):
            nn.init.normal_(embedding.weight, std=0.1)
        nn.init.normal_(self.age.weight, std=0.02)  # at first age must not drown the codes

    def forward(self, batch: SequenceBatch, event_weights: Tensor | None = None) -> Tensor:
        """Hazard logits of the batch's rows, in their order. event_weights (E,): how much of each event is there."""
        if event_weights is None:
            event_weights = partly_hidden(torch.ones_like(batch.values), self.event_dropout, self.training)
        steps, visits, weights = self._read(batch, event_weights)
        summary = visits.new_zeros(len(batch.rows), visits.shape[1]).index_add(0, steps.rows, visits * weights)
        return self.to_hazards(partly_hidden(summary, self.dropout, self.training))

    def _read(self, batch: SequenceBatch, event_weights: Tensor) -> tuple[PackedSteps, Tensor, Tensor]:
        """The steps of each row, newest first, their vectors and their weights, both (P, D)."""
        sums = F.embedding_bag(
            batch.tokens, self.code.weight, batch.bag_starts, mode="sum", per_sample_weights=event_weights
        ) + F.embedding_bag(
            batch.tokens,
            self.value.weight,
            batch.bag_starts,
            mode="sum",
            per_sample_weights=event_weights * batch.values.nan_to_num(),
        )
        places = sums / _roots(batch)[:, None] + self.age(_ages(batch))  # (S * T, D)
        places = partly_hidden(places, self.dropout, self.training)
        steps = newest_first(row_steps(batch, self.most_visits))
        return steps, places.index_select(0, steps.places), self.attention(places, steps)

    @torch.no_grad()
    def contributions(self, batch: SequenceBatch, task: int, intervals: int) -> Contributions:
        """What the network itself says that each event adds. Raises ValueError unless each stretch holds one row.

        `task` and `intervals` (up to the horizon) as for RiskTransformer.
        """
        if len(batch.rows) != len(batch.is_seen):
            raise ValueError(
                "An event adds something else to each row: give stretches of one row (stretches_of, most=1)."
            )
        steps, visits, weights = self._read(batch, torch.ones_like(batch.values))
        of_hazard = self.to_hazards.weight[task, :intervals]  # (K, 3, D)
        toward = (of_hazard[:, EVENT] - of_hazard[:, NONE]).mean(dim=0)  # (D,)
        slopes = weights * toward  # (P, D)
        of_place = torch.zeros(len(batch.bag_sizes), visits.shape[1], device=visits.device)
        of_place[steps.places] = slopes
        place = torch.arange(len(batch.bag_sizes), device=visits.device).repeat_interleave(batch.bag_sizes)  # (E,)
        vectors = self.code(batch.tokens) + self.value(batch.tokens) * batch.values.nan_to_num()[:, None]
        zeros = vectors.new_zeros(len(batch.rows))
        return Contributions(
            events=(vectors * of_place[place]).sum(dim=1) / _roots(batch)[place],
            ages=zeros.index_add(0, steps.rows, (self.age(_ages(batch))[steps.places] * slopes).sum(dim=1)),
            logits=zeros.index_add(0, steps.rows, (visits * slopes).sum(dim=1)),
        )


def newest_first(steps: RowSteps) -> PackedSteps:
    """The steps of each row from itself back; a gap is still that to the visit before."""
    step = torch.arange(steps.places.shape[1], device=steps.places.device)
    turned = (steps.lengths[:, None] - 1 - step).clamp(min=0)
    return packed(RowSteps(steps.places.gather(1, turned), steps.lengths, steps.gaps_years.gather(1, turned)))


def _roots(batch: SequenceBatch) -> Tensor:
    """The square root of each place's events keeps a visit with many of them from drowning the others."""
    return batch.bag_sizes.clamp(min=1).float().sqrt()


def _ages(batch: SequenceBatch) -> Tensor:
    """Age as a line that may bend at each knot. Shapes: -> (S * T, knots + 1)."""
    years = batch.ages.flatten()[:, None] * 100
    knots = years.new_tensor(AGE_KNOTS_YEARS)
    return torch.cat([(years - 50) / 20, (years - knots).relu() / 20], dim=1)
