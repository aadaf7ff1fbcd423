"""From a folder of FHIR records to the MEDS dataset, the vault and the account of every record.

Everything is made beside the home's present state and moved into place at the end: a run that fails or is killed
leaves the last good state, and a run on unchanged records does nothing.
"""

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from features.dataset import STATE, write_dataset, write_metadata
from features.errors import SequelaError, SourceError
from features.home import Home
from features.observation import last_covered_day
from features.privacy import vault
from features.privacy.date_shift import draw_cap_days
from features.privacy.keys import Key, load_key
from features.processes import workers
from features.profile import data_profile
from features.publishing import alone_in, heal, publish
from features.records.intake import land_all, processes_for, shown_name, type_in_name, unambiguous
from features.records.landing import ALIAS, Landed
from features.records.medicines import MEDICATION
from features.records.reading import SourceFile, find_files
from features.settings import StudySettings
from features.sources.folder import example_patients
from features.sources.landed import manifests_at
from features.tables import Quarantine, RecordCounts, checked
from features.timelines import Surroundings

VERSION = "1"  # raise it when the same records would give other timelines; stored datasets are then made anew

_WORKROOM = ".ingest"
_BUCKET_BYTES = {"plain": 60_000_000, "gzip": 4_000_000, "zstd": 3_500_000}


@dataclass(frozen=True)
class IngestResult:
    """What a run of the ingest found; `resumed` when the records were those of the last run."""

    subjects: int
    events: int
    records_in: int
    records_used: int
    records_ignored: int
    records_quarantined: int
    data_version: str
    source_kind: str
    resumed: bool


def ingest(source: Path, home: Home, settings: StudySettings, processes: int | None = None) -> IngestResult:
    """Read the FHIR records below `source` into `home`.

    Writes:  meds/ (the dataset), vault/, and the tables quarantine, record_counts, data_profile, codes and
             subject_splits. Nothing in `home` changes unless all of it succeeds.
    Raises:  SourceError when there is nothing to read, no patient, or a file with too many unreadable records;
             KeyFileError when the vault was written with another key.
    """
    with alone_in(home):
        workroom = home.path / _WORKROOM
        heal(home, workroom)
        key = load_key(keep_away_from=(source, home.path))
        vault.check_key(key, home.vault)
        files, other_files = find_files(source)
        if not files:
            raise SourceError(
                f"No FHIR records in {source}: {other_files:,} files, none of them JSON of FHIR resources. "
                "Give a folder with R4 bundles or NDJSON (plain, .gz or .zst) to --from."
            )
        inputs = _digest_of_inputs(files, settings, key)
        if (last := _last_result(home, inputs)) is not None:
            return last
        try:
            result = _ingest(files, other_files, source, workroom, settings, key, inputs, processes)
            publish(workroom, home)
        finally:
            shutil.rmtree(workroom, ignore_errors=True)
        return result


def events_of(home: Home) -> pl.LazyFrame:
    """All events of the dataset (features.tables.Events), each subject's in order."""
    if not home.meds.exists():
        raise SequelaError("This home holds no dataset yet. Run `sequela run` first.")
    return pl.scan_parquet(home.meds / "data" / "*" / "*.parquet", glob=True)


def _ingest(
    files: list[SourceFile],
    other_files: int,
    source: Path,
    workroom: Path,
    settings: StudySettings,
    key: Key,
    inputs: str,
    processes: int | None,
) -> IngestResult:
    buckets = 1 + int(sum(file.size / _BUCKET_BYTES[file.compression] for file in files))
    processes = processes_for(files, processes)
    with workers(processes) as spread:
        landed = land_all(files, processes, spread, key, buckets, workroom, settings.records)
        patients = _patients(landed)
        days = {_EPOCH + timedelta(days=day): count for day, count in landed.visit_days.items()}
        around = Surroundings(
            patients=patients.select("subject_id", "weeks_us").with_columns(
                cap_days=pl.Series(
                    [draw_cap_days(key.date_shift, one) for one in patients["subject_id"]], dtype=pl.Int64
                )
            ),
            sites=unambiguous(pl.DataFrame(landed.site_aliases, schema=ALIAS, orient="row")).rename(
                {"name": "site_id"}
            ),
            medications=_medications(landed),
            data_end=settings.observation.data_end or _last_day(days),
            longest_visit_days=settings.records.longest_visit_days,
            longest_stay_days=settings.records.longest_stay_days,
        )
        account = write_dataset(workroom, around, settings.splits, key, buckets, spread)
    names = {file.number: shown_name(file, key) for file in files}
    vault.seal(key, patients, workroom / "vault" / "patients.vault")
    vault.seal(
        key,
        pl.DataFrame({"file": list(names.values()), "path": [file.name for file in files]}, schema=vault.FILES),
        workroom / "vault" / "files.vault",
    )

    quarantine = _quarantine(landed, names)
    counts = _record_counts(landed, account.outcomes, quarantine)
    landed.findings.update(account.findings)
    profile = data_profile(landed.findings, account.codes, len(files), other_files)
    tables = workroom / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    for name, table in (
        ("quarantine", quarantine),
        ("record_counts", counts),
        ("data_profile", profile),
        ("codes", account.codes),
        ("subject_splits", account.splits),
    ):
        table.write_parquet(tables / f"{name}.parquet")

    outcomes = dict(counts.group_by("outcome").agg(pl.col("records").sum()).iter_rows())
    result = IngestResult(
        subjects=account.splits.height,
        events=account.events,
        records_in=landed.records_in.total(),
        records_used=outcomes.get("used", 0),
        records_ignored=outcomes.get("ignored", 0),
        records_quarantined=outcomes.get("quarantined", 0),
        data_version=account.digest,
        source_kind=_source_kind(source, landed.findings, account.splits.height),
        resumed=False,
    )
    explained = result.records_used + result.records_ignored + result.records_quarantined
    if explained != result.records_in:
        raise SequelaError(
            f"{result.records_in:,} records were read but {explained:,} are accounted for. This is a fault of "
            "Sequela, not of the records; please report it. The last good state stands."
        )
    write_metadata(workroom, account, VERSION, {"inputs": inputs, "result": asdict(result)})
    return result


