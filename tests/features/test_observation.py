from datetime import date, datetime, timedelta

import polars as pl
import pytest

from features.errors import SequelaError
from features.observation import dense_records, observation_periods
from features.settings import ObservationSettings, StudySettings
from tests.features.small_events import events_table, person, visit

WEEK_US = 7 * 86_400 * 1_000_000
SYNTHEA = {"settings": StudySettings(), "is_windowed": True}
OTHER = {"settings": StudySettings(), "is_windowed": False}


def shifts(**weeks: int) -> pl.DataFrame:
    """Shifts by person: p1=2 moves person 1 by two weeks."""
    return pl.DataFrame(
        {"subject_id": [int(name[1:]) for name in weeks], "shift_us": [WEEK_US * n for n in weeks.values()]},
        schema={"subject_id": pl.Int64, "shift_us": pl.Int64},
    )


def moved(rows: list[dict[str, object]], weeks: int) -> list[dict[str, object]]:
    return [row | {"time": row["time"] + timedelta(weeks=weeks)} if "time" in row else row for row in rows]


def immunised(when: datetime, subject_id: int = 1) -> dict[str, object]:
    return {"subject_id": subject_id, "time": when, "code": "CVX//140"}


def test_window_opens_with_the_dense_records_of_the_living_and_ends_with_the_last_encounter():
    # Person 1 lives, dense from 11 April 2011, moved by 2 weeks. Person 2 died on 1 March 2015, dense since 2005:
    # Synthea exports the ten years before death, so those early records say "dead" and must not open the window.
    # Person 3 died before it opened. Person 4 was born in 2018.
    events = events_table(
        *moved([*person(1), immunised(datetime(2011, 4, 11, 9)), *visit(datetime(2021, 3, 31, 10))], 2),
        *moved(
            [
                *person(2),
                immunised(datetime(2005, 3, 1), 2),
                *visit(datetime(2015, 2, 1), subject_id=2),
                {"subject_id": 2, "time": datetime(2015, 3, 1), "code": "MEDS_DEATH"},
            ],
            -3,
        ),
        *person(3),
        {"subject_id": 3, "time": datetime(2010, 1, 1), "code": "MEDS_DEATH"},
        *person(4, born=datetime(2018, 5, 5)),
        immunised(datetime(2018, 5, 6), 4),
    )
    periods, data_end = observation_periods(events, shifts(p1=2, p2=-3, p3=0, p4=0), **SYNTHEA)
    assert data_end == date(2021, 3, 31)
    last = datetime(2021, 3, 31, 23, 59, 59, 999_999)
    opening, two, three = datetime(2011, 4, 11), timedelta(weeks=2), timedelta(weeks=3)
    assert periods.rows() == [
        (1, opening + two, last + two, last + two, 2011),
        (2, opening - three, datetime(2015, 3, 1) - three, last - three, 2011),
        (4, datetime(2018, 5, 5), last, last, 2018),
    ]


def test_who_moved_away_is_observed_until_then():
    gone = datetime(2018, 5, 1)
    events = events_table(
        *person(1),
        *visit(datetime(2016, 1, 1), subject_id=1),
        {"subject_id": 1, "time": gone, "code": "MOVED_AWAY"},
        *person(2),
        *visit(datetime(2019, 1, 1), subject_id=2),
    )
    periods, data_end = observation_periods(events, shifts(p1=0, p2=0), **OTHER)
    assert data_end == date(2019, 1, 1)
    assert periods["end"].to_list() == [gone, datetime(2019, 1, 1, 23, 59, 59, 999_999)]


def test_records_before_birth_do_not_open_the_window():
    events = events_table(
        *person(born=datetime(2000, 1, 1)),
        immunised(datetime(1986, 1, 1)),
        immunised(datetime(2012, 6, 1)),
        *visit(datetime(2020, 1, 1)),
    )
    periods, _ = observation_periods(events, shifts(p1=0), **SYNTHEA)
    assert periods["start"].item() == datetime(2012, 6, 1)


def test_a_few_early_records_of_the_living_do_not_open_the_window():
    # 201 living people: the place of 1 % is the third (0.01 x 200 = 2, counted from 0), so two strays do not matter.
    strays = [immunised(datetime(1990, 1, 1), 1), immunised(datetime(1991, 1, 1), 2)]
    rest = [immunised(datetime(2012, 1, 1) + timedelta(days=n), n) for n in range(3, 202)]
    events = events_table(*strays, *rest, *visit(datetime(2020, 1, 1)))
    everybody = shifts(**{f"p{n}": 0 for n in range(1, 202)})
    periods, _ = observation_periods(events, everybody, **SYNTHEA)
    assert set(periods["start"]) == {datetime(2012, 1, 4)}
    assert periods.height == 201  # unknown births start with the window


