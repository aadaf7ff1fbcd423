"""How likely is each outcome, given the visits of the look-back? A causal transformer with hazard heads.

Each layer looks back a share of the look-back, and the shares sum to one. So whatever passes from visit to visit, a
row sees exactly its look-back and nothing before, although all rows of a patient share the same visits. Attention
sees the time between visits: queries and keys are turned by angles proportional to time (rotary positions, Su et al.
2021, with days in place of token counts), so only differences of time matter.
"""

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from features.points import DAY_US
from models.batches import SequenceBatch
from models.network_settings import NetworkSettings
from models.visit_encoder import VisitEncoder, partly_hidden


class TransformerSettings(NetworkSettings, frozen=True, extra="forbid"):
    """Size and training of the timeline transformer."""

    heads: int = Field(default=4, gt=0)
    lookback_shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.25, 0.75), min_length=1, description="How much of the look-back each layer looks back; sums to 1."
    )
    pretraining_epochs: int = Field(default=4, ge=0, description="Passes over the timelines before any label is seen.")
    time_jitter_days: float = Field(default=0.0, ge=0, description="In training visits move by up to so many days.")
    crop_share: float = Field(default=0.0, ge=0, le=1, description="Share of rows whose look-back is cut in training.")
    swap_share: float = Field(
        default=0.0, ge=0, le=1, description="Share of events that become another of their code group in training."
    )

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self.lookback_shares)

    @model_validator(mode="after")
    def _fits(self) -> "TransformerSettings":
        if abs(sum(self.lookback_shares) - 1) > 1e-9:
            raise ValueError("lookback_shares must sum to 1")
        if self.width % (2 * self.heads):
            raise ValueError("width must be a multiple of twice the heads")
        return self


