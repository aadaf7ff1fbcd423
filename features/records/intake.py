"""All files of a source, read by this process and others beside it."""

import os
import re
from collections import Counter
from pathlib import Path

import polars as pl

from features.errors import SourceError
from features.privacy.keys import Key
from features.privacy.pseudonyms import label
from features.privacy.rules import load_rules
from features.processes import Spread
from features.records.landing import Landed, land, patient_aliases, plan_tasks
from features.records.reading import SourceFile
from features.records.resources import unused_types
from features.settings import RecordSettings

_FEW_BYTES = 3_000_000  # compressed or not: below this, starting processes costs more than it saves
_TYPE_IN_FILE_NAME = re.compile(r"([A-Za-z]+)(?:[.\-_]\d+)*\.(?:nd)?jsonl?(?:\.gz|\.zst)?")


def processes_for(files: list[SourceFile], asked_for: int | None) -> int:
    """How many processes to work with; few bytes are not worth starting others for."""
    few = sum(file.size for file in files) < _FEW_BYTES
    return asked_for or (1 if few else os.cpu_count() or 1)


def land_all(
    files: list[SourceFile],
    processes: int,
    spread: Spread,
    key: Key,
    buckets: int,
    workroom: Path,
    settings: RecordSettings,
) -> Landed:
    """Read all files; then, knowing all patients, the records that name theirs by an identifier."""
    tasks = plan_tasks(files, processes)
    total = Landed()
    pieces = [(task, key, buckets, workroom) for task in tasks]
    for landed in spread(land, pieces, "reading records", "part"):
        _add(total, landed)
        _check_shares(total, files, settings, key)
    if total.deferred:
        aliases = dict(unambiguous(patient_aliases(workroom)).iter_rows())
        for landed in spread(land, [(*piece, aliases) for piece in pieces], "reading the deferred", "part"):
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
        patients = sum(table.height for table in total.patients)
        raise SourceError(
            f"Only {patients:,} Patient records and no visit (Encounter) were found. "
            "Add the clinical files of the same export (Encounter, Condition, Observation, …) to the folder."
        )
    return total


def _add(total: Landed, landed: Landed) -> None:
    total.records_in.update(landed.records_in)
    total.ignored.update(landed.ignored)
    total.refused.extend(landed.refused)
    total.deferred += landed.deferred
    total.findings.update(landed.findings)
    total.visit_days.update(landed.visit_days)
    total.site_aliases.extend(landed.site_aliases)
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


def unambiguous(aliases: pl.DataFrame) -> pl.DataFrame:
    """alias, name: pseudonyms of identifiers and of the ids they stand for; ambiguous ones are left out."""
    aliases = aliases.unique()
    return aliases.filter(~pl.col("alias").is_duplicated()).sort("alias")


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
