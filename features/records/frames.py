"""The rows of a task as tables: dates moved, values in their code's unit."""

from collections.abc import Mapping

import polars as pl

from features.privacy.date_shift import MINUTE
from features.records.rows import Rows
from features.records.units import harmonise, plan_measures

RECORD = {
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
CONTEXT = {"kind": pl.String, "file": pl.Int64, "is_retired": pl.Boolean, "site_id": pl.Int64}
EVENT = {
    "record": pl.UInt32,
    "measure": pl.UInt32,
    "time": pl.Int64,
    "known_time": pl.Int64,
    "numeric_value": pl.Float64,
}
MEASURE = {"concept": pl.UInt32, "unit": pl.String, "text_value": pl.String}


def frames_of(rows: Rows) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records and the events; dates moved and cut to the minute, values in their code's unit.

    Records: record_id, subject_id, kind, file, position, version_time, version_number, is_retired, resource.
    Events:  record_id, subject_id, file, position, encounter_id, site_id, time, known_time, code, wording,
             numeric_value, unit, text_value. Times are null where the record gives none.
    """
    records = _as_frame(rows.records, RECORD)
    records = records.hstack(_as_frame(list(rows.contexts), CONTEXT)[records["context"]]).drop("context")
    events = _as_frame(rows.events, EVENT)
    measures = _as_frame(list(rows.measures), MEASURE)
    measures = measures.select(
        "unit",
        "text_value",
        code=pl.Series(rows.concept_codes, dtype=pl.String).gather(measures["concept"]),
        wording=pl.Series(rows.concept_wordings, dtype=pl.String).gather(measures["concept"]),
    )
    measure = events["measure"]
    numbers, units, counts = harmonise(measure, events["numeric_value"], plan_measures(measures.select("code", "unit")))
    for finding, count in counts.items():
        rows.note(finding, count)
    of_record = records.select("record_id", "subject_id", "file", "position", "encounter_id", "site_id", "shift")
    events = (
        events.hstack(of_record[events["record"]])
        .hstack(measures.select("code", "wording", "text_value")[measure])
        .with_columns(time=_moved("time"), known_time=_moved("known_time"), numeric_value=numbers, unit=units)
        .drop("record", "measure", "shift")
    )
    return records.drop("shift", "encounter_id", "site_id"), events


def _as_frame(rows: list[tuple], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [pl.Series(name, column, dtype=kind) for (name, kind), column in zip(schema.items(), columns, strict=True)]
    )


def _moved(column: str) -> pl.Expr:
    return ((pl.col(column) + pl.col("shift")) // MINUTE * MINUTE).cast(pl.Datetime("us"))
