"""What has the look-back held in all? Counts of each code, and mean, highest and lowest of each measured value.

Attention finds what matters when; what was there how often, and at which level, it would first have to learn to count.
"""

import torch
from torch import Tensor, nn

from features.points import DAY_US
from models.batches import SequenceBatch
from models.vocabulary import FARTHEST

DECAYS_DAYS = (10.0, 90.0, 1e9)  # how fast a day fades: pictures of what was last, of the last months, and of all
SHARPNESS = 6.0  # of the extremes: at 0 they would be the mean
FAINTEST = 1e-36  # what has faded further is not there any more


class LookbackSummary(nn.Module):
    """Log counts, and mean, highest and lowest values, of what each row sees, its own events among them.

    Days fade, so that a mean of the fastest picture is nearly the last value. Highest and lowest are smooth: the
    logarithm of the mean of exp(6 x value), / 6, moves evenly where a true maximum would jump.

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
        self.numbers = len(DECAYS_DAYS) * (self.codes + 3 * self.values)

    def forward(self, batch: SequenceBatch, event_weights: Tensor) -> Tensor:
        """Sum up by place, then over the visits that each row sees."""
        places = batch.ages.shape
        visits = batch.is_seen.shape[-1]
        place_of_event = torch.repeat_interleave(batch.bag_sizes)
        is_valued = (self.place_of_value[batch.tokens] >= 0) & ~batch.values.isnan()
        counts = self._table(place_of_event, self.place_of_code[batch.tokens], event_weights, self.codes, places)
        valued = torch.where(is_valued, self.place_of_value[batch.tokens], -1)
        # What is half there has half its value and counts as one, so a mean grows evenly with the strength.
        is_there, value = event_weights.sign(), event_weights.clamp(max=1) * batch.values.nan_to_num()
        of_values = (
            self._table(place_of_event, valued, is_there * each, self.values, places)
            for each in (torch.ones_like(value), value, _power(value), _power(-value))
        )
        together = torch.cat([counts, *of_values], dim=-1)  # (S, T, C + 4 M)
        days_ago = (batch.moments_us[:, visits:, None] - batch.moments_us[:, None, :visits]) / DAY_US  # (S, T - V, V)
        told = []
        for decay in DECAYS_DAYS:
            fading = batch.is_seen[:, visits:] * torch.exp(-days_ago.clamp(min=0) / decay)
            count, measured, total, high, low = (torch.bmm(fading, together[:, :visits]) + together[:, visits:]).split(
                [self.codes, *[self.values] * 4], dim=-1
            )
            told += [count.log1p(), total / measured.clamp(min=FAINTEST)]
            told += [_extreme(high, measured), -_extreme(low, measured)]
        return torch.cat(told, dim=-1)

    @staticmethod
    def _table(place: Tensor, column: Tensor, weights: Tensor, columns: int, places: torch.Size) -> Tensor:
        """Sums by place and column; a column of -1 counts nowhere. Shapes: (E,), (E,), (E,) -> (S, T, columns)."""
        is_there = column >= 0
        flat = weights.new_zeros(places.numel() * max(columns, 1))
        flat = flat.index_add(0, (place * columns + column)[is_there], weights[is_there])
        return flat.view(*places, max(columns, 1))[..., :columns]


def _power(value: Tensor) -> Tensor:
    """exp(6 x value), but from the end of the scale, so that the lowest value too can fade for years and be there."""
    return (SHARPNESS * (value + FARTHEST)).exp()


def _extreme(powers: Tensor, measured: Tensor) -> Tensor:
    """The smooth extreme of such sums; 0, the middle of the scale, where nothing was measured."""
    mean = powers.clamp(min=FAINTEST) / measured.clamp(min=FAINTEST)
    return torch.where(measured > FAINTEST, mean.log() / SHARPNESS - FARTHEST, 0)