_EPOCH = date(1970, 1, 1)


def _last_day(days: dict[date, int]) -> date:
    if not days:
        raise SourceError(
            "These records hold no visit (Encounter) with a date, so there is nothing to forecast from. "
            "Add the Encounter files of the same export to the folder."
        )
    return last_covered_day(pl.DataFrame({"day": list(days), "events": list(days.values())}))


def _patients(landed: Landed) -> pl.DataFrame:
    """subject_id, patient, weeks_us, seconds_us: one row a patient. Stops when two share a pseudonym."""
    patients = pl.concat(landed.patients).unique(["subject_id", "patient"]).sort("subject_id", "patient")
    if patients["subject_id"].is_duplicated().any():
        raise SequelaError(
            "Two patients got the same pseudonym with this key, so their records would mix. Choose another key file "
            "(SEQUELA_KEY_FILE) and another --home. The last good state stands."
        )
    return patients


def _medications(landed: Landed) -> pl.DataFrame:
    schema = {"id": pl.Int64, "medicine": pl.String}
    table = pl.DataFrame(landed.medications, schema=schema, orient="row").sort("id", "medicine")
    return table.unique("id", keep="first", maintain_order=True).select(
        placeholder=pl.concat_str(pl.lit(MEDICATION), pl.col("id").cast(pl.String)), medicine="medicine"
    )


def _source_kind(source: Path, findings: Counter[str], subjects: int) -> str:
    """What the manifests of landed folders say; else by Synthea's mark on most patients: a server may hold those."""
    if source.resolve() == example_patients().resolve():
        return "example"
    kinds = {manifest.kind for _, manifest in manifests_at(source)}
    if made := kinds & {"simulated", "synthea"}:
        return min(made)
    if 2 * findings["patients_made_by_synthea"] > subjects:
        return "synthea"
    return "fhir_server" if kinds else "fhir"


def _quarantine(landed: Landed, names: dict[int, str]) -> pl.DataFrame:
    rows = [
        (names[file], refused.offset, refused.resource_type or type_in_name(names[file]), refused.reason)
        for file, refused in landed.refused
    ]
    schema = {name: column.dtype for name, column in Quarantine.columns().items()}
    return checked(pl.DataFrame(rows, schema=schema, orient="row").sort("file", "offset"), Quarantine)


def _record_counts(landed: Landed, outcomes: pl.DataFrame, quarantine: pl.DataFrame) -> pl.DataFrame:
    ignored = pl.DataFrame(
        [(kind, "ignored", reason, count) for (kind, reason), count in landed.ignored.items()],
        schema={"kind": pl.String, "outcome": pl.String, "reason": pl.String, "records": pl.Int64},
        orient="row",
    )
    refused = quarantine.group_by(kind=pl.col("resource_type").fill_null("unknown"), reason="reason").agg(
        records=pl.len().cast(pl.Int64)
    )
    table = (
        pl.concat(
            [
                outcomes.select(ignored.columns),
                ignored,
                refused.select("kind", outcome=pl.lit("quarantined"), reason="reason", records="records"),
            ]
        )
        .rename({"kind": "resource_type"})
        .group_by("resource_type", "outcome", "reason")
        .agg(pl.col("records").sum())
        .sort("resource_type", "outcome", "reason")
    )
    return checked(table, RecordCounts)


def _digest_of_inputs(files: list[SourceFile], settings: StudySettings, key: Key) -> str:
    """Changes when any file, a setting that the ingest uses, the key or the ingest itself changes."""
    digest = hashlib.sha256(f"{VERSION} {settings.records} {settings.splits} {settings.observation.data_end}".encode())
    digest.update(hashlib.sha256(b"sequela" + key.pseudonyms).digest())
    for file in files:
        digest.update(f"\0{file.name}\0{file.size}\0{file.path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def _last_result(home: Home, inputs: str) -> IngestResult | None:
    path = home.meds / STATE
    if not path.exists():
        return None
    state = json.loads(path.read_text())
    if state["inputs"] != inputs:
        return None
    return IngestResult(**{**state["result"], "resumed": True})
