"""Does the shape of the records give outcomes away, with the common observation window and without it?

python -m benchmarks.audit --from FOLDER [--json]

FOLDER holds FHIR R4 records; they are read into a fresh home that is thrown away. Each question is audited
(models/observation_audit.py) twice: on the study's own prediction times, and on those of a study without guards, which
takes every person's own dense record for the observation period and asks no look-back of it. Beside the whole shape
stand its parts, and what the absolute density of visits would find in its place: that is care, no fault of the record.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from features.feature_plan import plan_columns
from features.feature_tables import build_features
from features.home import Home
from features.ingest import events_of, ingest
from features.observation import dense_records, observation_periods
from features.privacy.keys import load_key
from features.privacy.vault import read_shifts
from features.record_shape import CARE, KEYS, SHAPE, record_shape
from features.settings import StudySettings
from features.tasks.labels import build_labels
from features.tasks.schema import load_tasks
from models.observation_audit import AGE_SEX, audit_observation

CHOICES = {
    "the whole shape": tuple(SHAPE),
    "length": ("years_observed",),
    "calendar": ("years_to_source_end",),
    "density before, relative to recent": ("visits_before_to_recent",),
    "what is missing": ("has_no_measurement_before", "has_no_immunisation_before"),
    **{words: (column,) for column, words in CARE.items()},
}


def main() -> int:
    """Read the records, audit, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", type=Path, required=True, help="folder of FHIR R4 records")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    settings = StudySettings()
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        key.write_text("5e" * 32)  # of records that are read only here; it decides splits and folds
        key.chmod(0o600)
        os.environ["SEQUELA_KEY_FILE"] = str(key)
        home = Home(Path(folder) / "home")
        read = ingest(options.source, home, settings)
        table = audits_of(home, settings, is_windowed=read.source_kind == "synthea")
    if options.json:
        print(json.dumps(table.to_dicts()))
        return 0
    print("guards  measures                              task                    days  age+sex  with them  gain")
    for row in table.iter_rows(named=True):
        gain = f"{row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
        print(
            f"{row['guards']:6}  {row['choice']:36}  {row['task']:22}  {row['horizon_days']:4}  "
            f"{row['age_sex_auroc']:7.3f}  {row['auroc']:9.3f}  {gain}  {row['verdict']}"
        )
    return 0


def audits_of(home: Home, settings: StudySettings, is_windowed: bool) -> pl.DataFrame:
    """Audits of the records that `home` has read, each row with `guards` (on, off) and `choice` of measures.

    `is_windowed`: the source kept only some years before each person's end.
    """
    events, shifts = events_of(home), read_shifts(home.vault, load_key())
    periods, _ = observation_periods(events, shifts, settings, is_windowed)
    anywhere = dense_records(events, shifts, settings)
    no_lookback = settings.model_copy(update={"lookback_days": 1})
    return pl.concat(
        [
            *_audited(home, anywhere, no_lookback, settings, "off"),
            *_audited(home, periods, settings, settings, "on"),
        ]
    )


def _audited(
    home: Home,
    periods: pl.DataFrame,
    asked_with: StudySettings,
    settings: StudySettings,
    guards: str,
) -> Iterator[pl.DataFrame]:
    events, splits = events_of(home), pl.read_parquet(home.tables / "subject_splits.parquet")
    labels = build_labels(events, periods, splits, load_tasks(), asked_with)
    moments = labels.select(KEYS).unique()
    shape = record_shape(events, moments, periods, settings.lookback_days)
    definitions = plan_columns(events, moments, settings).filter(kind="demographic")
    shape = shape.join(build_features(events, moments, definitions).select(*KEYS, *AGE_SEX), on=KEYS)
    for choice, columns in CHOICES.items():
        audits = audit_observation(shape, labels, settings, columns)
        yield audits.select(pl.lit(guards).alias("guards"), pl.lit(choice).alias("choice"), pl.all())


if __name__ == "__main__":
    raise SystemExit(main())
