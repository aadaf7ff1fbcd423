"""Records with rows under several patients: which of the rows holds, when they lie in several buckets?

A server that corrects whose a record is sends the same record again, under its new patient.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from features.ledger import CONTESTED
from features.privacy.keys import Key
from features.processes import Spread
from features.records.landing import landed_owners
from features.stored_rows import Rooms, read_landed, read_stored
from features.timelines import Surroundings
from features.versions import VERSION, WRITTEN, split_by_deletion

_DOING = "looking for records that moved"


def find_contested(
    key: Key, rooms: Rooms, around: Surroundings, shared: pl.DataFrame, spread: Spread
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records with rows under several patients (record_id), and of each the row that holds (ledger.CONTESTED).

    `shared` are those of the last reading: only they, and what landed, can be such records now. Of a record that the
    source took back no row holds.
    """

    def in_all(find: Callable[..., pl.DataFrame], record_ids: pl.Series) -> pl.DataFrame:
        path = rooms.landing / "record_ids.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        record_ids.sort().to_frame("record_id").write_ipc(path)
        pieces = [(bucket, key, rooms, around, path) for bucket in range(rooms.buckets)]
        return pl.concat(list(spread(find, pieces, _DOING, "bucket")))

    nobody = pl.DataFrame(schema=CONTESTED)
    owners = landed_owners(rooms.landing)
    if rooms.is_update:
        candidates = pl.concat([owners["record_id"], shared["record_id"]]).unique()
        if candidates.is_empty():
            return shared, nobody
        owners = pl.concat([owners, in_all(owners_of, candidates)])
    if owners["record_id"].is_unique().all():
        return shared.clear(), nobody
    shared = owners.unique().filter(pl.col("record_id").is_duplicated()).select("record_id").unique()
    if shared.is_empty():
        return shared, nobody
    rows = (
        in_all(rows_of, shared["record_id"])
        .filter(pl.col("subject_id").n_unique().over("record_id") > 1)
        .with_columns(is_tied=pl.struct(WRITTEN).is_duplicated())
    )
    return shared, rows.sort(*VERSION).unique("record_id", keep="last", maintain_order=True).select(CONTESTED.keys())


def owners_of(bucket: int, key: Key, rooms: Rooms, around: Surroundings, record_ids: Path) -> pl.DataFrame:
    """record_id, subject_id: whose the records listed in a file are, of those that a bucket kept and still stand."""
    stored = read_stored(key, rooms, bucket)[0].join(around.places, on="stretch", how="semi")
    return _listed(stored.select("record_id", "subject_id"), record_ids)


def rows_of(bucket: int, key: Key, rooms: Rooms, around: Surroundings, record_ids: Path) -> pl.DataFrame:
    """The rows of the listed records in a bucket that the source has not taken back, with their export and rank."""
    found = pl.concat([read_stored(key, rooms, bucket)[0], read_landed(key, rooms, bucket)])
    placed = _listed(found, record_ids).join(around.places, on="stretch")
    return split_by_deletion(
        split_by_deletion(placed, around.deletions, "record_id")[0], around.deletions, "subject_id"
    )[0]


def _listed(table: pl.DataFrame, record_ids: Path) -> pl.DataFrame:
    """The rows with a record_id that the sorted file lists; by search, since the list may be far the longer."""
    listed = pl.read_ipc(record_ids)["record_id"].to_numpy()
    wanted = table["record_id"].to_numpy()
    found = np.searchsorted(listed, wanted)
    return table.filter(listed[np.minimum(found, len(listed) - 1)] == wanted)
