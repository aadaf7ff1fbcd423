"""A bucket of subjects as files of the MEDS dataset: one a split, in the very types that MEDS asks for.

Runs in processes of its own (`features.processes`), so it imports little.
"""

import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq

from features.timelines import MEDS_TYPES, Surroundings, build_bucket


class Written(NamedTuple):
    """What came of one bucket: its number, its account, events by code, its subjects, and a digest of its files."""

    number: int
    outcomes: pl.DataFrame
    wordings: pl.DataFrame
    counts: pl.DataFrame
    subjects: pl.DataFrame
    findings: dict[str, int]
    events: int
    digests: list[str]


def write_bucket(folder: Path, data: Path, around: Surroundings) -> Written:
    """Sort the bucket that lies in `folder` into its files below `data`, and remove it."""
    number = int(folder.name)
    bucket = build_bucket(folder, around)
    shutil.rmtree(folder)
    digests = []
    parts = bucket.events.join(around.patients.select("subject_id", "split"), on="subject_id", maintain_order="left")
    for split in ("train", "tuning", "held_out"):
        part = parts.filter(pl.col("split") == split).drop("split")
        if part.height:
            path = data / split / f"{number}.parquet"
            _write_shard(part, path)
            digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    counts = bucket.events.group_by("code").agg(
        events=pl.len().cast(pl.Int64), subjects=pl.col("subject_id").n_unique().cast(pl.Int64)
    )
    subjects = bucket.events.select("subject_id").unique()
    return Written(number, bucket.outcomes, bucket.wordings, counts, subjects, bucket.findings, parts.height, digests)


def _write_shard(events: pl.DataFrame, path: Path) -> None:
    """Write sorted events as one file of the MEDS dataset, with MEDS' own Arrow types."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(events.to_arrow().cast(MEDS_TYPES), path, compression="zstd")
