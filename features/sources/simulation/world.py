"""The tables of the simulation, read once and laid out as matrices: what a month of everybody's life is computed from.

Every process that happens at a rate (an onset, a death, a visit, an order, a diagnosis, a prescription, a move) is one
row of one matrix: log rate = base(age, sex) + weights @ covariates. Every state is one row of two more: what conditions
and drugs add to its level, and how it drifts. Adding a disease is adding rows to the tables.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Table = dict[str, dict]

TABLES = Path(__file__).parent / "tables"
STATE_AGES = np.array([25, 35, 45, 55, 65, 75, 85])
RATE_AGES = np.array([25, 35, 45, 55, 65, 75, 85, 95])
OLDEST = 111
_DECLINED = 0.08  # how much rarer those who decline drugs begin one
_NEVER = -60.0  # added to a log rate: the process cannot happen
DERIVED = [
    "past_50",
    "past_70",
    "is_female",
    "stay_lately",
    "known_cancer",
    "dementia",
    "young_diabetes",
    "beta_blocker_in_low_lvef",
    "admits_freely",
    "apoe4_one",
    "apoe4_two",
]
CANCERS = ("breast_cancer", "colorectal_cancer", "lung_cancer")


@dataclass(frozen=True)
class Rows:
    """Processes of one phase of a month: `base` (rows, ages x sexes), `weights` (rows, covariates).

    `exposure` is the place in `occasions` of what each row's rate counts by (years, visits, orders); `what` and `target`
    say what happens to which condition, drug, order, cause of death or kind of stay.
    """

    names: list[str]
    what: list[str]
    target: npt.NDArray[np.int64]
    base: Floats
    weights: Floats
    exposure: npt.NDArray[np.int64]
    occasions: list[str]

    def of(self, what: str) -> npt.NDArray[np.int64]:
        """The rows in which `what` happens."""
        return np.array([i for i, one in enumerate(self.what) if one == what], np.int64)


@dataclass(frozen=True)
class World:
    """All tables, compiled. Shapes: S states, C covariates, F conditions, D drugs, A ages (0 to 110)."""

    states: list[str]
    conditions: list[str]
    drugs: list[str]
    orders: list[str]
    results: list[str]
    traits: list[str]
    covariates: list[str]
    causes: list[str]
    stays: list[str]
    mean: Floats  # (S, A, 2)
    sd: Floats  # (S, A, 2)
    low: Floats  # (S,)
    high: Floats
    skew: Floats
    trait: Floats
    a_year: Floats
    pace: Floats
    correlation_root: Floats  # (S, S)
    shifts: Floats  # (S, C)
    drifts: Floats  # (S, C)
    scaled: list[tuple[int, float, float, float, float, int]]  # state, from, per, low, high; -1/+1 for a limit, 0 else
    seen: list[tuple[int, float, int]]  # state, limit, -1 or +1
    levels: list[
        tuple[int, int, float, int, list[int], list[int], bool]
    ]  # condition, state, limit, ±1, needs, not, passes
    nature: Rows
    ordering: Rows
    deciding: Rows
    raw: dict[str, Table]


@cache
def load_world(solved: bool = True) -> World:
    """Read and compile the tables; without the corrections of solved.toml when `solved` is False."""
    raw = {path.stem: tomllib.loads(path.read_text()) for path in sorted(TABLES.glob("*.toml"))}
    return compile_world(raw if solved else raw | {"solved": {}})


def compile_world(raw: dict[str, Table]) -> World:
    """Lay the tables out as matrices. Raises KeyError with the name that one table uses and no other defines."""
    states = [name for name in raw["states"] if not name.startswith("_")]
    conditions = [n for n, one in raw["conditions"].items() if "sets" not in one]
    drugs, orders, results = list(raw["treatments"]), list(raw["orders"]), list(raw["measurements"])
    traits = [t for t in raw["care"]["traits"] if t not in ("apoe4", "ever_smoked_at_20")]
    seen = [name for name, one in raw["covariates"].items() if "last" in one]
    scaled = [name for name, one in raw["covariates"].items() if "of" in one]
    known = [f"known_{name}" for name in conditions]
    covariates = [*scaled, *conditions, *drugs, *traits, *DERIVED, *known, *seen]
    place = {name: i for i, name in enumerate(covariates)}
    state_place = {name: i for i, name in enumerate(states)}
    of_states = [raw["states"][name] for name in states]

    def weights(ratios: dict[str, float], needs: list[str], never: list[str]) -> Floats:
        row = np.zeros(len(covariates))
        for name, ratio in ratios.items():
            row[place[name]] += np.log(ratio)
        for name in needs:
            row[place[name]] -= _NEVER
        for name in never:
            row[place[name]] += _NEVER
        return row.astype(np.float32)

    def linear(entries: list[dict[str, float]]) -> Floats:
        matrix = np.zeros((len(entries), len(covariates)), np.float32)
        for i, entry in enumerate(entries):
            for name, value in entry.items():
                matrix[i, place[name]] = value
        return matrix

    def limit(one: dict) -> tuple[float, int]:
        return (one["at_least"], 1) if "at_least" in one else (one["at_most"], -1)

    levels = []
    for name in conditions:
        one = raw["conditions"][name]
        if "when" in one:
            needs, never = ([conditions.index(n) for n in one.get(key, [])] for key in ("needs", "not_with"))
            for when in (one["when"], *one.get("or_when", [])):
                number, passes = conditions.index(name), one.get("passes", False)
                levels.append((number, state_place[when["of"]], *limit(when), needs, never, passes))
    corrections = raw.get("solved", {})
    build = _RowBuilder(weights, corrections.get("rates", {}))
    nature, ordering, deciding = (
        _nature(build, raw, conditions, drugs),
        _orders(build, raw),
        _decisions(build, raw, drugs),
    )
    return World(
        states=states,
        conditions=conditions,
        drugs=drugs,
        orders=orders,
        results=results,
        traits=traits,
        covariates=covariates,
        causes=list(raw["deaths"]),
        stays=[name for name in raw["stays"] if not name.startswith("_")],
        mean=_by_age(of_states, states, corrections.get("means", {})),
        sd=np.stack([_interpolate_sd(one["sd"]) for one in of_states]),
        low=_column(of_states, "low"),
        high=_column(of_states, "high"),
        skew=_column(of_states, "skew"),
        trait=_column(of_states, "trait"),
        a_year=_column(of_states, "a_year"),
        pace=_column(of_states, "pace", 0.0),
        correlation_root=_correlation_root(raw["states"]["_correlations"], state_place),
        shifts=linear([one.get("shifts", {}) for one in of_states]),
        drifts=linear([one.get("drift", {}) for one in of_states]),
        scaled=[_scaling(raw["covariates"][name], state_place) for name in scaled],
        seen=[(state_place[raw["covariates"][n]["last"]], *limit(raw["covariates"][n])) for n in seen],
        levels=levels,
        nature=nature,
        ordering=ordering,
        deciding=deciding,
        raw=raw,
    )


def chance(probability: float) -> float:
    """The rate for one occasion that gives a probability."""
    return -float(np.log1p(-min(probability, 0.9999)))


class _RowBuilder:
    """Collects the rows of one phase after another."""

    def __init__(self, weights, corrections: Table) -> None:
        self._weights, self._corrections = weights, corrections
        self._rows: list[tuple] = []

    def add(
        self, name: str, what: str, target: int, rate: dict, exposure: str, needs=(), never=(), ratios=None
    ) -> None:
        """Add a row; `rate` has female and male for eight ages, or one number for all, per unit of `exposure`."""
        base = np.empty((OLDEST, 2), np.float32)
        for sex, column in enumerate(("female", "male")):
            rates = np.maximum(np.broadcast_to(np.asarray(rate.get(column, rate.get("all")), float), (8,)), 1e-12)
            solved = self._corrections.get(_solved_as(name, what), {}).get(column, [0.0] * 8)
            base[:, sex] = np.interp(np.arange(OLDEST), RATE_AGES, np.log(rates) + solved)
        base += _NEVER * len(needs)
        row = self._weights(ratios or {}, list(needs), list(never))
        self._rows.append((name, what, target, base.reshape(-1), row, exposure))

    def done(self) -> Rows:
        """The phase's rows, and a fresh start."""
        names, what, target, base, weights, exposure = zip(*self._rows, strict=True)
        self._rows = []
        occasions = list(dict.fromkeys(exposure))
        places = np.array([occasions.index(one) for one in exposure], np.int64)
        targets = np.array(target, np.int64)
        return Rows(list(names), list(what), targets, np.stack(base), np.stack(weights), places, occasions)


