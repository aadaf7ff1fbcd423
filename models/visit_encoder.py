"""What is known at one moment, as a vector: the codes and values of a visit, with age."""

import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor, nn

from models.batches import SequenceBatch
from models.lookback_summary import LookbackSummary
from models.vocabulary import SequenceVocabulary

AGE_KNOTS = (20, 40, 55, 65, 75, 85)


class EncoderShape(BaseModel, frozen=True, extra="forbid"):
    """What the encoder needs to know of the vocabulary: how many tokens there are; of each, the wider headings that it
    belongs to (places in a list of their own); which tokens have values; and which are counted over the look-back."""

    tokens: int
    headings: list[list[int]]
    with_values: list[int]
    counted: list[int]


def encoder_shape(vocabulary: SequenceVocabulary) -> EncoderShape:
    """The shape that a vocabulary asks for."""
    return EncoderShape(
        tokens=len(vocabulary.tokens),
        headings=vocabulary.headings or [[] for _ in vocabulary.tokens],
        with_values=[
            place
            for place, word in enumerate(vocabulary.tokens)
            if word in vocabulary.scales or word.startswith("STATE//")
        ],
        counted=vocabulary.counted,
    )


class VisitEncoder(nn.Module):
    """Pools the events of a place and adds its age, and of a row the gap since its last visit.

    An event is the vector of its code, the sum of its own and those of its wider headings, plus a vector for its
    value: a line between the vectors of the two nearest of the code's `knots`, which lie evenly from -1 to 1 on its
    scale; the outer knots stand for all beyond, which the look-back summary tells apart.
    Shapes: E events, S stretches, T places, D width: batch -> (S, T, D).
    """

    heading_list: Tensor
    heading_starts: Tensor
    first_knot: Tensor

    def __init__(self, shape: EncoderShape, width: int, knots: int, event_dropout: float) -> None:
        super().__init__()
        self.shape, self.event_dropout, self.knots = shape, event_dropout, knots
        self.code = nn.Embedding(shape.tokens, width)
        headings = [place for of_token in shape.headings for place in of_token]
        self.heading = nn.Embedding(max(headings, default=0) + 1, width)
        self.value = nn.Embedding(max(1, len(shape.with_values)) * knots, width)
        self.kind = nn.Embedding(2, width)  # a visit, a prediction time
        self.time = nn.Linear(3 + len(AGE_KNOTS), width)
        self.lookback = LookbackSummary(shape.tokens, shape.counted, shape.with_values)
        self.wide = self.lookback.numbers + 3 + len(AGE_KNOTS)
        self.from_lookback = nn.Linear(self.lookback.numbers, width)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        for embedding in (self.code, self.heading, self.value, self.kind):
            nn.init.normal_(embedding.weight, std=0.1)
        starts = torch.tensor([0, *(len(of_token) for of_token in shape.headings)]).cumsum(dim=0)[:-1]
        first_knot = torch.zeros(shape.tokens, dtype=torch.int64)
        first_knot[shape.with_values] = torch.arange(len(shape.with_values)) * knots
        self.register_buffer("heading_list", torch.tensor(headings, dtype=torch.int64), persistent=False)
        self.register_buffer("heading_starts", starts, persistent=False)
        self.register_buffer("first_knot", first_knot, persistent=False)

    def forward(self, batch: SequenceBatch, event_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors of the places (S, T, D), and what is known of each row in plain numbers (S, T - V, W).

        event_weights (E,) says how much of each event is there: ones, or in training some noughts, when None.
        """
        if event_weights is None:
            event_weights = partly_hidden(torch.ones_like(batch.values), self.event_dropout, self.training)
        is_absent = batch.values.isnan()
        place = ((batch.values.nan_to_num() + 1) / 2 * (self.knots - 1)).clamp(0, self.knots - 1)
        lower = place.floor().clamp(max=self.knots - 2)
        share = place - lower
        knot = self.first_knot[batch.tokens] + lower.long()
        weights = event_weights.masked_fill(is_absent, 0)
        codes = self.code.weight + F.embedding_bag(
            self.heading_list, self.heading.weight, self.heading_starts, mode="sum"
        )
        pooled = (
            summed(batch.tokens, codes, batch, event_weights)
            + summed(knot, self.value.weight, batch, weights * (1 - share))
            + summed(knot + 1, self.value.weight, batch, weights * share)
        )
        # The square root keeps a visit with many events from drowning the others.
        pooled = pooled / batch.bag_sizes.clamp(min=1).sqrt()[:, None]  # (S * T, D)
        visits = batch.is_seen.shape[-1]
        is_row = (torch.arange(batch.ages.shape[1], device=batch.ages.device) >= visits).expand_as(batch.ages)
        has_gap = batch.gaps > 0
        gap = batch.gaps.log1p() / 7
        # In steps of twenty years about fifty: a straight line, and one more from each knot on.
        age = (batch.ages * 100 - 50) / 20
        bends = [(age - (knot - 50) / 20).relu() for knot in AGE_KNOTS]
        when = torch.stack([age, gap, has_gap.to(gap), *bends], dim=-1)
        place_vector = pooled.view(*batch.ages.shape, -1) + self.time(when) + self.kind(is_row.long())
        lookback = self.lookback(batch, event_weights)  # (S, T - V, F)
        place_vector = place_vector + F.pad(self.from_lookback(lookback), (0, 0, visits, 0))
        return place_vector + self.mix(place_vector), torch.cat([lookback, when[:, visits:]], dim=-1)


def summed(places: Tensor, table: Tensor, batch: SequenceBatch, weights: Tensor) -> Tensor:
    """The weighted sum of each bag. Shapes: places (E,), table (M, D), weights (E,) -> (S * T, D)."""
    return F.embedding_bag(places, table, batch.bag_starts, mode="sum", per_sample_weights=weights)


def partly_hidden(x: Tensor, share: float, is_training: bool) -> Tensor:
    """Dropout: in training a `share` of the numbers, to 1/256, becomes nought and the rest grows to keep the mean.

    Eight bytes of chance are drawn at once; torch's own dropout draws for each number, a sixth of all training.
    """
    hidden = round(share * 256)
    if not is_training or hidden == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, hidden / 256)
    drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
    return x * (drawn[: x.numel()].view(x.shape) >= hidden) * (256 / (256 - hidden))
