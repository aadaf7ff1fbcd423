"""Which counts may be shown? None that stands for fewer people than the smallest cell, but nought."""

from math import isnan

import polars as pl

ROUNDED_TO = 20


def is_small(people: int, smallest_cell: int) -> bool:
    """Whether so few people stand behind a number that it is not shown."""
    return 0 < people < smallest_cell


def shown(count: int, people: int, smallest_cell: int) -> str:
    """A count as text. `people` is how many persons stand behind it."""
    return f"fewer than {smallest_cell}" if is_small(people, smallest_cell) else f"{count:,}"


def shown_together(counts: list[int], smallest_cell: int) -> list[str]:
    """Counts of people that add up to a total that is shown elsewhere, with their shares.

    If one is too small, the others are rounded: exact ones, taken from the total, would give the small one away.
    """
    total = max(1, sum(counts))
    if not any(is_small(count, smallest_cell) for count in counts):
        return [f"{count:,} ({count / total * 100:.0f} %)" if count else "0" for count in counts]
    return [
        f"about {round(count / ROUNDED_TO) * ROUNDED_TO:,}"
        if count >= smallest_cell
        else shown(count, count, smallest_cell)
        for count in counts
    ]


def people_in_cells(predictions: pl.DataFrame, threshold: float) -> dict[str, int]:
    """How many people stand in each cell of the confusion matrix. Reads Predictions of one model and split."""
    flagged = pl.col("risk") >= threshold
    cells = predictions.with_columns(
        cell=pl.when(flagged & pl.col("is_event"))
        .then(pl.lit("true_positives"))
        .when(flagged)
        .then(pl.lit("false_positives"))
        .when(pl.col("is_event"))
        .then(pl.lit("false_negatives"))
        .otherwise(pl.lit("true_negatives"))
    )
    counted = cells.group_by("cell").agg(pl.col("subject_id").n_unique())
    found = dict(counted.iter_rows())
    names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    return {name: found.get(name, 0) for name in names}


def share(value: float | None, is_rounded: bool) -> str:
    """A share as per cent; to the nearest ten when an exact one would betray a small count."""
    if value is None or isnan(value):
        return "–"
    return f"about {round(value * 10) * 10} %" if is_rounded else f"{value * 100:.0f} %"
