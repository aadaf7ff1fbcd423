"""Why this risk? The largest contributions to one patient's score, in words, with the records behind each.

Contributions are log-odds added (above 0) or taken (below 0) before recalibration: for linear models coefficient x
standardised value, against a typical train patient; for LightGBM TreeSHAP; for RETAIN the terms of its own sum; for the
other sequence models integrated gradients along each event's strength, from a timeline of the same person (age, sex,
chronic conditions) with the same visits but nothing in them. So a sequence model's reasons name dated events of the
look-back only: what a person is throughout has no absence to compare with. They say what moved the model, not what
would move the patient's health.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.batches import PLACES_PER_FORECAST, SequenceBatch, batch_of, batches_of, row_events, stretches_of
from models.hazards import incidence_log_odds
from models.questions import KEYS
from models.reason_words import feature_label, number_in_words, token_name
from models.retain import Retain
from models.sequences import Sequences
from models.training_loop import steady_threads
from models.vocabulary import SequenceVocabulary

REASONS = 5
RECORDS_PER_REASON = 3
PATH_POINTS = 8  # more move a row's sum by some 0.005 log-odds in 5 of 100 risks (benchmarks.reasons)
PATH_POWER = 2  # strengths crowd near 0, where the first records of a kind count most


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
    network: nn.Module,
    sequences: Sequences,
    rows: NDArray[np.integer],
    places: Sequence[tuple[int, int]],
    points: int = PATH_POINTS,
) -> NDArray[np.float64]:
    """What each event adds to the log-odds of each outcome; `places` (task, intervals up to the horizon) names them.

    Of RETAIN the terms of its own sum (models/retain.py). Of any other network, which called with a batch and the
    strength of each event gives logits (N, Q, K, 3), integrated gradients (Sundararajan 2017): the strength of every
    event of the look-back goes from 0 (absent) to 1 (as recorded) at the same pace; sex and the chronic state stay as
    recorded, and what the events add sums to the row's log-odds less those with the state alone. Shape: (events that
    `rows` see, len(places)), row after row, those of a row in the order of row_events, nought for the state.
    """
    # A stretch for each row, so that an event seen by several rows counts in each for itself.
    stretches = stretches_of(sequences, np.unique(rows), most=1)
    of_stretches: list[NDArray[np.float64]] = [np.zeros((0, len(places)))] * len(stretches)
    network.eval()
    with steady_threads():
        for chosen in batches_of(stretches, PLACES_PER_FORECAST):
            batch = batch_of(sequences, stretches, chosen)
            if isinstance(network, Retain):
                own = [network.contributions(batch, *place).events for place in places]
                total = torch.stack(own, dim=1).masked_fill(batch.is_state[:, None], 0)
            else:
                total = _integrated_gradients(network, batch, places, points)
            sizes = batch.bag_sizes.view(len(chosen), -1).sum(dim=1)
            for stretch, of_row in zip(chosen, total.split(sizes.tolist()), strict=True):
                of_stretches[stretch] = of_row.numpy()
    stretch_of_row = dict(zip(stretches.rows.tolist(), of_stretches, strict=True))
    return np.concatenate([np.zeros((0, len(places))), *(stretch_of_row[row] for row in np.asarray(rows).tolist())])


def _integrated_gradients(
    network: nn.Module, batch: SequenceBatch, places: Sequence[tuple[int, int]], points: int
) -> Tensor:
    """Shapes: -> (E, len(places)), in the order of the batch's events. One way forward serves all answers."""
    path, shares = np.polynomial.legendre.leggauss(points)
    total = torch.zeros(len(batch.values), len(places), dtype=torch.float64)
    for point, share in zip((path + 1) / 2, shares / 2, strict=True):
        strength = point**PATH_POWER
        pace = PATH_POWER * point ** (PATH_POWER - 1)
        weights = torch.ones_like(batch.values).where(batch.is_state, strength).requires_grad_()
        logits = network(batch, weights)
        for column, (task, intervals) in enumerate(places):
            answer = incidence_log_odds(logits[:, task], intervals).sum()
            (slope,) = torch.autograd.grad(answer, weights, retain_graph=column + 1 < len(places))
            total[:, column] += slope.double().masked_fill(batch.is_state, 0) * share * pace
    return total


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
    places = [row_events(sequences, row) for row in np.asarray(rows).tolist()]
    events = sequences.events[np.concatenate([np.zeros(0, np.int64), *places])].with_columns(
        row=pl.Series(np.repeat(np.arange(len(places)), [len(of_row) for of_row in places]), dtype=pl.Int64),
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
