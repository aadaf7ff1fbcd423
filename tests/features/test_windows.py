"""The statistics of a window, checked with a calculator."""

from datetime import timedelta

import polars as pl
import pytest

from features.windows import KEYS, count_records, known_events, summarise_values, with_stay_days
from tests.features.small_events import NOON, day, events_table, times, visit

HBA1C = "LOINC//4548-4"
MEASURES = pl.DataFrame({"code": [HBA1C], "measure": [7]})
ROWS = times(NOON).with_row_index("row")


def value(on: float, number: float, known: float | None = None, code: str = HBA1C) -> dict[str, object]:
    """A value on a day before or after noon of 15 June 2015."""
    return {"time": day(on), "known_time": day(on if known is None else known), "code": code, "numeric_value": number}


def summary(*rows: dict[str, object], window_days: int | None = 730) -> dict[str, float | None]:
    known = known_events(events_table(*rows), ROWS, MEASURES, window_days)
    found = summarise_values(known, window_days)
    return found.drop("row", "measure").row(0, named=True) if found.height else {}


def test_statistics_by_hand():
    # Values 6.0, 6.5 and 7.0 at 1.0, 0.5 and 0 years before: mean 6.5, one per cent a year more.
    found = summary(value(-365.25, 6.0), value(-182.625, 6.5), value(0, 7.0))
    assert found == pytest.approx(
        {"count": 3, "sum": 19.5, "mean": 6.5, "minimum": 6, "maximum": 7, "last": 7, "days_since": 0, "slope": 1}
    )


def test_slope_by_least_squares():
    # Years -1, -0.5, 0 and values 1, 4, 2: mean -0.5 and 7/3; covariance sum (-0.5)(-4/3) + 0 + (0.5)(-1/3) = 0.5;
    # square sum 0.5; slope 1.
    assert summary(value(-365.25, 1), value(-182.625, 4), value(0, 2))["slope"] == pytest.approx(1)


@pytest.mark.parametrize(
    "rows", [[value(-10, 5)], [value(-10, 5), value(-10, 6)], [value(-29, 5), value(0, 6)]], ids=str
)
def test_no_slope_from_values_within_30_days(rows):
    assert summary(*rows)["slope"] is None


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
    ends = [value(on, 0) for on in (-400, -100, -0.5, 0)]
    known = known_events(events_table(*ends), ROWS, MEASURES, 730)
    # Within 180 days: -100, -0.5 and 0; the previous one is at least a day old: -100.
    found = count_records(known, 180).drop("row", "measure").row(0, named=True)
    assert found == {"count": 3, "is_present": 1, "days_since_previous": 100}


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
    rows = times(NOON, NOON + timedelta(days=100)).with_row_index("row")
    known = known_events(events_table(value(-1, 1), value(50, 2)), rows, MEASURES, 730)
    found = summarise_values(known, 730).join(rows, on="row").sort("prediction_time")
    assert found.select(*KEYS, "count", "last").rows() == [
        (1, NOON, 1, 1.0),
        (1, NOON + timedelta(days=100), 2, 2.0),
    ]
