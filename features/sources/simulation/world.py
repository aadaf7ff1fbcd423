"""The tables of the simulation, read once and laid out as matrices: what a step of everybody's life is computed from.

Whatever happens at a rate (an onset, an end, a death, a stay, a visit, an order, a diagnosis, a prescription, a move)
is one row of a matrix: log rate = base(age, sex) + weights @ covariates. Adding a disease is adding rows to the tables.
"""

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Tables = dict[str, dict]

TABLES = Path(__file__).parent / "tables"
SEXES = ("female", "male")
RATE_AGES = np.array([25, 35, 45, 55, 65, 75, 85, 95])
STATE_AGES = RATE_AGES[:-1]
OLDEST = 111
_DECLINED = 0.08  # how much rarer those who decline drugs begin one
_NEVER = -60.0  # added to a log rate: it cannot happen
DERIVED = (  # covariates that no table defines (bodies.py)
    "past_50 past_70 is_female stay_lately known_cancer dementia young_diabetes beta_blocker_in_low_lvef admits_freely "
    "apoe4_one apoe4_two"
).split()


class Process(NamedTuple):
    """Something that happens: what to which target, how often, and to whom."""

    name: str
    what: str
    target: int  # a place among conditions, drugs, orders, causes of death or stays
    rate: npt.ArrayLike  # one number, or (sexes, RATE_AGES), for each unit of `occasion`
    occasion: str = "years"
    needs: Sequence[str] = ()
    never: Sequence[str] = ()
    ratios: Mapping[str, float] = {}  # of hazards, by covariate


class Rows:
    """Processes of one phase of a month. base: (rows, ages x sexes); weights: (rows, covariates)."""

    def __init__(self, processes: Iterable[Process], covariates: list[str], corrections: Tables) -> None:
        rows = list(processes)
        self.names = [one.name for one in rows]
        self.target = np.array([one.target for one in rows])
        self.occasions = [one.occasion for one in rows]
        self.of = defaultdict[str, list[int]](list)  # the rows in which something happens
        for row, one in enumerate(rows):
            self.of[one.what].append(row)
        self.base = np.stack([_base(one, corrections) for one in rows])
        weights = np.zeros((len(rows), len(covariates)))
        for weight, one in zip(weights, rows, strict=True):
            logs = [(name, float(np.log(ratio))) for name, ratio in one.ratios.items()]
            for name, value in logs + [(name, -_NEVER) for name in one.needs] + [(name, _NEVER) for name in one.never]:
                weight[covariates.index(name)] += value
        self.weights = weights.astype(np.float32)

    def rates(self, x: Floats, age: Floats, is_male: Ints) -> Floats:
        """(rows, P), of people with covariates `x`, for each unit of a row's occasion."""
        return np.exp(self.base[:, np.minimum(age.astype(np.int64), OLDEST - 1) * 2 + is_male] + self.weights @ x)

    def by_target(self, what: str, happens: Bools, targets: int) -> Bools:
        """(targets, P): to what any row of `what` happens, given which rows happen."""
        found = np.zeros((targets, happens.shape[1]), bool)
        for row in self.of[what]:
            found[self.target[row]] |= happens[row]
        return found


