"""From a folder of FHIR records to the MEDS dataset, the vault and the account of every record.

Everything is made beside the home's present state and moved into place at the end: a run that fails or is killed
leaves the last good state, and a run on unchanged records does nothing.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

import polars as pl
from tqdm import tqdm

from features.codes import groups_of_codes
from features.errors import SequelaError, SourceError
from features.home import Home
from features.observation import last_covered_day
from features.privacy import vault
from features.privacy.keys import Key, load_key
from features.privacy.pseudonyms import draw_split, label
from features.privacy.rules import load_rules
from features.profile import data_profile
from features.records.events import MEDICATION
from features.records.landing import Landed, Task, land, plan_tasks
from features.records.readers import Submit, readers
from features.records.reading import SourceFile, find_files
from features.records.resources import unused_types
from features.settings import StudySettings
from features.sources.folder import example_patients
from features.tables import Codes, Quarantine, RecordCounts, SubjectSplits, checked
from features.timelines import MEDS_TYPES, Surroundings, build_bucket, write_shard

VERSION = "1"  # raise it when the same records would give other timelines; stored datasets are then made anew

_WORKROOM = ".ingest"
_STATE = Path("metadata") / "sequela.json"
_BUCKET_BYTES = {"plain": 120_000_000, "gzip": 8_000_000, "zstd": 7_000_000}
_FEW_BYTES = 3_000_000  # compressed or not: below this, starting processes costs more than it saves
_TYPE_IN_FILE_NAME = re.compile(r"([A-Za-z]+)(?:[.\-_]\d+)*\.(?:nd)?jsonl?(?:\.gz|\.zst)?")


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
    with _alone_in(home):
        _heal(home)
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
        workroom = home.path / _WORKROOM
        try:
            result = _ingest(files, other_files, source, workroom, settings, key, inputs, processes)
            _publish(workroom, home)
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
    few = sum(file.size for file in files) < _FEW_BYTES
    workers = processes or (1 if few else os.cpu_count() or 1)
    landed = _land_all(files, workers, key, buckets, workroom, settings)
    patients = _patients(landed, key)
    days = {_EPOCH + timedelta(days=day): count for day, count in landed.visit_days.items()}
    around = Surroundings(
        patients=patients.select("subject_id", "weeks_us"),
        sites=_aliases_of(landed, "Organization").select(alias="alias", site_id="name"),
        medications=_medications(landed),
        data_end=settings.observation.data_end or _last_day(days),
        settings=settings.records,
    )
    account = _write_dataset(workroom, around, settings, key)
    names = {file.number: _file_name(file, key) for file in files}
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
        source_kind=_source_kind(source, landed.findings),
        resumed=False,
    )
    explained = result.records_used + result.records_ignored + result.records_quarantined
    if explained != result.records_in:
        raise SequelaError(
            f"{result.records_in:,} records were read but {explained:,} are accounted for. This is a fault of "
            "Sequela, not of the records; please report it. The last good state stands."
        )
    _write_metadata(workroom, account, result, inputs)
    return result


_EPOCH = date(1970, 1, 1)


def _last_day(days: dict[date, int]) -> date:
    if not days:
        raise SourceError(
            "These records hold no visit (Encounter) with a date, so there is nothing to forecast from. "
            "Add the Encounter files of the same export to the folder."
        )
    return last_covered_day(pl.DataFrame({"day": list(days), "events": list(days.values())}))


# Reading ---------------------------------------------------------------------------------------------------------


def _land_all(
    files: list[SourceFile], workers: int, key: Key, buckets: int, workroom: Path, settings: StudySettings
) -> Landed:
    """Read all files; then, knowing all patients, the records that name theirs by an identifier."""
    tasks = plan_tasks(files, workers)
    total = Landed()
    helpers = min(workers, len(tasks)) - 1
    with readers(helpers) if helpers else nullcontext(_no_helper) as submit:
        for landed in _landed(tasks, helpers, submit, key, buckets, workroom):
            _add(total, landed)
            _check_shares(total, files, settings, key)
        if total.deferred:
            aliases = dict(_aliases_of(total, "Patient").select("alias", "name").iter_rows())
            for landed in _landed(tasks, helpers, submit, key, buckets, workroom, aliases):
                _add(total, landed)
        _check_shares(total, files, settings, key, is_last=True)
    if not total.patients:
        raise SourceError(
            f"{total.records_in.total():,} records were read, none of them a Patient. "
            "Add the Patient file of the same export to the folder."
        )
    if {kind for kind, _ in total.ignored} <= {"Organization", "Practitioner", "Location", "Medication"} and (
        not total.visit_days
    ):
        raise SourceError(
            f"Only {len(total.patients):,} Patient records and no visit (Encounter) were found. "
            "Add the clinical files of the same export (Encounter, Condition, Observation, …) to the folder."
        )
    return total


def _no_helper(*_task: object) -> Future[Landed]:
    raise AssertionError("nothing is handed to helpers when there are none")


def _landed(
    tasks: list[Task],
    helpers: int,
    submit: Submit,
    key: Key,
    buckets: int,
    workroom: Path,
    aliases: dict[int, int] | None = None,
) -> Iterator[Landed]:
    """Land tasks here and in the `helpers` other processes behind `submit`; gives their results as they come."""
    waiting = deque(tasks)
    running: set[Future[Landed]] = set()
    progress = tqdm(total=len(tasks), desc="reading records", unit="part", disable=None)
    while waiting or running:
        while waiting and len(running) < helpers:
            running.add(submit(waiting.popleft(), key, buckets, workroom, aliases))
        if waiting:  # this process reads too, all the more while the others are starting
            yield land(waiting.popleft(), key, buckets, workroom, aliases)
            progress.update()
        done, running = wait(running, timeout=0 if waiting else None, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
            progress.update()
    progress.close()


def _add(total: Landed, landed: Landed) -> None:
    total.records_in.update(landed.records_in)
    total.ignored.update(landed.ignored)
    total.refused.extend(landed.refused)
    total.deferred += landed.deferred
    total.findings.update(landed.findings)
    total.visit_days.update(landed.visit_days)
    total.aliases.extend(landed.aliases)
    total.medications.extend(landed.medications)
    total.patients.extend(landed.patients)


def _check_shares(
    total: Landed, files: list[SourceFile], settings: StudySettings, key: Key, *, is_last: bool = False
) -> None:
    """Stop for a file of which too much is unreadable; before all is read, only when that is already certain."""
    refused = Counter(file for file, _ in total.refused)
    for number, bad in refused.items():
        if bad <= settings.records.quarantine_records_allowed or not is_last:
            continue
        read = total.records_in[number]
        if bad > settings.records.quarantine_share_limit * read:
            reasons = Counter(one.reason for file, one in total.refused if file == number).most_common(3)
            listed = "; ".join(f"{count:,} x {reason}" for reason, count in reasons)
            raise SourceError(
                f"{bad:,} of the {read:,} records in {_file_name(files[number], key)} cannot be read ({listed}). "
                f"More than {settings.records.quarantine_share_limit:.0%} of a file stops the run. Mend or remove "
                "the file, or raise records.quarantine_share_limit in the study file. The last good state stands."
            )


def _patients(landed: Landed, key: Key) -> pl.DataFrame:
    """subject_id, patient, weeks_us, seconds_us: one row a patient. Stops when two share a pseudonym."""
    patients = (
        pl.DataFrame(landed.patients, schema=vault.PATIENTS, orient="row")
        .unique(["subject_id", "patient"])
        .sort("subject_id", "patient")
    )
    if patients["subject_id"].is_duplicated().any():
        raise SequelaError(
            "Two patients got the same pseudonym with this key, so their records would mix. Choose another key file "
            "(SEQUELA_KEY_FILE) and another --home. The last good state stands."
        )
    return patients


def _aliases_of(landed: Landed, kind: str) -> pl.DataFrame:
    """alias, name: pseudonyms of identifiers and of the ids they stand for; ambiguous ones are left out."""
    schema = {"kind": pl.String, "alias": pl.Int64, "name": pl.Int64}
    aliases = pl.DataFrame(landed.aliases, schema=schema, orient="row").filter(pl.col("kind") == kind).unique()
    return aliases.filter(~pl.col("alias").is_duplicated()).select("alias", "name").sort("alias")


def _medications(landed: Landed) -> pl.DataFrame:
    schema = {"id": pl.Int64, "medicine": pl.String}
    table = pl.DataFrame(landed.medications, schema=schema, orient="row").sort("id", "medicine")
    return table.unique("id", keep="first", maintain_order=True).select(
        placeholder=pl.concat_str(pl.lit(MEDICATION), pl.col("id").cast(pl.String)), medicine="medicine"
    )


def _source_kind(source: Path, findings: Counter[str]) -> str:
    if source.resolve() == example_patients().resolve():
        return "example"
    return "synthea" if findings.get("patients_made_by_synthea") else "fhir"


# Writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Account:
    outcomes: pl.DataFrame
    codes: pl.DataFrame
    splits: pl.DataFrame
    findings: dict[str, int]
    events: int
    digest: str


def _write_dataset(workroom: Path, around: Surroundings, settings: StudySettings, key: Key) -> _Account:
    """Sort each bucket into the dataset's files, one a split; a subject lies in one file."""
    splits = _splits(around.patients, settings, key)
    outcomes, wordings, counts = [], [], []
    findings: Counter[str] = Counter()
    digest = hashlib.sha256()
    events_written = 0
    present = []
    folders = sorted((workroom / "rows").iterdir())
    for number, folder in enumerate(tqdm(folders, desc="sorting timelines", unit="bucket", disable=None)):
        bucket = build_bucket(folder, around)
        shutil.rmtree(folder)
        outcomes.append(bucket.outcomes)
        wordings.append(bucket.wordings)
        findings.update(bucket.findings)
        counts.append(
            bucket.events.group_by("code").agg(
                events=pl.len().cast(pl.Int64), subjects=pl.col("subject_id").n_unique().cast(pl.Int64)
            )
        )
        present.append(bucket.events.select("subject_id").unique())
        for split in ("train", "tuning", "held_out"):
            members = splits.filter(pl.col("split") == split)
            part = bucket.events.join(members, on="subject_id", how="semi", maintain_order="left")
            if part.height:
                path = workroom / "meds" / "data" / split / f"{number}.parquet"
                write_shard(part, path)
                digest.update(path.read_bytes())
                events_written += part.height
    members = pl.concat(present).join(splits, on="subject_id").sort("subject_id")
    return _Account(
        outcomes=pl.concat(outcomes).group_by("kind", "outcome", "reason").agg(pl.col("records").sum()),
        codes=_codes(pl.concat(counts), pl.concat(wordings)),
        splits=checked(members, SubjectSplits),
        findings=dict(findings),
        events=events_written,
        digest=digest.hexdigest()[:16],
    )


