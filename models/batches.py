"""Which numbers does the transformer read for some rows? Their visits padded to one batch, their events end to end."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.sequences import DAY_US, DAYS_PER_YEAR, Sequences, Spans, ends

STATE, VISIT, NOW = 0, 1, 2
ROWS_PER_FORECAST = 256


@dataclass(frozen=True)
class SequenceBatch:
    """B rows padded to T visits, with their E events. Padding stands after the last visit.

    visits (B, T, 4): age (years / 100), gap to the visit before (log scale), days before the prediction time, kind
    (state, visit or now). last_visit (B,) place of the visit at the prediction time; tokens, values (E,);
    bag_starts (B * T,) where each visit's events start; bag_sizes (B * T,).
    """

    visits: Tensor
    last_visit: Tensor
    tokens: Tensor
    values: Tensor
    bag_starts: Tensor
    bag_sizes: Tensor


def batch_of(sequences: Sequences, rows: NDArray[np.integer]) -> SequenceBatch:
    """Put together what each of `rows` sees, and pad it to one batch."""
    visits, states = sequences.visits[rows], sequences.states[rows]
    lengths = visits.sizes + 2
    longest = int(lengths.max())
    # Row i begins at i * T: its state stands there, its visits follow, the prediction time comes last.
    first = np.arange(len(rows)) * longest
    places, bags = Spans(first + 1, visits.sizes).places(), _bags(sequences, rows)
    days_before = np.zeros(len(rows) * longest)
    days_before[first] = sequences.lookback_days
    asked_us = np.repeat(sequences.prediction_us[rows], visits.sizes)
    days_before[places] = (asked_us - sequences.known_us[bags.starts]) / DAY_US  # a visit begins with its first event
    kind = np.full(len(rows) * longest, VISIT)
    kind[first], kind[first + lengths - 1] = STATE, NOW
    sizes = np.zeros(len(rows) * longest, dtype=np.int64)
    sizes[first], sizes[places] = states.sizes, bags.sizes
    numbers = _visit_numbers(
        days_before.reshape(len(rows), longest), sequences.ages_years[rows], sequences.lookback_days
    )
    numbers[:, :, 3] = kind.reshape(len(rows), longest)
    numbers[np.arange(longest) >= lengths[:, None]] = 0
    chosen = event_places(sequences, rows)
    return SequenceBatch(
        visits=torch.from_numpy(numbers),
        last_visit=torch.from_numpy(lengths - 1),
        tokens=torch.from_numpy(sequences.events["token"].to_numpy()[chosen].astype(np.int64)),
        values=torch.from_numpy(sequences.events["value"].to_numpy()[chosen]),
        bag_starts=torch.from_numpy(ends(sizes)[:-1]),
        bag_sizes=torch.from_numpy(sizes),
    )


def event_places(sequences: Sequences, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where the events of `rows` stand in `sequences.events`, row after row, in the order of a batch."""
    states, seen = sequences.states[rows], sequences.seen[rows]
    both = Spans(
        np.stack([states.starts, seen.starts], axis=1).ravel(), np.stack([states.sizes, seen.sizes], axis=1).ravel()
    )
    return both.places()


def event_counts(sequences: Sequences, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many events each of `rows` sees, its state included."""
    return sequences.states.sizes[rows] + sequences.seen.sizes[rows]


def parts_of(sequences: Sequences, rows: NDArray[np.integer]) -> Iterator[NDArray[np.int64]]:
    """The places 0, 1, … of `rows` in parts of like length, shortest first."""
    ordered = np.argsort(sequences.lengths()[rows], kind="stable")
    for start in range(0, len(ordered), ROWS_PER_FORECAST):
        yield ordered[start : start + ROWS_PER_FORECAST]


def shuffled_batches(
    sequences: Sequences, rows: NDArray[np.integer], size: int, shuffler: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Rows in random batches; within each eight batches alike lengths go together, to save padding."""
    lengths = sequences.lengths()
    shuffled = shuffler.permutation(np.asarray(rows, dtype=np.int64))
    batches = []
    for start in range(0, len(shuffled), 8 * size):
        pool = shuffled[start : start + 8 * size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[first : first + size] for first in range(0, len(pool), size)]
    return [batches[place] for place in shuffler.permutation(len(batches))]


def _bags(sequences: Sequences, rows: NDArray[np.integer]) -> Spans:
    """The places of the events of each visit of `rows`, row after row; only events that the row sees."""
    visits, seen = sequences.visits[rows], sequences.seen[rows]
    places = visits.places()
    starts = np.maximum(sequences.visit_ends[places], np.repeat(seen.starts, visits.sizes))
    stops = np.minimum(sequences.visit_ends[places + 1], np.repeat(seen.starts + seen.sizes, visits.sizes))
    return Spans(starts, stops - starts)


def _visit_numbers(
    days_before: NDArray[np.float64], ages_years: NDArray[np.float64], lookback_days: int
) -> NDArray[np.float32]:
    """Age, gap and days before of each visit, and room for its kind. Shapes: (B, T), (B,) -> (B, T, 4)."""
    age = (ages_years[:, None] - days_before / DAYS_PER_YEAR) / 100
    days_since_last = -np.diff(days_before, axis=1, prepend=days_before[:, :1])  # nought for the state
    gap = np.log1p(days_since_last) / np.log1p(lookback_days)
    return np.stack([age, gap, days_before, np.zeros_like(age)], axis=-1, dtype=np.float32, casting="same_kind")
