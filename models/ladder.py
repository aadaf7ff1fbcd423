"""Which models answer a question, simplest first, and what are they called?

Every question is answered by the models of LADDER. The comparators that its task names, clinical scores above all,
are rungs of their own between age and sex and the models that read everything. The last rung, the stack, is a weighted
sum of the others.
"""

from collections.abc import Iterable, Sequence

import polars as pl

from features.tasks.schema import Comparator
from models.questions import KEYS

RECURRENT = ("gru_d", "retain")  # one of them, as the study wants
SEQUENCE_MODELS = (*RECURRENT, "timeline_transformer")
STACK = "stack"  # of all but the recurrent network: it would add little, and explaining it costs as much as the rest
LADDER = ("age_sex", "logistic_regression", "lightgbm", *SEQUENCE_MODELS, STACK)
NOT_SIMPLE = (*SEQUENCE_MODELS, STACK)  # they must beat the simpler models to be worth it
WORDS = {
    "age_sex": "Age and sex",
    "logistic_regression": "Logistic regression",
    "lightgbm": "LightGBM",
    "gru_d": "GRU-D",
    "retain": "RETAIN",
    "timeline_transformer": "Timeline transformer",
    "stack": "Stack",
    "ada_risk_reduced": "ADA risk test (reduced)",
    "caide_reduced": "CAIDE (reduced)",
    "cha2ds2_vasc": "CHA₂DS₂-VASc",
    "charlson": "Charlson index",
    "charlson_age": "Charlson index with age",
    "egfr": "eGFR",
    "findrisc_reduced": "FINDRISC (reduced)",
    "hospital": "HOSPITAL score",
    "kfre_2y": "KFRE, 2 years",
    "kfre_5y": "KFRE, 5 years",
    "lace": "LACE index",
    "news2": "NEWS2",
    "pce": "Pooled cohort equations",
    "prevent_ascvd": "PREVENT, ASCVD",
    "prevent_cvd": "PREVENT, total CVD",
    "prevent_hf": "PREVENT, heart failure",
}


def ladder_of(models: Iterable[str]) -> tuple[str, ...]:
    """The models of one question, simplest first: age and sex, its comparators by name, then the others."""
    found = set(models)
    return (
        *(model for model in LADDER[:1] if model in found),
        *sorted(found - set(LADDER)),
        *(model for model in LADDER[1:] if model in found),
    )


def comparators_of(models: Iterable[str]) -> tuple[str, ...]:
    """Those of the models that are comparators, by name."""
    return tuple(sorted(set(models) - set(LADDER)))


def words_of(model: str, comparators: Sequence[Comparator] = ()) -> str:
    """A model's name as people read it: the title that its task gives, else the name of the score."""
    titles = {comparator.name: comparator.title for comparator in comparators}
    return titles.get(model) or WORDS.get(model) or model.replace("_", " ").capitalize()


def shares_with_value(
    rows: pl.DataFrame, features: pl.DataFrame, comparators: Sequence[Comparator]
) -> dict[str, float]:
    """At which share of prediction times each comparator's columns are known; age and sex answer at the others.

    Reads: `rows` (keys; at least one), the feature table. None for a comparator without a column there.
    """
    joined = rows.select(KEYS).join(features, on=KEYS, how="left")
    there = {one.name: [name for name in one.features if name in features.columns] for one in comparators}
    known = {name: pl.all_horizontal(pl.col(columns).is_not_null()) for name, columns in there.items() if columns}
    return {name: float(joined.select(is_known.mean()).item()) for name, is_known in known.items()}
