"""The shape of a record, by hand: a look-back of 365 days, and years of 365.25 days between the moments."""

from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.record_shape import CARE, SHAPE, record_shape
from tests.features.small_events import NOON, day, events_table, period, times, visit

YEAR = timedelta(days=365.25)
OBSERVED = period(start=NOON - 4 * YEAR, end=NOON + 2 * YEAR, covered_until=NOON + 2 * YEAR)
LOOKBACK = 365


def shape_of(*rows: dict[str, object]) -> dict[str, float | None]:
    return record_shape(events_table(*rows), times(NOON), OBSERVED, LOOKBACK).drop("prediction_time").row(0, named=True)


def test_length_calendar_density_and_what_is_missing():
    found = shape_of(
        *visit(day(-2000)),  # before anybody observed: as if it were not there
        *visit(day(-1000)),
        *visit(day(-900)),
        *visit(day(-10)),
        {"time": day(-1000), "code": "LOINC//8480-6", "numeric_value": 120.0, "unit": "mm[Hg]"},
        {"time": day(-20), "code": "CVX//140"},  # in the look-back
    )
    assert found["years_observed"] == 4
    assert found["years_to_source_end"] == 2
    before, recent = 4 - 365 / 365.25, 365 / 365.25
    assert found["visits_per_year_before"] == pytest.approx(2 / before)
    assert found["visits_per_year_recent"] == pytest.approx(1 / recent)
    # exp(found) = (2 + 1) / (3.0007 + 1) over (1 + 1) / (0.9993 + 1): 0.7499 / 1.0003 = 0.7496
    assert found["visits_before_to_recent"] == pytest.approx(-0.2882, abs=1e-4)
    assert (found["has_no_measurement_before"], found["has_no_immunisation_before"]) == (0, 1)
    assert set(found) - {"subject_id"} == set(SHAPE) | set(CARE)


def test_the_moments_at_the_edges():
    """The start itself is inside; the start of the look-back belongs to what is before; the moment itself is known."""
    edge = NOON - timedelta(days=LOOKBACK)
    found = shape_of(*[row for when in (NOON - 4 * YEAR, edge, NOON) for row in visit(when)])
    assert found["visits_per_year_before"] == pytest.approx(2 / (4 - 365 / 365.25))
    assert found["visits_per_year_recent"] == pytest.approx(1 / (365 / 365.25))


def test_nothing_can_be_said_of_before_a_short_observation():
    short = period(start=day(-100))
    found = record_shape(events_table(*visit(day(-50))), times(NOON), short, LOOKBACK).row(0, named=True)
    unknown = {name for name, value in found.items() if value is None}
    assert unknown == {
        "visits_before_to_recent",
        "visits_per_year_before",
        "has_no_measurement_before",
        "has_no_immunisation_before",
    }
    assert found["visits_per_year_recent"] == pytest.approx(1 / (100 / 365.25))


marks = st.lists(st.tuples(st.integers(0, 1500), st.sampled_from(["ENCOUNTER//AMB//start", "LOINC//1-1", "CVX//1"])))


@given(past=marks, future=marks)
def test_what_becomes_known_later_changes_nothing(past, future):
    known = [{"time": day(-days), "code": code} for days, code in past]
    later = [
        {"time": day(-days), "known_time": day(1 + days), "code": code} if days % 2 else {"time": day(1), "code": code}
        for days, code in future
    ]
    alone, with_later = (
        record_shape(events_table(*rows), times(NOON), OBSERVED, LOOKBACK) for rows in (known, known + later)
    )
    assert_frame_equal(alone, with_later, check_exact=True)
    assert alone.schema["years_observed"] == pl.Float64
