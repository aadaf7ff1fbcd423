"""The labels as MEDS label files: what other programs of that community learn from and are judged by."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from meds import LabelSchema

from features.tasks.moments import KEYS

_NAMES = (LabelSchema.subject_id_name, LabelSchema.prediction_time_name, LabelSchema.boolean_value_name)
MEDS_LABEL_TYPES = pa.schema([LabelSchema.schema().field(name) for name in _NAMES])


def write_meds_labels(labels: pl.DataFrame, folder: Path) -> int:
    """Write `<folder>/<task>/<horizon>d.parquet` for every task and horizon of the labels.

    Reads:    `labels`: features.tables.Labels.
    Writes:   subject_id, prediction_time, boolean_value (did the outcome happen by the horizon?), of the types and no
              other columns of MEDS 0.4's label schema; sorted. `died_first` is false. Censored rows are left out:
              nobody knows. No file for a task and horizon of which all rows are censored.
    Returns:  how many censored rows were left out.
    """
    known = labels.filter(pl.col("state") != "censored")
    for (task, days), rows in known.group_by("task", "horizon_days"):
        table = rows.sort(KEYS).select(*KEYS, boolean_value=pl.col("state") == "event").to_arrow()
        path = folder / str(task) / f"{days}d.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.cast(MEDS_LABEL_TYPES), path)
    return labels.height - known.height
