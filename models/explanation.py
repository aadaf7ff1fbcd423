"""Why this risk? The largest contributions to one patient's score, in words, with the records behind each.

Contributions are log-odds added (above 0) or taken (below 0) before recalibration: for linear models coefficient x
standardised value, against a typical train patient; for LightGBM TreeSHAP; for the transformer integrated
gradients along each event's strength, from a timeline of the same person (age, sex, chronic conditions known before
the look-back) with the same visits but nothing in them. So a transformer's reasons name dated events of the look-back
only: what a person is throughout has no absence to compare with. They say what moved the model, not what would move
the patient's health.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from models.batches import STATE, batch_of, event_counts, event_places, parts_of
from models.hazards import incidence_log_odds
from models.questions import KEYS
from models.reason_words import feature_label, number_in_words, token_name
from models.risk_transformer import RiskTransformer
from models.sequences import Sequences, Spans, ends
from models.training import steady_threads
from models.vocabulary import SequenceVocabulary

REASONS = 5
RECORDS_PER_REASON = 3
PATH_POINTS = 8


def feature_reasons(
    terms: NDArray[np.float64],
    names: list[str],
    values: pl.DataFrame,
    definitions: pl.DataFrame,
    events: pl.LazyFrame,
) -> pl.DataFrame:
    """The largest contributions of features to each row, with the records behind them.

    terms (N, F): contributions of the features `names` to the N rows of `values` (keys and feature columns).
    definitions is FeatureDefinitions; events is Events. Returns keys, label, contribution, record_ids: at most 5
    rows for each of `values`, largest first. Demographics and features without a record have no record_ids.
    """
    largest = np.argsort(-np.abs(terms), axis=1, kind="stable")[:, :REASONS]
    rows = np.repeat(np.arange(len(terms)), largest.shape[1])
    columns = largest.ravel()
    matrix = values.select(names).to_numpy()
    top = (
        values.select(KEYS)[rows.tolist()]
        .with_columns(
            feature=pl.Series(np.asarray(names)[columns], dtype=pl.String),
            contribution=pl.Series(terms[rows, columns], dtype=pl.Float64),
            value=pl.Series(matrix[rows, columns].astype(np.float64)),
        )
        .filter(pl.col("contribution") != 0)
    )
    known = definitions.select("feature", "description", "unit", "statistic", has_codes=pl.col("codes").list.len() > 0)
    worded = top.join(known, on="feature", how="left", maintain_order="left").with_columns(label=feature_label())
    return _with_records(worded, definitions, events).select(*KEYS, "label", "contribution", "record_ids")


def event_contributions(
    model: RiskTransformer, sequences: Sequences, rows: NDArray[np.integer], task: int, intervals: int
) -> NDArray[np.float64]:
    """What each event adds to the log-odds of one outcome, by integrated gradients (Sundararajan 2017).

    The strength of every event of the look-back goes from 0 (absent) to 1 (as recorded) at the same pace; sex and
    the chronic state before the look-back stay as recorded. Returns one number for each event that `rows` see, row
    after row, nought for the state; those of a row sum to its log-odds less those with the state alone.
    """
    points, shares = np.polynomial.legendre.leggauss(PATH_POINTS)
    counts = event_counts(sequences, rows)
    of_rows = Spans(ends(counts)[:-1], counts)
    contributions = np.zeros(counts.sum())
    model.eval()
    with steady_threads():
        for part in parts_of(sequences, rows):
            batch = batch_of(sequences, rows[part])
            is_dated = (batch.visits[:, :, 3].flatten() != STATE).repeat_interleave(batch.bag_sizes)  # (E,)
            total = torch.zeros(len(batch.values), dtype=torch.float64)
            for point, share in zip(points, shares, strict=True):
                weights = torch.ones_like(batch.values).where(~is_dated, (point + 1) / 2).requires_grad_()
                logits = model.at_prediction_time(batch, weights)  # (B, Q, K, 3)
                answer = incidence_log_odds(logits[:, task], intervals).sum()
                (slope,) = torch.autograd.grad(answer, weights)
                total += slope.double() * is_dated * share / 2
            contributions[of_rows[part].places()] = total.numpy()
    return contributions


def event_reasons(
    contributions: NDArray[np.float64],
    sequences: Sequences,
    rows: NDArray[np.integer],
    vocabulary: SequenceVocabulary,
    code_names: dict[str, str],
) -> pl.DataFrame:
    """The largest contributions of events to each row, those of one code together, newest records first.

    `contributions` are those of event_contributions for the same rows. Returns keys, label, contribution, record_ids:
    at most 5 for each row, largest first, in the order of `rows`. `code_names` puts codes into words (token_name says
    what a code without a name becomes).
    """
    events = sequences.events[event_places(sequences, rows)].with_columns(
        row=pl.Series(np.repeat(np.arange(len(rows)), event_counts(sequences, rows))),
        contribution=pl.Series(contributions),
        place=pl.int_range(pl.len()),
    )
    summed = (
        events.sort("place", descending=True)
        .group_by("row", "token", maintain_order=True)
        .agg(
            pl.col("contribution").sum(),
            pl.col("number").drop_nulls().first(),
            pl.col("unit").drop_nulls().first(),
            record_ids=pl.col("record_id").unique(maintain_order=True).head(RECORDS_PER_REASON),
        )
        .filter(pl.col("contribution") != 0)
    )
    words = pl.DataFrame(
        {
            "token": pl.Series(range(len(vocabulary.tokens)), dtype=pl.Int32),
            "label": [token_name(word, code_names) for word in vocabulary.tokens],
        }
    )
    return (
        summed.with_columns(size=pl.col("contribution").abs())
        .sort("row", "size", "token", descending=[False, True, False])
        .filter(pl.int_range(pl.len()).over("row") < REASONS)
        .join(words, on="token", maintain_order="left")
        .join(sequences.keys[rows].with_row_index("row").cast({"row": pl.Int64}), on="row", maintain_order="left")
        .select(*KEYS, label=pl.col("label") + number_in_words(), contribution="contribution", record_ids="record_ids")
    )


def largest_reasons(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The largest of several models' reasons for each row; those of one wording are added up.

    Reads and returns keys, label, contribution, record_ids: at most 5 rows for each prediction time, largest first.
    """
    if len(parts) == 1:
        return parts[0]
    return (
        pl.concat(parts)
        .group_by(*KEYS, "label", maintain_order=True)
        .agg(pl.col("contribution").sum(), pl.col("record_ids").first())
        .filter(pl.col("contribution") != 0)
        .with_columns(size=pl.col("contribution").abs())
        .sort(*KEYS, "size", "label", descending=[False, False, True, False])
        .filter(pl.int_range(pl.len()).over(KEYS) < REASONS)
        .drop("size")
    )


def _with_records(top: pl.DataFrame, definitions: pl.DataFrame, events: pl.LazyFrame) -> pl.DataFrame:
    from features.feature_tables import records_behind

    none = pl.lit([], pl.List(pl.Int64))
    traceable = top.filter(pl.col("has_codes")).select(*KEYS, "feature")
    if traceable.is_empty():
        return top.with_columns(record_ids=none)
    records = records_behind(events, traceable, definitions, at_most=RECORDS_PER_REASON)
    return top.join(records, on=[*KEYS, "feature"], how="left", maintain_order="left").with_columns(
        pl.col("record_ids").fill_null(none)
    )
