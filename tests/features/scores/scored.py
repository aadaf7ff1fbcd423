"""One row through one score, and what a monotone score looks like."""

from collections.abc import Callable

import polars as pl

Score = Callable[[pl.LazyFrame], pl.LazyFrame]
Inputs = dict[str, object]


def scored(add_score: Score, inputs: Inputs, **changed: object) -> dict[str, object]:
    """The row of `inputs`, with what is `changed`, after the score was added."""
    return add_score(pl.LazyFrame([inputs | changed], strict=False)).collect().to_dicts()[0]


def without(add_score: Score, inputs: Inputs, missing: str) -> dict[str, object]:
    """The same with one input null, of the type that it would have."""
    kind = pl.DataFrame([inputs]).schema[missing]
    rows = pl.LazyFrame([inputs]).with_columns(pl.lit(None, kind).alias(missing))
    return add_score(rows).collect().to_dicts()[0]
