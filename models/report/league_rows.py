"""What does the report say of the league? The best simpler model of each question, and what the others gain over it."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from features.tasks.schema import Task
from models.ladder import ladder_of, words_of
from models.report.task_words import horizon_words


@dataclass(frozen=True)
class LeagueRow:
    """A question's line, as text: `gains` of each model in the table's order, with its interval and verdict."""

    anchor: str
    title: str
    best_simple: str
    gains: list[tuple[str, str]]


def league_rows(league: pl.DataFrame, tasks: Sequence[Task]) -> tuple[list[str], list[LeagueRow]]:
    """Names of the models that are not simple, and a line for each question that compares one. Reads League.

    No number has more than two digits: a finer one could give away a count that is hidden elsewhere.
    """
    compared = league.filter(pl.col("difference").is_not_null())
    models = ladder_of(compared["model"].unique())
    lines = []
    for name, days in compared.select("task", "horizon_days").unique().sort(pl.all()).iter_rows():
        asked = league.filter(pl.col("task") == name, pl.col("horizon_days") == days)
        rows = {row["model"]: row for row in asked.iter_rows(named=True)}
        task = next((one for one in tasks if one.name == name), None)
        best = next(iter(rows.values()))["best_simple"]
        comparators = task.comparators if task else ()
        lines.append(
            LeagueRow(
                anchor=f"{name}-{days}",
                title=f"{task.title if task else name} {horizon_words(task, days)}",
                best_simple=f"{words_of(best, comparators)}, {rows[best]['auroc']:.2f}",
                gains=[_gain(rows.get(model)) for model in models],
            )
        )
    return [words_of(model) for model in models], lines


def _gain(row: dict[str, float | str | None] | None) -> tuple[str, str]:
    if row is None or row["difference"] is None:
        return "–", ""
    gain, low, high = (f"{row[name]:+.2f}" for name in ("difference", "difference_low", "difference_high"))
    return f"{gain} ({low} to {high})", "" if row["verdict"] == "no difference shown" else str(row["verdict"])
