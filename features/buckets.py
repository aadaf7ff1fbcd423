"""A bucket of patients brought up to date: those with changed records made anew, the others taken over.

Runs in processes of its own (`features.processes`), so it imports little.
"""

from typing import NamedTuple

import polars as pl

from features.privacy.keys import Key
from features.shards import keep_shards, read_shards, write_shards
from features.stored_rows import (
    Account,
    Rooms,
    keep_stored,
    keep_stored_events,
    read_landed,
    read_landed_events,
    read_stored,
    read_stored_events,
    write_stored,
    write_stored_events,
)
from features.superseded import keep_superseded, past_with, read_superseded, write_superseded
from features.timelines import DELETED, Surroundings, build_timelines
from features.touched import Change, subjects_by_age, subjects_by_meaning, subjects_by_record, subjects_by_rows
from features.versions import ROW, split_by_deletion, tied_subjects


class Written(NamedTuple):
    """What came of one bucket: its account, the patients in the dataset, and how many patients were made anew.

    digests are those of its files. is_tied: some record was met twice in one version. erased: the stretches that hold
    more than was kept of them.
    """

    bucket: int
    outcomes: pl.DataFrame
    wordings: pl.DataFrame
    counts: pl.DataFrame
    subjects: pl.DataFrame
    findings: dict[str, int]
    events: int
    rebuilt: int
    digests: list[str]
    is_tied: bool
    erased: pl.DataFrame


def write_bucket(bucket: int, key: Key, rooms: Rooms, around: Surroundings, change: Change) -> Written:
    """Bring a bucket up to date in `rooms.new`: its files of the dataset, its rows, its past."""
    before, account_before = read_stored(key, rooms, bucket)
    landed = read_landed(key, rooms, bucket)
    records, erased = _rows_to_keep(before, landed, account_before["erased"], around)
    is_same = (
        rooms.is_update
        and not rooms.is_divided
        and landed.is_empty()
        and (records.height, erased.height) == (before.height, account_before["erased"].height)
    )
    by_record = subjects_by_record(pl.concat([before, records]), change)
    if is_same and by_record.is_empty() and not change.is_seen_in_events:
        return _take_over(bucket, rooms, before, account_before)

    events_before = read_stored_events(key, rooms, bucket, before)
    events = pl.concat([events_before, read_landed_events(key, rooms, bucket)])
    if records.height < before.height + landed.height:
        events = events.join(records, on=ROW, how="semi")
    if rooms.is_update:
        lost = before.join(records, on=ROW, how="anti")
        perhaps = pl.concat([landed["subject_id"], lost["subject_id"]]).unique()
        by_rows = subjects_by_rows(_of(perhaps, before, events_before), _of(perhaps, records, events))
        everything = pl.concat([events_before, events])
        changed = pl.concat([by_record, by_rows, subjects_by_meaning(everything, change)]).unique()
        others = records["subject_id"] if change.is_restudied else subjects_by_age(everything, change, around.patients)
        touched = pl.concat([changed, others]).unique()
    else:
        changed, touched = before["subject_id"], records["subject_id"].unique()

    own_records, own_events = _of(touched, records, events)
    built = build_timelines(own_records, own_events, around)
    dataset_before = read_shards(rooms, bucket)
    with_split = built.events.join(
        around.patients.select("subject_id", "split"), on="subject_id", maintain_order="left"
    )
    digests = dict(account_before["shards"].select("split", "digest").iter_rows())
    shards, counts = write_shards(rooms, bucket, dataset_before, with_split, touched, digests)
    account = {
        "outcomes": pl.concat([_without(touched, account_before["outcomes"]), built.outcomes]),
        "wordings": pl.concat([_without(touched, account_before["wordings"]), built.wordings]),
        "findings": pl.concat([_without(touched, account_before["findings"]), built.findings]),
        "counts": counts,
        "shards": shards,
        "erased": erased,
    }
    write_stored(key, rooms, bucket, records, account)
    if is_same:
        keep_stored_events(rooms, bucket)
    else:
        write_stored_events(key, rooms, bucket, events)
    written = _tell(bucket, account, records, rebuilt=touched.len())
    if rooms.is_update:
        stood = pl.concat(_of(changed, *dataset_before.values()))
        past = past_with(read_superseded(rooms, key, bucket), stood, built, before, around, change, changed)
        write_superseded(rooms, key, bucket, past.join(written.subjects, on="subject_id", how="semi"))
    return written


def _rows_to_keep(
    before: pl.DataFrame, landed: pl.DataFrame, erased_before: pl.DataFrame, around: Surroundings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records that stand, and how many (stretch, kind, records) are not kept as their patient was withdrawn."""
    found = pl.concat([before, landed]).join(around.places, on="stretch", maintain_order="left")
    kept, gone = split_by_deletion(found, around.deletions, "subject_id")
    erased = [
        erased_before.join(around.places, on="stretch", how="semi"),
        gone.group_by("stretch", "kind").agg(records=pl.len().cast(pl.Int64)),
    ]
    return kept.select(before.columns), pl.concat(erased)


def _take_over(bucket: int, rooms: Rooms, records: pl.DataFrame, account: Account) -> Written:
    """Leave a bucket as it was."""
    keep_stored(rooms, bucket)
    keep_stored_events(rooms, bucket)
    keep_superseded(rooms, bucket)
    keep_shards(rooms, bucket, account["shards"]["split"].to_list())
    return _tell(bucket, account, records, rebuilt=0)


def _tell(bucket: int, account: Account, records: pl.DataFrame, *, rebuilt: int) -> Written:
    outcomes = account["outcomes"]
    erased = account["erased"].select("kind", outcome=pl.lit("ignored"), reason=pl.lit(DELETED), records="records")
    return Written(
        bucket=bucket,
        outcomes=pl.concat([outcomes.drop("subject_id"), erased])
        .group_by("kind", "outcome", "reason")
        .agg(pl.col("records").sum()),
        wordings=account["wordings"]
        .group_by("code", "wording")
        .agg(pl.col("events").sum(), subjects=pl.len().cast(pl.Int64)),
        counts=account["counts"],
        subjects=outcomes.filter(pl.col("outcome") == "used").select("subject_id").unique(),
        findings=dict(account["findings"].group_by("finding").agg(pl.col("count").sum()).iter_rows()),
        events=int(account["shards"]["events"].sum()),
        rebuilt=rebuilt,
        digests=account["shards"]["digest"].to_list(),
        is_tied=tied_subjects(records).len() > 0,
        erased=account["erased"].select("stretch").unique(),
    )


def _of(subjects: pl.Series, *tables: pl.DataFrame) -> list[pl.DataFrame]:
    return [table.filter(pl.col("subject_id").is_in(subjects.implode())) for table in tables]


def _without(subjects: pl.Series, table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(~pl.col("subject_id").is_in(subjects.implode()))
