"""One task of the reading: from files, or a part of one, to de-identified rows on disk.

A task's rows land, sealed, in one folder a bucket of subjects, so that a bucket can be put in order at a time.
"""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import polars as pl

from features.privacy.keys import Key
from features.privacy.rules import load_rules
from features.privacy.vault import seal_tables
from features.records.blocks import Block
from features.records.contents import CONTENTS, contents_of
from features.records.events import read_record, subject_reference
from features.records.facts import Facts, FactTables, tables_of
from features.records.frames import frames_of
from features.records.plain_records import add_plain_records
from features.records.quarantine import NOT_DECODED
from features.records.reading import SourceFile, Stretch, blocks_of, read_stretches
from features.records.references import identifier_in
from features.records.resources import Resource, unused_types
from features.records.rows import Deferred, Rows, Unreadable

_BYTES_HELD = 48_000_000  # of text, after which rows go to disk; bounds a process's memory
_LARGE_BYTES = {"plain": 16_000_000, "gzip": 1_000_000, "zstd": 1_000_000}
_MOST_PARTS = 8  # every part decompresses the whole file, which is cheap beside reading it, but not free
_BATCH_BYTES = {"plain": 32_000_000, "gzip": 2_000_000, "zstd": 2_000_000}

_STRETCHES_HASHED = 16
_OWNERS = "owners"

NOT_USED = "resource type not used"

# Where a stretch lies (`file` is the file's number, `nth` and `offset` its place in the file), and what it says.
FOUND = {"file": pl.Int64, "nth": pl.Int64, "offset": pl.Int64} | CONTENTS
STRETCH = {"stretch": pl.Int64} | FOUND | {"records_in": pl.Int64, "deferred": pl.Int64}


@dataclass(frozen=True)
class Task:
    """Files to read in one go, or part k of n of a large one.

    `wanted` are the stretches to read, by the file's number and theirs in it; None for all. `generation` counts the
    readings into a home, so that each stretch gets a number of its own.
    """

    number: int
    files: tuple[SourceFile, ...]
    part: int
    parts: int
    generation: int = 0
    wanted: Mapping[int, frozenset[int]] | None = None


@dataclass(frozen=True)
class Landed:
    """What a task read: the stretches (STRETCH) and the facts about them; the rows lie on disk."""

    stretches: pl.DataFrame
    facts: FactTables


def plan_tasks(
    files: list[SourceFile],
    processes: int,
    generation: int = 0,
    wanted: pl.DataFrame | None = None,
    first_number: int = 0,
) -> list[Task]:
    """Divide the reading: large files of lines into parts, small files into batches; the largest first.

    `wanted` has a row, file and nth, for each stretch to read; without it all are. Tasks are numbered from
    `first_number` on.
    """
    wanted_of: dict[int, frozenset[int]] | None = None
    if wanted is not None:
        wanted_of = {file: frozenset(found) for file, found in wanted.group_by("file").agg("nth").iter_rows()}
        files = [file for file in files if file.number in wanted_of]
    tasks: list[tuple[float, Task]] = []
    batch: list[SourceFile] = []
    filled = 0.0
    for file in files:
        if processes > 1 and file.shape == "lines" and file.size > _LARGE_BYTES[file.compression]:
            parts = min(2 * processes, _MOST_PARTS)
            tasks.extend((file.size / parts, Task(0, (file,), part, parts)) for part in range(parts))
            continue
        batch.append(file)
        filled += file.size / _BATCH_BYTES[file.compression]
        if filled >= 1:
            tasks.append((sum(one.size for one in batch), Task(0, tuple(batch), 0, 1)))
            batch, filled = [], 0.0
    if batch:
        tasks.append((sum(one.size for one in batch), Task(0, tuple(batch), 0, 1)))
    tasks.sort(key=lambda task: -task[0])
    return [
        replace(
            task,
            number=number,
            generation=generation,
            wanted=None if wanted_of is None else {file.number: wanted_of[file.number] for file in task.files},
        )
        for number, (_, task) in enumerate(tasks, first_number)
    ]


def scan(task: Task, key: Key) -> pl.DataFrame:
    """What a task's files say, without reading it: FOUND, a row a stretch."""
    found = [
        (file.number, stretch.nth, stretch.offset, *contents)
        for file in task.files
        for some in _by_some(read_stretches(file, task.part, task.parts))
        for stretch, contents in zip(some, contents_of(key, file, some), strict=True)
    ]
    return pl.DataFrame(found, schema=FOUND, orient="row")


def land(task: Task, key: Key, buckets: int, folder: Path, aliases: dict[int, int] | None = None) -> Landed:
    """Read a task's records and land their rows, sealed, in `folder/<bucket>/`.

    With `aliases`, which tell the patients meant by identifiers, only the records that were deferred before.
    """
    gc.disable()  # a task makes millions of small tuples and no cycles; looking for some costs a tenth of the time
    try:
        return _land(task, key, buckets, folder, aliases)
    finally:
        gc.enable()


