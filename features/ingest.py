"""From a folder of FHIR records to the MEDS dataset, the vault and the account of every record.

Everything is made beside the home's present state and moved into place at the end: a run that fails or is killed
leaves the last good state. What has been read before is not read again, and only the timelines that new, changed or
deleted records touch are made anew; the result is what reading everything at once would give.
"""

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files as package_files
from pathlib import Path

import polars as pl

from features.contested import find_contested
from features.counted import counted
from features.dataset import STATE, Account, write_dataset, write_metadata
from features.errors import SequelaError, SourceError
from features.home import Home
from features.ledger import SHARED, HomeState, Ledger, recall, write_ledger
from features.privacy import vault
from features.privacy.keys import Key, load_key
from features.processes import alone, workers
from features.profile import data_profile
from features.publishing import alone_in, heal, publish
from features.recognition import changed_files, half_known, recognise, says_the_same
from features.record_tables import quarantine_table, record_counts_table
from features.records.exports import exports_of
from features.records.intake import Intake, check_usable, processes_for, shown_name, take_in
from features.records.reading import SourceFile, find_files
from features.records.standing import (
    Standing,
    has_tied_medications,
    nothing_read,
    patients,
    table_of_files,
    without_erased,
)
from features.settings import StudySettings
from features.sources.folder import example_patients
from features.sources.landed import manifests_at
from features.stored_rows import Rooms
from features.superseded import SUPERSEDED
from features.surroundings import change_since, surroundings_of
from features.touched import Change

VERSION = "3"  # raise it when the same records would give other timelines; stored datasets are then made anew

_WORKROOM = ".ingest"
_BUCKET_BYTES = {"plain": 60_000_000, "gzip": 4_000_000, "zstd": 3_500_000}
_SEVERAL_BUCKETS = 16  # to bring fewer up to date is done before other processes have started
_MOST_GROWTH = 4  # times as many bytes as the buckets were made for; then each is divided


@dataclass(frozen=True)
class IngestResult:
    """What a run of the ingest found; `resumed` when the records say what they said in the last run.

    subjects_rebuilt: how many patients' timelines were made anew, or taken out.
    """

    subjects: int
    subjects_rebuilt: int
    events: int
    records_in: int
    records_used: int
    records_ignored: int
    records_quarantined: int
    data_version: str
    source_kind: str
    resumed: bool


@dataclass(frozen=True)
class _Source:
    """The folder of records, as it is found."""

    folder: Path
    files: list[SourceFile]
    other_files: int
    standing: Standing  # of which nothing has been read yet


def ingest(source: Path, home: Home, settings: StudySettings, processes: int | None = None) -> IngestResult:
    """Read the FHIR records below `source` into `home`; of what the home has read before, only what is new.

    Writes:  meds/ (the dataset), vault/, and the tables quarantine, record_counts, data_profile, codes,
             subject_splits and superseded. Nothing in `home` changes unless all of it succeeds, nor when the records
             say what they said before, wherever they lie now.
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
                f"No FHIR records in {source}: {counted(other_files, 'file')}, none with JSON of FHIR resources. "
                "Give a folder with R4 bundles or NDJSON (plain, .gz or .zst) to --from."
            )
        of_files, exports = exports_of(source, files)
        found = _Source(source, files, other_files, nothing_read(table_of_files(files, of_files), exports))
        state = {"inputs": _digest_of_inputs(found.standing, settings, key), "study": _digest_of_study(settings)}
        last = _last_state(home)
        if last.get("inputs") == state["inputs"]:
            return IngestResult(**last["result"] | {"resumed": True, "subjects_rebuilt": 0})
        try:
            result = _ingest(found, home, settings, key, state, last, processes)
            if not result.resumed:
                publish(workroom, home)
        finally:
            shutil.rmtree(workroom, ignore_errors=True)
        return result


def events_of(home: Home) -> pl.LazyFrame:
    """All events of the dataset (features.tables.Events), each subject's in order."""
    if not home.meds.exists():
        raise SequelaError("This home holds no dataset yet. Run `sequela run` first.")
    return pl.scan_parquet(home.meds / "data" / "*" / "*.parquet", glob=True)


def shards_of(home: Home, split: str = "*") -> list[pl.LazyFrame]:
    """The events of each file of the dataset, lazily, or of one split's; a subject lies in one file."""
    if not home.meds.exists():
        raise SequelaError("This home holds no dataset yet. Run `sequela run` first.")
    files = sorted((home.meds / "data").glob(f"{split}/*.parquet"))
    return [pl.scan_parquet(file, hive_partitioning=False) for file in files]