class TimeAttention(nn.Module):
    """Attention from each place to visits before it that sees the days between.

    A place can look at nothing too, and so tell few visits from many: how much is read off its own vector. A learned
    key would not do: against a query that is turned its score would tell how long the stretch goes on.
    Shapes: x (S, T, D), turns (S, T, 2, P), mask (S, T, V) -> (S, T, D).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.to_nothing = nn.Linear(width, heads)
        self.nothing = nn.Parameter(torch.zeros(heads, 1, width // heads))
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        """Mix into each place what it sees."""
        visits = mask.shape[-1]
        q = turned(self.to_query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2), turns)  # (S, H, T, D/H)
        k, v = self.to_key_value(x[:, :visits]).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        k = turned(k, turns[:, :visits])
        # One more number: of a query its score for nothing, of the key of nothing one, of all others nought.
        q = torch.cat([q * q.shape[-1] ** -0.5, self.to_nothing(x).transpose(1, 2)[..., None]], dim=-1)
        k = F.pad(k, (0, 1, 1, 0))
        k[:, :, 0, -1] = 1
        v = torch.cat([self.nothing.expand(len(x), -1, -1, -1), v], dim=2)
        is_seen = F.pad(mask, (1, 0), value=True)[:, None]
        mixed = F.scaled_dot_product_attention(q, k, F.pad(v, (0, 1)), attn_mask=is_seen, scale=1.0)[..., :-1]
        return self.to_out(mixed.transpose(1, 2).flatten(2))


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """Turn each pair of numbers in the last dimension by its angle. Shapes: (S, H, T, 2P), (S, T, 2, P)."""
    first, second = x.chunk(2, dim=-1)
    cosine, sine = turns[:, None].unbind(dim=-2)  # each (S, 1, T, P)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class Block(nn.Module):
    """One pre-norm layer: attention over visits, then a small network on each. Shapes as in TimeAttention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TimeAttention(width, heads)
        self.network_norm = nn.LayerNorm(width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = dropout

    def forward(self, x: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        """Add both parts to what stands already."""
        x = x + partly_hidden(self.attention(self.attention_norm(x), turns, mask), self.dropout, self.training)
        return x + partly_hidden(self.network(self.network_norm(x)), self.dropout, self.training)


class HazardHead(nn.Module):
    """Hazards of every task from a summary: who is likelier, and whether that lies nearer or farther in the future.

    The log-odds of an event in an interval are a bias of its own, plus one number for the patient and task, plus
    another times the place of the interval (-1 for the first to 1 for the last). Death has its biases for each task,
    and its two numbers are the same for all, for it is the same death. So a rare task has few weights of its own.
    The first number is read off the summary and, straight away, off the plain numbers `wide` that a regression would
    read, so that what is simply there need not be learnt anew. Shapes: (N, D), (N, W) -> (N, Q, K, 3): none, event,
    death.
    """

    when: Tensor

    def __init__(self, width: int, wide: int, tasks: int, intervals: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(tasks, intervals, 3))
        self.who = nn.Linear(width, 2 * (tasks + 1), bias=False)
        self.straight = nn.Linear(wide, tasks + 1, bias=False)
        nn.init.normal_(self.who.weight, std=0.01)
        nn.init.zeros_(self.straight.weight)
        self.register_buffer("when", torch.linspace(-1, 1, intervals), persistent=False)

    def forward(self, summaries: Tensor, wide: Tensor) -> Tensor:
        """Logits, of which a softmax over the last dimension gives chances."""
        level, slope = self.who(summaries).unflatten(-1, (2, -1)).unbind(dim=-2)  # (N, Q + 1)
        moved = (level + self.straight(wide))[..., None] + slope[..., None] * self.when  # (N, Q + 1, K)
        event, death = moved[..., :-1, :], moved[..., -1:, :].expand_as(moved[..., :-1, :])
        return self.bias + torch.stack([torch.zeros_like(event), event, death], dim=-1)


class RiskTransformer(nn.Module):
    """Hazards of every task at every prediction time.

    Shapes: S stretches, T places, D width, N rows, Q tasks, K intervals (the most of any task; a task with fewer
    leaves the last ones unused): batch -> logits (N, Q, K, 3), the last dimension being none, event, death.
    """

    periods_days: Tensor

    def __init__(
        self, encoder: VisitEncoder, lookback_days: int, tasks: int, intervals: int, settings: TransformerSettings
    ) -> None:
        super().__init__()
        self.tasks = tasks
        edges = [round(sum(settings.lookback_shares[:layer]) * lookback_days) for layer in range(settings.layers + 1)]
        self.windows_days = [stop - start for start, stop in pairwise(edges)]
        self.encoder = encoder
        self.blocks = nn.ModuleList(Block(settings.width, settings.heads, settings.dropout) for _ in self.windows_days)
        self.norm = nn.LayerNorm(settings.width)
        self.to_hazards = HazardHead(settings.width, encoder.wide, tasks, intervals)
        self.dropout = settings.dropout
        pairs = settings.width // settings.heads // 2
        # From two days to about sixteen years, so that both a stay and a decade turn by a visible angle.
        self.register_buffer("periods_days", torch.logspace(0.3, 3.77, pairs), persistent=False)

    def forward(self, batch: SequenceBatch, event_weights: Tensor | None = None) -> Tensor:
        """Hazard logits of the batch's rows, in their order. event_weights (E,): how much of each event is there."""
        places, wide = self.summaries(batch, event_weights)
        visits = batch.is_seen.shape[-1]
        stretch, place = batch.row_places // places.shape[1], batch.row_places % places.shape[1]
        straight = partly_hidden(wide[stretch, place - visits], self.dropout, self.training)
        return self.to_hazards(places[stretch, place], straight)

    def summaries(self, batch: SequenceBatch, event_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the network makes of each place (S, T, D), and the plain numbers of each row (S, T - V, W)."""
        encoded, wide = self.encoder(batch, event_weights)
        x = partly_hidden(encoded, self.dropout, self.training)
        # In double precision, or an angle far from the last row would be off, and a row's answer depend on later rows.
        angle = (batch.moments_us.double() / DAY_US)[:, :, None] * (2 * torch.pi / self.periods_days)  # (S, T, P)
        turns = torch.stack([angle.cos(), angle.sin()], dim=2).to(x)
        visits = batch.is_seen.shape[-1]
        days_ago = batch.days[:, :, None] - batch.days[:, None, :visits]  # (S, T, V)
        for block, window in zip(self.blocks, self.windows_days, strict=True):
            x = block(x, turns, batch.is_seen & (days_ago < window))
        return self.norm(x), wide
