"""What the events do not say of the past: those that an update took out, and those that it brought late.

An event that is corrected today says, as its record does, that it has been known for long; on the days between, nobody
saw it. So with each reading are kept the events that no longer hold, until when they did, and those that came later
than they say, from when they did.

Kept sealed, one file a bucket of patients: such a moment is often the day of an export, moved, and that day is no
secret, so the date shift would be bare beside it.
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from features.home import Home
from features.meds_codes import BIRTH
from features.privacy.date_shift import CAP_SPREAD_DAYS, DAY, MINUTE
from features.privacy.keys import Key
from features.privacy.vault import seal, unseal
from features.stored_rows import Rooms, link
from features.timelines import MEDS_TYPES, Surroundings, Timelines, oldest_birth
from features.touched import Change

SUPERSEDED = "superseded"
SAID = [name for name in MEDS_TYPES.names if name != "record_id"]  # what tells a patient's events apart
_WHEN = {"known_from": pl.Datetime("us"), "known_until": pl.Datetime("us")}
_NOTHING = pl.DataFrame(schema={**pl.Schema(MEDS_TYPES), **_WHEN})
_HOUR = 60 * MINUTE


def history(home: Home, key: Key) -> pl.DataFrame:
    """All that was kept of the past (features.tables.Superseded)."""
    return pl.concat([_NOTHING, *(_opened(key, file) for file in sorted(_folder(home).glob("*.vault")))])


def superseded_events(home: Home, key: Key) -> pl.DataFrame:
    """The events that held once and do not any more (features.tables.Superseded)."""
    return history(home, key).filter(pl.col("known_until").is_not_null())


def read_superseded(rooms: Rooms, key: Key, bucket: int) -> pl.DataFrame:
    """What was kept of a bucket's patients up to the last reading."""
    path = _file(rooms.home, rooms.before(bucket))
    if not path.exists():
        return _NOTHING
    return _opened(key, path).filter(pl.col("subject_id") % rooms.buckets == bucket)


def write_superseded(rooms: Rooms, key: Key, bucket: int, past: pl.DataFrame) -> None:
    """Seal what is kept of a bucket's past; no file for nothing."""
    if past.height:
        from features.tables import Superseded, checked  # takes a while to import, and the reading needs it seldom

        order = ["subject_id", "known_until", "known_from", "time", "code", "record_id"]
        seal(key, checked(past.sort(order), Superseded), _file(rooms.new, bucket))


def keep_superseded(rooms: Rooms, bucket: int) -> None:
    """Take over a bucket's file, if there is one."""
    if (path := _file(rooms.home, bucket)).exists():
        link(path, _file(rooms.new, bucket))


def _opened(key: Key, path: Path) -> pl.DataFrame:
    kept = pl.concat([_NOTHING, unseal(key, path)], how="diagonal")  # known_from: not in homes of version 0.2
    return kept.select(_NOTHING.columns)


def _folder(home: Home) -> Path:
    return home.tables / SUPERSEDED


def _file(home: Home, bucket: int) -> Path:
    return _folder(home) / f"{bucket:05d}.vault"


