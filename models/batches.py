"""How do sequences become a batch? Stretches of successive prediction times, each with the days that they look back on.

A stretch holds some rows of one patient and every visit in the past of any of them, once. So a patient's days are
worked out once for many prediction times, and each row still sees its own past alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.points import DAY_US, DAYS_PER_YEAR
from models.sequences import Sequences, Spans, ends

ROWS_PER_STRETCH = 32
PLACES_PER_FORECAST = 8_192
OLDEST_AGE_YEARS = 90.0  # an older person is as old


@dataclass(frozen=True)
class SequenceBatch:
    """S stretches padded to V visits and Q rows, with their E events; T = V + Q places, visits before rows.

    moments_us (S, T): when each visit begins, and each prediction time, before the last one of its stretch (at most
    0); days (S, T): the day of that, likewise. ages (S, T): years / 100. gaps (S, T): of a row, days since its last
    past visit, 0 when there is none; of a visit 0, because the visit before it may lie before a row's look-back.
    is_seen (S, T, V): the visits before or at a visit, and those of a row's past. tokens, values (E,), NaN for no
    value; bag_starts (S * T,) where each place's events start, bag_sizes (S * T,). For a row they are its state and its
    own day. is_state (E,): whether an event belongs to a row's state. rows (N,), row_places (N,): which rows these are,
    and where they stand in S * T.
    """

    moments_us: Tensor
    days: Tensor
    ages: Tensor
    gaps: Tensor
    is_seen: Tensor
    tokens: Tensor
    values: Tensor
    is_state: Tensor
    bag_starts: Tensor
    bag_sizes: Tensor
    rows: Tensor
    row_places: Tensor

    def to(self, device: torch.device) -> "SequenceBatch":
        """The same batch on another device."""
        return SequenceBatch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


@dataclass(frozen=True)
class Stretches:
    """Stretches of rows: `rows` (N,) in the order of patients and time, of each stretch the places of its rows among
    them (S), and the places of its visits among those of the sequences (S)."""

    rows: NDArray[np.int64]
    spans: Spans
    visits: Spans

    def __len__(self) -> int:
        return len(self.spans.starts)

    def lengths(self) -> NDArray[np.int64]:
        """Places of each stretch: its visits and its rows. Shapes: (S,)."""
        return self.visits.sizes + self.spans.sizes


def stretches_of(sequences: Sequences, chosen: NDArray[np.integer], most: int = ROWS_PER_STRETCH) -> Stretches:
    """Cut the `chosen` rows into stretches: at most `most` rows of one patient, in order of time."""
    rows: NDArray[np.int64] = np.asarray(chosen, dtype=np.int64)
    subjects = sequences.keys["subject_id"].to_numpy()
    rows = rows[np.lexsort((sequences.prediction_us[rows], subjects[rows]))]
    everywhere = np.arange(len(rows))
    is_first = np.diff(subjects[rows], prepend=subjects[rows[:1]] - 1) != 0
    place = everywhere - np.maximum.accumulate(np.where(is_first, everywhere, 0))
    starts = np.flatnonzero(place % most == 0)
    past = sequences.past[rows]
    has_past = past.sizes > 0
    if not len(rows):
        return Stretches(rows, Spans(starts, starts), Spans(starts, starts))
    first = np.minimum.reduceat(np.where(has_past, past.starts, len(sequences.visit_ends)), starts)
    stop = np.maximum.reduceat(np.where(has_past, past.starts + past.sizes, 0), starts)
    return Stretches(
        rows,
        Spans(starts, np.diff(starts, append=len(rows))),
        Spans(np.where(stop > 0, first, 0), np.where(stop > 0, stop - first, 0)),
    )


def batch_of(sequences: Sequences, stretches: Stretches, chosen: NDArray[np.integer]) -> SequenceBatch:
    """Put the `chosen` stretches together and pad them."""
    visit_spans, row_spans = stretches.visits[chosen], stretches.spans[chosen]
    row_counts = row_spans.sizes
    rows = stretches.rows[row_spans.places()]
    most_visits, most_rows = int(visit_spans.sizes.max()), int(row_counts.max())
    shape = (len(chosen), most_visits + most_rows)
    places = shape[0] * shape[1]
    first = np.arange(shape[0]) * shape[1]
    of_visits = Spans(first, visit_spans.sizes).places()  # where visits stand among S * T
    of_rows = Spans(first + most_visits, row_counts).places()
    visits = visit_spans.places()

    # Events: those of a visit, or a row's state followed by its own day.
    visit_events = Spans(sequences.visit_ends[visits], np.diff(sequences.visit_ends)[visits])
    states, today = sequences.states[rows], sequences.today[rows]
    parts = np.concatenate([of_visits * 2, of_rows * 2, of_rows * 2 + 1])
    order = np.argsort(parts, kind="stable")
    spans = Spans(
        np.concatenate([visit_events.starts, states.starts, today.starts])[order],
        np.concatenate([visit_events.sizes, states.sizes, today.sizes])[order],
    )
    place_of_part = np.arange(len(parts))
    is_state = (place_of_part >= len(visits)) & (place_of_part < len(visits) + len(rows))
    event_places = spans.places()
    bag_sizes = np.zeros(places, dtype=np.int64)
    bag_sizes[of_visits] = visit_events.sizes
    bag_sizes[of_rows] = states.sizes + today.sizes

    asked_us = sequences.prediction_us[rows]
    visit_us = sequences.known_us[sequences.visit_ends[visits]]
    last_us = asked_us[ends(row_counts)[1:] - 1]
    age_at_last = sequences.ages_years[rows[ends(row_counts)[1:] - 1]]
    moments = np.zeros(places, dtype=np.int64)
    moments[of_visits] = visit_us - np.repeat(last_us, visit_spans.sizes)
    moments[of_rows] = asked_us - np.repeat(last_us, row_counts)
    moments = moments.reshape(shape)
    ages = age_at_last[:, None] + moments / (DAY_US * DAYS_PER_YEAR)
    # At each place for itself: a visit or a row is as old beside later rows as without them.
    ages = np.where(np.isnan(ages), sequences.median_age_years, ages).clip(max=OLDEST_AGE_YEARS) / 100

    days = np.zeros(places, dtype=np.int64)
    days[of_visits] = visit_us // DAY_US - np.repeat(last_us // DAY_US, visit_spans.sizes)
    days[of_rows] = asked_us // DAY_US - np.repeat(last_us // DAY_US, row_counts)
    days = days.reshape(shape)

    gaps = np.zeros(places)
    past = sequences.past[rows]
    newest = (past.starts + past.sizes - 1).clip(min=0)
    if len(sequences.known_us):
        since = (asked_us - sequences.known_us[sequences.visit_ends[newest]]) / DAY_US
        gaps[of_rows] = np.where(past.sizes > 0, since, 0)

    seen_from, seen_to = np.zeros(places, dtype=np.int64), np.zeros(places, np.int64)
    seen_to[of_visits] = of_visits - np.repeat(first, visit_spans.sizes) + 1
    shift = np.repeat(visit_spans.starts, row_counts)
    seen_from[of_rows], seen_to[of_rows] = past.starts - shift, past.starts - shift + past.sizes
    place = np.arange(most_visits)
    is_seen = (place >= seen_from[:, None]) & (place < seen_to[:, None])
    return SequenceBatch(
        moments_us=torch.from_numpy(moments),
        days=torch.from_numpy(days),
        ages=torch.from_numpy(ages.astype(np.float32)),
        gaps=torch.from_numpy(gaps.reshape(shape).astype(np.float32)),
        is_seen=torch.from_numpy(is_seen.reshape(*shape, most_visits)),
        tokens=torch.from_numpy(sequences.events["token"].to_numpy()[event_places].astype(np.int64)),
        values=torch.from_numpy(sequences.events["value"].to_numpy()[event_places]),
        is_state=torch.from_numpy(np.repeat(is_state[order], spans.sizes)),
        bag_starts=torch.from_numpy(ends(bag_sizes)[:-1]),
        bag_sizes=torch.from_numpy(bag_sizes),
        rows=torch.from_numpy(rows),
        row_places=torch.from_numpy(of_rows),
    )


def row_events(sequences: Sequences, row: int) -> NDArray[np.int64]:
    """Where the events that one row sees stand in `sequences.events`, in the order of a batch of that row alone."""
    past, today, state = (spans[np.array([row])] for spans in (sequences.past, sequences.today, sequences.states))
    visits = past.places()
    of_past = Spans(sequences.visit_ends[visits], np.diff(sequences.visit_ends)[visits]).places()
    return np.concatenate([of_past, state.places(), today.places()])


def batches_of(
    stretches: Stretches, most_places: int, among: NDArray[np.int64] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Stretches of like length together, each batch of at most `most_places` places, padding included; shortest first.

    `among`: the places of the stretches wanted, all when None. A single stretch that is longer comes alone.
    """
    wanted: NDArray[np.int64] = np.arange(len(stretches)) if among is None else among
    order = wanted[np.argsort(stretches.lengths()[wanted], kind="stable")]
    start = 0
    while start < len(order):
        following = order[start : start + most_places]  # each has a place at least
        visits, rows = (np.maximum.accumulate(spans.sizes[following]) for spans in (stretches.visits, stretches.spans))
        padded = (visits + rows) * (np.arange(len(following)) + 1)
        stop = start + max(1, int(np.searchsorted(padded, most_places, side="right")))
        yield order[start:stop]
        start = stop


def shuffled_batches(stretches: Stretches, most_places: int, shuffler: np.random.Generator) -> list[NDArray[np.int64]]:
    """The same in random order; alike lengths go together only within a tenth of the stretches, drawn at random."""
    drawn = shuffler.permutation(len(stretches))
    batches: list[NDArray[np.int64]] = []
    for pool in np.array_split(drawn, min(10, max(1, len(drawn) // 256))):
        batches += batches_of(stretches, most_places, pool)
    return [batches[place] for place in shuffler.permutation(len(batches))]