class World:
    """All tables, as they are (`raw`) and compiled. Shapes: S states, C covariates, A ages (0 to 110), 2 sexes.

    Raises ValueError with the name that one table uses and no other defines.
    """

    def __init__(self, raw: Tables) -> None:
        bodies = {name: one for name, one in raw["states"].items() if not name.startswith("_")}
        self.raw, self._bodies = raw, list(bodies.values())
        dates = (date.fromisoformat(raw["care"]["population"][key]) for key in ("records_begin", "records_end"))
        self.begin, self.end = dates  # the first and last day of the records
        self.months = (self.end.year - self.begin.year) * 12 + self.end.month - self.begin.month + 1
        self.states = list(bodies)
        self.conditions = [name for name, one in raw["conditions"].items() if "sets" not in one]
        self.drugs = list(raw["treatments"])
        self.orders = list(raw["orders"])
        self.results = list(raw["measurements"])
        self.causes = list(raw["deaths"])
        self.stays = [name for name in raw["stays"] if not name.startswith("_")]
        brought = {raw["conditions"][name].get("stay"): i for i, name in enumerate(self.conditions)}
        self.condition_of_stay = np.array([brought.get(name, -1) for name in self.stays])  # -1 for none
        self.is_planned = np.array([raw["stays"][name].get("planned", False) for name in self.stays])
        self.books_return = np.array([raw["stays"][name].get("planned_readmission", 0.0) for name in self.stays])
        self.passes = np.array([raw["conditions"][name].get("passes", False) for name in self.conditions])
        self.traits = [name for name in raw["care"]["traits"] if name not in ("apoe4", "ever_smoked_at_20")]
        self.scaled = [name for name, one in raw["covariates"].items() if "of" in one]  # follow a state
        self.seen = [name for name, one in raw["covariates"].items() if "last" in one]  # follow its last result
        known = [f"known_{name}" for name in self.conditions]
        self.covariates = [*self.scaled, *self.conditions, *self.drugs, *self.traits, *DERIVED, *known, *self.seen]

        means, rates = (raw.get("solved", {}).get(key, {}) for key in ("means", "rates"))
        named = zip(self.states, self._bodies, strict=True)
        self.mean = np.stack(
            [_by_age([one[sex] for sex in SEXES], means.get(name, {})) for name, one in named]
        )  # (S, A, 2)
        self.sd = np.stack([_by_age(np.broadcast_to(one["sd"], (2, len(STATE_AGES))), {}) for one in self._bodies])
        self.low, self.high, self.skew = self._column("low"), self._column("high"), self._column("skew")  # (S, 1)
        self.trait, self.a_year, self.pace = self._column("trait"), self._column("a_year"), self._column("pace")
        self.correlation_root = _correlation_root(raw["states"]["_correlations"], self.states)  # (S, S)
        self.shifts, self.drifts = self._linear("shifts"), self._linear("drift")  # (S, C)
        self.nature = Rows(_nature(self), self.covariates, rates)
        self.ordering = Rows(_orders(self), self.covariates, rates)
        self.deciding = Rows(_decisions(self), self.covariates, rates)

    def of_sites(self, key: str) -> npt.NDArray:
        """What care.toml says of each hospital."""
        return np.array([site[key] for site in self.raw["care"]["sites"]])

    def _column(self, key: str) -> Floats:
        return np.array([[one.get(key, 0)] for one in self._bodies], np.float32)

    def _linear(self, key: str) -> Floats:
        matrix = np.zeros((len(self.states), len(self.covariates)), np.float32)
        for row, one in zip(matrix, self._bodies, strict=True):
            for name, value in one.get(key, {}).items():
                row[self.covariates.index(name)] = value
        return matrix


compile_world = World


@cache
def load_world(solved: bool = True) -> World:
    """Read and compile the tables; without the corrections of solved.toml when `solved` is False."""
    raw = {path.stem: tomllib.loads(path.read_text()) for path in sorted(TABLES.glob("*.toml"))}
    return World(raw if solved else raw | {"solved": {}})


def chance(probability: float) -> float:
    """The rate for one occasion that gives a probability."""
    return -float(np.log1p(-min(probability, 0.9999)))