def past_with(
    past: pl.DataFrame,
    before: pl.DataFrame,
    now: Timelines,
    records_before: pl.DataFrame,
    around: Surroundings,
    change: Change,
    changed: pl.Series,
) -> pl.DataFrame:
    """The past with what a reading adds to it.

    An event of `before` that is not in `now` held until the reading changed it; one of `now` that is not in `before`
    is seen from then on, if it says an earlier moment. When that was: see _changed_at. An event that another record
    tells just as well neither ended nor came.

    Reads:  past: as `read_superseded` gives it. before: events (MEDS_TYPES), as they stood, of the patients of whom
            the source says something else: `changed`. now: the timelines of these and of others that were made anew.
            records_before: the records of the last reading.
    """
    move = around.patients.select("subject_id", "weeks_us", "seconds_us")
    limits = _limits(around, change)
    is_late = pl.col("known_until").is_null()
    past = _up_to(past, move, limits)
    late = past.filter(is_late)
    known_from = late.select(*SAID, "known_from")

    # The years before a birth that is moved up as time passes are no one's to see any more. A birth just after the
    # limit may be a true one; then nothing lies before it either, unless it was corrected.
    limit = oldest_birth(around.data_end) + pl.duration(microseconds="weeks_us")
    is_capped = pl.col("born") < limit + pl.duration(days=CAP_SPREAD_DAYS)

    gone = before.join(now.events, on=SAID, how="anti", nulls_equal=True)
    births = now.events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(born=pl.col("time").max())
    ended = (
        _with_change(gone, move, now, around, change)
        .join(known_from, on=SAID, how="left", nulls_equal=True)
        .join(births, on="subject_id", how="left")
        .filter((is_capped & (pl.col("time") < pl.col("born"))).fill_null(value=False).not_())
        .with_columns(known_until=pl.max_horizontal("changed_at", "known_time"))
    )
    came = now.events.filter(pl.col("subject_id").is_in(changed.implode())).join(
        before, on=SAID, how="anti", nulls_equal=True
    )
    seen_before = pl.lit(limits.first).cast(pl.Int64) + pl.col("weeks_us") + pl.col("seconds_us").clip(upper_bound=0)
    is_of_old = pl.col("record_id").is_in(records_before["record_id"].unique().implode())
    came = _with_change(came, move, now, around, change).filter(
        pl.col("known_time").is_null()
        | (
            ((pl.col("known_time") < _to_the_minute(seen_before)) | is_of_old)
            & (pl.col("known_time") < pl.col("changed_at"))
        )
    )
    is_made_anew = pl.col("subject_id").is_in(now.current["subject_id"].unique().implode())
    return pl.concat(
        [
            past.filter(~is_late),
            ended.select(_NOTHING.columns),
            late.filter(~is_made_anew),
            late.filter(is_made_anew).join(now.events, on=SAID, how="semi", nulls_equal=True),
            came.select(*MEDS_TYPES.names, known_from="changed_at", known_until=pl.lit(None, pl.Datetime("us"))),
        ]
    )


def _with_change(
    events: pl.DataFrame, move: pl.DataFrame, now: Timelines, around: Surroundings, change: Change
) -> pl.DataFrame:
    """Add weeks_us and seconds_us, and `changed_at`: when the source began to say what it says of each event's record.

    That is when the version that it holds now was written; for a version that does not say, and for one that was
    withdrawn, the moment up to which the export that says so knows; else the last that the source knows of. It lies
    after the last whole day that the reading before covered, which saw nothing of it yet, and inside the last that
    this one covers, which did; where that is the same day, it is seen as the newest reading shows it.
    """
    limits = _limits(around, change)
    columns = ["record_id", "stretch", "version_time", "export"]
    holding = pl.concat([around.contested.select(columns), now.current.select(columns)]).unique(
        "record_id", keep="first", maintain_order=True
    )
    covers = around.exports.select("export", "covers_until")
    withdrawn = around.deletions.join(covers, on="export").select("record_id", withdrawn="covers_until")
    is_new = pl.col("stretch") >= change.first_new
    moment = (
        pl.when(pl.col("stretch").is_null())
        .then("withdrawn")
        .when(is_new & pl.col("version_time").is_between(limits.first, limits.last))
        .then("version_time")
        .when(is_new)
        .then("covers_until")
        .fill_null(limits.last)
        .clip(limits.first, limits.last)
    )
    return (
        events.join(holding, on="record_id", how="left")
        .join(covers, on="export", how="left")
        .join(withdrawn, on="record_id", how="left")
        .join(move, on="subject_id")
        .with_columns(changed_at=_to_the_minute(moment + pl.col("weeks_us") + pl.col("seconds_us")))
    )


def _up_to(past: pl.DataFrame, move: pl.DataFrame, limits: "_Limits") -> pl.DataFrame:
    """Nothing changes after the end of what is read now: it does when an export is withdrawn, and only then."""
    last = _to_the_minute(pl.lit(limits.last).cast(pl.Int64) + pl.col("weeks_us") + pl.col("seconds_us"))
    return (
        past.join(move, on="subject_id", maintain_order="left")
        .with_columns(last=last)
        .with_columns(
            known_from=pl.when(pl.col("known_from") > pl.col("last")).then("last").otherwise("known_from"),
            known_until=pl.when(pl.col("known_until") > pl.col("last"))
            .then(pl.max_horizontal("last", "known_time"))
            .otherwise("known_until"),
        )
        .select(past.columns)
    )


class _Limits(NamedTuple):
    """The first and the last true moment, microseconds, at which what a reading changed can have changed."""

    first: int
    last: int


def _limits(around: Surroundings, change: Change) -> _Limits:
    # An hour before midnight: the end of a day, as features.scoring_day has it, may lie half an hour early.
    last = around.known_to // DAY * DAY - _HOUR
    return _Limits(first=min(change.known_to_before // DAY * DAY, last), last=last)


def _to_the_minute(microseconds: pl.Expr) -> pl.Expr:
    return (microseconds // MINUTE * MINUTE).cast(pl.Datetime("us"))
