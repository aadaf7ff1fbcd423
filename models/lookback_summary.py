"""What has the look-back held in all? Counts of each code and means of each measured value, fading with time.

Attention finds what matters when; what was there how often, and at which level, it would first have to learn to count.
"""

import torch
from torch import Tensor, nn

from features.points import DAY_US
from models.batches import SequenceBatch

DECAYS_DAYS = (90.0, 1e9)  # how fast a day fades: one picture of the last months, one of the whole look-back


class LookbackSummary(nn.Module):
    """Log counts and mean values of what each row sees, its own events among them.

    Visits get none: a later row that looks at a visit would see through it what lies before its own look-back.

    `codes` are the tokens that are counted and `with_values` those whose values are averaged (0, the middle of the
    quantile scale, without any). Shapes: event_weights (E,) -> (S, T - V, F), F being `numbers`.
    """

    place_of_code: Tensor
    place_of_value: Tensor

    def __init__(self, tokens: int, codes: list[int], with_values: list[int]) -> None:
        super().__init__()
        self.codes, self.values = len(codes), len(with_values)
        for name, chosen in (("place_of_code", codes), ("place_of_value", with_values)):
            place = torch.full((tokens,), -1)
            place[chosen] = torch.arange(len(chosen))
            self.register_buffer(name, place, persistent=False)
        self.numbers = len(DECAYS_DAYS) * (self.codes + self.values)

    def forward(self, batch: SequenceBatch, event_weights: Tensor) -> Tensor:
        """Sum up by place, then over the visits that each row sees."""
        places = batch.ages.shape
        visits = batch.is_seen.shape[-1]
        place_of_event = torch.repeat_interleave(batch.bag_sizes)
        is_valued = (self.place_of_value[batch.tokens] >= 0) & ~batch.values.isnan()
        counts = self._table(place_of_event, self.place_of_code[batch.tokens], event_weights, self.codes, places)
        valued = torch.where(is_valued, self.place_of_value[batch.tokens], -1)
        # What is half there adds half its value and counts as one, so a mean grows evenly with the strength.
        strength = event_weights.clamp(max=1)
        measured = self._table(place_of_event, valued, strength.sign(), self.values, places)
        sums = self._table(place_of_event, valued, strength * batch.values.nan_to_num(), self.values, places)
        all_three = torch.cat([counts, measured, sums], dim=-1)  # (S, T, C + 2 M)
        days_ago = (batch.moments_us[:, visits:, None] - batch.moments_us[:, None, :visits]) / DAY_US  # (S, T - V, V)
        told = []
        for decay in DECAYS_DAYS:
            fading = batch.is_seen[:, visits:] * torch.exp(-days_ago.clamp(min=0) / decay)
            count, measurements, total = (torch.bmm(fading, all_three[:, :visits]) + all_three[:, visits:]).split(
                [self.codes, self.values, self.values], dim=-1
            )
            told += [count.log1p(), total / (measurements + 1e-3)]
        return torch.cat(told, dim=-1)

    @staticmethod
    def _table(place: Tensor, column: Tensor, weights: Tensor, columns: int, places: torch.Size) -> Tensor:
        """Sums by place and column; a column of -1 counts nowhere. Shapes: (E,), (E,), (E,) -> (S, T, columns)."""
        is_there = column >= 0
        flat = weights.new_zeros(places.numel() * max(columns, 1))
        flat = flat.index_add(0, (place * columns + column)[is_there], weights[is_there])
        return flat.view(*places, max(columns, 1))[..., :columns]
