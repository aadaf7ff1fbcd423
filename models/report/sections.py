"""What does the report say of one task? Its definition, its patients, the ladder, calibration, and one threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import polars as pl

from features.record_shape import SHAPE
from features.settings import StudySettings
from features.tasks.schema import Task
from models.discrimination import auroc_difference, draw_resamples
from models.evaluation import bootstrap_seed, ranking
from models.ladder import ladder_of, shares_with_value, words_of
from models.questions import Question
from models.report.calibration_groups import RiskGroup, risk_groups
from models.report.figures import calibration_picture, roc_picture
from models.report.population import PartRow, left_out, part_rows
from models.report.small_cells import is_small, people_in_cells, share
from models.report.task_words import horizon_words, task_facts


@dataclass(frozen=True)
class Rung:
    """A line of the ladder's table, as text. `known_for`: of how many prediction times a comparator has a value, unless
    it has one of all."""

    name: str
    known_for: str
    is_released: bool
    auroc: str
    difference: str
    auprc: str
    brier: str
    slope: str
    intercept: str
    observed_expected: str


@dataclass(frozen=True)
class OperatingPoint:
    """What happens at the threshold. `cells` is empty when a cell holds too few people."""

    threshold: str
    flags_nobody: bool
    cells: dict[str, str]
    accuracy: str
    majority_accuracy: str
    sensitivity: str
    specificity: str
    positive_predictive_value: str


@dataclass(frozen=True)
class AuditWords:
    """Whether the shape of the records gives the outcome away, as text."""

    gives_away: bool
    auroc: str
    age_sex_auroc: str
    difference: str
    most_used: str


@dataclass(frozen=True)
class TaskSection:
    """One question's part of the page. Without a released model `released` and the pictures of it are empty.

    `is_guess` says that the released model's held-out AUROC interval holds 0.5. `not_compared` are the comparators that
    these records could not tell.
    """

    anchor: str
    title: str
    description: str
    facts: list[tuple[str, str]]
    parts: list[PartRow]
    followed_too_short: str
    died_first: str
    rungs: list[Rung]
    audit: AuditWords | None
    not_compared: list[str]
    released: Rung | None
    is_guess: bool
    operating_point: OperatingPoint | None
    roc: str
    calibration: str
    risk_groups: list[dict[str, str]]


def task_section(
    question: Question,
    task: Task | None,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
    evaluations: pl.DataFrame,
    settings: StudySettings,
    audits: pl.DataFrame | None = None,
    features: pl.DataFrame | None = None,
) -> TaskSection:
    """Gather one question's part. Reads Labels, Predictions, Evaluations and, when there are any, Audits.

    `task` is None when it is not known. `features`: keys and the columns of comparators, to tell how often those have a
    value.
    """
    smallest = settings.smallest_cell
    is_asked = (pl.col("task") == question.task) & (pl.col("horizon_days") == question.horizon_days)
    held_out = predictions.filter(is_asked, pl.col("split") == "held_out").sort("subject_id", "prediction_time")
    ladder = ladder_of(held_out["model"].unique())
    by_model = {model: held_out.filter(pl.col("model") == model) for model in ladder}
    table = {row["model"]: row for row in evaluations.filter(is_asked).rows(named=True)}
    released = next((model for model, row in table.items() if row["is_released"]), None)
    first = by_model[ladder[0]]
    subjects, events = first["subject_id"].to_numpy(), first["is_event"].to_numpy()
    with_event = first.filter("is_event")["subject_id"].n_unique()
    is_rounded = is_small(with_event, smallest)
    ranks = {model: ranking(frame["score"].to_numpy(), frame["risk"].to_numpy()) for model, frame in by_model.items()}
    seed = bootstrap_seed(settings, question, "held-out resamples")
    resamples = draw_resamples(subjects, settings.bootstrap_resamples, seed)
    differences = {model: auroc_difference(ranks[model], ranks["age_sex"], events, resamples) for model in ladder[1:]}
    point = _operating_point(table[released], by_model[released], smallest) if released else None
    is_rounded |= point is not None and not point.cells
    comparators = task.comparators if task else ()
    words = {model: words_of(model, comparators) for model in ladder}
    valued = {} if features is None else shares_with_value(first, features, comparators)
    rungs = {
        model: _rung(words[model], table[model], differences.get(model), is_rounded, valued.get(model, 1.0))
        for model in ladder
    }
    groups = (
        risk_groups(by_model[released]["risk"].to_numpy(), events, subjects, smallest, resamples) if released else []
    )
    asked = labels.filter(is_asked)
    followed_too_short, died_first = left_out(asked, smallest)
    return TaskSection(
        anchor=f"{question.task}-{question.horizon_days}",
        title=f"{title_of(question.task, [task] if task else [])} {horizon_words(task, question.horizon_days)}",
        description=task.description if task else "",
        facts=task_facts(task, question.horizon_days) if task else [],
        parts=part_rows(asked, smallest),
        followed_too_short=followed_too_short,
        died_first=died_first,
        rungs=list(rungs.values()),
        audit=_audit(audits.filter(is_asked)) if audits is not None else None,
        not_compared=[words_of(one.name, comparators) for one in comparators if one.name not in rungs],
        released=rungs[released] if released else None,
        is_guess=released is not None and table[released]["auroc_low"] <= 0.5 <= table[released]["auroc_high"],
        operating_point=point,
        roc="" if is_small(with_event, smallest) else roc_picture({m: (ranks[m], events) for m in ladder}, words),
        calibration=calibration_picture(groups) if groups else "",
        risk_groups=[_group_row(group) for group in groups],
    )


def _audit(audit: pl.DataFrame) -> AuditWords | None:
    """Of the one row of Audits, or none."""
    for row in audit.rows(named=True):
        gain, low, high = (f"{row[name]:+.2f}" for name in ("difference", "difference_low", "difference_high"))
        return AuditWords(
            gives_away=row["verdict"] == "gives away",
            auroc=f"{row['auroc']:.2f}",
            age_sex_auroc=f"{row['age_sex_auroc']:.2f}",
            difference=f"{gain} ({low} to {high})",
            most_used=SHAPE[row["most_used"]],
        )
    return None


def title_of(name: str, tasks: Sequence[Task]) -> str:
    """A task's title, or its name in words when the task is not among `tasks`."""
    return next((task.title for task in tasks if task.name == name), name.replace("_", " ").capitalize())


