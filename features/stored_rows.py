"""The rows of a bucket of patients: those kept in the vault from earlier readings, and those that landed in this one.

`records-<bucket>.vault` holds the records, with the account of what became of them, patient by patient;
`events-<bucket>.vault` their events. Both are sealed: records tell the source's ids and true days of writing.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from features.home import Home
from features.privacy.keys import Key
from features.privacy.vault import seal_tables, unseal_tables
from features.records.frames import EVENTS, RECORDS
from features.versions import ROW

# What is kept beside the records. erased: what was counted, and not kept, of patients whom the source withdrew.
ACCOUNT = {
    "outcomes": pl.Schema(
        {"subject_id": pl.Int64, "kind": pl.String, "outcome": pl.String, "reason": pl.String, "records": pl.Int64}
    ),
    "wordings": pl.Schema({"subject_id": pl.Int64, "code": pl.String, "wording": pl.String, "events": pl.Int64}),
    "findings": pl.Schema({"subject_id": pl.Int64, "finding": pl.String, "count": pl.Int64}),
    "counts": pl.Schema({"code": pl.String, "events": pl.Int64, "subjects": pl.Int64}),
    "shards": pl.Schema({"split": pl.String, "events": pl.Int64, "digest": pl.String}),
    "erased": pl.Schema({"stretch": pl.Int64, "kind": pl.String, "records": pl.Int64}),
}

_OF_RECORD = ["record_id", "subject_id"]

Account = dict[str, pl.DataFrame]


@dataclass(frozen=True)
class Rooms:
    """Where a reading works, and the home that it takes over from when it is an update.

    The number of buckets is that of before or a multiple of it, so that each bucket's past lies in one old bucket.
    """

    workroom: Path
    home: Home
    is_update: bool
    buckets: int
    buckets_before: int

    @property
    def new(self) -> Home:
        """The state being made, laid out as a home."""
        return Home(self.workroom)

    @property
    def landing(self) -> Path:
        """Where rows land, one folder a bucket."""
        return self.workroom / "landed"

    @property
    def is_divided(self) -> bool:
        """Whether there are more buckets than before."""
        return self.is_update and self.buckets != self.buckets_before

    def before(self, bucket: int) -> int:
        """In which bucket the patients of `bucket` were."""
        return bucket % self.buckets_before


def read_stored(key: Key, rooms: Rooms, bucket: int) -> tuple[pl.DataFrame, Account]:
    """The records of a bucket (frames.RECORDS) as the last reading left them, and their account; empty without one."""
    if not rooms.is_update:
        return pl.DataFrame(schema=RECORDS), {name: pl.DataFrame(schema=of) for name, of in ACCOUNT.items()}
    tables = unseal_tables(key, _records(rooms.home, rooms.before(bucket)))
    if rooms.is_divided:
        for name in ("records", "outcomes", "wordings", "findings"):
            tables[name] = tables[name].filter(pl.col("subject_id") % rooms.buckets == bucket)
        if bucket != rooms.before(bucket):  # what is of nobody any more stays with the first of the parts
            tables["erased"] = tables["erased"].clear()
    return tables.pop("records"), tables


def read_stored_events(key: Key, rooms: Rooms, bucket: int, records: pl.DataFrame) -> pl.DataFrame:
    """The events (frames.EVENTS) of the stored records, as `read_stored` gives them."""
    if not rooms.is_update:
        return pl.DataFrame(schema=EVENTS)
    events = unseal_tables(key, _events(rooms.home, rooms.before(bucket)))["events"]
    return events.join(records.select(*ROW, *_OF_RECORD), on=ROW).select(EVENTS.names())


def read_landed(key: Key, rooms: Rooms, bucket: int) -> pl.DataFrame:
    """The records (frames.RECORDS) that landed in a bucket."""
    return _landed(key, rooms, bucket, "records", pl.DataFrame(schema=RECORDS))


def read_landed_events(key: Key, rooms: Rooms, bucket: int) -> pl.DataFrame:
    """The events (frames.EVENTS) that landed in a bucket."""
    return _landed(key, rooms, bucket, "events", pl.DataFrame(schema=EVENTS))


def write_stored(key: Key, rooms: Rooms, bucket: int, records: pl.DataFrame, account: Account) -> None:
    """Seal the records of a bucket with their account."""
    seal_tables(key, {"records": records} | account, _records(rooms.new, bucket))


def write_stored_events(key: Key, rooms: Rooms, bucket: int, events: pl.DataFrame) -> None:
    """Seal the events of a bucket, without what their records tell of them."""
    seal_tables(key, {"events": events.drop(_OF_RECORD)}, _events(rooms.new, bucket))


def keep_stored(rooms: Rooms, bucket: int) -> None:
    """Take over the records of a bucket, and their account, as they are."""
    link(_records(rooms.home, bucket), _records(rooms.new, bucket))


def keep_stored_events(rooms: Rooms, bucket: int) -> None:
    """Take over the events of a bucket as they are."""
    link(_events(rooms.home, bucket), _events(rooms.new, bucket))


def link(place: Path, new_place: Path) -> None:
    """Let a file that is never changed in place lie in a second place too; as a copy where it must."""
    new_place.parent.mkdir(parents=True, exist_ok=True)
    try:
        new_place.hardlink_to(place)
    except OSError:
        shutil.copyfile(place, new_place)


def _landed(key: Key, rooms: Rooms, bucket: int, kind: str, none: pl.DataFrame) -> pl.DataFrame:
    found = sorted((rooms.landing / f"{bucket:05d}").glob(f"*.{kind}.vault"))
    return pl.concat([none, *(unseal_tables(key, path)[kind] for path in found)])


def _records(home: Home, bucket: int) -> Path:
    return home.vault / f"records-{bucket:05d}.vault"


def _events(home: Home, bucket: int) -> Path:
    return home.vault / f"events-{bucket:05d}.vault"
