"""Fit the whole ladder for every task that the records can answer, judge it, release one model a task."""

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from features.counted import in_a_row
from features.result_tables import Evaluations, Predictions, SkippedTasks
from features.settings import StudySettings
from features.tables import checked, empty
from features.tasks.schema import Comparator
from models.calibration import Recalibration, fit_recalibration, recalibrated
from models.costs import FIT, timed
from models.discrimination import draw_resamples
from models.evaluation import bootstrap_seed, choose_released, evaluate, tuning_threshold
from models.familiarity import most_unknown, unknown_shares
from models.ladder import RECURRENT, STACK
from models.questions import KEYS, Question, answerable_questions, question_rows
from models.recurrent import RecurrentSettings
from models.risk_transformer import TransformerSettings
from models.saved_model import ReleasedModel, SavedModel, save_model
from models.simple_models import SimpleModels, fit_simple_models, reading_race
from models.stack import Stack, fit_stack, stacked
from models.timelines import TrainedTimelines, sequence_scores, train_timelines
from models.vocabulary import SequenceVocabulary

NOTHING_RELEASED = "judged, but no model told more than the base rate on tuning patients, so no scores are given"


@dataclass(frozen=True)
class TrainedLadder:
    """What training found: Predictions, Evaluations and SkippedTasks tables, the digest of the saved model, the
    model released for each question, why the other judged questions have none, and the comparators left out."""

    predictions: pl.DataFrame
    evaluations: pl.DataFrame
    skipped: pl.DataFrame
    version: str
    released: dict[Question, str]
    unreleased: dict[Question, str]
    left_out: dict[Question, tuple[str, ...]]


