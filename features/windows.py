"""What was seen at each prediction time, and what does a window of it amount to?

The one rule about time: an event is seen when known_time <= prediction_time. A look-back window adds that it also
happened inside the window, by clinical `time`: an old illness that is written down today is old, not recent care, and
a source that keeps old entries only for some people must not show through. As time <= known_time, such an event lies
in (prediction_time - window, prediction_time].

So an event is seen from its known_time until its time + window, and nothing changes between two such moments. Each
statistic is worked out once for each run of prediction times without a change: counts and sums are differences of two
running totals, of what came and of what went; extremes are spread over the runs that an event spans. The work grows
with the events, not with events x prediction times. Running totals are each series' own and in a full order, so a
result does not depend, to the bit, on other people, other prediction times, or the order of the events.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.points import DAY_US, DAYS_PER_YEAR, Floats, Ints, Points, only

SHORTEST_SLOPE_DAYS = 30
STATISTICS = {
    "count": "events",
    "is_present": "1",
    "sum": "of the numbers",
    "sum_of_squares": "of the numbers",
    "mean": "of the numbers",
    "sd": "standard deviation of the sample; null for one number",
    "minimum": "of the numbers",
    "maximum": "of the numbers",
    "slope": "per year, by least squares; null unless the events span 30 days: values of one visit tell no course",
    "first_time": "when the first happened, µs",
    "last": "the latest number; at one moment the one known last",
    "last_time": "when that was, µs",
    "last_record": "its record_id",
}

_EPOCH_US = 946_684_800_000_000  # 2000-01-01: years from there, so that their squares stay small
_NEVER = np.iinfo(np.int64).max // 2


def window_runs(points: Points, window_days: int | None, statistics: Collection[str]) -> pl.DataFrame:
    """Statistics of each person and measure inside a window, for each run of rows that see the same events.

    Reads:    `window_days`: the look-back; None for the whole record. `statistics`: names in STATISTICS; those of
              numbers want points that all have one.
    Returns:  person, measure, from_row, until_row (excluded), and a column for each statistic. Only runs that see
              any event; sorted by person, measure and row.
    """
    window = _open_window(points, window_days)
    found = _statistics(window, set(statistics))
    keys = {
        "person": window.points.person[window.series],
        "measure": window.points.measure[window.series],
        "from_row": window.from_row,
        "until_row": window.until_row,
    }
    return pl.DataFrame(keys | {name: found[name] for name in statistics})


def rows_of_runs(runs: pl.DataFrame) -> tuple[Ints, Ints]:
    """Every row of every run: the place of the run, and the row."""
    from_row, lengths = runs["from_row"].to_numpy(), (runs["until_row"] - runs["from_row"]).to_numpy()
    run = np.repeat(np.arange(runs.height), lengths)
    first_place = np.cumsum(lengths) - lengths
    return run, from_row[run] + np.arange(len(run)) - first_place[run]


@dataclass(frozen=True)
class _Window:
    """The events that a window ever shows, and the runs of rows between two changes.

    by_known: places of the events in the order in which each series becomes known. first_run, end_run: for the events
    that any row sees (is_seen), the places in all runs, with those that see nothing, at which they come and go. Arrays
    over the runs that see any event (is_full): series, from_row, until_row; came, went: how many events, of all series
    up to this one, have come and have gone by then.
    """

    points: Points
    by_known: Ints
    is_seen: NDArray[np.bool_]
    first_run: Ints
    end_run: Ints
    is_full: NDArray[np.bool_]
    series: Ints
    from_row: Ints
    until_row: Ints
    came: Ints
    went: Ints


def _open_window(points: Points, window_days: int | None) -> _Window:
    until = points.time + window_days * DAY_US if window_days is not None else np.full_like(points.time, _NEVER)
    is_shown = points.known < until
    points, until = only(points, is_shown), until[is_shown]
    moments, series = points.moments, points.series
    person = points.person[series]
    enters, leaves = moments.first_at(person, points.known), moments.first_at(person, until)
    stride = len(moments.keys) + 1
    entering, leaving = series * stride + enters, series * stride + leaves
    is_seen = enters < leaves
    changes = np.concatenate([entering[is_seen], leaving[is_seen & (leaves < moments.ends[person])]])
    changes.sort(kind="stable")
    changes = changes[np.diff(changes, prepend=-1) > 0]
    of, from_row = changes // stride, changes % stride
    until_row = moments.ends[points.person[of]]
    until_row[:-1] = np.where(of[1:] == of[:-1], from_row[1:], until_row[:-1])
    by_known = np.lexsort((points.known, series))
    came = np.searchsorted(entering[by_known], changes, side="right")
    went = np.searchsorted(leaving, changes, side="right")
    is_full = came > went
    return _Window(
        points=points,
        by_known=by_known,
        is_seen=is_seen,
        first_run=np.searchsorted(changes, entering[is_seen]),
        end_run=np.searchsorted(changes, leaving[is_seen]),
        is_full=is_full,
        series=of[is_full],
        from_row=from_row[is_full],
        until_row=until_row[is_full],
        came=came[is_full],
        went=went[is_full],
    )


def _statistics(window: _Window, wanted: set[str]) -> dict[str, NDArray]:
    """The wanted statistics of each run, and those that they build upon."""
    points, value = window.points, window.points.value
    count = (window.came - window.went).astype(np.float64)
    # A series lies after those before it, so the greatest place that has come is the latest event of this one.
    last = np.maximum.accumulate(window.by_known)[window.came - 1]
    found: dict[str, NDArray] = {
        "count": count,
        "is_present": np.ones(len(count)),
        "last": value[last],
        "last_time": points.time[last],
        "last_record": points.record_id[last],
    }
    if wanted & {"sum", "mean", "sum_of_squares", "sd", "slope"}:
        found["sum"], found["sum_of_squares"] = _totals(window, value, value**2)
        found["mean"] = found["sum"] / count
    if wanted & {"minimum", "maximum", "sd", "slope"}:
        found["minimum"], found["maximum"] = _lowest(window, value), -_lowest(window, -value)
        is_constant = found["minimum"] == found["maximum"]  # then nought exactly, whatever the rounding
    if wanted & {"first_time", "slope"}:
        first = _lowest(window, np.arange(len(value), dtype=np.float64)).astype(np.int64)
        found["first_time"] = points.time[first]
    if "sd" in wanted:
        squares = np.maximum(found["sum_of_squares"] - found["sum"] ** 2 / count, 0)
        sd = np.where(is_constant, 0, np.sqrt(squares / np.maximum(count - 1, 1)))
        found["sd"] = np.where(count > 1, sd, np.nan)
    if "slope" in wanted:
        years = (points.time - _EPOCH_US) / DAY_US / DAYS_PER_YEAR
        at, at_squared, product = _totals(window, years, years**2, years * value)
        is_long = found["last_time"] - found["first_time"] >= SHORTEST_SLOPE_DAYS * DAY_US
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (count * product - at * found["sum"]) / (count * at_squared - at**2)
        found["slope"] = np.where(is_long, np.where(is_constant, 0, slope), np.nan)
    return found


def _totals(window: _Window, *numbers: Floats) -> list[Floats]:
    """The sum of each array over the events of each run: of what came, less what went."""
    series = window.points.series
    arrived = _running_totals(series, *(one[window.by_known] for one in numbers))
    gone = _running_totals(series, *numbers)
    any_gone = window.went > np.searchsorted(series, window.series)
    return [
        came[window.came - 1] - np.where(any_gone, went[window.went - 1], 0)
        for came, went in zip(arrived, gone, strict=True)
    ]


def _lowest(window: _Window, numbers: Floats) -> Floats:
    """The lowest of the numbers of the events of each run."""
    runs = len(window.is_full)
    return _lowest_over(window.first_run, window.end_run, numbers[window.is_seen], runs)[window.is_full]


def _running_totals(series: Ints, *numbers: Floats) -> list[Floats]:
    """Each array summed up to each place from the start of its series."""
    table = pl.DataFrame({"series": series, **{str(place): one for place, one in enumerate(numbers)}})
    totals = table.select(pl.exclude("series").cum_sum().over("series"))
    return [column.to_numpy() for column in totals]


def _lowest_over(first: Ints, end: Ints, numbers: Floats, length: int) -> Floats:
    """For each of `length` places the lowest of the numbers whose span, from `first` to before `end`, covers it.

    A span is the union of two blocks of the largest power of two that fits. Blocks are handed down, level by level,
    to the two halves they consist of; `lowest[i]` speaks for the block that starts at i.
    """
    level = np.log2(np.maximum(end - first, 1)).astype(np.int64)
    lowest = np.full(length, np.inf)
    for power in range(int(level.max(initial=0)), -1, -1):
        half = 1 << power
        handed_down = lowest.copy()
        handed_down[half:] = np.minimum(lowest[half:], lowest[:-half])
        lowest = handed_down
        here = level == power
        np.minimum.at(lowest, first[here], numbers[here])
        np.minimum.at(lowest, end[here] - half, numbers[here])
    return lowest
