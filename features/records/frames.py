"""The rows of a task as tables: dates moved, values in their code's unit."""

from collections.abc import Mapping

import polars as pl

from features.privacy.date_shift import MINUTE
from features.records.rows import Rows
from features.records.units import harmonise, plan_measures

_RECORD = {
    "record_id": pl.Int64,
    "subject_id": pl.Int64,
    "shift": pl.Int64,
    "context": pl.UInt32,
    "position": pl.Int64,
    "version_time": pl.Int64,
    "version_number": pl.Int64,
    "resource": pl.String,
    "encounter_id": pl.Int64,
}
_CONTEXT = {"kind": pl.String, "stretch": pl.Int64, "is_retired": pl.Boolean, "site_id": pl.Int64}
_EVENT = {
    "record": pl.UInt32,
    "measure": pl.UInt32,
    "time": pl.Int64,
    "known_time": pl.Int64,
    "numeric_value": pl.Float64,
}
_MEASURE = {"concept": pl.UInt32, "unit": pl.String, "text_value": pl.String}

# What `frames_of` gives.
RECORDS = pl.Schema(
    {
        "record_id": pl.Int64,
        "subject_id": pl.Int64,
        "position": pl.Int64,
        "version_time": pl.Int64,
        "version_number": pl.Int64,
        "resource": pl.String,
        "kind": pl.String,
        "stretch": pl.Int64,
        "is_retired": pl.Boolean,
    }
)
EVENTS = pl.Schema(
    [
        ("time", pl.Datetime("us")),
        ("known_time", pl.Datetime("us")),
        ("numeric_value", pl.Float32),
        ("record_id", pl.Int64),
        ("subject_id", pl.Int64),
        ("stretch", pl.Int64),
        ("position", pl.Int64),
        ("encounter_id", pl.Int64),
        ("site_id", pl.Int64),
        ("code", pl.String),
        ("wording", pl.String),
        ("text_value", pl.String),
        ("unit", pl.String),
    ]
)


def frames_of(rows: Rows) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records and the events (RECORDS, EVENTS); dates moved and cut to the minute, values in their code's unit.

    `version_time` is not moved. An event's times are null where the record gives none. What had to be done to values
    is noted in the facts of their stretches.
    """
    records = _as_frame(rows.records, _RECORD)
    records = records.hstack(_as_frame(list(rows.contexts), _CONTEXT)[records["context"]]).drop("context")
    events = _as_frame(rows.events, _EVENT)
    measures = _as_frame(list(rows.measures), _MEASURE)
    measures = measures.select(
        "unit",
        "text_value",
        code=pl.Series(rows.concepts.codes, dtype=pl.String).gather(measures["concept"]),
        wording=pl.Series(rows.concepts.wordings, dtype=pl.String).gather(measures["concept"]),
    )
    measure = events["measure"]
    of_record = records.select("record_id", "subject_id", "stretch", "position", "encounter_id", "site_id", "shift")
    numbers, units, counts = harmonise(
        measure,
        events["numeric_value"],
        plan_measures(measures.select("code", "unit")),
        of_record["stretch"].gather(events["record"]),
    )
    for stretch, finding, count in counts.iter_rows():
        rows.stretches[stretch].findings[finding] += count
    events = (
        events.hstack(of_record[events["record"]])
        .hstack(measures.select("code", "wording", "text_value")[measure])
        .with_columns(time=_moved("time"), known_time=_moved("known_time"), numeric_value=numbers, unit=units)
        .drop("record", "measure", "shift")
    )
    return records.select(RECORDS.keys()), events.select(EVENTS.keys())


def _as_frame(rows: list[tuple], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [pl.Series(name, column, dtype=kind) for (name, kind), column in zip(schema.items(), columns, strict=True)]
    )


def _moved(column: str) -> pl.Expr:
    return ((pl.col(column) + pl.col("shift")) // MINUTE * MINUTE).cast(pl.Datetime("us"))