def _solved_as(name: str, what: str) -> str:
    """The entry of solved.toml that corrects a row: causes of death together, and all ways into a drug."""
    return {"death": "death", "start": f"start of {name.rpartition(' ')[0]}"}.get(what, name)


def _nature(build: _RowBuilder, raw: dict[str, Table], conditions: list[str], drugs: list[str]) -> Rows:
    """What happens as time passes: onsets, ends, deaths, stays, visits, moves, and drugs that people stop taking."""
    for name, one in raw["conditions"].items():
        if "female" in one:
            never = one.get("not_with", [])
            own = [] if "stay" in one or "sets" in one else [name]
            needs, ratios = one.get("needs", []), one.get("ratios", {})
            target = conditions.index(one.get("sets", name))
            build.add(name, "begins", target, _per_year(one), "years", needs, [*never, *own], ratios)
        if "ends" in one:
            build.add(f"end of {name}", "ends", conditions.index(name), {"all": one["ends"] / 1000}, "years", [name])
    for i, (name, one) in enumerate(raw["deaths"].items()):
        build.add(f"death of {name}", "death", i, _per_year(one), "years", ratios=one["ratios"])
    kinds = [name for name in raw["stays"] if not name.startswith("_")]
    for i, name in enumerate(kinds):
        one = raw["stays"][name]
        if "female" in one:
            build.add(name, "stay", i, _per_year(one), "years", one.get("needs", []), ratios=one.get("ratios"))
    for name in ("visit", "emergency", "move"):
        build.add(name, name, 0, _per_year(raw["care"][name]), "years", ratios=raw["care"][name]["ratios"])
    for i, name in enumerate(drugs):
        stops = raw["treatments"][name]["stops"]
        rate = {"all": stops["rate"] / 1000}
        build.add(f"stop of {name}", "stop", i, rate, "years", ratios=stops.get("ratios"))
    return build.done()


