"""Events, periods and splits of a few people, written by hand in the tests."""

from datetime import datetime, timedelta

import polars as pl

from features.tables import Events, ObservationPeriods, checked, empty

NOON = datetime(2015, 6, 15, 12)
WIDE_START, WIDE_END = datetime(2005, 1, 1), datetime(2020, 12, 31, 23, 59)


def day(days: float) -> datetime:
    """Noon of 15 June 2015 moved by days."""
    return NOON + timedelta(days=days)


def events_table(*rows: dict[str, object]) -> pl.LazyFrame:
    """Events from the columns that matter: subject 1, known when it happened, record ids by position."""
    full = [
        {"subject_id": 1, "known_time": row.get("time"), "record_id": place} | row
        for place, row in enumerate(rows, start=1)
    ]
    return checked(pl.DataFrame(full, schema=empty(Events).schema), Events).lazy()


def person(subject_id: int = 1, born: datetime = datetime(1970, 1, 1), sex: str = "female") -> list[dict[str, object]]:
    """Birth and sex of a person."""
    return [
        {"subject_id": subject_id, "time": born, "code": "MEDS_BIRTH"},
        {"subject_id": subject_id, "code": f"SEX//{sex}"},
    ]


def visit(
    start: datetime, end: datetime | None = None, visit_class: str = "AMB", subject_id: int = 1, encounter_id: int = 1
) -> list[dict[str, object]]:
    """Start and end of a visit; one hour long unless said otherwise."""
    ids = {"subject_id": subject_id, "encounter_id": encounter_id}
    return [
        {**ids, "time": start, "code": f"ENCOUNTER//{visit_class}//start"},
        {**ids, "time": end or start + timedelta(hours=1), "code": f"ENCOUNTER//{visit_class}//end"},
    ]


def period(
    subject_id: int = 1,
    start: datetime = WIDE_START,
    end: datetime = WIDE_END,
    covered_until: datetime = WIDE_END,
) -> pl.DataFrame:
    """One person's observation period."""
    rows = [(subject_id, start, end, covered_until, start.year)]
    table = pl.DataFrame(rows, schema=empty(ObservationPeriods).schema, orient="row")
    return checked(table, ObservationPeriods)


def times(*moments: datetime, subject_id: int = 1) -> pl.DataFrame:
    """Prediction times of a person."""
    return pl.DataFrame(
        {"subject_id": [subject_id] * len(moments), "prediction_time": list(moments)},
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")},
    )
