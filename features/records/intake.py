"""All files of a source, read by this process and others beside it."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from features.counted import counted
from features.errors import SourceError
from features.privacy.keys import Key
from features.privacy.pseudonyms import label
from features.processes import Spread, alone
from features.records.facts import joined
from features.records.landing import FOUND, Task, land, number_of, plan_tasks, scan
from features.records.reading import LEAST_BYTES, SourceFile
from features.records.resources import known_types
from features.records.standing import Standing, only, unambiguous, without_erased
from features.settings import RecordSettings

_FEW_BYTES = 3_000_000  # compressed or not: below this, starting processes costs more than it saves
_LITTLE_TEXT = (
    30_000_000  # bytes; the same for the news of a source that is known already, and ten times to look for it
)
_TEXT_BYTES = {"plain": 1, "gzip": 13, "zstd": 16}  # of text in a byte of a file, roughly
_MOST_FILES_TOLD = 3
_TYPE_IN_FILE_NAME = re.compile(r"([A-Za-z]+)(?:[.\-_]\d+)*\.(?:nd)?jsonl?(?:\.gz|\.zst)?")


def processes_for(files: list[SourceFile], asked_for: int | None) -> int:
    """How many processes to work with; few bytes are not worth starting others for."""
    few = sum(file.size for file in files) < _FEW_BYTES
    return asked_for or (1 if few else os.cpu_count() or 1)


@dataclass
class Intake:
    """Reads what is wanted of a source, adds it to what is known, and counts its tasks."""

    files: list[SourceFile]
    processes: int
    spread: Spread
    key: Key
    buckets: int
    folder: Path  # where the rows land, one folder a bucket
    generation: int = 0
    tasks: int = 0

    def scan(self, files: list[SourceFile]) -> pl.DataFrame:
        """What some of the files say, without reading it: landing.FOUND."""
        spread, processes = self._team(sum(file.size * _TEXT_BYTES[file.compression] for file in files) // 10)
        pieces = [(task, self.key) for task in plan_tasks(files, processes)]
        found = list(spread(scan, pieces, "looking for what is new", "part"))
        return pl.concat([pl.DataFrame(schema=FOUND), *found])

    def read(self, standing: Standing, wanted: pl.DataFrame | None) -> Standing:
        """Add the wanted stretches (file, nth; None for all) to `standing`, but for the records they defer."""
        spread, tasks = self._plan(wanted)
        pieces = [(task, self.key, self.buckets, self.folder) for task in tasks]
        landed = list(spread(land, pieces, "reading records", "part"))
        return replace(
            standing,
            stretches=pl.concat([standing.stretches, *(one.stretches for one in landed)]),
            facts=joined([standing.facts, *(one.facts for one in landed)]),
        )

    def read_deferred(self, standing: Standing, wanted: pl.DataFrame, aliases: dict[int, int]) -> Standing:
        """Add what the wanted stretches deferred, now that `aliases` tell the patients meant by identifiers."""
        spread, tasks = self._plan(wanted)
        pieces = [(task, self.key, self.buckets, self.folder, aliases) for task in tasks]
        landed = list(spread(land, pieces, "reading the deferred", "part"))
        return replace(standing, facts=joined([standing.facts, *(one.facts for one in landed)]))

    def _plan(self, wanted: pl.DataFrame | None) -> tuple[Spread, list[Task]]:
        spread, processes = (self.spread, self.processes) if wanted is None else self._team(wanted.height * LEAST_BYTES)
        planned = plan_tasks(self.files, processes, self.generation, wanted, self.tasks)
        self.tasks += len(planned)
        return spread, planned

    def _team(self, text_bytes: int) -> tuple[Spread, int]:
        return (alone, 1) if text_bytes < _LITTLE_TEXT else (self.spread, self.processes)


def take_in(
    intake: Intake,
    known: Standing,
    wanted: pl.DataFrame | None = None,
    half_known: Callable[[Standing], pl.DataFrame] = lambda _: pl.DataFrame(schema={"stretch": pl.Int64}),
) -> Standing:
    """Read the wanted stretches (file, nth; None for all), and those known ones of which they change the meaning.

    `half_known` tells (stretch) of which known ones not everything was kept that is now needed. Records that name
    their patient by an identifier are read last, once all patients are known.
    """
    standing = intake.read(known, wanted)
    while True:
        aliases = unambiguous(without_erased(standing).facts["patient_aliases"])
        again = standing.stretches.join(
            pl.concat([_misunderstood(standing, aliases), half_known(standing)]), on="stretch", how="semi"
        )
        if again.is_empty():
            break
        others = only(standing, standing.stretches.join(again, on="stretch", how="anti"))
        standing = intake.read(others, again.select("file", "nth"))
    is_new = pl.col("stretch") >= number_of(intake.generation, 0, 0)
    deferred = standing.stretches.filter(is_new & (pl.col("deferred") > 0))
    if deferred.is_empty():
        return standing
    return intake.read_deferred(standing, deferred.select("file", "nth"), dict(aliases.iter_rows()))


def _misunderstood(standing: Standing, aliases: pl.DataFrame) -> pl.DataFrame:
    """The stretches (stretch) with identifiers of patients that mean something else now."""
    asked = standing.facts["asked"].join(aliases.rename({"name": "now"}), on="alias", how="left")
    return asked.filter(pl.col("name").ne_missing(pl.col("now"))).select("stretch").unique()


def check_usable(standing: Standing, settings: RecordSettings, names: Mapping[int, str], other_files: int) -> None:
    """Raise SourceError when too much of a file cannot be read, and when there is no patient, or no visit with a date.

    `names` are those under which files are shown; `other_files` (their number) hold no FHIR.
    """
    _check_shares(standing, settings, names)
    patients = standing.facts["patients"].height
    if patients and standing.facts["visit_days"].height:
        return
    lacking = (
        f"No visit (Encounter) with a date was found for {counted(patients, 'Patient record')}. Add the clinical files"
        if patients
        else f"No Patient was found in {counted(len(names), 'file')}. Add the Patient file"
    )
    raise SourceError(f"{lacking} of the same export to the folder.{_left_out(standing, names, other_files)}")


def _left_out(standing: Standing, names: Mapping[int, str], other_files: int) -> str:
    """What could not be read, and why. Told in the message, as a run that is stopped leaves no quarantine behind."""
    said = f" {counted(other_files, 'other file')} without JSON of FHIR resources." if other_files else ""
    refused = standing.facts["refused"].join(standing.stretches.select("stretch", "file"), on="stretch")
    if refused.is_empty():
        return said
    of_files = [
        f"{_place(file, names)}: {_reasons(own)}"
        for (file,), own in refused.sort("file").group_by("file", maintain_order=True)
    ]
    more = f"; and {counted(len(of_files) - _MOST_FILES_TOLD, 'more file')}" if len(of_files) > _MOST_FILES_TOLD else ""
    return (
        f" {counted(refused.height, 'record')} in {counted(len(of_files), 'file')} could not be read: "
        f"{'; '.join(of_files[:_MOST_FILES_TOLD])}{more}.{said}"
    )


def _check_shares(standing: Standing, settings: RecordSettings, names: Mapping[int, str]) -> None:
    of_file = standing.stretches.select("stretch", "file")
    refused = standing.facts["refused"].join(of_file, on="stretch")
    read = dict(standing.stretches.group_by("file").agg(pl.col("records_in").sum()).iter_rows())
    for file, bad in refused.group_by("file").len().sort("file").iter_rows():
        if bad <= settings.quarantine_records_allowed or bad <= settings.quarantine_share_limit * read[file]:
            continue
        reasons = _reasons(refused.filter(pl.col("file") == file))
        raise SourceError(
            f"{bad:,} of the {read[file]:,} records in {_place(file, names)} cannot be read ({reasons}). "
            f"More than {settings.quarantine_share_limit:.0%} of a file stops the run. Mend or remove "
            "the file, or raise records.quarantine_share_limit in the study file. The last good state stands."
        )


def _place(file: int, names: Mapping[int, str]) -> str:
    """A file, found again by its place among those with FHIR where its own name may not be told."""
    return f"{names[file]} (no. {file + 1:,} of {len(names):,} by path)"


def _reasons(refused: pl.DataFrame) -> str:
    return ", ".join(f"{count:,} x {reason}" for reason, count in Counter(refused["reason"]).most_common(3))


def shown_name(file: SourceFile, key: Key) -> str:
    """A file's own name when it holds only a FHIR type and numbers, else a pseudonym: names name patients."""
    name = file.path.name
    found = _TYPE_IN_FILE_NAME.fullmatch(name)
    if found and file.name == name and found.group(1) in known_types():
        return name
    return label(key.pseudonyms, "file", file.name)


def type_in_name(shown: str) -> str | None:
    """The FHIR type that a file's name states, as `shown_name` gives it; null for a pseudonym."""
    found = _TYPE_IN_FILE_NAME.fullmatch(shown)
    return found.group(1) if found else None
