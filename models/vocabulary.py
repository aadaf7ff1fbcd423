"""Which words and number scales does the timeline transformer know? Fitted on train patients.

A token is a code, or `code=answer` for a coded answer. Codes of too few patients share one token per system, such
as `SNOMED//(other)`, so that a saved model holds nothing that only a few people have. What says who somebody is,
or that somebody died or left, is never a token: MEDS_BIRTH (age is given instead), MEDS_DEATH, a move, race,
ethnicity, site.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel

from features.code_families import icd10cm_category, load_code_families
from features.codes import load_code_groups, match_patterns
from features.settings import StudySettings

UNKNOWN = "(nothing known)"
NEVER_SEEN_SYSTEMS = ["MEDS_BIRTH", "MEDS_DEATH", "MOVED_AWAY", "RACE", "ETHNICITY", "SITE"]
MOST_COUNTED = 512
LEVELS = np.linspace(0.02, 0.98, 25)
FARTHEST = 3.0  # of a number's place on its scale, whose quantiles lie between -1 and 1


class NumberScale(BaseModel, frozen=True, extra="forbid"):
    """How a token's numbers, in `unit`, map to quantiles of the train patients (levels 0.02 to 0.98).

    Each patient weighs alike: those who are measured most often are the ill, and among their numbers alone the
    differences between the healthy would vanish.
    """

    unit: str
    values: list[float]
    levels: list[float]


def places_on(scale: NumberScale, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where numbers stand on a scale: between -1 and 1 by quantile, and beyond its ends straight on, to -3 and 3.

    There 2 is as far as from one end to the other; a scale of a single value has no beyond. The ill lie there, for few
    people have a kidney disease: a quantile would make all of them alike.
    """
    low, high = scale.values[0], scale.values[-1]
    beyond = numbers - numbers.clip(low, high)
    pace = 2 / (high - low) if high > low else 0.0
    places = np.interp(numbers, scale.values, scale.levels) * 2 - 1 + beyond * pace
    return np.asarray(places.clip(-FARTHEST, FARTHEST))


class ChronicGroup(BaseModel, frozen=True, extra="forbid"):
    """A group of codes that never resolve, so that having one before the look-back still counts."""

    name: str
    codes: list[str]
    prefixes: list[str]


class SequenceVocabulary(BaseModel, frozen=True, extra="forbid"):
    """Everything that turns events into the sequence models' input. A token's number is its place in `tokens`.

    headings: of each token the wider headings that it belongs to, as numbers of their own: its system, the groups and
    families of its code, and of ICD-10-CM the category. Through them rare codes share what common ones teach. counted:
    the tokens of most patients, at most 512, that are counted over the look-back.
    """

    tokens: list[str]
    scales: dict[str, NumberScale]
    chronic_groups: list[ChronicGroup]
    lookback_days: int
    median_age_years: float
    headings: list[list[int]] = []
    counted: list[int] = []


def visible_system() -> pl.Expr:
    """True for codes that may become tokens."""
    return ~pl.col("code").str.split("//").list.first().is_in(NEVER_SEEN_SYSTEMS)


def token() -> pl.Expr:
    """The token of an event: its code, with the coded answer when there is one."""
    return pl.when(pl.col("text_value").is_null()).then("code").otherwise(pl.format("{}={}", "code", "text_value"))


def other_token() -> pl.Expr:
    """The token shared by the rare codes of a system."""
    return pl.format("{}//(other)", pl.col("code").str.split("//").list.first())


def chronic_groups() -> list[ChronicGroup]:
    """The code groups that never resolve, from the project's code groups."""
    return [
        ChronicGroup(name=group.name, codes=sorted(group.codes), prefixes=sorted(group.prefixes))
        for group in load_code_groups()
        if group.is_chronic
    ]


def chronic_tokens(codes: pl.Series, groups: list[ChronicGroup]) -> pl.DataFrame:
    """The state token of every group that a code belongs to. Columns: code, token (`STATE//<group>`); sorted."""
    patterns = pl.DataFrame(
        [
            (f"STATE//{group.name}", pattern)
            for group in groups
            for pattern in (*group.codes, *(f"{prefix}*" for prefix in group.prefixes))
        ],
        schema={"token": pl.String, "pattern": pl.String},
        orient="row",
    )
    found = match_patterns(pl.DataFrame({"code": codes}), patterns)
    return found.select("code", "token").unique().sort("code", "token")