def _ingest(
    found: _Source,
    home: Home,
    settings: StudySettings,
    key: Key,
    digests: dict[str, str],
    last: dict,
    processes: int | None,
) -> IngestResult:
    ledger = recall(home, key, _digest_of_rules(key), last.get("result", {}).get("data_version"))
    rooms = _rooms(found.files, home, ledger)
    generation = 0 if ledger is None else ledger.state.generation + 1
    names = {file.number: shown_name(file, key) for file in found.files}
    processes = processes_for(found.files, processes)
    with workers(processes) as spread:
        intake = Intake(found.files, processes, spread, key, rooms.buckets, rooms.landing, generation)
        if ledger is None:
            standing = take_in(intake, found.standing)
        else:
            changed = changed_files(ledger, found.standing, found.files)
            known, new = recognise(ledger, found.standing, intake.scan(changed))
            if last.get("study") == digests["study"] and says_the_same(ledger, known, new):
                return IngestResult(**last["result"] | {"resumed": True, "subjects_rebuilt": 0})
            standing = take_in(intake, known, new, partial(half_known, ledger))
        standing = without_erased(standing)
        check_usable(standing, settings.records, names, found.other_files)
        around = surroundings_of(standing, key, settings)
        team = spread if ledger is None or rooms.buckets >= _SEVERAL_BUCKETS else alone
        shared = pl.DataFrame(schema=SHARED) if ledger is None else ledger.shared
        shared, contested = find_contested(key, rooms, around, shared, team)
        around = replace(around, contested=contested)
        choices = _digest_of_choices(settings)
        change = Change() if ledger is None else change_since(ledger, standing, around, generation, choices)
        account = write_dataset(key, rooms, around, change, team)
    state = HomeState(
        generation=generation,
        buckets=rooms.buckets,
        rules=_digest_of_rules(key),
        choices=choices,
        data_end=around.data_end.isoformat(),
        data_version=account.digest,
        shards=account.shards,
        is_tied=account.is_tied or contested["is_tied"].any() or has_tied_medications(standing),
    )
    write_ledger(Ledger(state, standing, shared, contested, account.erased), key, rooms.new.vault)
    _write_vault(standing, names, key, rooms.new)
    return _write_tables(found, standing, account, names, digests, rooms.new)


def _rooms(files: list[SourceFile], home: Home, ledger: Ledger | None) -> Rooms:
    """Where to work, in so many buckets that each is small beside a process's memory."""
    needed = 1 + int(sum(file.size / _BUCKET_BYTES[file.compression] for file in files))
    before = needed if ledger is None else ledger.state.buckets
    buckets = before
    while needed > _MOST_GROWTH * buckets:
        buckets *= _MOST_GROWTH
    return Rooms(home.path / _WORKROOM, home, ledger is not None, buckets, before)


def _write_vault(standing: Standing, names: dict[int, str], key: Key, new: Home) -> None:
    vault.seal(key, patients(standing), new.vault / "patients.vault")
    files = pl.DataFrame(
        {"file": list(names.values()), "path": standing.files.sort("file")["name"]}, schema=vault.FILES
    )
    vault.seal(key, files, new.vault / "files.vault")


def _write_tables(
    found: _Source, standing: Standing, account: Account, names: dict[int, str], digests: dict[str, str], new: Home
) -> IngestResult:
    quarantine = quarantine_table(standing, names)
    counts = record_counts_table(standing, account.outcomes, quarantine)
    findings = Counter(account.findings)
    for finding, count in standing.facts["findings"].select("finding", "count").iter_rows():
        findings[finding] += count
    profile = data_profile(findings, account.codes, len(found.files), found.other_files)
    (new.tables / SUPERSEDED).mkdir(parents=True, exist_ok=True)
    for name, table in (
        ("quarantine", quarantine),
        ("record_counts", counts),
        ("data_profile", profile),
        ("codes", account.codes),
        ("subject_splits", account.splits),
    ):
        table.write_parquet(new.tables / f"{name}.parquet")

    outcomes = dict(counts.group_by("outcome").agg(pl.col("records").sum()).iter_rows())
    result = IngestResult(
        subjects=account.splits.height,
        subjects_rebuilt=account.rebuilt,
        events=account.events,
        records_in=sum(standing.stretches["records_in"]),
        records_used=outcomes.get("used", 0),
        records_ignored=outcomes.get("ignored", 0),
        records_quarantined=outcomes.get("quarantined", 0),
        data_version=account.digest,
        source_kind=_source_kind(found.folder, findings, account.splits.height),
        resumed=False,
    )
    explained = result.records_used + result.records_ignored + result.records_quarantined
    if explained != result.records_in:
        raise SequelaError(
            f"{result.records_in:,} records were read but {explained:,} are accounted for. This is a fault of "
            "Sequela, not of the records; please report it. The last good state stands."
        )
    write_metadata(new.path, account, result.source_kind, VERSION, {**digests, "result": asdict(result)})
    return result


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


def _digest_of_inputs(found: Standing, settings: StudySettings, key: Key) -> str:
    """Changes when any file, a setting that the ingest uses, the key or the ingest itself changes."""
    digest = hashlib.sha256(f"{_digest_of_rules(key)} {_digest_of_study(settings)}".encode())
    for table in (found.files, found.exports):
        digest.update(repr(table.rows()).encode())
    return digest.hexdigest()


def _digest_of_study(settings: StudySettings) -> str:
    """Changes when a setting that the ingest uses changes."""
    return hashlib.sha256(f"{settings.records} {settings.splits} {settings.observation.data_end}".encode()).hexdigest()


def _digest_of_choices(settings: StudySettings) -> str:
    """Changes when a setting changes that everybody's timeline depends on."""
    records = settings.records
    choices = f"{records.longest_visit_days} {records.longest_stay_days} {settings.splits}"
    return hashlib.sha256(choices.encode()).hexdigest()


def _digest_of_rules(key: Key) -> str:
    """Changes when the same text would give other rows."""
    digest = hashlib.sha256(VERSION.encode() + hashlib.sha256(b"sequela" + key.pseudonyms).digest())
    for package, name in (("features.privacy", "rules.toml"), ("features.records", "units.toml")):
        digest.update(package_files(package).joinpath(name).read_bytes())
    return digest.hexdigest()


def _last_state(home: Home) -> dict:
    path = home.meds / STATE
    return json.loads(path.read_text()) if path.exists() else {}
