"""One task of the reading: from files, or a part of one, to de-identified rows on disk.

A task's rows land in one folder a bucket of subjects, so that `features/timelines.py` can sort a bucket at a time.
"""

import gc
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import polars as pl

from features.privacy import vault
from features.privacy.keys import Key
from features.privacy.rules import load_rules
from features.records.blocks import Block, Refused
from features.records.events import read_record, subject_reference
from features.records.frames import frames_of
from features.records.plain_records import add_plain_records
from features.records.reading import SourceFile, read_records
from features.records.references import identifier_in
from features.records.resources import Resource, unused_types
from features.records.rows import Deferred, Rows, Unreadable

_BYTES_HELD = 48_000_000  # of text, after which rows go to disk; bounds a process's memory
_LARGE_BYTES = {"plain": 16_000_000, "gzip": 1_000_000, "zstd": 1_000_000}
_MOST_PARTS = 8  # every part decompresses the whole file, which is cheap beside reading it, but not free
_BATCH_BYTES = {"plain": 32_000_000, "gzip": 2_000_000, "zstd": 2_000_000}

_ALIASES = "aliases"
ALIAS = {"alias": pl.Int64, "name": pl.Int64}

NOT_USED = "resource type not used"


@dataclass(frozen=True)
class Task:
    """Files to read in one go, or part k of n of a large one."""

    number: int
    files: tuple[SourceFile, ...]
    part: int
    parts: int


@dataclass
class Landed:
    """What a task did: where its rows lie, and what became of the records that gave none."""

    records_in: Counter[int] = field(default_factory=Counter)  # by file number
    ignored: Counter[tuple[str, str]] = field(default_factory=Counter)  # by resource type and reason
    refused: list[tuple[int, Refused]] = field(default_factory=list)  # with the file's number
    deferred: int = 0
    findings: Counter[str] = field(default_factory=Counter)
    visit_days: Counter[int] = field(default_factory=Counter)
    site_aliases: list[tuple[int, int]] = field(default_factory=list)  # pseudonyms of an identifier and of the id
    medications: list[tuple[int, str]] = field(default_factory=list)
    patients: list[pl.DataFrame] = field(default_factory=list)  # the columns of vault.PATIENTS


def plan_tasks(files: list[SourceFile], processes: int) -> list[Task]:
    """Divide the reading: large files of lines into parts, small files into batches; the largest first."""
    tasks: list[tuple[float, tuple[SourceFile, ...], int, int]] = []
    batch: list[SourceFile] = []
    filled = 0.0
    for file in files:
        if processes > 1 and file.shape == "lines" and file.size > _LARGE_BYTES[file.compression]:
            parts = min(2 * processes, _MOST_PARTS)
            tasks.extend((file.size / parts, (file,), part, parts) for part in range(parts))
            continue
        batch.append(file)
        filled += file.size / _BATCH_BYTES[file.compression]
        if filled >= 1:
            tasks.append((sum(one.size for one in batch), tuple(batch), 0, 1))
            batch, filled = [], 0.0
    if batch:
        tasks.append((sum(one.size for one in batch), tuple(batch), 0, 1))
    tasks.sort(key=lambda task: -task[0])
    return [Task(number, files, part, parts) for number, (_, files, part, parts) in enumerate(tasks)]


def land(task: Task, key: Key, buckets: int, folder: Path, aliases: dict[int, int] | None = None) -> Landed:
    """Read a task's records and land their rows below `folder`; with `aliases`, only those deferred before.

    Writes events and records to `folder/rows/<bucket>/`, and the way back to `folder/vault/`.
    """
    gc.disable()  # a task makes millions of small tuples and no cycles; looking for some costs a tenth of the time
    try:
        return _land(task, key, buckets, folder, aliases)
    finally:
        gc.enable()


def _land(task: Task, key: Key, buckets: int, folder: Path, aliases: dict[int, int] | None) -> Landed:
    landed = Landed()
    rules = load_rules()
    name = f"{task.number:06d}{'b' if aliases else 'a'}"
    rows, held, flushes = Rows(key, rules, aliases), 0, 0
    for file in task.files:
        rows.file = file.number
        for size, blocks in read_records(file, task.part, task.parts):
            for block in blocks:
                _read_block(block, rows, landed)
            held += size
            if held >= _BYTES_HELD:
                _flush(rows, landed, buckets, folder, f"{name}-{flushes:04d}")
                rows, held, flushes = Rows(key, rules, aliases), 0, flushes + 1
                rows.file = file.number
    _flush(rows, landed, buckets, folder, f"{name}-{flushes:04d}")
    return landed


def _read_block(block: Block, rows: Rows, landed: Landed) -> None:
    """Read a block's records into `rows`. A second round, with aliases, reads only what the first deferred."""
    is_second_round = rows.aliases is not None
    if block.names or rows.names:
        rows.forget_references()
    rows.names = block.names
    if not is_second_round:
        landed.refused.extend((rows.file, refused) for refused in block.refused)
        landed.records_in[rows.file] += len(block.records) + len(block.refused)
    left = range(len(block.records)) if is_second_round else add_plain_records(block.records, block.positions, rows)
    for number in left:
        kind = type(block.records[number]).__name__
        if kind in unused_types():
            if not is_second_round:
                landed.ignored[kind, NOT_USED] += 1
            continue
        try:
            resource = block.whole(number)
            if is_second_round and not _was_deferred(resource):
                continue
            reason = read_record(resource, block.positions[number], rows)
        except Deferred:
            landed.deferred += 1
        except (Unreadable, msgspec.MsgspecError) as problem:
            if not is_second_round or isinstance(problem, Unreadable):
                landed.refused.append((rows.file, block.refusal(number, problem)))
        else:
            if reason is not None:
                landed.ignored[kind, reason] += 1


def _was_deferred(resource: Resource) -> bool:
    reference = subject_reference(resource, type(resource).__name__)
    return reference is not None and identifier_in(reference.reference or "") is not None


def patient_aliases(folder: Path) -> pl.DataFrame:
    """alias, name: pseudonyms of patients' identifiers and ids, as `land` wrote them below `folder`."""
    files = sorted((folder / _ALIASES).glob("*.arrow"))
    return pl.concat([pl.read_ipc(file) for file in files]) if files else pl.DataFrame(schema=ALIAS)


def _flush(rows: Rows, landed: Landed, buckets: int, folder: Path, name: str) -> None:
    landed.visit_days.update(rows.visit_days)
    landed.site_aliases.extend(rows.site_aliases)
    landed.medications.extend(rows.medications)
    if rows.patients:
        landed.patients.append(pl.DataFrame(rows.patients, schema=vault.PATIENTS, orient="row"))
    if rows.patient_aliases:
        path = folder / _ALIASES / f"{name}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows.patient_aliases, schema=ALIAS, orient="row").write_ipc(path)
    if not rows.records:
        landed.findings.update(rows.findings)
        return
    records, events = frames_of(rows)
    vault.seal(
        rows.key,
        records.select("record_id", resource_type="kind", resource="resource"),
        folder / "vault" / f"records-{name}.vault",
    )
    landed.findings.update(rows.findings)
    # Rows of a record lie with its subject, so that a bucket can be sorted without looking at any other.
    for kind, table in (("events", events), ("records", records.drop("resource"))):
        for bucket in range(buckets):
            part = table.filter(pl.col("subject_id") % buckets == bucket) if buckets > 1 else table
            path = folder / "rows" / f"{bucket:05d}" / f"{name}.{kind}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_ipc(path, compression="uncompressed")
