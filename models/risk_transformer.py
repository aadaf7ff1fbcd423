"""How likely is each outcome, given the visits of the look-back? A small causal transformer with hazard heads.

Attention sees the time between visits: queries and keys are turned by angles proportional to time (rotary
positions, Su et al. 2021, with days in place of token counts), so only differences of time matter.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import BaseModel, Field
from torch import Tensor, nn

from models.batches import SequenceBatch


class TransformerSettings(BaseModel, frozen=True, extra="forbid"):
    """Size and training of the timeline transformer; saved beside its weights."""

    width: int = Field(default=64, gt=0, description="Numbers that describe a visit.")
    layers: int = Field(default=2, gt=0)
    heads: int = Field(default=4, gt=0)
    most_visits: int = Field(
        default=64, ge=3, description="Newest visits kept, with the state and the prediction time."
    )
    intervals_per_horizon: int = Field(default=4, gt=0, description="Follow-up intervals up to each horizon.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Share of inner numbers hidden in training.")
    event_dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of events hidden in training.")
    epochs: int = Field(default=20, gt=0, description="Looks at tuning rows; the weights at the best one are kept.")
    rows_per_epoch: int = Field(
        default=5_000,
        gt=0,
        description="The most train rows between two looks, and the most tuning rows at a look. All train rows come "
        "once before any comes again; the tuning rows of a look are drawn once.",
    )
    rows_per_batch: int = Field(default=128, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0, description="The highest; it rises first, then falls to nothing.")
    weight_decay: float = Field(default=0.05, ge=0)


class VisitEncoder(nn.Module):
    """Pools the events of a visit and adds its age, gap and kind.

    An event is its code's vector plus its value times the code's value vector. Shapes: E events, B rows,
    T visits, D width: tokens (E,), values (E,), visits (B, T, 4) -> (B, T, D).
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.code = nn.Embedding(tokens, width)
        self.value = nn.Embedding(tokens, width)
        self.kind = nn.Embedding(3, width)
        self.time = nn.Linear(3, width)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        for embedding in (self.code, self.value, self.kind):
            nn.init.normal_(embedding.weight, std=0.1)

    def forward(self, batch: SequenceBatch, event_weights: Tensor) -> Tensor:
        """Vectors of the visits; event_weights (E,) says how much of each event is there."""
        rows, visits, _ = batch.visits.shape
        codes = F.embedding_bag(
            batch.tokens, self.code.weight, batch.bag_starts, mode="sum", per_sample_weights=event_weights
        )
        values = F.embedding_bag(
            batch.tokens,
            self.value.weight,
            batch.bag_starts,
            mode="sum",
            per_sample_weights=event_weights * batch.values,
        )
        # The square root keeps a visit with many events from drowning the others.
        pooled = (codes + values) / batch.bag_sizes.clamp(min=1).sqrt()[:, None]  # (B * T, D)
        age, gap, _, kind = batch.visits.unbind(dim=-1)  # each (B, T)
        when = self.time(torch.stack([age, age * age, gap], dim=-1))  # (B, T, D)
        visit = pooled.view(rows, visits, -1) + when + self.kind(kind.long())
        return visit + self.mix(visit)


class TimeAttention(nn.Module):
    """Causal attention that sees the days between visits.

    Shapes: x (B, T, D), turns (B, T, 2, P) -> (B, T, D); with last_visit (B,) only those visits ask: (B, 1, D).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, turns: Tensor, last_visit: Tensor | None = None) -> Tensor:
        """Mix into each visit what came before it."""
        rows, visits, width = x.shape
        weight, bias = self.to_qkv.weight, self.to_qkv.bias
        asking = x if last_visit is None else at_places(x, last_visit)  # (B, A, D), A is T or 1
        asking_turns = turns if last_visit is None else at_places(turns, last_visit)
        q = F.linear(asking, weight[:width], bias[:width]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = F.linear(x, weight[width:], bias[width:]).view(rows, visits, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(  # q (B, H, A, D/H), k and v (B, H, T, D/H)
            turned(q, asking_turns),
            turned(k, turns),
            v,
            # Padding stands after the last visit, so a causal mask hides it too.
            attn_mask=None if last_visit is None else (torch.arange(visits) <= last_visit[:, None])[:, None, None],
            is_causal=last_visit is None,
        )
        return self.to_out(mixed.transpose(1, 2).flatten(2))


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """Turn each pair of numbers in the last dimension by its angle. Shapes: (B, H, T, 2P), (B, T, 2, P)."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = turns[:, None].unbind(dim=-2)  # each (B, 1, T, P)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def at_places(x: Tensor, places: Tensor) -> Tensor:
    """One visit of each row. Shapes: (B, T, ...), (B,) -> (B, 1, ...)."""
    return x[torch.arange(len(x)), places][:, None]