def _nature(world: World) -> Iterator[Process]:
    """What happens as time passes: onsets, ends, deaths, stays, visits, moves, and drugs that people stop taking."""
    raw, conditions = world.raw, world.conditions
    for name, one in raw["conditions"].items():
        if "female" in one:
            own = [] if "stay" in one or "sets" in one else [name]
            whom = one.get("needs", ()), [*one.get("not_with", ()), *own], one.get("ratios", {})
            yield Process(name, "begins", conditions.index(one.get("sets", name)), _per_year(one), "years", *whom)
        if "ends" in one:
            yield Process(f"end of {name}", "ends", conditions.index(name), one["ends"] / 1000, needs=[name])
    for i, (name, one) in enumerate(raw["deaths"].items()):
        yield Process(f"death of {name}", "death", i, _per_year(one), ratios=one["ratios"])
    for i, name in enumerate(world.stays):
        if "female" in (one := raw["stays"][name]):
            yield Process(name, "stay", i, _per_year(one), needs=one.get("needs", ()), ratios=one.get("ratios", {}))
    for name in ("visit", "emergency", "move"):
        yield Process(name, name, 0, _per_year(raw["care"][name]), ratios=raw["care"][name]["ratios"])
    for i, (name, one) in enumerate(raw["treatments"].items()):
        stops = one["stops"]
        yield Process(f"stop of {name}", "stop", i, stops["rate"] / 1000, ratios=stops.get("ratios", {}))


def _orders(world: World) -> Iterator[Process]:
    """What is measured and done on an occasion."""
    for i, (name, one) in enumerate(world.raw["orders"].items()):
        whom = one.get("needs", ()), one.get("not_with", ()), one.get("ratios", {})
        yield Process(name, "order", i, chance(one["chance"]), "visit", *whom)
        if one.get("per_stay"):
            yield Process(f"{name} in a stay", "order", i, chance(one["per_stay"]), "stay", *whom)


def _decisions(world: World) -> Iterator[Process]:
    """What is recognised, rightly or wrongly, and prescribed on an occasion."""
    for i, name in enumerate(world.conditions):
        one, known = world.raw["conditions"][name], f"known_{name}"
        for occasion, how in one.get("found", {}).items():
            whom = [name, *how.get("needs", ())], [known, *how.get("not_with", ())], how.get("ratios", {})
            yield Process(f"{name} at {occasion}", "known", i, chance(how["chance"]), occasion, *whom)
        if "wrongly" in one:
            yield Process(f"{name} wrongly", "known", i, one["wrongly"] / 1000, "visit", never=[name, known])
    for i, (name, one) in enumerate(world.raw["treatments"].items()):
        for j, way in enumerate(one["for"]):
            never, ratios = [name, *way.get("not_with", ())], way.get("ratios", {}) | {"declines_drugs": _DECLINED}
            yield Process(f"{name} {j}", "start", i, chance(way["chance"]), "care", way.get("needs", ()), never, ratios)


def _per_year(one: Mapping[str, list[float]]) -> Floats:
    return np.array([one[sex] for sex in SEXES]) / 1000


def _base(one: Process, corrections: Tables) -> Floats:
    # Causes of death are corrected together, and all ways into a drug.
    name = {"death": "death", "start": f"start of {one.name.rpartition(' ')[0]}"}.get(one.what, one.name)
    rates = np.maximum(np.broadcast_to(np.asarray(one.rate), (2, len(RATE_AGES))), 1e-12)
    base = _by_age(np.log(rates), corrections.get(name, {}))
    return base.reshape(-1) + np.float32(_NEVER * len(one.needs))


def _by_age(knots: npt.ArrayLike, corrections: dict[str, list[float]]) -> Floats:
    """(A, 2) from (2, the first of RATE_AGES), corrected, straight between."""
    values = np.asarray(knots)
    values = values + [corrections.get(sex, [0.0] * values.shape[1]) for sex in SEXES]
    ages = RATE_AGES[: values.shape[1]]
    return np.stack([np.interp(np.arange(OLDEST), ages, one) for one in values], axis=1).astype(np.float32)


def _correlation_root(pairs: Tables, states: list[str]) -> Floats:
    """The Cholesky root of the correlations. Raises LinAlgError where no people can have all of them."""
    matrix = np.eye(len(states))
    for one, others in pairs.items():
        for other, value in others.items():
            at = states.index(one), states.index(other)
            matrix[at] = matrix[at[::-1]] = value
    return np.linalg.cholesky(matrix).astype(np.float32)
