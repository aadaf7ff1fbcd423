"""Do the written tables keep what the study promises? Each function counts; nothing is changed or raised.

The counts come from the tables as they stand on disk, never from what a step said about itself.
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from features.feature_tables import build_features
from features.meds_codes import DEATH
from features.tables import Events

_KEYS = ["subject_id", "prediction_time"]
# How long after the prediction time a canary becomes known.
CANARIES_AFTER = (timedelta(microseconds=1), timedelta(minutes=1), timedelta(days=1), timedelta(days=30))


@dataclass(frozen=True)
class RecordBalance:
    """Where the records went; in a good run `unexplained` is 0."""

    records_in: int
    with_events: int
    ignored: int
    quarantined: int
    quarantine_rows: int

    @property
    def unexplained(self) -> int:
        """Records that were read and are found nowhere, or were counted twice."""
        return self.records_in - self.with_events - self.ignored - self.quarantined

    @property
    def is_balanced(self) -> bool:
        """Every record is an event's source, ignored for a reason, or a row of the quarantine."""
        return self.unexplained == 0 and self.quarantined == self.quarantine_rows


def balance_records(
    records_in: int, events: pl.LazyFrame, record_counts: pl.DataFrame, quarantine: pl.LazyFrame
) -> RecordBalance:
    """Count the records again from the tables.

    Reads:  events (record_id), record_counts (outcome, records), quarantine (rows); `records_in` is what the
            reader saw go past.
    """
    outcomes = dict(record_counts.group_by("outcome").agg(pl.col("records").sum()).iter_rows())
    return RecordBalance(
        records_in=records_in,
        with_events=_one_number(events.select(pl.col("record_id").n_unique())),
        ignored=outcomes.get("ignored", 0),
        quarantined=outcomes.get("quarantined", 0),
        quarantine_rows=_one_number(quarantine.select(pl.len())),
    )


def count_misplaced_subjects(meds: Path, splits: pl.LazyFrame) -> int:
    """Patients found in more than one file of the MEDS dataset, or in the folder of another split than theirs.

    Reads:  data/<split>/<n>.parquet below `meds`; splits (subject_id, split).
    """
    places = pl.scan_parquet(meds / "data" / "*" / "*.parquet", include_file_paths="file").select(
        "subject_id", file=pl.col("file").str.replace_all("\\", "/", literal=True)
    )
    of_subjects = (
        places.unique()
        .with_columns(found_in=pl.col("file").str.extract(r"/data/([^/]+)/[^/]+\.parquet$"))
        .join(splits, on="subject_id", how="left")
        .group_by("subject_id")
        .agg(files=pl.len(), is_elsewhere=pl.col("found_in").ne_missing(pl.col("split")).any())
    )
    return _one_number(of_subjects.filter((pl.col("files") > 1) | pl.col("is_elsewhere")).select(pl.len()))


def count_merged_patients(events: pl.LazyFrame, record_counts: pl.LazyFrame) -> int:
    """Patient records that were used, beyond the number of patients in the timelines.

    Reads:  events (subject_id), record_counts (resource_type, outcome, records).
    """
    of_patients = (pl.col("resource_type") == "Patient") & (pl.col("outcome") == "used")
    used = _one_number(record_counts.filter(of_patients).select(pl.col("records").sum()))
    return abs(used - _one_number(events.select(pl.col("subject_id").n_unique())))


def count_events_after_death(events: pl.LazyFrame) -> int:
    """Events whose clinical time lies after the patient's death. What becomes known later is not meant."""
    deaths = events.filter(pl.col("code") == DEATH).group_by("subject_id").agg(died=pl.col("time").min())
    after = events.join(deaths, on="subject_id").filter(pl.col("time") > pl.col("died"))
    return _one_number(after.select(pl.len()))


def count_known_before_time(events: pl.LazyFrame) -> int:
    """Events known before they happened, or with only one of the two times."""
    known, time = pl.col("known_time"), pl.col("time")
    wrong = (known < time) | (known.is_null() != time.is_null())
    return _one_number(events.filter(wrong.fill_null(False)).select(pl.len()))