def _land(task: Task, key: Key, buckets: int, folder: Path, aliases: dict[int, int] | None) -> Landed:
    rules = load_rules()
    is_second_round = aliases is not None
    name = f"{task.generation}-{task.number:06d}{'b' if is_second_round else 'a'}"
    rows, held, flushes = Rows(key, rules, aliases), 0, 0
    places: list[tuple] = []
    read: list[Facts] = []
    for file in task.files:
        wanted = None if task.wanted is None else task.wanted[file.number]
        for some in _by_some(read_stretches(file, task.part, task.parts, wanted)):
            contents = [None] * len(some) if is_second_round else contents_of(key, file, some)
            for stretch, said in zip(some, contents, strict=True):
                facts = Facts(number_of(task.generation, file.number, stretch.nth))
                rows.begin_stretch(facts)
                for block in blocks_of(file, stretch):
                    _read_block(block, rows)
                read.append(facts)
                if said is not None:
                    place = (facts.stretch, file.number, stretch.nth, stretch.offset)
                    places.append((*place, *said, facts.records_in, facts.deferred))
                held += len(stretch.text)
            if held >= _BYTES_HELD:
                _flush(rows, buckets, folder, f"{name}-{flushes:04d}")
                rows, held, flushes = Rows(key, rules, aliases), 0, flushes + 1
    _flush(rows, buckets, folder, f"{name}-{flushes:04d}")
    return Landed(pl.DataFrame(places, schema=STRETCH, orient="row"), tables_of(read))


def _by_some(stretches: Iterator[Stretch]) -> Iterator[list[Stretch]]:
    """A few at a time: what is hashed together is hashed sooner."""
    while some := list(islice(stretches, _STRETCHES_HASHED)):
        yield some


def number_of(generation: int, file: int, nth: int) -> int:
    """The number of a stretch, its own for ever: 15 bits of the generation, 24 of the file, 24 of its place."""
    return generation << 48 | file << 24 | nth


def _read_block(block: Block, rows: Rows) -> None:
    """Read a block's records into `rows`. A second round, with aliases, reads only what the first deferred."""
    is_second_round = rows.aliases is not None
    facts = rows.facts
    if block.names or rows.names:
        rows.forget_references()
    rows.names = block.names
    if not is_second_round:
        _note_beside_records(block, rows)
    left = range(len(block.records)) if is_second_round else add_plain_records(block.records, block.positions, rows)
    for number in left:
        kind = type(block.records[number]).__name__
        if kind in unused_types():
            if not is_second_round:
                facts.ignored[kind, NOT_USED] += 1
            continue
        try:
            resource = block.whole(number)
            if is_second_round and not _was_deferred(resource):
                continue
            reason = read_record(resource, block.positions[number], rows)
        except Deferred:
            facts.deferred += 1
        except (Unreadable, *NOT_DECODED) as problem:
            if not is_second_round or isinstance(problem, Unreadable):
                facts.refused.append(block.refusal(number, problem))
        else:
            if reason is not None:
                facts.ignored[kind, reason] += 1


def _note_beside_records(block: Block, rows: Rows) -> None:
    rows.facts.refused.extend(block.refused)
    rows.facts.records_in += len(block.records) + len(block.refused)
    for url in block.deleted:
        rows.withdraw(url)
    if block.empty:
        rows.note("entries_without_resource", block.empty)


def _was_deferred(resource: Resource) -> bool:
    reference = subject_reference(resource, type(resource).__name__)
    return reference is not None and identifier_in(reference.reference or "") is not None


def _flush(rows: Rows, buckets: int, folder: Path, name: str) -> None:
    if not rows.records:
        return
    records, events = frames_of(rows)
    owners = folder / _OWNERS / f"{name}.arrow"
    owners.parent.mkdir(parents=True, exist_ok=True)
    records.select("record_id", "subject_id").write_ipc(owners)
    # Rows of a record lie with its subject, so that a bucket can be sorted without looking at any other.
    for kind, table in (("records", records), ("events", events)):
        parts = table.with_columns(bucket=pl.col("subject_id") % buckets).partition_by("bucket", as_dict=True)
        for (bucket,), part in parts.items():
            path = folder / f"{bucket:05d}" / f"{name}.{kind}.vault"
            seal_tables(rows.key, {kind: part.drop("bucket")}, path, is_passing=True)


def landed_owners(folder: Path) -> pl.DataFrame:
    """record_id, subject_id: whose the records are that landed in `folder`."""
    none = pl.DataFrame(schema={"record_id": pl.Int64, "subject_id": pl.Int64})
    return pl.concat([none, *(pl.read_ipc(path) for path in sorted((folder / _OWNERS).glob("*.arrow")))])
