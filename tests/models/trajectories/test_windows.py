"""The grid of a course: what is seen when it is forecast, and what is not."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.trajectories.measurements import draw_origins, latest_origins, measurements, people
from models.trajectories.measures import AMBULATORY, INPATIENT, SETTINGS
from models.trajectories.windows import build_windows, carried_forward
from tests.models.trajectories.small_courses import (
    DAY,
    DIABETES,
    HBA1C,
    METFORMIN,
    ORIGIN,
    SYSTOLIC,
    events,
    origins,
    person,
    row,
)

STAY = "ENCOUNTER//IMP//start"
HOUR = timedelta(hours=1)


def windows_of(*rows, setting=AMBULATORY, at=(ORIGIN,)):
    seen = events(*person(), *rows)
    return build_windows(seen, measurements(seen, setting), people(seen), origins(*at), setting)


def test_a_cell_has_its_last_value_and_an_empty_one_none():
    found = windows_of(
        row(HBA1C, ORIGIN, 7.0),  # at the moment of the forecast: the last cell of the look-back
        row(HBA1C, ORIGIN - 89 * DAY, 6.5),  # the same cell, earlier
        row(HBA1C, ORIGIN - 90 * DAY, 6.4),  # one cell before
        row(HBA1C, ORIGIN - 719 * DAY, 6.1),  # the first of eight
        row(HBA1C, ORIGIN - 720 * DAY, 6.0),  # before the look-back
        row(HBA1C, ORIGIN + 90 * DAY, 7.5),  # the first cell ahead
        row(HBA1C, ORIGIN + 91 * DAY, 7.6),  # the second
        row(HBA1C, ORIGIN + 450 * DAY, 7.9),  # the last of five
        row(HBA1C, ORIGIN + 451 * DAY, 8.0),  # beyond
    )
    nothing = [np.nan]
    assert found.history[0] == pytest.approx([6.1, *nothing * 5, 6.4, 7.0], nan_ok=True)
    assert found.future[0] == pytest.approx([7.5, 7.6, *nothing * 2, 7.9], nan_ok=True)
    assert found.last[0] == 7.0
    assert found.cells_since[0] == 0
    assert found.age_years[0] == pytest.approx(60.41, abs=0.01)


def test_days_since_the_last_value_are_counted_from_the_moment_of_the_forecast():
    found = windows_of(row(HBA1C, ORIGIN - 45 * DAY, 7.0))
    assert found.cells_since[0] == 0.5  # 45 of 90 days


def test_a_result_that_is_not_yet_known_is_neither_seen_nor_awaited():
    found = windows_of(row(HBA1C, ORIGIN - 100 * DAY, 6.0), row(HBA1C, ORIGIN - DAY, 9.0, known=ORIGIN + DAY))
    assert found.last[0] == 6.0
    assert not found.is_measured_ahead.any()


def test_values_are_carried_forward_and_never_back():
    values, since = carried_forward(np.array([[np.nan, 5.0, np.nan, np.nan, 6.0]]))
    assert values[0] == pytest.approx([np.nan, 5, 5, 5, 6], nan_ok=True)
    assert since[0] == pytest.approx([np.nan, 0, 1, 2, 0], nan_ok=True)


def test_treatment_counts_from_its_order_on_for_a_year():
    metformin = AMBULATORY.drugs.index("metformin")
    found = windows_of(row(HBA1C, ORIGIN, 7.0), row(METFORMIN, ORIGIN - 500 * DAY))
    # Cells end 630, 540, 450, 360, 270, 180, 90 and 0 days before; 500 to 135 days before it was active.
    assert found.drugs[0, :, metformin].tolist() == [False, False, True, True, True, True, False, False]
    diabetes = AMBULATORY.conditions.index("type_2_diabetes")
    assert windows_of(row(HBA1C, ORIGIN, 7.0), row(DIABETES, ORIGIN - 4_000 * DAY)).conditions[0, diabetes]


def test_values_of_a_stay_are_a_course_of_their_own():
    rows = (row(STAY, ORIGIN - DAY, visit=5), row(SYSTOLIC, ORIGIN, 110, visit=5), row(SYSTOLIC, ORIGIN, 140, visit=6))
    systolic = INPATIENT.names.index("systolic_pressure")
    assert windows_of(*rows).last.tolist() == [140]
    assert windows_of(*rows, setting=INPATIENT).latest[0, systolic] == 110


@pytest.mark.parametrize("value", [2.9, 20.1])
def test_impossible_values_are_not_read(value):
    seen = events(*person(), row(HBA1C, ORIGIN, value))
    assert measurements(seen, AMBULATORY).is_empty()


def test_forecasts_are_made_inside_what_the_source_records():
    seen = events(*person(), *(row(HBA1C, ORIGIN + days * DAY, 7.0) for days in (0, 719, 720, 800)))
    periods = (
        origins(ORIGIN)
        .select("subject_id", start="prediction_time", end="prediction_time")
        .with_columns(end=ORIGIN + 750 * DAY)
    )
    drawn = draw_origins(measurements(seen, AMBULATORY), people(seen), periods, AMBULATORY, most=9, seed=1)
    assert drawn["prediction_time"].to_list() == [ORIGIN + 720 * DAY]


def test_nobody_dead_or_discharged_is_forecast():
    stay = [row(STAY, ORIGIN - DAY, visit=5), row(SYSTOLIC, ORIGIN, 110, visit=5)]
    end, death = row("ENCOUNTER//IMP//end", ORIGIN + DAY, visit=5), row("MEDS_DEATH", ORIGIN + 2 * DAY)

    def latest(*rows):
        seen = events(*person(), *rows)
        return latest_origins(seen, measurements(seen, INPATIENT), people(seen), INPATIENT)["prediction_time"].to_list()

    assert latest(*stay) == [ORIGIN]
    assert latest(*stay, end) == []
    assert latest(*stay, death) == []


codes = st.sampled_from([HBA1C, SYSTOLIC, METFORMIN, DIABETES, STAY])
fact = st.tuples(codes, st.integers(-800, 800), st.integers(0, 800), st.floats(50, 60), st.sampled_from([None, 5, 6]))
HABITS = {HBA1C: 0.1, SYSTOLIC: 2.0}


def as_rows(facts, is_known_by_then):
    return [
        row(code, ORIGIN + at * HOUR, value * HABITS.get(code, 1), ORIGIN + (at + late) * HOUR, visit)
        for code, at, late, value, visit in facts
        if (at + late <= 0) == is_known_by_then
    ]


@settings(deadline=None, max_examples=30)
@given(past=st.lists(fact, max_size=12), later=st.lists(fact, max_size=12))
def test_what_becomes_known_later_changes_no_input(past, later):
    """Hours before and after: so that the stays' blocks of six hours are met as well as quarters of a year."""
    known = as_rows([*past, (HBA1C, -1, 0, 55.0, None), (SYSTOLIC, -1, 0, 55.0, 7)], is_known_by_then=True)
    known.append(row(STAY, ORIGIN - 2 * HOUR, visit=7))
    unknown = as_rows(later, is_known_by_then=False)
    for setting in SETTINGS:
        before, after = windows_of(*known, setting=setting), windows_of(*known, *unknown, setting=setting)
        assert len(before)
        assert before.keys.equals(after.keys)
        for name in ("history", "cells_since", "latest", "age_years", "sex", "conditions", "drugs"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