def test_first_contact_starts_with_the_first_encounter_or_birth():
    events = events_table(
        *person(1, born=datetime(2000, 1, 1)),
        # An old illness told at the first visit is no contact.
        {"time": datetime(2003, 1, 1), "known_time": datetime(2012, 1, 1), "code": "SNOMED//38341003"},
        *visit(datetime(2012, 1, 1)),
        *visit(datetime(2020, 1, 1)),
        *person(2),  # never came
        *person(3, born=datetime(2019, 1, 1)),
        {"subject_id": 3, "time": datetime(2019, 2, 1), "code": "SNOMED//72892002"},  # no encounter, but a record
    )
    periods, data_end = observation_periods(events, shifts(p1=0, p2=0, p3=0), **OTHER)
    assert data_end == date(2020, 1, 1)
    assert periods.select("subject_id", "start").rows() == [(1, datetime(2012, 1, 1)), (3, datetime(2019, 2, 1))]


def test_isolated_late_days_do_not_end_the_source():
    visits = [row for n in range(1_500) for row in visit(datetime(2010, 1, 1) + timedelta(days=n), encounter_id=n)]
    typing_error = visit(datetime(2031, 1, 1), encounter_id=-1)  # 1 of 1,501 encounters, 17 years later
    _, data_end = observation_periods(events_table(*person(), *visits, *typing_error), shifts(p1=0), **OTHER)
    assert data_end == date(2010, 1, 1) + timedelta(days=1_499)
    # With 10 of 1,510 encounters (0.7 %) after the gap the source may simply have paused.
    late = [row for n in range(10) for row in visit(datetime(2031, 1, 1) + timedelta(days=n), encounter_id=-n)]
    _, data_end = observation_periods(events_table(*person(), *visits, *late), shifts(p1=0), **OTHER)
    assert data_end == date(2031, 1, 10)


def test_the_study_file_decides_when_it_says_so():
    settings = StudySettings(observation=ObservationSettings(data_end=date(2015, 12, 31), starts="window"))
    events = events_table(*person(), immunised(datetime(2012, 1, 1)), *visit(datetime(2020, 1, 1)))
    periods, data_end = observation_periods(events, shifts(p1=0), settings, is_windowed=False)
    assert data_end == date(2015, 12, 31)
    assert periods["start"].item() == datetime(2012, 1, 1)
    assert periods["end"].item() == datetime(2015, 12, 31, 23, 59, 59, 999_999)


def test_people_alone_are_no_source():
    with pytest.raises(SequelaError, match=r"no encounter.*observation\.data_end"):
        observation_periods(events_table(*person()), shifts(p1=0), **SYNTHEA)


def test_a_window_needs_a_living_person_with_dense_records():
    with pytest.raises(SequelaError, match="first_contact"):
        observation_periods(events_table(*person(), *visit(datetime(2020, 1, 1))), shifts(p1=0), **SYNTHEA)


def test_a_source_that_says_until_when_it_covers_is_believed():
    # The last visit is on 1 March; the source covers until the 20th, and nobody came in between.
    events = events_table(*person(), *visit(datetime(2012, 1, 1)), *visit(datetime(2020, 3, 1)))
    periods, data_end = observation_periods(events, shifts(p1=0), **OTHER, covers_until=date(2020, 3, 20))
    assert data_end == date(2020, 3, 20)
    assert periods["end"].item() == datetime(2020, 3, 20, 23, 59, 59, 999_999)


def test_a_server_that_nobody_fills_any_more_covers_nothing_since():
    events = events_table(*person(), *visit(datetime(2012, 1, 1)), *visit(datetime(2020, 3, 1)))
    _, data_end = observation_periods(events, shifts(p1=0), **OTHER, covers_until=date(2020, 6, 2))  # 93 days later
    assert data_end == date(2020, 3, 1)


def test_visits_planned_after_the_end_do_not_move_it():
    events = events_table(*person(), *visit(datetime(2012, 1, 1)), *visit(datetime(2020, 3, 1)))
    _, data_end = observation_periods(events, shifts(p1=0), **OTHER, covers_until=date(2020, 2, 10))
    assert data_end == date(2020, 2, 10)


def test_a_dense_record_starts_where_the_source_kept_it_and_so_tells_who_died():
    """The same two people: one lives, one died four years before the end; each has the last ten years of recording."""
    events = events_table(
        *moved([*person(1), immunised(datetime(2011, 4, 11, 9)), *visit(datetime(2021, 3, 31, 10))], 2),
        *moved(
            [
                *person(2),
                immunised(datetime(2007, 3, 1), 2),
                {"subject_id": 2, "time": datetime(2017, 3, 1), "code": "MEDS_DEATH"},
            ],
            -3,
        ),
        *person(3),  # without any dense event there is no record to speak of
    )
    records = dense_records(events, shifts(p1=2, p2=-3, p3=0), StudySettings())
    last = datetime(2021, 3, 31, 23, 59, 59, 999_999)
    two, three = timedelta(weeks=2), timedelta(weeks=3)
    assert records.rows() == [
        (1, datetime(2011, 4, 11, 9) + two, last + two, last + two, 2011),
        (2, datetime(2007, 3, 1) - three, datetime(2017, 3, 1) - three, last - three, 2007),
    ]
