"""Which tasks can these records answer, and on which rows is each fitted and judged?

A question is a task with one horizon. Rows with unknown outcome (`censored`) are left out of fitting and judging
of yes-or-no models; patients who died first had no outcome within the horizon.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.counted import counted
from features.errors import ModelError
from features.result_tables import SkippedTasks
from features.settings import StudySettings
from features.tables import SPLITS, checked

KEYS = ["subject_id", "prediction_time"]


class Question(NamedTuple):
    """A task asked for one horizon."""

    task: str
    horizon_days: int


def question_rows(labels: pl.DataFrame, question: Question) -> pl.DataFrame:
    """The rows of a question whose outcome is known: keys, split, is_event; sorted by the keys."""
    return (
        labels.filter(
            pl.col("task") == question.task,
            pl.col("horizon_days") == question.horizon_days,
            pl.col("state") != "censored",
        )
        .select(*KEYS, "split", is_event=pl.col("state") == "event")
        .sort(KEYS)
    )


def answerable_questions(
    labels: pl.DataFrame,
    settings: StudySettings,
    task_names: tuple[str, ...] = (),
    refused: Mapping[tuple[str, int], str] | None = None,
) -> tuple[list[Question], pl.DataFrame]:
    """Split the asked questions into those with enough patients and those without.

    Reads `labels` (Labels). `task_names` are tasks that were asked, so that one without any row is told as well;
    `refused` why these records cannot answer a task at all, by task and horizon (features.tasks.in_records).
    Returns the questions sorted by name and horizon, and SkippedTasks with a reason for each other task. A reason
    never holds a count of patients below `settings.smallest_cell`.
    """
    refused = refused or {}
    asked = sorted(Question(*row) for row in labels.select("task", "horizon_days").unique().iter_rows())
    asked = [question for question in asked if question not in refused]
    answerable = []
    reasons: dict[str, list[str]] = {
        name: ["no prediction time was eligible"]
        for name in task_names
        if name not in {question.task for question in asked} | {task for task, _ in refused}
    }
    for (task, _), reason in refused.items():
        if reason not in reasons.setdefault(task, []):
            reasons[task].append(reason)
    for question in asked:
        if lacking := _lacking(question_rows(labels, question), settings):
            reasons.setdefault(question.task, []).append(f"within {question.horizon_days:,} days {lacking}")
        else:
            answerable.append(question)
    skipped = pl.DataFrame(
        {"task": list(reasons), "reason": ["; ".join(parts) for parts in reasons.values()]},
        schema={"task": pl.String, "reason": pl.String},
    )
    return answerable, checked(skipped.sort("task"), SkippedTasks)


def feature_matrix(features: pl.DataFrame, rows: pl.DataFrame, columns: list[str]) -> NDArray[np.float32]:
    """The features of `rows` (keys) in their order. Raises ModelError when a row or a column is missing."""
    if lacking := sorted(set(columns) - set(features.columns)):
        raise ModelError(
            f"The feature table lacks {counted(len(lacking), 'column')} that the model reads, such as {lacking[0]}. "
            "Build it with the feature definitions saved with the model, or train again with `sequela run`."
        )
    found = rows.select(KEYS).join(features.with_columns(is_found=True), on=KEYS, how="left", maintain_order="left")
    if absent := found["is_found"].null_count():
        raise ModelError(
            f"{absent:,} of {rows.height:,} prediction times have no row in the feature table. "
            "Build the feature table for the same prediction times."
        )
    return found.select(pl.col(columns).cast(pl.Float32)).to_numpy().reshape(rows.height, len(columns))


def _lacking(rows: pl.DataFrame, settings: StudySettings) -> str:
    """Say which group of patients is too small to fit or judge; empty when none is."""
    had_event = rows.group_by("split", "subject_id").agg(pl.col("is_event").any())
    missing = []
    for split in SPLITS:
        of_split = had_event.filter(pl.col("split") == split)["is_event"]
        needed = (
            settings.fewest_subjects_with_event if split == "train" else settings.fewest_judging_subjects_with_event
        )
        for patients, wording in (
            (int(of_split.sum()), "had the outcome"),
            (int((~of_split).sum()), "were known not to have it"),
        ):
            if patients < needed:
                told = _told(patients, min(settings.smallest_cell, needed))
                missing.append(f"{told} {split.replace('_', '-')} patients {wording} ({needed} are needed)")
    return ", ".join(missing)


def _told(count: int, smallest_shown: int) -> str:
    # Saying that a group is too small already says that it is below what is needed, so this tells nothing more.
    return f"{count:,}" if count >= smallest_shown else f"fewer than {smallest_shown}"
