"""Simulate a population into a folder of FHIR R4: block by block, by several processes, in memory that does not grow."""

import os
import re
from collections.abc import Iterable, Iterator
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
from features.sources.simulation.writing import Texts, person_uuid, shared_resources, write_block

VERSION = "1"  # raise it when the same seed gives other records
_MOST_PARTS = 32  # files of a type
_REFERENCE = re.compile(r'"reference":"[A-Za-z]+/')
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
    with workers(min(processes or os.cpu_count() or 1, len(pieces))) as spread:
        try:
            files = [file for files in spread(_simulate_part, pieces, "simulating", "part") for file in files]
            files += _write_shared(folder) if format == "ndjson" else []
        except OSError as error:
            raise SourceError(
                f"The simulated records could not be written ({error.strerror}). Make room where {folder.parent} lies, "
                "or ask for fewer --patients."
            ) from error
    return Manifest(
        kind="simulated",
        origin=f"Sequela's simulated population, version {VERSION}: {patients:,} people from seed {seed}; not real people",
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
    world, files = load_world(), {}
    with threadpool_limits(1):
        for block in blocks:
            texts = simulate_block(world, seed, block, min(BLOCK, patients - block * BLOCK))
            if format == "bundles":
                for number, bundle in _bundles(texts, shared_resources(world)):
                    path = folder / f"bundle-{block:05d}-{number:03d}.json"
                    path.write_text(bundle)
                    files[path] = "Bundle"
                continue
            for kind, of in texts.items():
                path = folder / f"{kind}.{blocks.start:05d}.ndjson"
                files[path] = kind
                with path.open("a") as file:
                    file.writelines(f"{line}\n" for line in of.lines)
    return [landed_file(path, kind) for path, kind in files.items()]


def _write_shared(folder: Path) -> Iterator[LandedFile]:
    for kind, lines in shared_resources(load_world()).items():
        path = folder / f"{kind}.ndjson"
        path.write_text("".join(f"{line}\n" for line in lines))
        yield landed_file(path, kind)


def _bundles(texts: dict[str, Texts], shared: dict[str, list[str]]) -> Iterator[tuple[int, str]]:
    """Each person's number, and all about that person as a transaction whose parts refer to each other by urn:uuid."""
    by_person: dict[int, list[tuple[str, str]]] = {}
    for kind, of in texts.items():
        for person, line in zip(of.persons.tolist(), of.lines, strict=True):
            by_person.setdefault(person, []).append((kind, line))
    for person, lines in by_person.items():
        yield person, _bundle([*lines, *((kind, line) for kind, of in shared.items() for line in of)])


def _bundle(resources: Iterable[tuple[str, str]]) -> str:
    entries = []
    for kind, line in resources:
        identity, line = line.split('"id":"', 1)[1].split('"', 1)[0], _REFERENCE.sub('"reference":"urn:uuid:', line)
        entries.append(
            f'{{"fullUrl":"urn:uuid:{identity}","resource":{line},"request":{{"method":"POST","url":"{kind}"}}}}'
        )
    return f'{{"resourceType":"Bundle","type":"transaction","entry":[{",".join(entries)}]}}'
