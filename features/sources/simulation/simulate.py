"""Simulate a population into a folder of FHIR R4: block by block, by several processes, in memory that does not grow."""

import os
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from features.sources.landed import LandedFile, Manifest, landed_file
from features.sources.simulation.lives import BLOCK, live
from features.sources.simulation.record import Recorder
from features.sources.simulation.world import World, load_world
from features.sources.simulation.writing import Person, Texts, bundle_of, person_uuid, shared_resources, write_block

VERSION = "1"  # raise it when the same seed gives other records
_MOST_PARTS = 32  # files of a type
Format = Literal["ndjson", "bundles"]


def simulate(
    folder: Path, patients: int, seed: int, processes: int | None = None, format: Format = "ndjson"
) -> Manifest:
    """Write the records of `patients` simulated people into `folder`, and return what was written.

    The same seed gives the same people whatever `patients` and `processes` are: the first n of more are the same n.
    """
    blocks = -(-patients // BLOCK)
    size = -(-blocks // _MOST_PARTS)
    tasks = [
        (folder, seed, number, range(start, min(start + size, blocks)), patients, format)
        for number, start in enumerate(range(0, blocks, size))
    ]
    processes = min(processes or os.cpu_count() or 1, len(tasks))
    files = [*_write_shared(folder)] if format == "ndjson" else []
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool,
        tqdm(total=patients, desc="simulating", unit=" patients", disable=None) as bar,
    ):
        for written, people in pool.map(_simulate_part, tasks):
            files += written
            bar.update(people)
    ends = load_world().raw["care"]["population"]["records_end"]
    return Manifest(
        kind="simulated",
        origin=f"Sequela's simulated population, version {VERSION}: {patients:,} people from seed {seed}; not real people",
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=tuple(sorted(files, key=lambda file: file.name)),
        covers_until=f"{ends}T23:59:59Z",
        parameters={"patients": patients, "seed": seed, "version": VERSION, "format": format},
    )


def _write_shared(folder: Path) -> list[LandedFile]:
    files = []
    for kind, lines in shared_resources(load_world()).items():
        path = folder / f"{kind}.ndjson"
        path.write_text("".join(f"{line}\n" for line in lines))
        files.append(landed_file(path, kind))
    return files


def _simulate_part(task: tuple[Path, int, int, range, int, Format]) -> tuple[list[LandedFile], int]:
    folder, seed, number, blocks, patients, format = task
    world, kinds, people = load_world(), [], 0
    with threadpool_limits(1):
        for block in blocks:
            wanted = min(BLOCK, patients - block * BLOCK)
            texts = simulate_block(world, seed, block, wanted)
            people += wanted
            if format == "bundles":
                kinds += _write_bundles(folder, block, texts, world)
                continue
            for kind, of in texts.items():
                with (folder / f"{kind}.{number:03d}.ndjson").open("a") as file:
                    file.writelines(f"{line}\n" for line in of.lines)
    if format == "bundles":
        return kinds, people
    paths = sorted(folder.glob(f"*.{number:03d}.ndjson"))
    return [landed_file(path, path.name.split(".")[0]) for path in paths], people


def simulate_block(world: World, seed: int, block: int, wanted: int = BLOCK) -> dict[str, Texts]:
    """The resources of the first `wanted` people of a block. The whole block is lived, whoever is wanted."""
    recorder = Recorder(world, seed, block, BLOCK)
    age_at = np.full(BLOCK, np.nan)
    sites, is_male = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64)
    for month, people, happened, who in live(world, seed, block):
        new = np.isnan(age_at[who])
        age_at[who[new]] = people.age[new] - (month + 1) / 12
        sites[who[new]], is_male[who[new]] = people.site[new], people.is_male[new]
        recorder.write(month, people, happened, who)
    until = _minutes_recorded(world)
    population = world.raw["care"]["population"]
    begin = date.fromisoformat(population["records_begin"])
    deaths = recorder.record.deaths.done()
    died = {int(p): int(t) for p, t in zip(deaths["person"], deaths["time"], strict=True) if t <= until}
    rng = np.random.default_rng([seed, block, 4])
    races = rng.choice(list(population["race"]), BLOCK, p=[share for _, share in population["race"].values()])
    hispanic = rng.random(BLOCK) < population["hispanic"]
    epoch = datetime.fromisoformat(population["records_begin"])
    persons = {
        number: Person(
            number=number,
            uuid=person_uuid(seed, block, number),
            # The age at the records' beginning, and where in the person's own month that lies.
            born=begin - timedelta(days=float(age_at[number]) * 365.25 - int(recorder.phase[number]) / 1440),
            is_male=bool(is_male[number]),
            race=str(races[number]),
            is_hispanic=bool(hispanic[number]),
            site=int(sites[number]),
            died=f"{(epoch + timedelta(minutes=died[number])).isoformat()}+00:00" if number in died else None,
        )
        for number in range(wanted)
    }
    return write_block(world, recorder.record, persons, until)


def _minutes_recorded(world: World) -> int:
    population = world.raw["care"]["population"]
    days = (date.fromisoformat(population["records_end"]) - date.fromisoformat(population["records_begin"])).days + 1
    return days * 1440 - 1


def _write_bundles(folder: Path, block: int, texts: dict[str, Texts], world: World) -> list[LandedFile]:
    shared = [(kind, line) for kind, lines in shared_resources(world).items() for line in lines]
    by_person: dict[int, list[tuple[str, str]]] = {}
    for kind, of in texts.items():
        for person, line in zip(of.persons.tolist(), of.lines, strict=True):
            by_person.setdefault(person, []).append((kind, line))
    files = []
    for person, lines in by_person.items():
        path = folder / f"bundle-{block:05d}-{person:03d}.json"
        path.write_text(bundle_of(lines + shared))
        files.append(landed_file(path, "Bundle"))
    return files
