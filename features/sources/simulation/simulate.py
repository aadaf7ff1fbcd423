"""Simulate a population into a folder of FHIR R4: block by block, by several processes, in memory that does not grow."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from threadpoolctl import threadpool_limits

from features.errors import SourceError
from features.processes import workers
from features.sources.landed import LandedFile, Manifest, landed_file
from features.sources.simulation.lives import BLOCK, live
from features.sources.simulation.record import DAY_MINUTES, Recorder
from features.sources.simulation.world import World, load_world
from features.sources.simulation.writing import SHAPES, Texts, person_uuid, shared_resources, write_block

VERSION = "2"  # raise it when the same seed gives other records
_MOST_PARTS = 32  # files of a type
_REFERENCE = re.compile(r'"reference":"([A-Za-z]+)/([^"]+)"')
Format = Literal["ndjson", "bundles"]


def simulate(
    folder: Path, patients: int, seed: int, processes: int | None = None, format: Format = "ndjson"
) -> Manifest:
    """Write the records of `patients` simulated people into `folder`, which is empty, and return what was written.

    The same seed gives the same people whatever `patients` and `processes` are: the first n of more are the same n.
    Raises SourceError when the records cannot be written.
    """
    blocks = range(-(-patients // BLOCK))
    size = -(-len(blocks) // _MOST_PARTS)
    pieces = [(folder, seed, blocks[start : start + size], patients, format) for start in blocks[::size]]
    try:
        with workers(min(processes or os.cpu_count() or 1, len(pieces))) as spread:
            files = [file for part in spread(_simulate_part, pieces, "simulating", "part") for file in part]
        if format == "ndjson":
            for kind, lines in shared_resources(load_world()).items():
                _append(folder / f"{kind}.ndjson", lines)
                files.append(landed_file(folder / f"{kind}.ndjson", kind))
    except OSError as error:
        raise SourceError(
            f"The simulated records could not be written ({error.strerror}). Make room on the disk of {folder.parent}, "
            "or ask for fewer --patients."
        ) from error
    return Manifest(
        kind="simulated",
        origin=f"Sequela's simulated population, version {VERSION}: {patients:,} people, seed {seed}; not real people",
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=tuple(sorted(files, key=lambda file: file.name)),
        covers_until=f"{load_world().raw['care']['population']['records_end']}T23:59:59Z",
        parameters={"patients": patients, "seed": seed, "version": VERSION, "format": format},
    )


def simulate_block(world: World, seed: int, block: int, wanted: int = BLOCK) -> dict[str, Texts]:
    """The resources of the first `wanted` people of a block, by type. The whole block is lived, whoever is wanted."""
    recorder = Recorder(world, seed, block)
    for month, people, happened, who in live(world, seed, block):
        recorder.write(month, people, happened, who)
    population = world.raw["care"]["population"]
    first, last = (date.fromisoformat(population[key]) for key in ("records_begin", "records_end"))
    uuids = [person_uuid(seed, block, number) for number in range(wanted)]
    return write_block(world, recorder, uuids, ((last - first).days + 1) * DAY_MINUTES - 1)


def _simulate_part(folder: Path, seed: int, blocks: range, patients: int, format: Format) -> list[LandedFile]:
    world, kinds = load_world(), dict[Path, str]()
    with threadpool_limits(1):
        for block in blocks:
            texts = simulate_block(world, seed, block, min(BLOCK, patients - block * BLOCK))
            written = [(f"{kind}.{blocks.start:05d}.ndjson", kind, of.lines) for kind, of in texts.items()]
            if format == "bundles":
                bundles = _bundles(texts, world)
                written = [(f"bundle-{block:05d}-{person:03d}.json", "Bundle", [text]) for person, text in bundles]
            for name, kind, lines in written:
                kinds[folder / name] = kind
                _append(folder / name, lines)
    return [landed_file(path, kind) for path, kind in kinds.items()]


def _append(path: Path, lines: list[str]) -> None:
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def _bundles(texts: dict[str, Texts], world: World) -> Iterator[tuple[int, str]]:
    """Each person's number, and a transaction of all about that person, whose parts refer to each other by urn:uuid."""
    shared = {_id(line): (kind, line) for kind, lines in shared_resources(world).items() for line in lines}
    by_person = defaultdict[int, list[tuple[str, str]]](list)
    for kind, of in texts.items():
        for person, line in zip(of.persons.tolist(), of.lines, strict=True):
            by_person[person].append((kind, line))
    for person, own in by_person.items():
        named = {found[2] for _, line in own for found in _REFERENCE.finditer(line)}
        also = [shared[identity] for identity in sorted(named & shared.keys())]
        entries = [*_entries(own, {}), *_entries(also, {"identifier": [_id(line) for _, line in also]})]
        yield person, next(SHAPES["Bundle"].filled({}, {"entries": [f"[{','.join(entries)}]"]}))


def _entries(resources: list[tuple[str, str]], more: dict[str, list[str]]) -> Iterator[str]:
    lines = [_REFERENCE.sub(r'"reference":"urn:uuid:\2"', line) for _, line in resources]
    about = {"id": [_id(line) for line in lines], "resource": lines, "kind": [kind for kind, _ in resources]}
    return SHAPES["Entry"].filled({}, about | more)


def _id(line: str) -> str:
    return line.split('"id":"', 1)[1].split('"', 1)[0]
