"""Simulate a population into a folder of FHIR R4: block by block, by several processes, in bounded memory."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace
from threadpoolctl import threadpool_limits

from features.errors import SourceError
from features.processes import workers
from features.sources.fhir_bundles import bundled
from features.sources.landed import LandedFile, Manifest, landed_file
from features.sources.simulation.lives import BLOCK, live
from features.sources.simulation.record import DAY_MINUTES, Recorder
from features.sources.simulation.world import World, load_world
from features.sources.simulation.writing import SHAPES, Texts, shared_resources, write_block

_MOST_PARTS = 32  # files of a type
_FOLDER = Path(__file__).parent
_PARTS = [*_FOLDER.rglob("*.py"), *_FOLDER.rglob("*.toml"), *_FOLDER.rglob("*.json"), *_FOLDER.parent.glob("fhir_*.py")]
# A digest of the program and its tables: the same seed gives the same people only under the same two.
VERSION = hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(_PARTS))).hexdigest()[:12]


def simulate(folder: Path, patients: int, seed: int, processes: int | None = None, format: str = "ndjson") -> Manifest:
    """Write the records of `patients` simulated people into the empty `folder`, as "ndjson" or "bundles".

    The same seed gives the same people whatever `patients` and `processes` are: the first n of more are the same n.
    Raises SourceError when the records cannot be written.
    """
    blocks = range(-(-patients // BLOCK))
    size = max(1, -(-len(blocks) // _MOST_PARTS))
    pieces = [(folder, seed, blocks[start : start + size], patients, format) for start in blocks[::size]]
    try:
        with workers(min(processes or os.cpu_count() or 1, len(pieces))) as spread:
            files = [file for part in spread(_simulate_part, pieces, "simulating", "part") for file in part]
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
        covers_until=f"{load_world().end}T23:59:59Z",
        parameters={"patients": patients, "seed": seed, "version": VERSION, "format": format},
    )


def simulate_block(world: World, seed: int, block: int, wanted: int = BLOCK) -> dict[str, Texts]:
    """The resources of the first `wanted` people of a block, by type. The whole block is lived, whoever is wanted."""
    recorder = Recorder(world, seed, block)
    for month, people, happened, who in live(world, seed, block):
        recorder.write(month, people, happened, who)
    last_minute = ((world.end - world.begin).days + 1) * DAY_MINUTES - 1
    return write_block(world, recorder, seed, block, wanted, last_minute)


def _simulate_part(folder: Path, seed: int, blocks: range, patients: int, format: str) -> list[LandedFile]:
    world, kinds = load_world(), dict[Path, str]()
    with threadpool_limits(1):
        for block in blocks:
            for name, kind, lines in _files_of_block(world, seed, block, min(BLOCK, patients - block * BLOCK), format):
                path = folder / name.format(part=blocks.start)
                kinds[path] = kind
                with path.open("a") as file:
                    file.writelines(f"{line}\n" for line in lines)
    files = [landed_file(path, kind) for path, kind in kinds.items()]
    if format == "ndjson":
        return files
    # A bundle is read as the resources that it holds; each entry has one, and one fullUrl.
    return [replace(file, resources=(folder / file.name).read_bytes().count(b'"fullUrl":')) for file in files]


def _files_of_block(
    world: World, seed: int, block: int, wanted: int, format: str
) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Name, with a place for the number of the part, resource type and lines; the block's texts end with the last."""
    texts, shared = simulate_block(world, seed, block, wanted), shared_resources(world)
    if format == "ndjson":
        yield from ((f"{kind}.{{part:05d}}.ndjson", kind, (line for _, line in of)) for kind, of in texts.items())
        yield from ((f"{kind}.ndjson", kind, [line]) for kind, line in shared if block == 0)
    else:
        bundles = bundled(texts, shared, SHAPES["Bundle"], SHAPES["Entry"])
        yield from ((f"bundle-{block:05d}-{person:03d}.json", "Bundle", [text]) for person, text in bundles)
