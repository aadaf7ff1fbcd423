"""What was true until another record said otherwise: events that an update took out, kept with the day they ended.

Kept sealed, one file a bucket of patients: the end of an event is often the day of an export, moved, and that day is
no secret, so the date shift would be bare beside it.
"""

from pathlib import Path

import polars as pl

from features.home import Home
from features.meds_codes import BIRTH
from features.privacy.date_shift import MINUTE
from features.privacy.keys import Key
from features.privacy.vault import seal, unseal
from features.stored_rows import Rooms, link
from features.timelines import MEDS_TYPES, Surroundings, Timelines

SUPERSEDED = "superseded"
_NOTHING = pl.DataFrame(schema={**pl.Schema(MEDS_TYPES), "known_until": pl.Datetime("us")})


def superseded_events(home: Home, key: Key) -> pl.DataFrame:
    """All events that held once (features.tables.Superseded)."""
    from features.tables import Superseded, empty  # takes a while to import, and the reading needs it seldom

    return pl.concat([empty(Superseded), *(unseal(key, file) for file in sorted(_folder(home).glob("*.vault")))])


def read_superseded(rooms: Rooms, key: Key, bucket: int) -> pl.DataFrame:
    """The events of a bucket's patients that no longer held at the last reading."""
    path = _file(rooms.home, rooms.before(bucket))
    if not path.exists():
        return _NOTHING
    found = unseal(key, path).filter(pl.col("subject_id") % rooms.buckets == bucket)
    return found.select(_NOTHING.columns)


def write_superseded(rooms: Rooms, key: Key, bucket: int, events: pl.DataFrame) -> None:
    """Seal the events of a bucket that no longer hold; no file for none."""
    if events.height:
        from features.tables import Superseded, checked  # see above

        order = ["subject_id", "known_until", "time", "code", "record_id"]
        seal(key, checked(events.sort(order), Superseded), _file(rooms.new, bucket))


def keep_superseded(rooms: Rooms, bucket: int) -> None:
    """Take over a bucket's file, if there is one."""
    if (path := _file(rooms.home, bucket)).exists():
        link(path, _file(rooms.new, bucket))


def _folder(home: Home) -> Path:
    return home.tables / SUPERSEDED


def _file(home: Home, bucket: int) -> Path:
    return _folder(home) / f"{bucket:05d}.vault"


def newly_superseded(
    before: pl.DataFrame, now: Timelines, records_before: pl.DataFrame, around: Surroundings, first_new: int
) -> pl.DataFrame:
    """The events of `before` that no longer hold, with the moment until which they did.

    That is when the version that replaced their record was written; for a version that does not say, and for one
    that was withdrawn, the moment up to which the export that says so knows; else the last that the source knows of.
    An event that another record tells just as well still holds.

    Reads:  before: events (MEDS_TYPES) of some patients as they stood. records_before: their records then. first_new:
            stretches from this number on are new.
    """
    said = [name for name in before.columns if name != "record_id"]
    gone = before.join(now.events, on=said, how="anti", nulls_equal=True)
    births = now.events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(born=pl.col("time").max())
    until = _until(gone, now.current, records_before, around, first_new)
    move = around.patients.select("subject_id", shift=pl.col("weeks_us") + pl.col("seconds_us"))
    return (
        gone.join(until, on="record_id", how="left")
        .join(move, on="subject_id")
        .join(births, on="subject_id", how="left")
        # The years before a birth that is moved up as time passes are no one's to see any more.
        .filter((pl.col("time") < pl.col("born")).fill_null(value=False).not_())
        .with_columns(until=pl.col("until").fill_null(around.known_to) + pl.col("shift"))
        .with_columns(known_until=(pl.col("until") // MINUTE * MINUTE).cast(pl.Datetime("us")))
        .with_columns(known_until=pl.max_horizontal("known_until", "known_time"))
        .select(_NOTHING.columns)
    )


def _until(
    gone: pl.DataFrame, current: pl.DataFrame, records_before: pl.DataFrame, around: Surroundings, first_new: int
) -> pl.DataFrame:
    """record_id, until (true microseconds; null when nothing tells): when each record ceased to say what it said."""
    columns = ["record_id", "stretch", "version_time", "export"]
    holding = pl.concat([around.contested.select(columns), current.select(columns)]).unique(
        "record_id", keep="first", maintain_order=True
    )
    was = records_before.group_by("record_id").agg(was=pl.col("version_time").max())
    covers = around.exports.select("export", "covers_until")
    withdrawn = around.deletions.join(covers, on="export").select("record_id", withdrawn="covers_until")
    is_new = pl.col("stretch") >= first_new
    return (
        gone.select("record_id")
        .unique()
        .join(holding, on="record_id", how="left")
        .join(was, on="record_id", how="left")
        .join(covers, on="export", how="left")
        .join(withdrawn, on="record_id", how="left")
        .select(
            "record_id",
            until=pl.when(pl.col("stretch").is_null())
            .then("withdrawn")
            .when(is_new & (pl.col("version_time") > pl.col("was")))
            .then("version_time")
            .when(is_new)
            .then("covers_until"),
        )
    )
