"""The feature table of a large population: a home's people over and over under new ids. Used by benchmarks.features."""

import time
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from features.feature_shards import feature_parts, plan_features, source_parts
from features.settings import StudySettings


def make_table(home: Path, out: Path, people: int) -> dict[str, float]:
    """Plan and write the feature table and its sources for `people`, a home's people under ever new ids."""
    labels = pl.read_parquet(home / "tables" / "labels.parquet", columns=["subject_id", "prediction_time", "split"])
    patients = pl.read_parquet(home / "tables" / "subject_splits.parquet").height
    copies = -(-people // patients)
    times = labels.unique()
    many = pl.concat(times.with_columns(pl.col("subject_id") + copy) for copy in range(copies))
    by_split = {split: _copied(home, split, copies) for split in ("train", "tuning", "held_out")}
    shards = [shard for of_split in by_split.values() for shard in of_split]
    began = time.perf_counter()
    train = many.filter(split="train").drop("split")
    plan = plan_features(by_split["train"], train, StudySettings(), pl.read_parquet(home / "tables" / "codes.parquet"))
    planned = time.perf_counter()
    out.mkdir()
    rows = {}
    for name, parts in (
        ("features", feature_parts(shards, many, plan)),
        ("feature_sources", source_parts(shards, many, plan)),
    ):
        writer = None
        rows[name] = 0
        for part in parts:
            table = part.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(out / f"{name}.parquet", table.schema, compression="zstd")
            writer.write_table(table)
            rows[name] += part.height
        if writer:
            writer.close()
    made = time.perf_counter() - planned
    figures: dict[str, float] = {
        "people": copies * patients,
        "columns": plan.height,
        "rows": rows["features"],
    }
    figures |= {"plan_seconds": round(planned - began, 1), "rows_per_s": round(rows["features"] / made)}
    return figures


def _copied(home: Path, split: str, copies: int) -> list[pl.LazyFrame]:
    # Ids are hashes of 64 bits, far apart: adding a small number makes new ones.
    files = sorted((home / "meds" / "data" / split).glob("*.parquet"))
    return [
        pl.scan_parquet(file, hive_partitioning=False).with_columns(pl.col("subject_id") + copy)
        for copy in range(copies)
        for file in files
    ]
