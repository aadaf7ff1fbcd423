"""Whose timelines does an update change? Those of patients with other rows than before, and of those whose rows mean
something else because of what another record says.
"""

from datetime import datetime
from typing import NamedTuple

import polars as pl

from features.meds_codes import BIRTH, MOVED
from features.records.medicines import MEDICATION
from features.versions import ROW, tied_subjects

_NO_IDS = pl.Series(dtype=pl.Int64)
_NO_NAMES = pl.Series(dtype=pl.String)
_WHERE_FROM = ("subject_id", *ROW)


class Change(NamedTuple):
    """What a source as a whole says otherwise than at the last reading.

    deletions, contested: the record_ids of which they changed. all_deletions: those of before and of now.
    sites: the aliases that mean another site. medications: the placeholders that mean another medicine. patients: who
    came or went. first_new: stretches from this number on are new. known_to_before: the last true moment
    (microseconds) that the source knew of then. is_reordered: what there was does not lie in the
    same order, or exports. births_before: the true moment before which births are, or were, moved up, when it changed;
    moves_from: that from which moves are not, or were not, believed.
    is_restudied: the study's own choices changed, and so may everybody's timeline.
    """

    first_new: int = 0
    known_to_before: int = 0
    deletions: pl.Series = _NO_IDS
    all_deletions: pl.Series = _NO_IDS
    contested: pl.Series = _NO_IDS
    sites: pl.Series = _NO_IDS
    medications: pl.Series = _NO_NAMES
    patients: pl.Series = _NO_IDS
    is_reordered: bool = False
    births_before: datetime | None = None
    moves_from: datetime | None = None
    is_restudied: bool = False

    @property
    def is_seen_in_events(self) -> bool:
        """Whether a patient's events must be looked at to tell whether they mean something else now."""
        return bool(self.sites.len() or self.medications.len() or self.births_before or self.is_restudied)


def subjects_by_rows(before: list[pl.DataFrame], now: list[pl.DataFrame]) -> pl.Series:
    """The patients whose records and events (in this order) do not say the same as before, wherever they were read.

    Whoever has several versions of a record counts, since their place may tell which one holds.
    """
    both = _signatures(*before).join(_signatures(*now), on="subject_id", how="full", coalesce=True, suffix="_now")
    is_same = (
        pl.col("signature").eq_missing(pl.col("signature_now"))
        & pl.col("has_versions").eq_missing(pl.lit(value=False))
        & pl.col("has_versions_now").eq_missing(pl.lit(value=False))
    )
    return both.filter(~is_same)["subject_id"]


def _signatures(records: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """subject_id, signature (of what the rows say, in any order), has_versions."""
    of_records = records.group_by("subject_id").agg(
        records=pl.struct(pl.all().exclude(*_WHERE_FROM)).hash().sum(),
        has_versions=pl.col("record_id").is_duplicated().any(),
    )
    of_events = events.group_by("subject_id").agg(events=pl.struct(pl.all().exclude(*_WHERE_FROM)).hash().sum())
    return of_records.join(of_events, on="subject_id", how="left").select(
        "subject_id", "has_versions", signature=pl.struct("records", "events")
    )


def subjects_by_record(records: pl.DataFrame, change: Change) -> pl.Series:
    """The patients among `records`, those of before and of now, of whom a record holds, or not, unlike before."""
    found = [
        _with(records, "subject_id", change.patients),
        _with(records, "subject_id", change.deletions),
        _with(records, "record_id", change.deletions),
        _with(records, "record_id", change.contested),
    ]
    if change.is_reordered:
        found += [_with(records, column, change.all_deletions) for column in ("subject_id", "record_id")]
        found.append(tied_subjects(records.unique(ROW)))
    return pl.concat(found).unique()


def subjects_by_meaning(events: pl.DataFrame, change: Change) -> pl.Series:
    """The patients among `events`, those of before and of now, whose sites or medicines are others than before."""
    refers = pl.col("code").str.starts_with(MEDICATION)
    medicines = events.filter(refers).with_columns(
        placeholder=pl.concat_str(pl.lit(MEDICATION), pl.col("code").str.split("//").list.get(1))
    )
    found = [_with(events, "site_id", change.sites), _with(medicines, "placeholder", change.medications)]
    return pl.concat(found).unique()


def subjects_by_age(events: pl.DataFrame, change: Change, patients: pl.DataFrame) -> pl.Series:
    """The patients of whom another end of the source moves the birth, or shows that they left.

    Reads `patients`: subject_id, weeks_us.
    """
    if change.births_before is None:
        return _NO_IDS
    born, moved = (pl.col("code") == code for code in (BIRTH, MOVED))
    true_time = pl.col("time") - pl.duration(microseconds="weeks_us")
    is_other = (born & (true_time < change.births_before)) | (moved & (true_time >= change.moves_from))
    return events.filter(born | moved).join(patients, on="subject_id").filter(is_other)["subject_id"].unique()


def _with(table: pl.DataFrame, column: str, values: pl.Series) -> pl.Series:
    if not values.len():
        return _NO_IDS
    return table.filter(pl.col(column).is_in(values.implode()))["subject_id"].unique()
