"""How likely is each outcome for each eligible patient on one day, how sure is that, and why?"""

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.errors import ModelError, ScoringError
from features.result_tables import RiskScores
from features.tables import checked, empty
from models.baselines import lightgbm_log_odds, lightgbm_terms, linear_log_odds, linear_terms
from models.calibration import members_distance, recalibrated, risk_interval
from models.explanation import feature_reasons, largest_reasons
from models.familiarity import unknown_shares, unlike_because
from models.ladder import SEQUENCE_MODELS, STACK
from models.questions import KEYS, Question, feature_matrix
from models.saved_model import ReleasedModel, SavedModel
from models.sequences import build_sequences
from models.stack import stacked
from models.timeline_answers import TimelineAnswers, answers_of


def score_patients(
    model: SavedModel,
    events: pl.LazyFrame,
    features: pl.DataFrame,
    eligible: pl.DataFrame,
    as_of: date,
    data_version: str,
    *,
    codes: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Score every eligible patient with the model released for each question, with interval and reasons.

    Reads Events, the feature table built with `model.definitions`, and `eligible` (subject_id, prediction_time,
    task, horizon_days; one prediction time a patient, in shifted time, which does not reach the output). `codes`
    (Codes) puts the codes in the transformer's reasons into words. Eligible rows of a question without a released
    model get no score. A patient unlike those that the model learnt from (models/familiarity.py) has a row without a
    risk that says so. Returns RiskScores; the same inputs give the same rows.
    What the interval covers, and what not, is said in models/calibration.py.
    Raises ModelError when the feature table does not fit the model, ScoringError when a patient comes twice.
    """
    _check_features(model, features)
    wanted = eligible.select(*KEYS, "task", "horizon_days").sort("task", "horizon_days", "subject_id")
    if wanted.select("subject_id", "task", "horizon_days").is_duplicated().any():
        raise ScoringError("A patient is eligible twice for one task on one day. Give one prediction time for each.")
    unknown = _unknown_codes(model, events, wanted)
    by_timeline = _answers_by_timeline(model, events, wanted, _code_names(codes))
    tables = [empty(RiskScores)]
    for question, entry in sorted(model.questions.items()):
        rows = wanted.filter(pl.col("task") == question.task, pl.col("horizon_days") == question.horizon_days).select(
            KEYS
        )
        if rows.is_empty():
            continue
        matrix = feature_matrix(features, rows, model.feature_columns)
        scores, distance, reasons = _score_question(model, question, entry, rows, events, matrix, by_timeline)
        low, high = risk_interval(entry.calibration[entry.released], scores, distance)
        tables.append(
            rows.with_columns(
                as_of=pl.lit(as_of),
                task=pl.lit(question.task),
                horizon_days=pl.lit(question.horizon_days, pl.Int32),
                risk=pl.Series(recalibrated(entry.calibration[entry.released], scores)),
                risk_low=pl.Series(low),
                risk_high=pl.Series(high),
                unlike_because=_unlike_because(model, entry, rows, matrix, unknown),
                model=pl.lit(entry.released),
                model_version=pl.lit(model.version),
                data_version=pl.lit(data_version),
            )
            .join(_nested(reasons), on=KEYS, how="left", maintain_order="left")
            .with_columns(is_unlike=pl.col("unlike_because").is_not_null())
            .with_columns(
                pl.when(~pl.col("is_unlike")).then(pl.col("risk", "risk_low", "risk_high")),
                reasons=pl.when(~pl.col("is_unlike")).then("reasons"),
            )
            .with_columns(pl.col("reasons").fill_null(pl.lit([], tables[0].schema["reasons"])))
            .select(RiskScores.column_names())
        )
    return checked(pl.concat(tables).sort("task", "horizon_days", "subject_id"), RiskScores)


def _score_question(
    model: SavedModel,
    question: Question,
    entry: ReleasedModel,
    rows: pl.DataFrame,
    events: pl.LazyFrame,
    matrix: NDArray[np.float32],
    by_timeline: Mapping[str, Mapping[Question, TimelineAnswers]],
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, pl.DataFrame]:
    """Log-odds of each row by the released model, the distance of a stack's members from it, and the reasons
    (keys, label, contribution, record_ids).

    The contributions to a stack are those to its members, each times the member's weight: what a feature adds in all
    models that read it is one number.
    """
    counting = counting_models(entry)
    scores: dict[str, NDArray[np.float64]] = {}
    reasons: list[pl.DataFrame] = []
    if by_features := [name for name in counting if name not in SEQUENCE_MODELS]:
        columns = model.feature_columns
        terms = np.zeros(matrix.shape)
        for name in by_features:
            scores[name], of_model, used = _score_by_features(model, question, entry, name, matrix)
            terms[:, [columns.index(feature) for feature in used]] += counting[name] * of_model
        values = rows.hstack(pl.DataFrame(matrix, schema=columns, orient="row"))
        reasons.append(feature_reasons(terms, columns, values, model.definitions, events))
    for name in SEQUENCE_MODELS:
        if name in counting:
            scores[name], of_events = by_timeline[name][question]
            reasons.append(of_events.with_columns(pl.col("contribution") * counting[name]))
    if entry.released != STACK:
        return scores[entry.released], None, largest_reasons(reasons)
    together = stacked(entry.stack, scores)
    return together, members_distance(entry.calibration, scores, together, STACK), largest_reasons(reasons)


def counting_models(entry: ReleasedModel) -> dict[str, float]:
    """The models whose log-odds make up the released score, and the weight of each: of a stack those above 0."""
    weights = entry.stack.weights if entry.released == STACK else {entry.released: 1.0}
    return {name: weight for name, weight in weights.items() if weight > 0}


def _score_by_features(
    model: SavedModel, question: Question, entry: ReleasedModel, name: str, matrix: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Log-odds (N,) of one model that reads the feature table, what features add to them (N, F), their names."""
    columns = model.feature_columns
    if name == "lightgbm":
        trees = model.trees[question]
        return lightgbm_log_odds(trees, matrix), lightgbm_terms(trees, matrix), columns
    linear = entry.linear[name]
    return linear_log_odds(linear, matrix, columns), linear_terms(linear, matrix, columns), linear.features


def _answers_by_timeline(
    model: SavedModel, events: pl.LazyFrame, wanted: pl.DataFrame, code_names: dict[str, str]
) -> dict[str, dict[Question, TimelineAnswers]]:
    """By sequence model, the answers to the questions in which it counts, for the rows of `wanted` in their order."""
    asked = {
        Question(str(task), int(days)) for task, days in wanted.select("task", "horizon_days").unique().iter_rows()
    }
    counting = {question: counting_models(entry) for question, entry in model.questions.items() if question in asked}
    reading = {name: [question for question, names in counting.items() if name in names] for name in SEQUENCE_MODELS}
    if not any(reading.values()):
        return {}
    if model.vocabulary is None or model.sequence_models is None:
        raise ModelError("The saved model lacks the sequence model that was released. Train it again.")
    timelines = build_sequences(events, wanted.select(KEYS).unique().sort(KEYS), model.vocabulary)
    placed = wanted.join(timelines.keys.with_row_index("place"), on=KEYS, how="left", maintain_order="left")
    places = {
        Question(str(task), int(days)): own["place"].to_numpy()
        for (task, days), own in placed.group_by("task", "horizon_days", maintain_order=True)
    }
    return {
        name: answers_of(
            model.sequence_models.networks[name],
            model.sequence_models.shape,
            timelines,
            {question: places[question] for question in questions},
            model.vocabulary,
            code_names,
        )
        for name, questions in reading.items()
        if questions
    }


def _unknown_codes(model: SavedModel, events: pl.LazyFrame, wanted: pl.DataFrame) -> pl.DataFrame:
    """The share of each prediction time's codes that the model has not learnt (keys, unknown)."""
    rows = wanted.select(KEYS).unique(maintain_order=True)
    if model.vocabulary is None:
        return rows.with_columns(unknown=pl.lit(0.0))
    return unknown_shares(events, rows, model.vocabulary)


def _unlike_because(
    model: SavedModel,
    entry: ReleasedModel,
    rows: pl.DataFrame,
    matrix: NDArray[np.float32],
    unknown: pl.DataFrame,
) -> pl.Series:
    """In what each row is unlike the patients that the model learnt from; null where it is not."""
    named = model.definitions.select("feature", pl.col("description").str.split("; ").list.first())
    words = dict(named.iter_rows())
    because = unlike_because(entry.familiarity, matrix, model.feature_columns, words)
    shares = rows.join(unknown, on=KEYS, how="left", maintain_order="left")["unknown"]
    has_unknown = shares > entry.most_unknown
    told = [
        f"{share:.0%} of the codes are not known to the model (more than {entry.most_unknown:.0%})" if is_so else reason
        for share, is_so, reason in zip(shares, has_unknown, because, strict=True)
    ]
    return pl.Series(told, dtype=pl.String)


def _nested(reasons: pl.DataFrame) -> pl.DataFrame:
    """One row per patient with its reasons as a list, in their order."""
    return reasons.group_by(KEYS, maintain_order=True).agg(reasons=pl.struct("label", "contribution", "record_ids"))


def _code_names(codes: pl.DataFrame | None) -> dict[str, str]:
    if codes is None:
        return {}
    named = codes.filter(pl.col("description").is_not_null())
    return dict(named.select("code", "description").iter_rows())


def _check_features(model: SavedModel, features: pl.DataFrame) -> None:
    """Raise ModelError unless the feature table has the columns, in order, that the model was trained on."""
    columns = [name for name in features.columns if name not in KEYS]
    if columns != model.feature_columns:
        different = len(set(columns) ^ set(model.feature_columns))
        raise ModelError(
            f"The feature table does not fit the saved model: {different:,} columns differ"
            f"{'' if different else ' in their order'}. Build it with the definitions saved with the model."
        )
