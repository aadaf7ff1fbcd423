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
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

KEYS = ["subject_id", "prediction_time"]
DAYS_PER_YEAR = 365.25
DAY_US = 86_400_000_000
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
    "last": "the latest number; at one moment the one known last",
    "last_time": "when that was, µs",
    "last_record": "its record_id",
}

_EPOCH_US = 946_684_800_000_000  # 2000-01-01: years from there, so that their squares stay small
_NEVER = np.iinfo(np.int64).max // 2

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Prediction times, sorted by subject and time; their places are the rows of the feature table.

    people: subject_id in order. distinct: all prediction times once. ends: the row after each person's last.
    """

    people: pl.Series
    distinct: Ints
    keys: Ints
    ends: Ints

    def first_at(self, person: Ints, moment: Ints) -> Ints:
        """The first row of each person (by place) at or after a moment in µs; the row after their last when none is."""
        wanted = person * (len(self.distinct) + 1) + np.searchsorted(self.distinct, moment)
        return np.searchsorted(self.keys, wanted)


@dataclass(frozen=True)
class Points:
    """The events of some measures, in series: one for each person and measure, each in the order of time.

    Arrays over events: series, time and known (µs), value (NaN when not a number), record_id. Arrays over series:
    person (place in `moments`), measure.
    """

    moments: Moments
    series: Ints
    time: Ints
    known: Ints
    value: Floats
    record_id: Ints
    person: Ints
    measure: Ints


def moments_of(rows: pl.DataFrame) -> Moments:
    """Reads subject_id, prediction_time; distinct and sorted by both."""
    people = rows["subject_id"].unique(maintain_order=True)
    at = _us(rows["prediction_time"])
    distinct = np.unique(at)
    person = rows["subject_id"].rle_id().to_numpy().astype(np.int64)
    keys = person * (len(distinct) + 1) + np.searchsorted(distinct, at)
    return Moments(people, distinct, keys, np.searchsorted(person, np.arange(len(people)), side="right"))


def points_of(events: pl.DataFrame, moments: Moments, measures: pl.DataFrame) -> Points:
    """Put the events that measures read into series.

    Reads:  `events`: subject_id, time, known_time, code, numeric_value, record_id; without a time they are left
            out. `measures`: code, measure (a number from 0); a code may feed several measures.
    """
    people = pl.DataFrame({"subject_id": moments.people}).with_row_index("person")
    found = (
        events.lazy()
        .filter(pl.col("time").is_not_null())
        .join(measures.lazy(), on="code")
        .join(people.lazy(), on="subject_id")
        .select("person", "measure", "time", "known_time", "record_id", value=pl.col("numeric_value").cast(pl.Float64))
        # A full order makes ties and sums come out the same however the events were ordered.
        .sort("person", "measure", "time", "known_time", "record_id", "value")
        .collect()
    )
    person, measure = (found[name].to_numpy().astype(np.int64) for name in ("person", "measure"))
    starts = np.ones(found.height, dtype=bool)
    starts[1:] = (person[1:] != person[:-1]) | (measure[1:] != measure[:-1])
    return Points(
        moments=moments,
        series=np.cumsum(starts) - 1,
        time=_us(found["time"]),
        known=_us(found["known_time"]),
        value=found["value"].fill_null(np.nan).to_numpy(),
        record_id=found["record_id"].to_numpy(),
        person=person[starts],
        measure=measure[starts],
    )


def with_numbers(points: Points) -> Points:
    """Only the events with a number."""
    return _only(points, ~np.isnan(points.value))


def a_day_old(points: Points) -> Points:
    """The events as seen from a day after they happened: a visit that ends now is not its own predecessor."""
    return replace(points, known=np.maximum(points.known, points.time + DAY_US))


def window_runs(points: Points, window_days: int | None, statistics: Collection[str]) -> pl.DataFrame:
    """Statistics of each person and measure inside a window, for each run of rows that see the same events.

    Reads:    `window_days`: the look-back; None for the whole record. `statistics`: names in STATISTICS.
    Returns:  person, measure, from_row, until_row (excluded), and a column for each statistic. Only runs that see
              any event; sorted by person, measure and row.
    """
    ends_at = points.time + window_days * DAY_US if window_days is not None else np.full_like(points.time, _NEVER)
    points = _only(points, points.known < ends_at)
    ends_at = points.time + window_days * DAY_US if window_days is not None else np.full_like(points.time, _NEVER)
    moments, series = points.moments, points.series
    person = points.person[series]
    enters, leaves = moments.first_at(person, points.known), moments.first_at(person, ends_at)
    stride = len(moments.keys) + 1
    entering, leaving = series * stride + enters, series * stride + leaves
    seen = enters < leaves
    changes = np.sort(np.concatenate([entering[seen], leaving[seen & (leaves < moments.ends[person])]]), kind="stable")
    changes = changes[np.diff(changes, prepend=-1) > 0]
    of, from_row = changes // stride, changes % stride
    until_row = moments.ends[points.person[of]]
    until_row[:-1] = np.where(of[1:] == of[:-1], from_row[1:], until_row[:-1])
    by_known = np.lexsort((points.known, series))
    came = np.searchsorted(entering[by_known], changes, side="right")
    went = np.searchsorted(leaving, changes, side="right")
    some = came > went
    of, came, went = of[some], came[some], went[some]
    count = (came - went).astype(np.float64)
    start = np.searchsorted(series, of)

    def total(*numbers: Floats) -> list[Floats]:
        arrived = _running_totals(series, *(one[by_known] for one in numbers))
        gone = _running_totals(series, *numbers)
        return [a[came - 1] - np.where(went > start, g[went - 1], 0) for a, g in zip(arrived, gone, strict=True)]

    spans = np.searchsorted(changes, entering[seen]), np.searchsorted(changes, leaving[seen])

    def lowest(numbers: Floats) -> Floats:
        return _lowest_over(*spans, numbers[seen], len(changes))[some]

    last = np.maximum.accumulate(by_known)[came - 1]  # a series lies after those before it, so no series sees another's
    value = points.value
    columns: dict[str, NDArray] = {
        "person": points.person[of],
        "measure": points.measure[of],
        "from_row": from_row[some],
        "until_row": until_row[some],
        "count": count,
        "is_present": np.ones(len(of)),
        "last": value[last],
        "last_time": points.time[last],
        "last_record": points.record_id[last],
    }
    wanted = set(statistics)
    if wanted & {"sum", "mean", "sum_of_squares", "sd", "slope"}:
        columns["sum"], columns["sum_of_squares"] = total(value, value**2)
        columns["mean"] = columns["sum"] / count
    if wanted & {"minimum", "maximum", "sd", "slope"}:
        columns["minimum"], columns["maximum"] = lowest(value), -lowest(-value)
    if wanted & {"sd", "slope"}:
        is_constant = columns["minimum"] == columns["maximum"]  # nought exactly, whatever the rounding
    if "sd" in wanted:
        squares = np.maximum(columns["sum_of_squares"] - columns["sum"] ** 2 / count, 0)
        sd = np.where(is_constant, 0, np.sqrt(squares / np.maximum(count - 1, 1)))
        columns["sd"] = np.where(count > 1, sd, np.nan)
    if "slope" in wanted:
        years = (points.time - _EPOCH_US) / DAY_US / DAYS_PER_YEAR
        first = lowest(np.arange(len(series), dtype=np.float64)).astype(np.int64)
        is_long = points.time[last] - points.time[first] >= SHORTEST_SLOPE_DAYS * DAY_US
        at, at_squared, product = total(years, years**2, years * value)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (count * product - at * columns["sum"]) / (count * at_squared - at**2)
        columns["slope"] = np.where(is_long, np.where(is_constant, 0, slope), np.nan)
    return pl.DataFrame({name: columns[name] for name in ("person", "measure", "from_row", "until_row", *statistics)})


def rows_of_runs(runs: pl.DataFrame) -> tuple[Ints, Ints]:
    """Every row of every run: the place of the run, and the row."""
    from_row, lengths = runs["from_row"].to_numpy(), (runs["until_row"] - runs["from_row"]).to_numpy()
    run = np.repeat(np.arange(runs.height), lengths)
    first_place = np.cumsum(lengths) - lengths
    return run, from_row[run] + np.arange(len(run)) - first_place[run]


def with_stay_days(events: pl.LazyFrame) -> pl.LazyFrame:
    """The end of each inpatient stay with its length.

    Reads:    features.tables.Events.
    Returns:  the ENCOUNTER//IMP//end events, numeric_value = days since the same encounter's start. An end whose
              encounter or start is unknown is left out.
    """
    # A start that became known after the end would be the future at that moment.
    starts = events.filter(pl.col("code") == "ENCOUNTER//IMP//start").select(
        "subject_id", "encounter_id", started="time", start_known="known_time"
    )
    first_start = (
        events.filter((pl.col("code") == "ENCOUNTER//IMP//end") & pl.col("encounter_id").is_not_null())
        .join(starts, on=["subject_id", "encounter_id"])
        .filter((pl.col("start_known") <= pl.col("known_time")) & (pl.col("started") <= pl.col("time")))
    )
    stay_days = (pl.col("time") - pl.col("started")).dt.total_seconds() / 86_400
    return (
        first_start.with_columns(numeric_value=stay_days.cast(pl.Float32))
        .drop("started", "start_known")
        # One end with two starts would count twice; the earlier start stands.
        .sort("numeric_value", descending=True)
        .unique(["subject_id", "encounter_id", "record_id", "time", "known_time"], keep="first", maintain_order=True)
    )


def _only(points: Points, kept: NDArray[np.bool_]) -> Points:
    if kept.all():
        return points
    return replace(
        points,
        series=points.series[kept],
        time=points.time[kept],
        known=points.known[kept],
        value=points.value[kept],
        record_id=points.record_id[kept],
    )


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


def _us(moments: pl.Series) -> Ints:
    return moments.cast(pl.Datetime("us")).to_physical().to_numpy()
