"""The labels as files that MEDS's own schema accepts."""

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from meds import LabelSchema

from features.tables import Labels, checked, empty
from features.tasks.meds_labels import write_meds_labels
from tests.features.small_events import day


def test_label_files_by_hand(tmp_path):
    rows = [
        (2, day(0), "mortality", 365, "train", "event", 3.0),
        (1, day(9), "mortality", 365, "train", "none", 365.0),
        (1, day(0), "mortality", 365, "train", "censored", 20.0),
        (1, day(0), "pneumonia", 365, "train", "died_first", 4.0),
        (1, day(0), "pneumonia", 1095, "train", "censored", 4.0),
    ]
    labels = checked(pl.DataFrame(rows, schema=empty(Labels).schema, orient="row"), Labels)
    assert write_meds_labels(labels, tmp_path) == 2
    files = {str(file.relative_to(tmp_path)): pq.read_table(file) for file in tmp_path.rglob("*.parquet")}
    assert set(files) == {"mortality/365d.parquet", "pneumonia/365d.parquet"}
    for table in files.values():
        LabelSchema.validate(table)
        assert [(field.name, field.type) for field in table.schema] == [
            ("subject_id", pa.int64()),
            ("prediction_time", pa.timestamp("us")),
            ("boolean_value", pa.bool_()),
        ]
    assert pl.from_arrow(files["mortality/365d.parquet"]).rows() == [(1, day(9), False), (2, day(0), True)]
    assert pl.from_arrow(files["pneumonia/365d.parquet"]).rows() == [(1, day(0), False)]
