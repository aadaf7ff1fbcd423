"""The lives of one block of people, month by month while they are recorded.

People come in blocks of fixed size with a random stream of their own, so no life depends on how many are simulated.
"""

from collections.abc import Iterator

import numpy as np

from features.sources.simulation.bodies import People
from features.sources.simulation.engine import Month, step
from features.sources.simulation.people import draw_arrivals
from features.sources.simulation.world import Ints, World

BLOCK = 512
MONTH_YEARS = 1 / 12


def live(world: World, seed: int, block: int) -> Iterator[tuple[int, People, Month, Ints]]:
    """Month, the people there at its end, what happened to them, and their numbers within the block.

    The People object is the living one: copy what should be kept. A person is there from the month of arrival on.
    """
    number = np.array([], np.int64)
    arrivals = draw_arrivals(world, np.random.default_rng([seed, block, 0]), BLOCK, world.months)
    people = arrivals.people.take(number)
    for month in range(world.months):
        joining = np.flatnonzero(arrivals.month == month)
        if len(joining):
            people, number = people.and_also(arrivals.people.take(joining)), np.concatenate([number, joining])
        happened = step(people, world, MONTH_YEARS, np.random.default_rng([seed, block, 1, month]))
        yield month, people, happened, number
