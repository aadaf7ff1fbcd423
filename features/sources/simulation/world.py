"""The tables of the simulation, read once and laid out as matrices: what a step of everybody's life is computed from."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from features.sources.simulation import hazards
from features.sources.simulation.hazards import OLDEST, RATE_AGES, SEXES, Floats, Rows, Tables

TABLES = Path(__file__).parent / "tables"
STATE_AGES = RATE_AGES[:-1]
DERIVED = (  # covariates that no table defines (bodies.py)
    "past_50 past_70 is_female stay_lately known_cancer dementia young_diabetes beta_blocker_in_low_lvef admits_freely "
    "apoe4_one apoe4_two"
).split()


@dataclass(frozen=True)
class World:
    """All tables, as they are (`raw`) and compiled. Shapes: S states, C covariates, A ages (0 to 110), 2 sexes."""

    raw: Tables
    states: list[str]
    conditions: list[str]
    drugs: list[str]
    orders: list[str]
    results: list[str]
    causes: list[str]
    stays: list[str]
    traits: list[str]
    scaled: list[str]  # covariates that follow a state
    seen: list[str]  # covariates that follow the last result of a state
    covariates: list[str]
    mean: Floats  # (S, A, 2)
    sd: Floats  # (S, A, 2)
    low: Floats  # (S, 1), and so the next five
    high: Floats
    skew: Floats
    trait: Floats
    a_year: Floats
    pace: Floats
    correlation_root: Floats  # (S, S)
    shifts: Floats  # (S, C)
    drifts: Floats  # (S, C)
    nature: Rows
    ordering: Rows
    deciding: Rows

    def of_sites(self, key: str) -> npt.NDArray:
        """What care.toml says of each hospital."""
        return np.array([site[key] for site in self.raw["care"]["sites"]])


@cache
def load_world(solved: bool = True) -> World:
    """Read and compile the tables; without the corrections of solved.toml when `solved` is False."""
    raw = {path.stem: tomllib.loads(path.read_text()) for path in sorted(TABLES.glob("*.toml"))}
    return compile_world(raw if solved else raw | {"solved": {}})


def compile_world(raw: Tables) -> World:
    """Lay the tables out as matrices. Raises ValueError with the name that one table uses and no other defines."""
    bodies = {name: one for name, one in raw["states"].items() if not name.startswith("_")}
    states, conditions, drugs = list(bodies), hazards.true_conditions(raw), list(raw["treatments"])
    traits = [name for name in raw["care"]["traits"] if name not in ("apoe4", "ever_smoked_at_20")]
    scaled = [name for name, one in raw["covariates"].items() if "of" in one]
    seen = [name for name, one in raw["covariates"].items() if "last" in one]
    known = [f"known_{name}" for name in conditions]
    covariates = [*scaled, *conditions, *drugs, *traits, *DERIVED, *known, *seen]
    corrections = raw.get("solved", {})
    rates, means = corrections.get("rates", {}), corrections.get("means", {})

    def column(key: str, default: float | None = None) -> Floats:
        return np.array([[one.get(key, default)] for one in bodies.values()], np.float32)

    def linear(key: str) -> Floats:
        matrix = np.zeros((len(states), len(covariates)), np.float32)
        for row, one in zip(matrix, bodies.values(), strict=True):
            for name, value in one.get(key, {}).items():
                row[covariates.index(name)] = value
        return matrix

    return World(
        raw=raw,
        states=states,
        conditions=conditions,
        drugs=drugs,
        orders=list(raw["orders"]),
        results=list(raw["measurements"]),
        causes=list(raw["deaths"]),
        stays=hazards.true_stays(raw),
        traits=traits,
        scaled=scaled,
        seen=seen,
        covariates=covariates,
        mean=np.stack([_by_age([one[sex] for sex in SEXES], means.get(name, {})) for name, one in bodies.items()]),
        sd=np.stack([_by_age(np.broadcast_to(one["sd"], (2, len(STATE_AGES))), {}) for one in bodies.values()]),
        low=column("low"),
        high=column("high"),
        skew=column("skew", 0),
        trait=column("trait"),
        a_year=column("a_year"),
        pace=column("pace", 0),
        correlation_root=_correlation_root(raw["states"]["_correlations"], states),
        shifts=linear("shifts"),
        drifts=linear("drift"),
        nature=hazards.lay_out(hazards.nature(raw), covariates, rates),
        ordering=hazards.lay_out(hazards.orders(raw), covariates, rates),
        deciding=hazards.lay_out(hazards.decisions(raw), covariates, rates),
    )


def _by_age(knots: npt.ArrayLike, corrections: dict[str, list[float]]) -> Floats:
    """(A, 2) from (2, STATE_AGES), straight between."""
    values = np.asarray(knots, float) + [corrections.get(sex, [0.0] * len(STATE_AGES)) for sex in SEXES]
    return np.stack([np.interp(np.arange(OLDEST), STATE_AGES, one) for one in values], axis=1).astype(np.float32)


def _correlation_root(pairs: Tables, states: list[str]) -> Floats:
    """The Cholesky root of the correlations, moved to the nearest matrix that has one."""
    matrix = np.eye(len(states))
    for one, others in pairs.items():
        for other, value in others.items():
            at = states.index(one), states.index(other)
            matrix[at] = matrix[at[::-1]] = value
    values, vectors = np.linalg.eigh(matrix)
    matrix = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(matrix))
    return np.linalg.cholesky(matrix / np.outer(scale, scale)).astype(np.float32)