def partly_hidden(x: Tensor, share: float, is_training: bool) -> Tensor:
    """Dropout: in training a `share` of the numbers, to 1/256, becomes nought and the rest grows to keep the mean.

    Eight bytes of chance are drawn at once; torch's own dropout draws for each number, a sixth of all training.
    """
    hidden = round(share * 256)
    if not is_training or hidden == 0:
        return x
    drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None).view(torch.uint8)
    return x * (drawn[: x.numel()].view(x.shape) >= hidden) * (256 / (256 - hidden))


class Block(nn.Module):
    """One pre-norm layer: attention over visits, then a small network on each. Shapes as in TimeAttention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TimeAttention(width, heads)
        self.network_norm = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = dropout

    def forward(self, x: Tensor, turns: Tensor, last_visit: Tensor | None = None) -> Tensor:
        """Add both parts to what stands already."""
        mixed = self.attention(self.attention_norm(x), turns, last_visit)
        x = (x if last_visit is None else at_places(x, last_visit)) + partly_hidden(mixed, self.dropout, self.training)
        return x + partly_hidden(self.network(self.network_norm(x)), self.dropout, self.training)


class RiskTransformer(nn.Module):
    """Hazards of every task at every visit.

    Shapes: B rows, T visits, D width, Q tasks, K intervals (the most of any task; a task with fewer leaves the
    last ones unused): batch -> logits (B, T, Q, K, 3), the last dimension being none, event, death.
    """

    periods_days: Tensor

    def __init__(self, tokens: int, tasks: int, intervals: int, settings: TransformerSettings) -> None:
        super().__init__()
        self.tasks = tasks
        self.event_dropout = settings.event_dropout
        self.encoder = VisitEncoder(tokens, settings.width)
        self.dropout = settings.dropout
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(settings.width)
        self.to_hazards = nn.Linear(settings.width, tasks * intervals * 3)
        pairs = settings.width // settings.heads // 2
        # From two days to about sixteen years, so that both a stay and a decade turn by a visible angle.
        self.register_buffer("periods_days", torch.logspace(0.3, 3.77, pairs), persistent=False)
        # Start from the same small answer for everybody; training sets the bias to the train patients' hazards.
        nn.init.normal_(self.to_hazards.weight, std=0.01)

    def forward(self, batch: SequenceBatch, event_weights: Tensor | None = None) -> Tensor:
        """Hazard logits at every visit."""
        return self._hazards(self._summaries(batch, event_weights, None))

    def at_prediction_time(self, batch: SequenceBatch, event_weights: Tensor | None = None) -> Tensor:
        """Hazard logits read at the last visit only. Shapes: (B, Q, K, 3).

        The last layer is worked out for that visit alone: no other of its answers would be read.
        """
        return self._hazards(self._summaries(batch, event_weights, batch.last_visit)).squeeze(1)

    def _summaries(self, batch: SequenceBatch, event_weights: Tensor | None, last_visit: Tensor | None) -> Tensor:
        """What the network remembers at each visit, or at the last visit. Shapes: event_weights (E,), ones when None,
        -> (B, T, D) or (B, 1, D)."""
        if event_weights is None:
            event_weights = partly_hidden(torch.ones_like(batch.values), self.event_dropout, self.training)
        x = partly_hidden(self.encoder(batch, event_weights), self.dropout, self.training)
        angle = -batch.visits[:, :, 2:3] * (2 * torch.pi / self.periods_days)  # (B, T, P)
        turns = torch.stack([angle.cos(), angle.sin()], dim=2)
        for block in self.blocks[:-1]:
            x = block(x, turns)
        return self.norm(self.blocks[-1](x, turns, last_visit))

    def _hazards(self, summaries: Tensor) -> Tensor:
        return self.to_hazards(summaries).unflatten(-1, (self.tasks, -1, 3))


def edge_places(edges_days: list[float], horizons_days: list[int]) -> dict[int, int]:
    """How many intervals end by each horizon."""
    ends = [end for _, end in pairwise(edges_days)]
    return {horizon: ends.index(float(horizon)) + 1 for horizon in horizons_days}
