"""Whatever happens at a rate is one row of a matrix: log rate = base(age, sex) + weights @ covariates.

An onset, an end, a death, a stay, a visit, an order, a diagnosis, a prescription, a move: each is read from its table as a
Process, and those of one phase of a month are laid out as Rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Tables = dict[str, dict]

SEXES = ("female", "male")
RATE_AGES = np.array([25, 35, 45, 55, 65, 75, 85, 95])
OLDEST = 111
_DECLINED = 0.08  # how much rarer those who decline drugs begin one
_NEVER = -60.0  # added to a log rate: it cannot happen


class Process(NamedTuple):
    """`what` happens to `target` (its place among conditions, drugs, orders, causes or stays), how often and to whom.

    rate: one number, or (sexes, RATE_AGES), for each unit of `occasion`. ratios: of hazards, by covariate.
    """

    name: str
    what: str
    target: int
    rate: npt.ArrayLike
    occasion: str = "years"
    needs: Sequence[str] = ()
    never: Sequence[str] = ()
    ratios: Mapping[str, float] = {}


class Rows:
    """Processes of one phase of a month. base: (rows, ages x sexes); weights: (rows, covariates).

    Raises ValueError for a covariate that no table defines.
    """

    def __init__(self, processes: Iterable[Process], covariates: list[str], corrections: Tables) -> None:
        rows = list(processes)
        self.names = [one.name for one in rows]
        self.target = np.array([one.target for one in rows])
        self.occasions = [one.occasion for one in rows]
        self._places = {what: [i for i, one in enumerate(rows) if one.what == what] for _, what, *_ in rows}
        self.base = np.stack([_base(one, corrections) for one in rows])
        weights = np.zeros((len(rows), len(covariates)))
        for weight, one in zip(weights, rows, strict=True):
            logs = [(name, float(np.log(ratio))) for name, ratio in one.ratios.items()]
            for name, value in logs + [(name, -_NEVER) for name in one.needs] + [(name, _NEVER) for name in one.never]:
                weight[covariates.index(name)] += value
        self.weights = weights.astype(np.float32)

    def of(self, what: str) -> list[int]:
        """The rows in which `what` happens."""
        return self._places.get(what, [])

    def rates(self, x: Floats, age: Floats, is_male: Ints) -> Floats:
        """(rows, P), of people with covariates `x`, for each unit of a row's occasion."""
        return np.exp(self.base[:, np.minimum(age.astype(np.int64), OLDEST - 1) * 2 + is_male] + self.weights @ x)

    def by_target(self, what: str, happens: Bools, targets: int) -> Bools:
        """(targets, P): to what any row of `what` happens, given which rows happen."""
        found = np.zeros((targets, happens.shape[1]), bool)
        for row in self.of(what):
            found[self.target[row]] |= happens[row]
        return found


def _base(one: Process, corrections: Tables) -> Floats:
    # Causes of death are corrected together, and all ways into a drug.
    name = {"death": "death", "start": f"start of {one.name.rpartition(' ')[0]}"}.get(one.what, one.name)
    added = [corrections.get(name, {}).get(sex, [0.0] * len(RATE_AGES)) for sex in SEXES]
    rates = np.maximum(np.broadcast_to(np.asarray(one.rate, float), (2, len(RATE_AGES))), 1e-12)
    base = [np.interp(np.arange(OLDEST), RATE_AGES, of_sex) for of_sex in np.log(rates) + added]
    return np.stack(base, axis=1).astype(np.float32).reshape(-1) + np.float32(_NEVER * len(one.needs))


def chance(probability: float) -> float:
    """The rate for one occasion that gives a probability."""
    return -float(np.log1p(-min(probability, 0.9999)))


def nature(raw: Tables) -> Iterator[Process]:
    """What happens as time passes: onsets, ends, deaths, stays, visits, moves, and drugs that people stop taking."""
    conditions = true_conditions(raw)
    for name, one in raw["conditions"].items():
        if "female" in one:
            own = [] if "stay" in one or "sets" in one else [name]
            whom = one.get("needs", ()), [*one.get("not_with", ()), *own], one.get("ratios", {})
            yield Process(name, "begins", conditions.index(one.get("sets", name)), _per_year(one), "years", *whom)
        if "ends" in one:
            yield Process(f"end of {name}", "ends", conditions.index(name), one["ends"] / 1000, needs=[name])
    for i, (name, one) in enumerate(raw["deaths"].items()):
        yield Process(f"death of {name}", "death", i, _per_year(one), ratios=one["ratios"])
    for i, name in enumerate(true_stays(raw)):
        if "female" in (one := raw["stays"][name]):
            yield Process(name, "stay", i, _per_year(one), needs=one.get("needs", ()), ratios=one.get("ratios", {}))
    for name in ("visit", "emergency", "move"):
        yield Process(name, name, 0, _per_year(raw["care"][name]), ratios=raw["care"][name]["ratios"])
    for i, (name, one) in enumerate(raw["treatments"].items()):
        stops = one["stops"]
        yield Process(f"stop of {name}", "stop", i, stops["rate"] / 1000, ratios=stops.get("ratios", {}))


def orders(raw: Tables) -> Iterator[Process]:
    """What is measured and done on an occasion."""
    for i, (name, one) in enumerate(raw["orders"].items()):
        whom = one.get("needs", ()), one.get("not_with", ()), one.get("ratios", {})
        yield Process(name, "order", i, chance(one["chance"]), "visit", *whom)
        if one.get("per_stay"):
            yield Process(f"{name} in a stay", "order", i, chance(one["per_stay"]), "stay", *whom)


def decisions(raw: Tables) -> Iterator[Process]:
    """What is recognised, rightly or wrongly, and prescribed on an occasion."""
    for i, name in enumerate(true_conditions(raw)):
        one, known = raw["conditions"][name], f"known_{name}"
        for occasion, how in one.get("found", {}).items():
            whom = [name, *how.get("needs", ())], [known, *how.get("not_with", ())], how.get("ratios", {})
            yield Process(f"{name} at {occasion}", "known", i, chance(how["chance"]), occasion, *whom)
        if "wrongly" in one:
            yield Process(f"{name} wrongly", "known", i, one["wrongly"] / 1000, "visit", never=[name, known])
    for i, (name, one) in enumerate(raw["treatments"].items()):
        for j, way in enumerate(one["for"]):
            never, ratios = [name, *way.get("not_with", ())], way.get("ratios", {}) | {"declines_drugs": _DECLINED}
            yield Process(f"{name} {j}", "start", i, chance(way["chance"]), "care", way.get("needs", ()), never, ratios)


def true_conditions(raw: Tables) -> list[str]:
    """What somebody can have: not the rows that only set another condition."""
    return [name for name, one in raw["conditions"].items() if "sets" not in one]


def true_stays(raw: Tables) -> list[str]:
    """The kinds of stay: not what holds for all of them."""
    return [name for name in raw["stays"] if not name.startswith("_")]


def _per_year(one: Mapping[str, list[float]]) -> npt.NDArray[np.float64]:
    return np.array([one[sex] for sex in SEXES], float) / 1000
