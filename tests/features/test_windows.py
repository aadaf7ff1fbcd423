"""The statistics of a window, checked with a calculator; the engine, against counting event by event."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.points import DAY_US, a_day_old, moments_of, points_of, with_numbers, with_stay_days
from features.windows import STATISTICS, rows_of_runs, window_runs
from tests.features.small_events import NOON, day, events_table, times, visit

HBA1C = "LOINC//4548-4"
MEASURES = pl.DataFrame({"code": [HBA1C], "measure": [7]})
ROWS = times(NOON)


def value(on: float, number: float | None, known: float | None = None, code: str = HBA1C) -> dict[str, object]:
    """A value on a day before or after noon of 15 June 2015."""
    return {"time": day(on), "known_time": day(on if known is None else known), "code": code, "numeric_value": number}


def points(*events: dict[str, object], rows: pl.DataFrame = ROWS):
    return points_of(events_table(*events).collect(), moments_of(rows), MEASURES)


def summary(*events: dict[str, object], window_days: int | None = 730) -> dict[str, float]:
    """Statistics at noon, the time of the last in days before it; empty when nothing is seen."""
    found = window_runs(with_numbers(points(*events)), window_days, list(STATISTICS))
    if found.is_empty():
        return {}
    assert found.select("person", "measure", "from_row", "until_row").row(0) == (0, 7, 0, 1)
    noon = times(NOON)["prediction_time"].to_physical()
    days = (noon - found["last_time"]) / DAY_US
    return found.with_columns(days_since=days).row(0, named=True)


def test_statistics_by_hand():
    # Values 6.0, 6.5 and 7.0 at 1.0, 0.5 and 0 years before: mean 6.5, one per cent a year more.
    # Sum of squares 36 + 42.25 + 49 = 127.25; variance of the sample (0.25 + 0 + 0.25) / 2 = 0.25.
    found = summary(value(-365.25, 6.0), value(-182.625, 6.5), value(0, 7.0))
    expected = {"count": 3, "sum": 19.5, "mean": 6.5, "minimum": 6, "maximum": 7, "last": 7, "days_since": 0}
    expected |= {"slope": 1, "sum_of_squares": 127.25, "sd": 0.5, "is_present": 1, "last_record": 3}
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_value_that_stays_has_neither_slope_nor_spread():
    # 140.1 has no exact form in binary: rounding must not show.
    found = summary(*(value(-on, 140.1) for on in range(0, 100, 7)))
    assert (found["slope"], found["sd"]) == (0, 0)


def test_one_value_has_no_spread():
    # Neither alone, nor when others have left the window: what they leave behind in the running totals is rounding.
    assert np.isnan(summary(value(-3, 5))["sd"])
    for other in (0.1, 3.3, 140.1):
        found = summary(value(-99, 0.1 + other), value(-98, other / 3), value(-3, other * 1.7), window_days=30)
        assert np.isnan(found["sd"])


def test_slope_by_least_squares():
    # Years -1, -0.5, 0 and values 1, 4, 2: mean -0.5 and 7/3; covariance sum (-0.5)(-4/3) + 0 + (0.5)(-1/3) = 0.5;
    # square sum 0.5; slope 1.
    assert summary(value(-365.25, 1), value(-182.625, 4), value(0, 2))["slope"] == pytest.approx(1)


@pytest.mark.parametrize(
    "rows", [[value(-10, 5)], [value(-10, 5), value(-10, 6)], [value(-29, 5), value(0, 6)]], ids=str
)
def test_no_slope_from_values_within_30_days(rows):
    assert np.isnan(summary(*rows)["slope"])


@pytest.mark.parametrize(
    ("on", "known", "is_seen"),
    [
        (0, 0, True),  # at the prediction time
        (-1, 0, True),  # before, known in time
        (-1, 1 / 1440, False),  # before, but known a minute too late
        (1 / 1440, 1 / 1440, False),
        (-729.99, -729.99, True),
        (-730, -730, False),  # the start of the window is outside
        (-800, -1, False),  # known recently, yet old
    ],
)
def test_seen_when_known_in_time_and_happened_in_the_window(on, known, is_seen):
    assert bool(summary(value(on, 5, known))) == is_seen


def test_the_whole_record_has_no_start_but_the_same_end():
    assert summary(value(-9_000, 5), window_days=None)["count"] == 1
    assert not summary(value(-9_000, 5, known=1), window_days=None)


def test_the_last_value_of_one_moment_is_the_one_known_last():
    assert summary(value(-5, 6, known=-1), value(-5, 9, known=-3))["last"] == 6


def test_what_is_no_number_is_no_value():
    assert summary(value(-3, 5) | {"numeric_value": None}, value(-4, 5))["count"] == 1


def test_counts_and_the_previous_visit():
    ends = points(*(value(on, None) for on in (-400, -100, -0.5, 0)))
    # Within 180 days: -100, -0.5 and 0; the previous one is at least a day old: -100.
    assert window_runs(ends, 180, ["count"])["count"].to_list() == [3]
    previous = window_runs(a_day_old(ends), 730, ["count", "last_time"])
    noon = times(NOON)["prediction_time"].to_physical()
    assert previous["count"].to_list() == [2]
    assert ((noon - previous["last_time"]) / DAY_US).to_list() == [100]


def test_stays_have_their_length():
    events = events_table(
        *visit(day(-10), day(-7.5), "IMP", encounter_id=1),
        *visit(day(-5), day(-4), "AMB", encounter_id=2),
        {"time": day(-3), "code": "ENCOUNTER//IMP//end", "encounter_id": 3},  # its start is unknown
        {"time": day(-2), "code": "ENCOUNTER//IMP//end"},
    )
    stays = with_stay_days(events).collect()
    assert stays["numeric_value"].to_list() == [2.5]


def test_each_row_sees_its_own_past():
    rows = times(NOON, NOON + timedelta(days=100), NOON + timedelta(days=101))
    found = window_runs(points(value(-1, 1), value(50, 2), rows=rows), 730, ["count", "last"])
    assert found.select("from_row", "until_row", "count", "last").rows() == [(0, 1, 1, 1.0), (1, 3, 2, 2.0)]
    run, row = rows_of_runs(found)
    assert (run.tolist(), row.tolist()) == ([0, 1, 1], [0, 1, 2])


def test_nobody_and_nothing_give_nothing():
    assert window_runs(points(), 30, list(STATISTICS)).is_empty()
    assert window_runs(points(value(-1, 1), rows=times()), 30, list(STATISTICS)).is_empty()


# Time and delay in half days, few of each, so that moments and values tie.
drawn = st.tuples(st.integers(-80, 80), st.integers(0, 30), st.sampled_from([-2.5, 0.1, 3.0, 7.25, 1e6]))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(drawn, max_size=25),
    st.lists(st.integers(-90, 120), min_size=1, max_size=12, unique=True),
    st.sampled_from([5, 20, None]),
)
def test_runs_say_what_counting_event_by_event_says(events, moments, window_days):
    rows = times(*(day(at / 2) for at in sorted(moments)))
    drawn_events = [value(on / 2, number, (on + delay) / 2) for on, delay, number in events]
    found = window_runs(
        with_numbers(points(*drawn_events, rows=rows)), window_days, ["count", "sum", "minimum", "maximum", "last"]
    )
    run, row = rows_of_runs(found)
    told = {int(r): found.row(int(place))[4:] for place, r in zip(run, row, strict=True)}
    assert len(told) == len(row)  # no row in two runs
    for place, at in enumerate(sorted(moments)):
        seen = sorted(
            (on, on + delay, record, float(np.float32(number)))
            for record, (on, delay, number) in enumerate(events)
            if on + delay <= at and (window_days is None or on > at - 2 * window_days)
        )
        numbers = [number for *_, number in seen]
        if not seen:
            assert place not in told
            continue
        count, total, low, high, last = told[place]
        assert (count, low, high, last) == (len(seen), min(numbers), max(numbers), numbers[-1])
        assert total == pytest.approx(sum(numbers), rel=1e-9, abs=1e-6)
