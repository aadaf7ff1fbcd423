"""The rows of a task as tables: dates moved, values in their code's unit."""

import polars as pl

from features.privacy.date_shift import MINUTE
from features.records.rows import Rows
from features.records.units import harmonise, plan_measures

RECORD = {
    "record_id": pl.Int64,
    "subject_id": pl.Int64,
    "kind": pl.String,
    "file": pl.Int64,
    "position": pl.Int64,
    "version_time": pl.Int64,
    "version_number": pl.Int64,
    "is_retired": pl.Boolean,
    "resource": pl.String,
    "shift": pl.Int64,
    "encounter_id": pl.Int64,
    "site_id": pl.Int64,
}
EVENT = {
    "record": pl.UInt32,
    "measure": pl.UInt32,
    "time": pl.Int64,
    "known_time": pl.Int64,
    "numeric_value": pl.Float64,
    "text_value": pl.String,
}


def frames_of(rows: Rows) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records and the events; dates moved and cut to the minute, values in their code's unit.

    Records: record_id, subject_id, kind, file, position, version_time, version_number, is_retired, resource.
    Events:  record_id, subject_id, file, position, encounter_id, site_id, time, known_time, code, wording,
             numeric_value, unit, text_value. Times are null where the record gives none.
    """
    records = _as_frame(rows.records, RECORD)
    events = _as_frame(rows.events, EVENT)
    concepts = pl.Series([concept for concept, _ in rows.measures], dtype=pl.UInt32)
    codes = pl.Series(rows.concept_codes, dtype=pl.String).gather(concepts)
    wordings = pl.Series(rows.concept_wordings, dtype=pl.String).gather(concepts)
    units = pl.Series([unit for _, unit in rows.measures], dtype=pl.String)
    measure = events["measure"]
    numbers, units, counts = harmonise(
        measure, events["numeric_value"], plan_measures(pl.DataFrame({"code": codes, "unit": units}))
    )
    for finding, count in counts.items():
        rows.note(finding, count)
    of_record = records.select("record_id", "subject_id", "file", "position", "encounter_id", "site_id", "shift")
    events = (
        events.hstack(of_record[events["record"]])
        .with_columns(
            time=_moved("time"),
            known_time=_moved("known_time"),
            code=codes.gather(measure),
            wording=wordings.gather(measure),
            numeric_value=numbers,
            unit=units,
        )
        .drop("record", "measure", "shift")
    )
    return records.drop("shift", "encounter_id", "site_id"), events


def _as_frame(rows: list[tuple], schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pl.DataFrame(
        [pl.Series(name, column, dtype=kind) for (name, kind), column in zip(schema.items(), columns, strict=True)]
    )


def _moved(column: str) -> pl.Expr:
    return ((pl.col(column) + pl.col("shift")) // MINUTE * MINUTE).cast(pl.Datetime("us"))
