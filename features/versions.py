"""Of each record, which version holds? And what has the source taken back?"""

from typing import NamedTuple

import polars as pl

ROW = ["stretch", "position"]  # tells the rows of records apart: where each was read
WRITTEN = ["record_id", "version_time", "version_number"]  # tells versions apart, but where two were written as one
VERSION = [*WRITTEN, "rank", "position"]  # the last of a record's rows holds


class Versions(NamedTuple):
    """current: the row of `records` that holds of each record. older: the others. withdrawn: those of resources that
    the source deleted. The columns are those of `records`, and `export`.
    """

    current: pl.DataFrame
    older: pl.DataFrame
    withdrawn: pl.DataFrame


def newest_versions(
    records: pl.DataFrame, places: pl.DataFrame, deletions: pl.DataFrame, contested: pl.DataFrame
) -> Versions:
    """The newest version of each record: the last written, else of the greatest number, else the last in its place.

    A patient's are found without looking at anybody else's rows; `contested` tells what those say of them.

    Reads:  records (frames.frames_of), places (stretch, export, rank), deletions (record_id, export: what that export
            and those before it say is void), contested (record_id, stretch, position: the row that holds of a record
            with rows under several patients).
    """
    placed = records.join(places, on="stretch")
    live, withdrawn = split_by_deletion(placed, deletions, "record_id")
    if live["record_id"].is_unique().all() and contested.is_empty():
        return Versions(live, live.clear(), withdrawn)
    newest = live.sort(*VERSION).unique(["record_id", "subject_id"], keep="last", maintain_order=True)
    holds = contested.select("record_id", winner="stretch", winner_position="position")
    is_beaten = (pl.col("winner") != pl.col("stretch")) | (pl.col("winner_position") != pl.col("position"))
    current = (
        newest.join(holds, on="record_id", how="left")
        .filter(is_beaten.fill_null(value=False).not_())
        .select(newest.columns)
    )
    return Versions(current, live.join(current, on=ROW, how="anti"), withdrawn)


def split_by_deletion(placed: pl.DataFrame, deletions: pl.DataFrame, column: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that stand, and those that a deletion of what `column` names takes out. Reads export of `placed`."""
    if deletions.is_empty():
        return placed, placed.clear()
    until = deletions.select(pl.col("record_id").alias(column), until="export")
    marked = placed.join(until, on=column, how="left", maintain_order="left").with_columns(
        is_gone=(pl.col("export") <= pl.col("until")).fill_null(value=False)
    )
    return (
        marked.filter(~pl.col("is_gone")).select(placed.columns),
        marked.filter("is_gone").select(placed.columns),
    )


def tied_subjects(records: pl.DataFrame) -> pl.Series:
    """The patients with a record that was met twice in one version, so that only its place tells which one holds."""
    if records["record_id"].is_unique().all():
        return records["subject_id"].clear()
    return records.filter(pl.struct(WRITTEN).is_duplicated())["subject_id"].unique()
