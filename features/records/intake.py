"""All files of a source, read by this process and others beside it."""

import os
import re
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import nullcontext
from pathlib import Path

import polars as pl
from tqdm import tqdm

from features.errors import SourceError
from features.privacy.keys import Key
from features.privacy.pseudonyms import label
from features.privacy.rules import load_rules
from features.records.landing import Landed, Task, land, plan_tasks
from features.records.readers import Submit, readers
from features.records.reading import SourceFile
from features.records.resources import unused_types
from features.settings import RecordSettings

_FEW_BYTES = 3_000_000  # compressed or not: below this, starting processes costs more than it saves
_TYPE_IN_FILE_NAME = re.compile(r"([A-Za-z]+)(?:[.\-_]\d+)*\.(?:nd)?jsonl?(?:\.gz|\.zst)?")


def land_all(
    files: list[SourceFile], processes: int | None, key: Key, buckets: int, workroom: Path, settings: RecordSettings
) -> Landed:
    """Read all files; then, knowing all patients, the records that name theirs by an identifier."""
    few = sum(file.size for file in files) < _FEW_BYTES
    workers = processes or (1 if few else os.cpu_count() or 1)
    tasks = plan_tasks(files, workers)
    total = Landed()
    helpers = min(workers, len(tasks)) - 1
    with readers(helpers) if helpers else nullcontext(_no_helper) as submit:
        for landed in _landed(tasks, helpers, submit, key, buckets, workroom):
            _add(total, landed)
            _check_shares(total, files, settings, key)
        if total.deferred:
            aliases = dict(aliases_of(total, "Patient").select("alias", "name").iter_rows())
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
        while waiting and len(running) < 2 * helpers:  # one at work and one at hand for each
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
    total: Landed, files: list[SourceFile], settings: RecordSettings, key: Key, *, is_last: bool = False
) -> None:
    """Stop for a file of which too much is unreadable; before all is read, only when that is already certain."""
    refused = Counter(file for file, _ in total.refused)
    for number, bad in refused.items():
        if bad <= settings.quarantine_records_allowed or not is_last:
            continue
        read = total.records_in[number]
        if bad > settings.quarantine_share_limit * read:
            reasons = Counter(one.reason for file, one in total.refused if file == number).most_common(3)
            listed = "; ".join(f"{count:,} x {reason}" for reason, count in reasons)
            raise SourceError(
                f"{bad:,} of the {read:,} records in {shown_name(files[number], key)} cannot be read ({listed}). "
                f"More than {settings.quarantine_share_limit:.0%} of a file stops the run. Mend or remove "
                "the file, or raise records.quarantine_share_limit in the study file. The last good state stands."
            )


def aliases_of(landed: Landed, kind: str) -> pl.DataFrame:
    """alias, name: pseudonyms of identifiers and of the ids they stand for; ambiguous ones are left out."""
    schema = {"kind": pl.String, "alias": pl.Int64, "name": pl.Int64}
    aliases = pl.DataFrame(landed.aliases, schema=schema, orient="row").filter(pl.col("kind") == kind).unique()
    return aliases.filter(~pl.col("alias").is_duplicated()).select("alias", "name").sort("alias")


def shown_name(file: SourceFile, key: Key) -> str:
    """A file's own name when it holds only a FHIR type and numbers, else a pseudonym: names name patients."""
    name = file.path.name
    found = _TYPE_IN_FILE_NAME.fullmatch(name)
    if found and file.name == name and found.group(1) in unused_types() | set(load_rules().elements):
        return name
    return label(key.pseudonyms, "file", file.name)


def type_in_name(shown: str) -> str | None:
    """The FHIR type that a file's name states, as `shown_name` gives it; null for a pseudonym."""
    found = _TYPE_IN_FILE_NAME.fullmatch(shown)
    return found.group(1) if found else None
