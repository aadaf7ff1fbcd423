"""One task of the reading: from files, or a part of one, to de-identified rows on disk.

A task's rows land in one folder a bucket of subjects, so that `features/timelines.py` can sort a bucket at a time.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from features.privacy import vault
from features.privacy.keys import Key
from features.privacy.rules import load_rules
from features.records.events import read_record
from features.records.reading import Read, Refused, SourceFile, read_records
from features.records.rows import Deferred, Rows, Unreadable
from features.records.units import harmonise

_BLOCKS_HELD = 12  # blocks of text after which rows go to disk; bounds a process's memory
_LARGE_BYTES = {"plain": 16_000_000, "gzip": 1_000_000, "zstd": 1_000_000}
_BATCH_BYTES = {"plain": 32_000_000, "gzip": 2_000_000, "zstd": 2_000_000}

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
    aliases: list[tuple[str, int, int]] = field(default_factory=list)
    medications: list[tuple[int, str]] = field(default_factory=list)
    patients: list[tuple[int, str, int, int]] = field(default_factory=list)


def plan_tasks(files: list[SourceFile], processes: int) -> list[Task]:
    """Divide the reading: large files of lines into parts, small files into batches; the largest first."""
    tasks: list[tuple[float, tuple[SourceFile, ...], int, int]] = []
    batch: list[SourceFile] = []
    filled = 0.0
    for file in files:
        if processes > 1 and file.shape == "lines" and file.size > _LARGE_BYTES[file.compression]:
            tasks.extend((file.size / processes, (file,), part, processes) for part in range(processes))
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
    landed = Landed()
    rules = load_rules()
    name = f"{task.number:06d}{'b' if aliases else 'a'}"
    flushes = 0
    for file in task.files:
        rows = Rows(key, rules, aliases)
        held = 0
        for block in read_records(file, task.part, task.parts):
            _read_block(block, file.number, rows, landed)
            held += 1
            if held == _BLOCKS_HELD:
                _flush(rows, file.number, landed, buckets, folder, f"{name}-{flushes:04d}")
                rows, held, flushes = Rows(key, rules, aliases), 0, flushes + 1
        _flush(rows, file.number, landed, buckets, folder, f"{name}-{flushes:04d}")
        flushes += 1
    return landed


def _read_block(block: list[Read | Refused], file: int, rows: Rows, landed: Landed) -> None:
    is_second_round = rows.aliases is not None
    for found in block:
        if isinstance(found, Refused):
            if not is_second_round:
                landed.refused.append((file, found))
            continue
        if found.resource is None:
            if not is_second_round:
                landed.ignored[found.unused, NOT_USED] += 1
            continue
        if is_second_round and not rows.names_by_identifier(found.resource):
            continue
        rows.names = found.names
        before = rows.size()
        try:
            reason = read_record(found.resource, found.position, rows)
        except Deferred:
            landed.deferred += 1
        except Unreadable as problem:
            rows.cut_back(before)
            kind = type(found.resource).__name__
            landed.refused.append((file, Refused(found.position, kind, str(problem))))
        else:
            if reason is not None and not rows.is_retired():
                rows.cut_back(before)
                landed.ignored[type(found.resource).__name__, reason] += 1
    if not is_second_round:
        landed.records_in[file] += len(block)


def _flush(rows: Rows, file: int, landed: Landed, buckets: int, folder: Path, name: str) -> None:
    landed.findings.update(rows.findings)
    landed.visit_days.update(rows.visit_days)
    landed.aliases.extend(rows.found_aliases)
    landed.medications.extend(rows.medications)
    landed.patients.extend(rows.patients)
    records = rows.records_frame(file)
    if records.is_empty():
        return
    events, counts = harmonise(rows.events_frame())
    landed.findings.update(counts)
    vault.seal(
        rows.key,
        records.select("record_id", resource_type="kind", resource="resource").unique("record_id"),
        folder / "vault" / f"records-{name}.vault",
    )
    records = records.drop("resource").with_columns(bucket=(pl.col("subject_id") % buckets).cast(pl.Int32))
    # Rows of a record lie with its subject, so that a bucket can be sorted without looking at any other.
    events = events.with_columns(
        records.select("subject_id", "record_id", "file", "position", "bucket")[events["record"]]
    ).drop("record")
    for kind, table in (("events", events), ("records", records)):
        for (bucket,), part in table.partition_by("bucket", as_dict=True, include_key=False).items():
            path = folder / "rows" / f"{bucket:05d}" / f"{name}.{kind}.arrow"
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_ipc(path, compression="uncompressed")
