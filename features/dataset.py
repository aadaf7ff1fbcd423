"""The MEDS dataset on disk: timelines by split, codes, splits, and what a later run needs to know of this one."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from features.buckets import write_bucket
from features.codes import groups_of_codes
from features.privacy.keys import Key
from features.processes import Spread
from features.stored_rows import Rooms
from features.tables import Codes, SubjectSplits, checked
from features.timelines import MEDS_TYPES, Surroundings
from features.touched import Change

STATE = Path("metadata") / "sequela.json"

# A wording that one patient's record alone has may be about that patient.
_FEWEST_SUBJECTS_OF_WORDING = 2


@dataclass(frozen=True)
class Account:
    """What was written: how the records of the timelines fared, and the tables about all of them.

    rebuilt: how many patients' timelines were made anew. shards: how many files there are. is_tied, erased: see
    features.ledger.
    """

    outcomes: pl.DataFrame
    codes: pl.DataFrame
    splits: pl.DataFrame
    findings: dict[str, int]
    events: int
    rebuilt: int
    shards: int
    digest: str
    is_tied: bool
    erased: pl.DataFrame


def write_dataset(key: Key, rooms: Rooms, around: Surroundings, change: Change, spread: Spread) -> Account:
    """Bring each bucket up to date in the dataset's files, one a split; a subject lies in one file."""
    pieces = []
    for bucket in range(rooms.buckets):
        own = around.patients.filter(pl.col("subject_id") % rooms.buckets == bucket)
        pieces.append((bucket, key, rooms, replace(around, patients=own), change))
    written = sorted(spread(write_bucket, pieces, "sorting timelines", "bucket"), key=lambda one: one.bucket)
    members = pl.concat([one.subjects for one in written]).join(around.patients, on="subject_id")
    findings: Counter[str] = Counter()
    for one in written:
        findings.update(one.findings)
    return Account(
        outcomes=pl.concat([one.outcomes for one in written])
        .group_by("kind", "outcome", "reason")
        .agg(pl.col("records").sum()),
        codes=_codes(pl.concat([one.counts for one in written]), pl.concat([one.wordings for one in written])),
        splits=checked(members.select("subject_id", "split").sort("subject_id"), SubjectSplits),
        findings=dict(findings),
        events=sum(one.events for one in written),
        rebuilt=sum(one.rebuilt for one in written),
        shards=sum(len(one.digests) for one in written),
        digest=hashlib.sha256("".join(one for parts in written for one in parts.digests).encode()).hexdigest()[:16],
        is_tied=any(one.is_tied for one in written),
        erased=pl.concat([one.erased for one in written]).unique(),
    )


def _codes(counts: pl.DataFrame, wordings: pl.DataFrame) -> pl.DataFrame:
    """The codes table: the commonest wording of each code, cleaned of the invisible characters sources slip in."""
    counts = counts.group_by("code").agg(pl.col("events").sum(), pl.col("subjects").sum())
    described = (
        wordings.drop_nulls("wording")
        .group_by("code", "wording")
        .agg(pl.col("events", "subjects").sum())
        .sort("code", "events", "wording", descending=[False, True, False])
        .group_by("code", maintain_order=True)
        .agg(
            description=pl.col("wording")
            .filter(pl.col("subjects") >= _FEWEST_SUBJECTS_OF_WORDING)
            .first()
            .str.replace_all("\u200b", "")
            .str.strip_chars(),
            wordings=pl.len().cast(pl.Int32),
        )
    )
    groups = groups_of_codes(counts.select("code")).group_by("code").agg(parent_codes=pl.col("group").sort())
    table = (
        counts.join(described, on="code", how="left")
        .join(groups, on="code", how="left")
        .with_columns(pl.col("wordings").fill_null(0))
        .sort("code")
    )
    return checked(table, Codes)


def write_metadata(
    workroom: Path, account: Account, source_kind: str, etl_version: str, state: Mapping[str, object]
) -> None:
    """The MEDS dataset's own metadata, and what a later run needs to know of this one."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from meds import CodeMetadataSchema, SubjectSplitSchema

    folder = workroom / "meds" / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    codes = account.codes.select("code", "description", "parent_codes").to_arrow()
    pq.write_table(codes.cast(pa.schema(CodeMetadataSchema.schema())), folder / "codes.parquet")
    splits = account.splits.to_arrow().cast(pa.schema(SubjectSplitSchema.schema()))
    pq.write_table(splits, folder / "subject_splits.parquet")
    description = {
        "dataset_name": f"Sequela timelines of {source_kind} records",
        "dataset_version": account.digest,
        "etl_name": "sequela",
        "etl_version": etl_version,
        "meds_version": "0.4.1",
        "site_id_columns": ["site_id"],
        "other_extension_columns": [
            name for name in MEDS_TYPES.names if name in ("known_time", "unit", "encounter_id", "record_id")
        ],
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
    (workroom / "meds" / STATE).write_text(json.dumps(state, indent=1) + "\n")