def count_contract_breaks(events: pl.LazyFrame) -> int:
    """Columns of events that are missing, superfluous or of the wrong type, plus nulls where none may be."""
    expected = {name: column.dtype for name, column in Events.columns().items()}
    found = dict(events.collect_schema())
    wrong = len(set(expected) ^ set(found)) + sum(found[n] != t for n, t in expected.items() if n in found)
    never_null = [name for name, column in Events.columns().items() if not column.nullable and name in found]
    nulls = events.select(pl.sum_horizontal(pl.col(never_null).null_count().cast(pl.Int64)))
    return wrong + _one_number(nulls)


def count_rows_that_see_the_future(
    events: pl.LazyFrame, features: pl.LazyFrame, definitions: pl.DataFrame, *, rows: int, seed: int
) -> int:
    """Feature rows, of a sample of `rows`, that are not bit for bit what the past alone gives.

    Each sampled row is built again for a stand-in patient who has only the events with known_time up to the
    prediction time, plus canaries of every code that any feature reads, those of clinical scores too
    (past_with_canaries). A feature that looks ahead, or looks at `time` instead of `known_time`, differs.
    Reads:  events as in features.tables.Events; features (keys and the columns of `definitions`).
    """
    keys = features.select(_KEYS).sort(_KEYS).collect(engine="streaming")
    if keys.is_empty():
        return 0
    drawn = keys.sample(min(rows, keys.height), seed=seed)
    sampled = features.join(drawn.lazy(), on=_KEYS).sort(_KEYS).collect(engine="streaming")
    codes = definitions.select(code=pl.col("codes").explode()).drop_nulls().unique(maintain_order=True)
    stand_ins, timeline = past_with_canaries(events, sampled, codes)
    names = definitions["feature"].to_list()
    again = build_features(timeline.lazy(), stand_ins, definitions).sort("subject_id").select(names)
    return sum(was != now for was, now in zip(sampled.select(names).rows(), again.rows(), strict=True))


def past_with_canaries(
    events: pl.LazyFrame, moments: pl.DataFrame, codes: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A stand-in patient for each moment, who has what was known then and, as a trap, what became known later.

    Reads:    `events`: Events. `moments`: subject_id, prediction_time. `codes`: code, and text_value for coded answers.
    Returns:  the moments of the stand-ins in the same order, numbered from 0, and their Events. Each code is planted
              twice at each distance of CANARIES_AFTER: as something of the day before that becomes known so late, and
              as something that also happens so late.
    """
    numbered = moments.select(_KEYS).with_columns(stand_in=pl.int_range(pl.len()))
    past = (
        events.join(numbered.lazy(), on="subject_id")
        .filter(pl.col("known_time").is_null() | (pl.col("known_time") <= pl.col("prediction_time")))
        .with_columns(subject_id=pl.col("stand_in"))
        .select(Events.column_names())
        .collect(engine="streaming")
    )
    distances = pl.DataFrame({"after": CANARIES_AFTER}, schema={"after": pl.Duration("us")})
    planted = (
        numbered.join(codes, how="cross")
        .join(distances, how="cross")
        .with_columns(
            subject_id=pl.col("stand_in"),
            known_time=pl.col("prediction_time") + pl.col("after"),
            numeric_value=pl.lit(98_765.0, pl.Float32),
            unit=pl.lit(None, pl.String),
            text_value=pl.col("text_value") if "text_value" in codes.columns else pl.lit(None, pl.String),
            encounter_id=pl.lit(-1, pl.Int64),
            site_id=pl.lit(None, pl.Int64),
            record_id=pl.lit(-1, pl.Int64),
        )
    )
    day_before, later = pl.col("prediction_time") - timedelta(days=1), pl.col("known_time")
    canaries = [planted.with_columns(time=time).select(Events.column_names()) for time in (day_before, later)]
    timeline = pl.concat([past, *canaries]).sort("subject_id", "time", maintain_order=True)
    return numbered.select("prediction_time", subject_id="stand_in").select(_KEYS), timeline


def _one_number(frame: pl.LazyFrame) -> int:
    return int(frame.collect(engine="streaming").item() or 0)
