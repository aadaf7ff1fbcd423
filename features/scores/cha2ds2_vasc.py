"""How likely is a stroke in atrial fibrillation? CHA2DS2-VASc.

Population: adults with atrial fibrillation on record, of recorded sex. Policy: an illness that is not on record counts
as absent, and the result says so; all of the record counts.
Source: Lip, Chest 2010;137:263-72. `risk` is its adjusted rate of stroke in a year (7,329 patients); the published rate
falls from 7 points to 8. The European guideline of 2024 leaves out the point for sex: another score (CHA2DS2-VA).
"""

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE, IS_FEMALE

STROKES_PER_YEAR = [0.0, 0.013, 0.022, 0.032, 0.040, 0.067, 0.098, 0.096, 0.067, 0.152]
POINTS = {"heart_failure": 1, "hypertension": 1, "diabetes": 1, "stroke_or_embolism": 2, "vascular_disease": 1}


def add_cha2ds2_vasc(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add CHA2DS2-VASc.

    Reads:    the illnesses of POINTS (1 or 0), age_years, is_female (1 or 0).
    Adds:     points_<input>, value (0 to 9), risk (of stroke in a year). Null when an input is null.
    """
    age = pl.col("age_years")
    points = {
        **{illness: pl.col(illness) * weight for illness, weight in POINTS.items()},
        "age_years": (age >= 65).cast(pl.Int8) + (age >= 75).cast(pl.Int8),
        "is_female": pl.col("is_female"),
    }
    value = pl.sum_horizontal(points.values(), ignore_nulls=False)
    return inputs.with_columns(
        **{f"points_{name}": expression for name, expression in points.items()},
        value=value,
        risk=value.replace_strict(
            range(len(STROKES_PER_YEAR)), STROKES_PER_YEAR, default=None, return_dtype=pl.Float64
        ),
    )


SCORES = (
    Score(
        name="cha2ds2_vasc",
        title="CHA2DS2-VASc",
        inputs=(condition("atrial_fibrillation"), *(condition(illness) for illness in POINTS), AGE, IS_FEMALE),
        population=(pl.col("atrial_fibrillation") == 1) & (pl.col("age_years") >= 18),
        formula=add_cha2ds2_vasc,
        meant_for="Adults with atrial fibrillation on record",
        source="Lip, Chest 2010;137:263-72",
        note="Risk: of stroke within a year, the adjusted rate of the source.",
    ),
)