def _orders(build: _RowBuilder, raw: dict[str, Table]) -> Rows:
    """What is measured and done on an occasion."""
    for i, (name, one) in enumerate(raw["orders"].items()):
        needs, never, ratios = one.get("needs", []), one.get("not_with", []), one.get("ratios", {})
        build.add(name, "order", i, {"all": chance(one["chance"])}, "visit", needs, never, ratios)
        if one.get("per_stay"):
            build.add(f"{name} in a stay", "order", i, {"all": chance(one["per_stay"])}, "stay", needs, never, ratios)
    return build.done()


def _decisions(build: _RowBuilder, raw: dict[str, Table], drugs: list[str]) -> Rows:
    """What is recognised, rightly or wrongly, and prescribed on an occasion."""
    places = [name for name, one in raw["conditions"].items() if "sets" not in one]
    for name, one in raw["conditions"].items():
        for occasion, how in one.get("found", {}).items():
            needs, never = [name, *how.get("needs", [])], [f"known_{name}", *how.get("not_with", [])]
            rate = {"all": chance(how["chance"])}
            build.add(
                f"{name} at {occasion}", "known", places.index(name), rate, occasion, needs, never, how.get("ratios")
            )
        if "wrongly" in one:
            rate, never = {"all": one["wrongly"] / 1000}, [name, f"known_{name}"]
            build.add(f"{name} wrongly", "known", places.index(name), rate, "visit", [], never)
    for i, name in enumerate(drugs):
        for j, way in enumerate(raw["treatments"][name]["for"]):
            rate, never = {"all": chance(way["chance"])}, [name, *way.get("not_with", [])]
            ratios = way.get("ratios", {}) | {"declines_drugs": _DECLINED}
            build.add(f"{name} {j}", "start", i, rate, "care", way.get("needs", []), never, ratios)
    return build.done()


def _per_year(one: dict) -> dict:
    return {sex: np.asarray(one[sex], float) / 1000 for sex in ("female", "male")}


def _by_age(of_states: list[dict], names: list[str], corrections: Table) -> Floats:
    ages = np.arange(OLDEST)
    table = np.empty((len(names), OLDEST, 2), np.float32)
    for i, (name, one) in enumerate(zip(names, of_states, strict=True)):
        for sex, column in enumerate(("female", "male")):
            added = corrections.get(name, {}).get(column, [0.0] * len(STATE_AGES))
            table[i, :, sex] = np.interp(ages, STATE_AGES, np.asarray(one[column]) + added)
    return table


def _interpolate_sd(sd: float | list[float]) -> Floats:
    values = np.broadcast_to(np.asarray(sd, float), (len(STATE_AGES),))
    return np.repeat(np.interp(np.arange(OLDEST), STATE_AGES, values)[:, None], 2, axis=1).astype(np.float32)


def _column(of_states: list[dict], name: str, default: float = 0.0) -> Floats:
    return np.array([one.get(name, default) for one in of_states], np.float32)


def _scaling(one: dict, place: dict[str, int]) -> tuple[int, float, float, float, float, int]:
    state = place[one["of"]]
    if "per" in one:
        return state, one["from"], one["per"], one["low"], one["high"], 0
    return (state, one["at_least"], 1, 0, 1, 1) if "at_least" in one else (state, one["at_most"], 1, 0, 1, -1)


def _correlation_root(pairs: Table, place: dict[str, int]) -> Floats:
    """The Cholesky root of the correlations, moved to the nearest matrix that has one."""
    matrix = np.eye(len(place))
    for one, others in pairs.items():
        for other, value in others.items():
            matrix[place[one], place[other]] = matrix[place[other], place[one]] = value
    values, vectors = np.linalg.eigh(matrix)
    matrix = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(matrix))
    return np.linalg.cholesky(matrix / np.outer(scale, scale)).astype(np.float32)
