"""One block of simulated people, lived and written once for all these tests."""

from copy import deepcopy
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from features.sources.simulation.bodies import People
from features.sources.simulation.lives import live
from features.sources.simulation.people import draw_arrivals
from features.sources.simulation.record import DAY_MINUTES, Recorder, Table
from features.sources.simulation.world import World, load_world
from features.sources.simulation.writing import write_block

SEED = 3

Json = dict


class Block(NamedTuple):
    """The first block of people: what was written of them, and what was true.

    texts: by type. tables: of the recorder. people: at the end, by number. acute, died, gone: (people, months) whether
    there was a stay or a visit to the emergency department; dead at the month's end; moved away. visits: the month of
    each visit, by person and last minute.
    """

    texts: dict[str, list[tuple[int, str]]]
    tables: dict[str, Table]
    people: People
    acute: np.ndarray
    died: np.ndarray
    gone: np.ndarray
    visits: dict[tuple[int, int], int]


@pytest.fixture(scope="session")
def world() -> World:
    return load_world()


@pytest.fixture(scope="session")
def block(world: World) -> Block:
    recorder, visits = Recorder(world, SEED, 0), {}
    acute, died, gone = np.zeros((3, 512, world.months), bool)
    for month, people, happened, who in live(world, SEED, 0):
        recorder.write(month, people, happened, who)
        acute[who, month] = (happened.stay >= 0) | happened.emergency
        died[who, month], gone[who, month] = ~people.alive, ~people.here
        visitors = who[happened.visit]
        visits |= {(int(one), int(recorder.visit_ends[one])): month for one in visitors}
    days = (world.end - world.begin).days + 1
    texts = write_block(world, recorder, SEED, 0, 512, days * DAY_MINUTES - 1)
    tables = {kind: rows.done() for kind, rows in recorder.rows.items()} | {"Patient": recorder.people}
    return Block(texts, tables, people.take(np.argsort(who)), acute, died, gone, visits)


@pytest.fixture(scope="session")
def resources(block: Block) -> dict[str, list[Json]]:
    """Everything that was written of the block, by type."""
    return {kind: [msgspec.json.decode(line) for _, line in lines] for kind, lines in block.texts.items()}


@pytest.fixture(scope="session")
def crowd(world: World) -> People:
    """People as they arrive, with their earlier lives behind them. Copy before living on."""
    return draw_arrivals(world, np.random.default_rng(11), 800, 156).people


def copied(people: People) -> People:
    return people.take(np.arange(len(people)))


def quiet(world: World) -> dict[str, dict]:
    """The tables, with everything that happens at a rate of time set to never: for tests to add what they look at."""
    raw = deepcopy(world.raw) | {"solved": {}}
    care = [raw["care"][name] for name in ("visit", "emergency", "move")]
    for one in [*raw["conditions"].values(), *raw["deaths"].values(), *raw["stays"].values(), *care]:
        if "female" in one:
            one["female"] = one["male"] = [0.0] * 8
    return raw
