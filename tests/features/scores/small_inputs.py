"""Formulas of scores asked with few numbers: inputs that are not named are absent or normal."""

import polars as pl

from features.scores.engine import Score
from features.scores.registry import load_scores

NORMAL = {
    "oxygen_flow": 0.0,
    "inspired_oxygen": 21.0,
    "glasgow_coma_scale": 15.0,
    "respiratory_rate": 18.0,
    "oxygen_saturation": 96.0,
    "systolic_bp": 120.0,
    "heart_rate": 75.0,
    "temperature": 37.0,
    "haemoglobin": 14.0,
    "sodium": 140.0,
    "age_years": 40.0,
}


def score_of(name: str) -> Score:
    return load_scores([name])[0]


def formula(name: str, **inputs: float | None) -> dict[str, float | None]:
    """The row that the formula of a score makes of these inputs."""
    score = score_of(name)
    unknown = set(inputs) - {one.name for one in score.inputs}
    assert not unknown, unknown
    row = {one.name: [inputs.get(one.name, NORMAL.get(one.name, 0.0))] for one in score.inputs}
    table = pl.LazyFrame(row, schema=dict.fromkeys(row, pl.Float64))
    return score.formula(table).collect().row(0, named=True)


def value(name: str, **inputs: float | None) -> float | None:
    return formula(name, **inputs)["value"]
