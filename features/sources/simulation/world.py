"""The tables of the simulation, read once and laid out as matrices: what a step of everybody's life is computed from."""

import tomllib
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


class World:
    """All tables, as they are (`raw`) and compiled. Shapes: S states, C covariates, A ages (0 to 110), 2 sexes.

    Raises ValueError with the name that one table uses and no other defines.
    """

    def __init__(self, raw: Tables) -> None:
        bodies = {name: one for name, one in raw["states"].items() if not name.startswith("_")}
        self.raw, self._bodies = raw, list(bodies.values())
        self.states = list(bodies)
        self.conditions = hazards.true_conditions(raw)
        self.drugs = list(raw["treatments"])
        self.orders = list(raw["orders"])
        self.results = list(raw["measurements"])
        self.causes = list(raw["deaths"])
        self.stays = hazards.true_stays(raw)
        self.traits = [name for name in raw["care"]["traits"] if name not in ("apoe4", "ever_smoked_at_20")]
        self.scaled = [name for name, one in raw["covariates"].items() if "of" in one]  # follow a state
        self.seen = [name for name, one in raw["covariates"].items() if "last" in one]  # follow its last result
        known = [f"known_{name}" for name in self.conditions]
        self.covariates = [*self.scaled, *self.conditions, *self.drugs, *self.traits, *DERIVED, *known, *self.seen]

        means, rates = (raw.get("solved", {}).get(key, {}) for key in ("means", "rates"))
        by_sex = [[one[sex] for sex in SEXES] for one in self._bodies]
        added = [means.get(name, {}) for name in self.states]
        self.mean = np.stack([_by_age(one, more) for one, more in zip(by_sex, added, strict=True)])  # (S, A, 2)
        self.sd = np.stack([_by_age(np.broadcast_to(one["sd"], (2, len(STATE_AGES))), {}) for one in self._bodies])
        self.low, self.high, self.skew = self._column("low"), self._column("high"), self._column("skew")  # (S, 1)
        self.trait, self.a_year, self.pace = self._column("trait"), self._column("a_year"), self._column("pace")
        self.correlation_root = _correlation_root(raw["states"]["_correlations"], self.states)  # (S, S)
        self.shifts, self.drifts = self._linear("shifts"), self._linear("drift")  # (S, C)
        self.nature = Rows(hazards.nature(raw), self.covariates, rates)
        self.ordering = Rows(hazards.orders(raw), self.covariates, rates)
        self.deciding = Rows(hazards.decisions(raw), self.covariates, rates)

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


@cache
def load_world(solved: bool = True) -> World:
    """Read and compile the tables; without the corrections of solved.toml when `solved` is False."""
    raw = {path.stem: tomllib.loads(path.read_text()) for path in sorted(TABLES.glob("*.toml"))}
    return compile_world(raw if solved else raw | {"solved": {}})


def compile_world(raw: Tables) -> World:
    """Lay tables out as matrices."""
    return World(raw)


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
