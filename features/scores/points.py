"""Sums of points: each input's points, and the score as their sum."""

from collections.abc import Mapping

import polars as pl


def add_points(inputs: pl.LazyFrame, points: Mapping[str, pl.Expr]) -> pl.LazyFrame:
    """Add `points_<input>` for each input, and `value`, their sum; null when any of them is null."""
    each = {name: expression.cast(pl.Float64) for name, expression in points.items()}
    total = pl.sum_horizontal(each.values(), ignore_nulls=False)
    return inputs.with_columns(value=total, **{f"points_{name}": expression for name, expression in each.items()})
