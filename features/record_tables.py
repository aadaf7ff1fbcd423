"""What became of every record that was read: the tables quarantine and record_counts."""

from collections.abc import Mapping

import polars as pl

from features.records.intake import type_in_name
from features.records.standing import Standing
from features.tables import Quarantine, RecordCounts, checked


def quarantine_table(standing: Standing, names: Mapping[int, str]) -> pl.DataFrame:
    """The Quarantine table; `names` are those under which files are shown, by their number."""
    shown = pl.DataFrame(
        [(file, name, type_in_name(name)) for file, name in names.items()],
        schema={"file": pl.Int64, "shown": pl.String, "type_in_name": pl.String},
        orient="row",
    )
    where = standing.stretches.select("stretch", "file", start="offset").join(shown, on="file")
    table = (
        standing.facts["refused"]
        .join(where, on="stretch")
        .select(
            file="shown",
            offset=pl.col("start") + pl.col("offset"),
            resource_type=pl.coalesce("resource_type", "type_in_name"),
            reason="reason",
        )
        .sort("file", "offset", "reason")
    )
    return checked(table, Quarantine)


def record_counts_table(standing: Standing, outcomes: pl.DataFrame, quarantine: pl.DataFrame) -> pl.DataFrame:
    """The RecordCounts table. Reads `outcomes` (kind, outcome, reason, records) of the records that gave rows."""
    ignored = standing.facts["ignored"].select("kind", outcome=pl.lit("ignored"), reason="reason", records="records")
    refused = quarantine.select(
        kind=pl.col("resource_type").fill_null("unknown"),
        outcome=pl.lit("quarantined"),
        reason="reason",
        records=pl.lit(1, pl.Int64),
    )
    table = (
        pl.concat([outcomes.select(ignored.columns), ignored, refused])
        .group_by("outcome", "reason", resource_type="kind")
        .agg(pl.col("records").sum())
        .sort("resource_type", "outcome", "reason")
    )
    return checked(table, RecordCounts)
