"""How ill is an acutely ill patient now? The National Early Warning Score 2.

Population: people of 16 or more, not pregnant, in an emergency visit or a hospital stay or within the day after it; to
others the score does not speak. Oxygen scale 1: scale 2 is for patients for whom a clinician has prescribed a target of
88 to 92 %, which no standard code says.
Policy: each of the five vital signs must have been measured in the last 24 hours, else null. Oxygen and consciousness
are mostly recorded when they are not normal: air, and alert (Glasgow coma scale 15), are assumed and the result says
so. In a source that holds none of those codes the score is partial: five vital signs, 0 to 15 points. One that is
recorded but cannot be read makes the score null. New confusion is seen only as a Glasgow coma scale below 15.
Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017. Temperatures are rounded to 0.1 °C, as
the bands are written; it publishes no probability.
"""

import polars as pl

from features.scores.conditions import condition
from features.scores.engine import Score
from features.scores.inputs import AGE, Input, or_normal, systolic_bp, value
from features.scores.stays import IN_ACUTE_CARE

WINDOW_DAYS = 1
PREGNANCY_DAYS = 280
_AIR_PERCENT = 21

# Upper ends of the bands with the points of each; the last band is open. A value on an end belongs below it.
BANDS: dict[str, tuple[list[float], list[int]]] = {
    "respiratory_rate": ([8, 11, 20, 24], [3, 1, 0, 2, 3]),
    "oxygen_saturation": ([91, 93, 95], [3, 2, 1, 0]),
    "systolic_bp": ([90, 100, 110, 219], [3, 2, 1, 0, 3]),
    "heart_rate": ([40, 50, 90, 110, 130], [3, 1, 0, 1, 2, 3]),
    "temperature": ([35.0, 36.0, 38.0, 39.0], [3, 1, 0, 1, 2]),
}


def add_news2(inputs: pl.LazyFrame) -> pl.LazyFrame:
    """Add NEWS2, oxygen scale 1.

    Reads:    respiratory_rate (/min), oxygen_saturation (%), systolic_bp (mm[Hg]), heart_rate (/min), temperature
              (Cel), oxygen_flow (L/min, 0 on air), inspired_oxygen (%, 21 on air), glasgow_coma_scale (15 when alert).
    Adds:     points_<input>, value (0 to 20). Null when an input is null.
    """
    on_flow = pl.col("oxygen_flow") > 0
    points = {
        **{name: _banded(name) for name in BANDS},
        "oxygen_flow": on_flow.cast(pl.Int32) * 2,
        # Oxygen counts once, however it was recorded.
        "inspired_oxygen": ((pl.col("inspired_oxygen") > _AIR_PERCENT) & ~on_flow).cast(pl.Int32) * 2,
        "glasgow_coma_scale": (pl.col("glasgow_coma_scale") < 15).cast(pl.Int32) * 3,
    }
    return inputs.with_columns(
        **{f"points_{name}": expression for name, expression in points.items()},
        value=pl.sum_horizontal(points.values(), ignore_nulls=False),
    )


def _banded(name: str) -> pl.Expr:
    """The points of a vital sign; heart rates and the like are whole numbers, temperatures have one decimal."""
    ends, points = BANDS[name]
    measured = pl.col(name).round(1 if name == "temperature" else 0, mode="half_away_from_zero")
    banded = pl.lit(points[-1])
    for end, of_band in reversed(list(zip(ends, points, strict=False))):
        banded = pl.when(measured <= end).then(of_band).otherwise(banded)
    return pl.when(measured.is_not_null()).then(banded)


def _vital(name: str, description: str, unit: str, *codes: str, fahrenheit: bool = False) -> Input:
    conversions = (("[degF]", 5 / 9, -160 / 9),) if fahrenheit else ()
    return value(name, codes, unit, description, window_days=WINDOW_DAYS, conversions=conversions)


SCORES = (
    Score(
        name="news2",
        title="NEWS2, oxygen scale 1; partial where oxygen and consciousness are not recorded",
        inputs=(
            _vital("respiratory_rate", "Respiratory rate", "/min", "LOINC//9279-1"),
            _vital("oxygen_saturation", "Oxygen saturation", "%", "LOINC//59408-5", "LOINC//2708-6"),
            systolic_bp(WINDOW_DAYS),
            _vital("heart_rate", "Heart rate", "/min", "LOINC//8867-4"),
            _vital("temperature", "Body temperature", "Cel", "LOINC//8310-5", "LOINC//8331-1", fahrenheit=True),
            or_normal(_vital("oxygen_flow", "Flow of inhaled oxygen", "L/min", "LOINC//3151-8"), 0),
            or_normal(_vital("inspired_oxygen", "Inhaled oxygen", "%", "LOINC//3150-0"), _AIR_PERCENT),
            or_normal(_vital("glasgow_coma_scale", "Glasgow coma scale", "{score}", "LOINC//9269-2"), 15),
            AGE,
            condition("pregnancy", window_days=PREGNANCY_DAYS),
            IN_ACUTE_CARE,
        ),
        population=(pl.col("age_years") >= 16) & (pl.col("pregnancy") == 0) & (pl.col("in_acute_care") == 1),
        formula=add_news2,
        meant_for="16 years or more, not pregnant, in an emergency visit or hospital stay or within the day after",
        source="Royal College of Physicians, National Early Warning Score (NEWS) 2, 2017",
        note="Scale 2 is not used: no standard code says that a target of 88 to 92 % was prescribed. Where a source "
        "records neither inhaled oxygen nor the Glasgow coma scale, the score is partial: the points of five vital "
        "signs, 0 to 15, with air and alertness assumed for everybody (`assumed_normal`).",
    ),
)
