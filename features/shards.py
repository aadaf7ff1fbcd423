"""A bucket of patients as files of the MEDS dataset: one a split, in the very types that MEDS asks for."""

import hashlib
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from features.home import Home
from features.stored_rows import ACCOUNT, Rooms, link
from features.timelines import MEDS_TYPES

_SPLITS = ("train", "tuning", "held_out")


def read_shards(rooms: Rooms, bucket: int) -> dict[str, pl.DataFrame]:
    """The events of a bucket as they stood, by split; of an old bucket that is divided now, the part of it."""
    found = dict.fromkeys(_SPLITS, pl.DataFrame(schema=pl.Schema(MEDS_TYPES)))
    for split in _SPLITS if rooms.is_update else ():
        path = _shard(rooms.home, split, rooms.before(bucket))
        if path.exists():
            events = pl.read_parquet(path, hive_partitioning=False)
            found[split] = events.filter(pl.col("subject_id") % rooms.buckets == bucket) if rooms.is_divided else events
    return found


def write_shards(
    rooms: Rooms,
    bucket: int,
    before: dict[str, pl.DataFrame],
    new: pl.DataFrame,
    touched: pl.Series,
    digests: dict[str, str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Write the files of a bucket, and take over those in which nobody was touched.

    Reads `before` as `read_shards` gives it, and the `new` events of the touched patients, with their split; `digests`
    of the files that stood. Gives the tables shards and counts of a bucket's account.
    """
    shards, everything = [], []
    for split in _SPLITS:
        others = before[split].filter(~pl.col("subject_id").is_in(touched.implode()))
        own = new.filter(pl.col("split") == split).select(others.columns)
        events = pl.concat([others, own]).sort("subject_id", maintain_order=True) if others.height else own
        if not events.height:
            continue
        path = _shard(rooms.new, split, bucket)
        if not rooms.is_divided and not own.height and others.height == before[split].height:
            link(_shard(rooms.home, split, bucket), path)
            digest = digests[split]
        else:
            digest = _write_shard(events, path)
        shards.append((split, events.height, digest))
        everything.append(events.select("code", "subject_id"))
    counts = (
        pl.concat([pl.DataFrame(schema={"code": pl.String, "subject_id": pl.Int64}), *everything])
        .group_by("code")
        .agg(events=pl.len().cast(pl.Int64), subjects=pl.col("subject_id").n_unique().cast(pl.Int64))
    )
    return pl.DataFrame(shards, schema=ACCOUNT["shards"], orient="row"), counts


def keep_shards(rooms: Rooms, bucket: int, splits: list[str]) -> None:
    """Take over the files of a bucket as they are."""
    for split in splits:
        link(_shard(rooms.home, split, bucket), _shard(rooms.new, split, bucket))


def _write_shard(events: pl.DataFrame, path: Path) -> str:
    """Write sorted events as one file of the MEDS dataset, with MEDS' own Arrow types; gives the file's digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(events.rechunk().to_arrow().cast(MEDS_TYPES), path, compression="zstd")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _shard(home: Home, split: str, bucket: int) -> Path:
    return home.meds / "data" / split / f"{bucket}.parquet"