def fit_vocabulary(
    recent: pl.DataFrame,
    ages_years: NDArray[np.floating],
    groups: list[ChronicGroup],
    settings: StudySettings,
) -> SequenceVocabulary:
    """Learn tokens and number scales from what train patients showed within the look-back.

    Reads `recent`: subject_id, code, text_value, numeric_value, unit; one row per event (the same event may come
    again for another prediction time: it is counted once through `record_id`). `ages_years` at the prediction
    times may hold NaN. A token needs `settings.smallest_cell` patients, and so does a number scale.
    """
    events = recent.unique(["subject_id", "record_id", "known_time", "code", "text_value", "numeric_value", "unit"])
    named = events.with_columns(token=token(), other=other_token())
    common = _of_enough_patients(named, "token", settings.smallest_cell)
    rare = named.join(common, on="token", how="anti")
    others = _of_enough_patients(rare, "other", settings.smallest_cell).rename({"other": "token"})
    states = [f"STATE//{group.name}" for group in groups]
    known_ages = ages_years[~np.isnan(ages_years)]
    tokens = [UNKNOWN, *sorted({*common["token"], *others["token"], *states, "SEX//female", "SEX//male"})]
    return SequenceVocabulary(
        tokens=tokens,
        scales=_number_scales(named.join(common, on="token", how="semi"), settings.smallest_cell),
        chronic_groups=groups,
        lookback_days=settings.lookback_days,
        headings=headings_of(tokens),
        counted=_most_common(named, tokens),
        median_age_years=float(np.median(known_ages)) if known_ages.size else 50.0,
    )


def _most_common(named: pl.DataFrame, tokens: list[str]) -> list[int]:
    """The places of the tokens of most patients; on a tie in the order of the alphabet."""
    known = pl.when(pl.col("token").is_in(tokens)).then("token").otherwise("other")
    patients = named.group_by(known.alias("token")).agg(subjects=pl.col("subject_id").n_unique())
    chosen = patients.sort("subjects", "token", descending=[True, False]).head(MOST_COUNTED)["token"]
    places = {word: place for place, word in enumerate(tokens)}
    return sorted(places[word] for word in chosen if word in places)


def headings_of(tokens: list[str]) -> list[list[int]]:
    """The numbers of the wider headings of each token, in its order."""
    codes = pl.Series([word.partition("=")[0] for word in tokens])
    groups = [(group.name, group.patterns) for group in load_code_groups()]
    families = [(family.name, family.patterns) for family in load_code_families()]
    patterns = pl.DataFrame(
        [(name, pattern) for name, of_heading in groups + families for pattern in of_heading],
        schema={"heading": pl.String, "pattern": pl.String},
        orient="row",
    )
    found: dict[str, set[str]] = {code: {code.split("//")[0]} for code in codes}
    for code, heading in match_patterns(pl.DataFrame({"code": codes}), patterns).select("code", "heading").iter_rows():
        found[code].add(heading)
    for code in codes:
        if category := icd10cm_category(code):
            found[code].add(category)
    numbers = {name: number for number, name in enumerate(sorted(set().union(*found.values())))}
    return [sorted(numbers[name] for name in found[code]) for code in codes]


def _of_enough_patients(events: pl.DataFrame, column: str, fewest: int) -> pl.DataFrame:
    counts = events.group_by(column).agg(subjects=pl.col("subject_id").n_unique())
    return counts.filter(pl.col("subjects") >= fewest).select(column)


def _number_scales(named: pl.DataFrame, fewest: int) -> dict[str, NumberScale]:
    """A scale for each token in its commonest unit; numbers in another unit are left without a value."""
    numbers = named.filter(pl.col("numeric_value").is_finite()).with_columns(pl.col("unit").fill_null(""))
    units = numbers.group_by("token", "unit").agg(rows=pl.len(), subjects=pl.col("subject_id").n_unique())
    chosen = (
        units.filter(pl.col("subjects") >= fewest)
        .sort("token", pl.col("rows"), "unit", descending=[False, True, False])
        .unique("token", keep="first", maintain_order=True)
    )
    scales = {}
    for word, unit in chosen.select("token", "unit").iter_rows():
        measured = numbers.filter(pl.col("token") == word, pl.col("unit") == unit)
        weights = measured.select(1 / pl.len().over("subject_id")).to_series().to_numpy()
        # Inner quantiles only: the smallest and largest value belong to single people.
        values = measured["numeric_value"].cast(pl.Float64).to_numpy()
        patients = measured["subject_id"].n_unique()
        inner = LEVELS.clip(1.5 / patients, 1 - 1.5 / patients)
        knots = np.quantile(values, inner, weights=weights, method="inverted_cdf")
        distinct, place = np.unique(knots, return_inverse=True)
        levels = np.bincount(place, weights=LEVELS) / np.bincount(place)
        scales[word] = NumberScale(unit=unit, values=distinct.tolist(), levels=levels.tolist())
    return scales
