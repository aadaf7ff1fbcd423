"""How does a reason read? Features, events and their values in words that a clinician need not look up."""

import re

import polars as pl

YES_OR_NO = ["is_present", "is_female"]
VISIT_WORDS = {
    "AMB": "Outpatient visit",
    "EMER": "Emergency visit",
    "IMP": "Hospital stay",
    "OBSENC": "Observation stay",
    "HH": "Home visit",
    "VR": "Virtual visit",
    "OTHER": "Other visit",
}
UNIT_WORDS = {"a": "years", "d": "days", "1": ""}
# Coded answers stand in no record as a code of their own, so their wording is not met. These are the commonest:
# smoking status as US Core requires it, yes and no, negative and positive.
ANSWER_WORDS = {
    "SNOMED//449868002": "smokes daily",
    "SNOMED//428041000124106": "smokes occasionally",
    "SNOMED//428071000124103": "smokes heavily",
    "SNOMED//428061000124105": "smokes lightly",
    "SNOMED//77176002": "smoker",
    "SNOMED//8517006": "former smoker",
    "SNOMED//266919005": "never smoked",
    "SNOMED//266927001": "smoking status unknown",
    "SNOMED//373066001": "yes",
    "SNOMED//373067005": "no",
    "SNOMED//260385009": "negative",
    "SNOMED//10828004": "positive",
}
# What the rare codes of a system, which share one token, are.
RARE_WORDS = {
    "ENCOUNTER_PRIORITY": "How urgent a visit was",
    "ENCOUNTER_REASON": "A less common reason for a visit",
    "ENCOUNTER_TYPE": "A less common type of visit",
    "RXNORM": "A less common medicine",
    "LOINC": "A less common measurement",
    "SNOMED": "A less common condition or procedure",
}
# SNOMED CT's kind in round brackets, LOINC's property in square ones.
KIND_IN_BRACKETS = r"\s*(\((finding|disorder|procedure|situation|observable entity|regime/therapy)\)|\[[^\]]*\])"


def token_name(token: str, code_names: dict[str, str]) -> str:
    """A token in words: `Body mass index`, `Smoking status: former smoker`, `Hospital stay (end)`.

    `code_names` puts codes into words. A code without a name stands for itself, an answer without a name loses its
    system.
    """
    if token.endswith("//(other)"):
        system = token.removesuffix("//(other)")
        return RARE_WORDS.get(system, f"A less common {system} code")
    if token.startswith("STATE//"):
        return f"Before the look-back: {token.removeprefix('STATE//').replace('_', ' ')}"
    if token.startswith("SEX//"):
        return f"Sex: {token.removeprefix('SEX//')}"
    if token.startswith("ENCOUNTER//"):
        _, visit_class, moment = token.split("//")
        return f"{VISIT_WORDS.get(visit_class, visit_class)} ({moment})"
    code, _, answer = token.partition("=")
    name = _without_kind(code_names.get(code, code))
    if not answer:
        return name
    in_words = ANSWER_WORDS.get(answer) or code_names.get(answer) or answer.rpartition("//")[2]
    return f"{name}: {_without_kind(in_words)}"


def feature_label() -> pl.Expr:
    """A feature with its value: `Age 55 to 59 years`, `Chronic pain, ever known: no`, `Chloride, highest value in 2
    years: 111 mmol/L`. Reads feature, description, unit, statistic (FeatureDefinitions) and value."""
    value = pl.col("value")
    is_unknown = value.is_nan() | value.is_null()
    told = (
        pl.when(is_unknown)
        .then(pl.lit("not recorded"))
        .when(pl.col("statistic").is_in(YES_OR_NO))
        .then(pl.when(value > 0).then(pl.lit("yes")).otherwise(pl.lit("no")))
        .when((pl.col("statistic") == "sum_of_stays") & (value == 0))
        .then(pl.lit("none"))
        .when(pl.col("statistic") == "years_since_first")
        .then(_years_in_words())
        .when(pl.col("unit") == "d")
        .then(_days_in_words())
        .otherwise(pl.format("{} {}", _short("value"), _unit_in_words()).str.strip_chars_end())
    )
    return (
        pl.when(pl.col("statistic") == "age")
        .then(pl.when(is_unknown).then(pl.lit("Age: not recorded")).otherwise(_age_in_words()))
        .otherwise(_feature_name() + ": " + told)
    )


def number_in_words() -> pl.Expr:
    """The number of an event after its name: `: 6.5 %`; empty without a number. Reads number, unit."""
    return pl.format(": {} {}", _short("number"), _unit_in_words()).str.strip_chars_end().fill_null("")


def _without_kind(wording: str) -> str:
    return re.sub(KIND_IN_BRACKETS, "", wording)


def _unit_in_words() -> pl.Expr:
    """The unit, without what UCUM only annotates: `{score}`."""
    return pl.col("unit").fill_null("").replace(UNIT_WORDS).str.replace_all(r"\{[^}]*\}", "")


def _feature_name() -> pl.Expr:
    """The description of a feature, shortened: its first part, with windows in months or years."""
    return (
        pl.when(pl.col("statistic") == "is_female")
        .then(pl.lit("Female"))
        .otherwise("description")
        .fill_null(pl.col("feature"))
        .str.split("; ")
        .list.first()
        .str.replace_all(KIND_IN_BRACKETS, "")
        .str.replace_all(": ", ", ", literal=True)
        .str.replace(" in the last 730 days", " in 2 years", literal=True)
        .str.replace(" in the last 365 days", " in 1 year", literal=True)
        .str.replace(" in the last 180 days", " in 6 months", literal=True)
        .str.replace(" in the last 30 days", " in 1 month", literal=True)
        .str.replace("^Days since the end of the last (.+) at least a day ago$", "Time since the last $1")
        .str.replace("days since the latest value", "time since the latest value", literal=True)
    )


def _days_in_words() -> pl.Expr:
    """Coarse on purpose: the exact days between an event and a real scoring day would tell the person's date shift."""
    days = pl.col("value")
    return (
        pl.when(days < 30)
        .then(pl.lit("less than a month"))
        .when(days < 183)
        .then(pl.lit("one to six months"))
        .when(days < 365)
        .then(pl.lit("six months to a year"))
        .otherwise(pl.lit("more than a year"))
    )


def _years_in_words() -> pl.Expr:
    """Coarse for the same reason."""
    years = pl.col("value")
    return (
        pl.when(years < 1)
        .then(pl.lit("less than one"))
        .when(years < 5)
        .then(pl.lit("one to five"))
        .when(years < 10)
        .then(pl.lit("five to ten"))
        .otherwise(pl.lit("more than ten"))
    )


def _age_in_words() -> pl.Expr:
    """The band of five years that an age lies in; coarse for the same reason. Ages above 90 are given as 90."""
    first = (pl.col("value") // 5 * 5).cast(pl.Int64, strict=False)
    return (
        pl.when(pl.col("value") >= 90)
        .then(pl.lit("Age 90 years or more"))
        .otherwise(pl.format("Age {} to {} years", first, first + 4))
    )


def _short(column: str) -> pl.Expr:
    rounded = pl.col(column).cast(pl.Float64).round_sig_figs(3)
    is_whole = rounded == rounded.round(0)
    return (
        pl.when(is_whole).then(rounded.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(rounded.cast(pl.String))
    )