def train_ladder(
    events: pl.LazyFrame,
    labels: pl.DataFrame,
    features: pl.DataFrame,
    definitions: pl.DataFrame,
    settings: StudySettings,
    folder: Path,
    *,
    task_names: tuple[str, ...] = (),
    refused: Mapping[tuple[str, int], str] | None = None,
    comparators: Mapping[str, Sequence[Comparator]] | None = None,
    transformer: TransformerSettings | None = None,
    recurrent: RecurrentSettings | None = None,
) -> TrainedLadder:
    """Train age and sex, logistic regression, LightGBM, the sequence models and the stack of all; save them.

    Reads Events, Labels, the feature table (FeatureKeys and the columns of `definitions`) and FeatureDefinitions.
    `comparators` are further rungs by task, such as clinical scores; one whose columns are missing, or the same for
    all train patients, is left out.
    Censored rows are left out of fitting and judging, except that the sequence models learn from their follow-up;
    who died first had no outcome. For each task the model with the best tuning log-likelihood after recalibration
    is released, so a simple model wins wherever it is better, but none that reads a score by race; none is where the
    best does not beat the base rate (choose_released). Such a task is judged, and stands in `skipped` too, because no
    scores are given for it. Tasks with too few patients are skipped with a reason (`task_names`: the tasks that were
    asked; `refused`: why these records cannot answer some at all). The saved ladder holds only questions with a
    released model.
    The same inputs and seed give the same version. Raises ModelError when a labelled row has no features, and when a
    sequence model's forecasts change with the later rows of a patient; then nothing is saved.
    """
    answerable, skipped = answerable_questions(labels, settings, task_names, refused)
    blank = SavedModel(settings, definitions, {}, {}, None, None, "")
    if not answerable:
        version = save_model(blank, folder)
        return TrainedLadder(empty(Predictions), empty(Evaluations), skipped, version, {}, {}, {})
    chosen = pl.DataFrame(answerable, schema=labels.select("task", "horizon_days").schema, orient="row")
    asked = labels.join(chosen, on=["task", "horizon_days"], how="semi")
    checkpoints = folder.with_name(f"{folder.name}.training")
    # With one thread for each numeric library sums always have one order, and no thread waits for a busy core.
    with threadpool_limits(limits=1):
        simple, timelines = _fit(
            events,
            asked,
            answerable,
            features,
            blank,
            comparators or {},
            transformer or TransformerSettings(),
            recurrent or recurrent_settings(settings),
            checkpoints,
        )
        unknown = _most_unknown(events, asked, timelines.saved.vocabulary)
        ladder = _judge(asked, simple, timelines, unknown, skipped, labels, folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return ladder


def recurrent_settings(settings: StudySettings) -> RecurrentSettings | None:
    """Those of the study's recurrent network; None when it wants none."""
    kind = settings.models.recurrent
    return None if kind == "none" else RecurrentSettings(kind=kind)


def _fit(
    events: pl.LazyFrame,
    labels: pl.DataFrame,
    questions: list[Question],
    features: pl.DataFrame,
    blank: SavedModel,
    comparators: Mapping[str, Sequence[Comparator]],
    transformer: TransformerSettings,
    recurrent: RecurrentSettings | None,
    checkpoints: Path,
) -> tuple[dict[Question, SimpleModels], TrainedTimelines]:
    """Fit everything; the simple models on a second core, while this one trains the sequence models."""
    beside = ThreadPoolExecutor(max_workers=1)
    try:
        fitted = {
            question: beside.submit(
                fit_simple_models,
                question_rows(labels, question),
                features,
                blank.definitions,
                comparators.get(question.task, ()),
                blank.settings,
            )
            for question in questions
        }
        if blank.settings.models.devices > 1:
            wait(fitted.values())  # the sequence models then fork, which must not happen while threads hold locks
        timelines = train_timelines(events, labels, questions, blank, transformer, recurrent, checkpoints)
        return {question: models.result() for question, models in fitted.items()}, timelines
    finally:
        beside.shutdown(cancel_futures=True)


def _judge(
    labels: pl.DataFrame,
    simple: dict[Question, SimpleModels],
    timelines: TrainedTimelines,
    unknown: float,
    skipped: pl.DataFrame,
    asked: pl.DataFrame,
    folder: Path,
) -> TrainedLadder:
    """Calibrate on tuning patients, choose what is released, judge on held-out patients, save.

    labels are those of the questions that were answered, asked all of them. unknown: the share of unknown codes above
    which no risk is told.
    """
    settings = timelines.saved.settings
    predictions, questions, trees = [], {}, {}
    thresholds: dict[tuple[Question, str], float] = {}
    for question, models in tqdm(simple.items(), desc="judging each task", disable=None):
        rows = question_rows(labels, question).filter(pl.col("split") != "train")
        barred = reading_race(models.linear, timelines.saved.definitions)
        scores = models.scores | sequence_scores(timelines, question, rows)
        members = {model: found for model, found in scores.items() if model not in {*barred, *RECURRENT}}
        with timed(STACK, FIT, rows.height):
            stack, scores[STACK] = _stacked(rows, members, bootstrap_seed(settings, question, "folds of the stack"))
        judged, calibration = _recalibrated(rows, question, scores)
        tuning = judged.filter(pl.col("split") == "tuning")
        of_question = {model: tuning_threshold(tuning.filter(pl.col("model") == model)) for model in scores}
        if released := choose_released(tuning.filter(~pl.col("model").is_in(barred)), settings):
            calibration[released] = _with_refits(tuning.filter(pl.col("model") == released), settings)
            questions[question] = ReleasedModel(
                **question._asdict(),
                released=released,
                thresholds=of_question,
                calibration=calibration,
                linear=models.linear,
                stack=stack,
                familiarity=models.familiarity,
                most_unknown=unknown,
            )
            trees[question] = models.trees
        predictions.append(judged)
        thresholds |= {(question, model): threshold for model, threshold in of_question.items()}
    table = checked(pl.concat(predictions).sort("task", "horizon_days", "model", *KEYS), Predictions)
    chosen_models = {question: entry.released for question, entry in questions.items()}
    unreleased = {question: NOTHING_RELEASED for question in simple if question not in questions}
    return TrainedLadder(
        table,
        evaluate(table, chosen_models, thresholds, settings),
        _with_unreleased(skipped, unreleased, asked),
        save_model(replace(timelines.saved, questions=questions, trees=trees), folder),
        chosen_models,
        unreleased,
        {question: models.left_out for question, models in simple.items() if models.left_out},
    )


def _most_unknown(events: pl.LazyFrame, labels: pl.DataFrame, vocabulary: SequenceVocabulary | None) -> float:
    """Above which share of unknown codes a patient is unlike the train patients: of tuning patients' last rows."""
    if vocabulary is None:
        return 1.0
    tuning = labels.filter(pl.col("split") == "tuning").select(KEYS).sort(KEYS).unique("subject_id", keep="last")
    return most_unknown(unknown_shares(events, tuning, vocabulary))


def _stacked(
    judged: pl.DataFrame, members: dict[str, NDArray[np.float64]], seed: list[int]
) -> tuple[Stack, NDArray[np.float64]]:
    """The stack of the members, and its log-odds for `judged`: for tuning rows by stacks that never saw the patient.

    Reads subject_id, split, is_event of a question's tuning and held-out rows.
    """
    is_tuning = (judged["split"] == "tuning").to_numpy()
    tuning = judged.filter(is_tuning)
    stack, unseen = fit_stack(
        {model: found[is_tuning] for model, found in members.items()},
        tuning["is_event"].to_numpy(),
        tuning["subject_id"].to_numpy(),
        seed,
    )
    scores = stacked(stack, members)
    scores[is_tuning] = unseen
    return stack, scores


def _recalibrated(
    judged: pl.DataFrame, question: Question, scores: dict[str, NDArray[np.float64]]
) -> tuple[pl.DataFrame, dict[str, Recalibration]]:
    """Recalibrate each model on tuning rows. Returns Predictions of the question, and the recalibrations.

    `judged`: the question's tuning and held-out rows. `scores`: each model's log-odds of them.
    """
    is_tuning = (judged["split"] == "tuning").to_numpy()
    events = judged["is_event"].to_numpy()
    calibration = {model: fit_recalibration(found[is_tuning], events[is_tuning]) for model, found in scores.items()}
    predictions = [
        judged.with_columns(
            task=pl.lit(question.task),
            horizon_days=pl.lit(question.horizon_days, pl.Int32),
            model=pl.lit(model),
            score=pl.Series(scores[model]),
            risk=pl.Series(recalibrated(calibration[model], scores[model])),
        )
        for model in scores
    ]
    return pl.concat(predictions).select(Predictions.column_names()), calibration


def _with_refits(tuning: pl.DataFrame, settings: StudySettings) -> Recalibration:
    """The recalibration of one model with its refits. Reads Predictions of the model and question, tuning rows."""
    question = Question(*tuning.select("task", "horizon_days").row(0))
    seed = bootstrap_seed(settings, question, "recalibration resamples")
    resamples = draw_resamples(tuning["subject_id"].to_numpy(), settings.bootstrap_resamples, seed)
    return fit_recalibration(tuning["score"].to_numpy(), tuning["is_event"].to_numpy(), resamples)


def _with_unreleased(skipped: pl.DataFrame, unreleased: dict[Question, str], labels: pl.DataFrame) -> pl.DataFrame:
    """SkippedTasks with a reason for each judged question without a released model, one row a task.

    Where `labels` ask a task for several horizons, its reason names those that it is true of.
    """
    horizons = dict(labels.group_by("task").agg(pl.col("horizon_days").n_unique()).iter_rows())
    reasons = dict(skipped.select("task", "reason").iter_rows())
    alike: dict[tuple[str, str], list[str]] = {}
    for question, reason in sorted(unreleased.items()):
        alike.setdefault((question.task, reason), []).append(f"{question.horizon_days:,}")
    for (task, reason), days in alike.items():
        told = reason if horizons[task] == 1 else f"within {in_a_row(days)} days {reason}"
        reasons[task] = f"{reasons[task]}; {told}" if task in reasons else told
    table = pl.DataFrame({"task": list(reasons), "reason": list(reasons.values())}, schema=skipped.schema)
    return checked(table.sort("task"), SkippedTasks)
