"""Exports of a few resources, and what a home made from them holds."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from features.home import Home
from features.ingest import events_of
from features.privacy.keys import load_key
from features.privacy.pseudonyms import pseudonym
from features.privacy.vault import read_shifts, unseal, unseal_tables
from features.sources.landed import Manifest, write_manifest

WEIGHT = "LOINC//29463-7"


def an_export(folder: Path, *resources: dict, deleted: tuple[str, ...] = (), until: str | None = None) -> None:
    """Write an export: NDJSON, deletions, and a manifest."""
    folder.mkdir(parents=True)
    for resource in resources:
        with (folder / f"{resource['resourceType']}.ndjson").open("a") as file:
            file.write(json.dumps(resource) + "\n")
    if deleted:
        gone = [{"request": {"method": "DELETE", "url": url}} for url in deleted]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": gone}
        (folder / "deleted.ndjson").write_text(json.dumps(bundle) + "\n")
    write_manifest(folder, Manifest("fhir_server", "a test", "2021-01-01T00:00:00Z", (), covers_until=until))


def patient(name: str, birth: str = "1960-01-01") -> dict:
    return {"resourceType": "Patient", "id": name, "gender": "female", "birthDate": birth}


def visit(name: str, of: str, start: str = "2020-06-01T10:00:00Z", end: str = "2020-06-01T11:00:00Z") -> dict:
    return {
        "resourceType": "Encounter",
        "id": name,
        "subject": {"reference": f"Patient/{of}"},
        "period": {"start": start, "end": end},
    }


def weight(name: str, of: str, kg: float, updated: str | None = None, issued: str = "2020-06-01T10:05:00Z") -> dict:
    return {
        "resourceType": "Observation",
        "id": name,
        "subject": {"reference": f"Patient/{of}"},
        "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
        "effectiveDateTime": "2020-06-01T10:05:00Z",
        "issued": issued,
        "valueQuantity": {"value": kg, "unit": "kg", "code": "kg"},
    } | ({"meta": {"lastUpdated": updated}} if updated else {})


def subject(name: str) -> int:
    return pseudonym(load_key().pseudonyms, "Patient", name)


def weights(home: Home) -> dict[int, list[float]]:
    found = events_of(home).filter(pl.col("code") == WEIGHT).sort("numeric_value").collect()
    return dict(found.group_by("subject_id").agg("numeric_value").iter_rows())


def codes(home: Home) -> set[str]:
    return set(events_of(home).select("code").collect()["code"])


def moved(home: Home, name: str, moment: str) -> datetime:
    """A true moment as it stands in a patient's events."""
    shift = timedelta(microseconds=dict(read_shifts(home.vault, load_key()).iter_rows())[subject(name)])
    return (datetime.fromisoformat(moment) + shift).replace(second=0, microsecond=0)


def reverse_lines(path: Path) -> None:
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))


def everything_kept(home: Home) -> set:
    """Every value of every table that a home holds but the deletions themselves, the sealed ones opened."""
    values: set = set()
    for path in home.path.rglob("*"):
        if path.suffix == ".parquet":
            tables = [pl.read_parquet(path)]
        elif path.suffix == ".vault" and path.name.startswith(("records-", "events-", "ledger")):
            tables = [table for name, table in unseal_tables(load_key(), path).items() if name != "deletions"]
        elif path.suffix == ".vault":
            tables = [unseal(load_key(), path)]
        else:
            continue
        for table in tables:
            for column in table.get_columns():
                values |= set(column.to_list()) if not column.dtype.is_nested() else set()
    return values