def _rung(
    name: str,
    row: dict[str, float],
    difference: tuple[float, float, float] | None,
    is_rounded: bool,
    share_with_value: float,
) -> Rung:
    """A line of the ladder. With `is_rounded` no number has more than two digits: a finer one could give away a
    count that is hidden elsewhere."""
    digits, fine = (2, 2) if is_rounded else (3, 4)
    signed = None if difference is None else [f"{number:+.{digits}f}" for number in difference]
    return Rung(
        name=name,
        known_for="" if share_with_value > 0.995 else share(share_with_value, is_rounded),
        is_released=bool(row["is_released"]),
        auroc=f"{row['auroc']:.{digits}f} ({row['auroc_low']:.{digits}f} to {row['auroc_high']:.{digits}f})",
        difference="–" if signed is None else f"{signed[0]} ({signed[1]} to {signed[2]})",
        auprc=f"{row['auprc']:.{digits}f}",
        brier=f"{row['brier']:.{fine}f}",
        slope=_slope(row),
        intercept=_number(row["calibration_intercept"]),
        observed_expected=_number(row["observed_expected"]),
    )


def _operating_point(row: dict[str, float], judged: pl.DataFrame, smallest: int) -> OperatingPoint:
    people = people_in_cells(judged, row["threshold"])
    # One small cell could be worked out from the others and the totals, so then none of the four is shown.
    is_hidden = any(is_small(count, smallest) for count in people.values())
    ends = {
        name: f" ({row[f'{name}_low'] * 100:.0f} to {row[f'{name}_high'] * 100:.0f} %)" if not is_hidden else ""
        for name in ("sensitivity", "specificity")
    }
    return OperatingPoint(
        threshold=f"{row['threshold'] * 100:.1f} %",
        flags_nobody=row["true_positives"] + row["false_positives"] == 0,
        cells={} if is_hidden else {name: f"{row[name]:,}" for name in people},
        accuracy=share(row["accuracy"], is_hidden),
        majority_accuracy=share(row["majority_accuracy"], is_hidden),
        sensitivity=share(row["sensitivity"], is_hidden) + ends["sensitivity"],
        specificity=share(row["specificity"], is_hidden) + ends["specificity"],
        positive_predictive_value=share(row["positive_predictive_value"], is_hidden),
    )


def _group_row(group: RiskGroup) -> dict[str, str]:
    return {
        "forecast": f"{group.forecast * 100:.1f} %",
        "observed": f"{group.observed * 100:.1f} % ({group.low * 100:.0f} to {group.high * 100:.0f} %)",
        "times": f"{group.times:,}",
        "patients": f"{group.patients:,}",
    }


def _slope(row: dict[str, float]) -> str:
    slope, low, high = (_number(row[f"calibration_slope{end}"]) for end in ("", "_low", "_high"))
    return slope if row["calibration_slope_low"] is None else f"{slope} ({low} to {high})"


def _number(value: float | None) -> str:
    return "–" if value is None or isnan(value) else f"{value:.2f}"
