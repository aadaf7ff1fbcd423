"""What reading finds beside rows: of every stretch of text, so that all of it can be taken back with the stretch."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from features.privacy import vault
from features.records.blocks import Refused

_ALIAS: dict[str, pl.DataType | type[pl.DataType]] = {"alias": pl.Int64, "name": pl.Int64}
_COLUMNS: dict[str, Mapping[str, pl.DataType | type[pl.DataType]]] = {
    "ignored": {"kind": pl.String, "reason": pl.String, "records": pl.Int64},
    "refused": {"offset": pl.Int64, "resource_type": pl.String, "reason": pl.String},
    "findings": {"finding": pl.String, "count": pl.Int64},
    "visit_days": {"day": pl.Int64, "visits": pl.Int64},
    "patients": dict(vault.PATIENTS),
    "patient_aliases": _ALIAS,
    "site_aliases": _ALIAS,
    "medications": {
        "id": pl.Int64,
        "version_time": pl.Int64,
        "version_number": pl.Int64,
        "position": pl.Int64,
        "medicine": pl.String,
    },
    "deletions": {"record_id": pl.Int64},
    "asked": _ALIAS,
}
# One table a kind of fact.
FACTS = {kind: pl.Schema({"stretch": pl.Int64, **columns}) for kind, columns in _COLUMNS.items()}

FactTables = dict[str, pl.DataFrame]


@dataclass
class Facts:
    """The facts of one stretch. Numbers are pseudonyms; offsets are bytes from the stretch's start.

    visit_days: true day of visits' starts -> how many; says where the data end. asked: what the identifiers by which
    records name their patient turned out to mean, null for nobody. deletions: record_ids that the source withdrew.
    """

    stretch: int = 0
    records_in: int = 0
    deferred: int = 0
    ignored: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)
    findings: Counter[str] = field(default_factory=Counter)
    visit_days: dict[int, int] = field(default_factory=dict)
    patients: list[tuple[int, str, int, int]] = field(default_factory=list)
    patient_aliases: list[tuple[int, int]] = field(default_factory=list)
    site_aliases: list[tuple[int, int]] = field(default_factory=list)
    medications: list[tuple[int, int, int, int, str]] = field(default_factory=list)
    deletions: list[int] = field(default_factory=list)
    asked: dict[int, int | None] = field(default_factory=dict)


def tables_of(facts: Iterable[Facts]) -> FactTables:
    """The facts of some stretches, one table a kind."""
    rows: dict[str, list[tuple]] = {kind: [] for kind in FACTS}
    for one in facts:
        rows["ignored"] += [(one.stretch, *what, count) for what, count in one.ignored.items()]
        for kind in ("findings", "visit_days", "asked"):
            rows[kind] += [(one.stretch, *pair) for pair in getattr(one, kind).items()]
        for kind in ("refused", "patients", "patient_aliases", "site_aliases", "medications"):
            rows[kind] += [(one.stretch, *row) for row in getattr(one, kind)]
        rows["deletions"] += [(one.stretch, record_id) for record_id in one.deletions]
    return {
        kind: pl.DataFrame(
            dict(zip(schema, zip(*rows[kind], strict=True), strict=True)) if rows[kind] else None, schema
        )
        for kind, schema in FACTS.items()
    }


def joined(parts: Iterable[Mapping[str, pl.DataFrame]]) -> FactTables:
    """Several collections of facts as one."""
    none = {kind: pl.DataFrame(schema=schema) for kind, schema in FACTS.items()}
    parts = [none, *parts]
    return {kind: pl.concat([part[kind] for part in parts]) for kind in FACTS}