def _splits(patients: pl.DataFrame, settings: StudySettings, key: Key) -> pl.DataFrame:
    shares = settings.splits
    drawn = [
        draw_split(key.splits, subject, shares.train, shares.tuning) for subject in patients["subject_id"].to_list()
    ]
    return patients.select("subject_id", split=pl.Series(drawn, dtype=pl.String))


def _codes(counts: pl.DataFrame, wordings: pl.DataFrame) -> pl.DataFrame:
    """The codes table: the commonest wording of each code, cleaned of the invisible characters sources slip in."""
    counts = counts.group_by("code").agg(pl.col("events").sum(), pl.col("subjects").sum())
    described = (
        wordings.drop_nulls("wording")
        .group_by("code", "wording")
        .agg(pl.col("events").sum())
        .sort("code", "events", "wording", descending=[False, True, False])
        .group_by("code", maintain_order=True)
        .agg(
            description=pl.col("wording").first().str.replace_all("\u200b", "").str.strip_chars(),
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


def _file_name(file: SourceFile, key: Key) -> str:
    """A file's own name when it holds only a FHIR type and numbers, else a pseudonym: names name patients."""
    name = file.path.name
    found = _TYPE_IN_FILE_NAME.fullmatch(name)
    if found and file.name == name and found.group(1) in unused_types() | set(load_rules().elements):
        return name
    return label(key.pseudonyms, "file", file.name)


def _quarantine(landed: Landed, names: dict[int, str]) -> pl.DataFrame:
    rows = [(names[file], refused.offset, refused.resource_type, refused.reason) for file, refused in landed.refused]
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


def _write_metadata(workroom: Path, account: _Account, result: IngestResult, inputs: str) -> None:
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
        "dataset_name": "Sequela timelines",
        "dataset_version": result.data_version,
        "etl_name": "sequela",
        "etl_version": VERSION,
        "meds_version": "0.4.1",
        "site_id_columns": ["site_id"],
        "other_extension_columns": [
            name for name in MEDS_TYPES.names if name in ("known_time", "unit", "encounter_id", "record_id")
        ],
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n")
    state = {"inputs": inputs, "result": asdict(result)}
    (workroom / "meds" / _STATE).write_text(json.dumps(state, indent=1) + "\n")


# The home's state ------------------------------------------------------------------------------------------------


def _digest_of_inputs(files: list[SourceFile], settings: StudySettings, key: Key) -> str:
    """Changes when any file, a setting that the ingest uses, the key or the ingest itself changes."""
    digest = hashlib.sha256(f"{VERSION} {settings.records} {settings.splits} {settings.observation.data_end}".encode())
    digest.update(hashlib.sha256(b"sequela" + key.pseudonyms).digest())
    for file in files:
        digest.update(f"\0{file.name}\0{file.size}\0{file.path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()


def _last_result(home: Home, inputs: str) -> IngestResult | None:
    path = home.meds / _STATE
    if not path.exists():
        return None
    state = json.loads(path.read_text())
    if state["inputs"] != inputs:
        return None
    return IngestResult(**{**state["result"], "resumed": True})


def _publish(workroom: Path, home: Home) -> None:
    """Move the new state into place. Each move is atomic; `_heal` completes what a kill between two leaves."""
    home.tables.mkdir(parents=True, exist_ok=True)
    for table in (workroom / "tables").iterdir():
        os.replace(table, home.tables / table.name)
    for new, present in ((workroom / "vault", home.vault), (workroom / "meds", home.meds)):
        old = present.with_name(f".{present.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if present.exists():
            os.replace(present, old)
        os.replace(new, present)
        shutil.rmtree(old, ignore_errors=True)


def _heal(home: Home) -> None:
    """Put back what a killed run had set aside, and clear away what it left half made."""
    for present in (home.vault, home.meds):
        old = present.with_name(f".{present.name}.old")
        if old.exists() and not present.exists():
            os.replace(old, present)
        shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(home.path / _WORKROOM, ignore_errors=True)


@contextmanager
def _alone_in(home: Home) -> Iterator[None]:
    """Hold the home's lock while reading into it. Raises SequelaError when another run does."""
    home.path.mkdir(parents=True, exist_ok=True)
    with (home.path / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SequelaError(
                f"Another run is reading records into {home.path}. Wait for it, or choose another --home."
            ) from None
        yield
