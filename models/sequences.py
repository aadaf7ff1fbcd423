"""What does a patient's timeline look like to the transformer at each prediction time?

Each row (patient and prediction time) becomes a sequence of visits: first the state at the edge of the look-back
(sex, chronic conditions known before it), then the events of the look-back, those known at the same moment pooled
into one visit, and last an empty visit at the prediction time itself. A visit has an age and a gap to the visit
before, and nothing that counts from the start of the record or names a calendar date, because the length and the
dates of a record can give the outcome away.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.questions import KEYS
from models.vocabulary import (
    ChronicGroup,
    SequenceVocabulary,
    chronic_tokens,
    other_token,
    token,
    visible_system,
)

STATE, VISIT, NOW = 0, 1, 2
DAY_US = 86_400_000_000
OLDEST_AGE_YEARS = 90.0


@dataclass(frozen=True)
class Sequences:
    """The visits and events of R rows, laid end to end.

    keys: subject_id, prediction_time of each row. visit_ends (R + 1,) and event_ends (V + 1,) say where each row's
    visits and each visit's events end. visits (V, 4): age (years / 100), gap to the visit before (log scale),
    days before the prediction time, kind. events: token, value (-1 to 1, 0 when no number), number and unit as
    recorded, record_id; oldest first.
    """

    keys: pl.DataFrame
    visit_ends: NDArray[np.int64]
    visits: NDArray[np.float32]
    event_ends: NDArray[np.int64]
    events: pl.DataFrame


@dataclass(frozen=True)
class SequenceBatch:
    """B rows padded to T visits, with their E events. Padding stands after the last visit.

    visits (B, T, 4); last_visit (B,) place of the visit at the prediction time; tokens, values (E,);
    bag_starts (B * T,) where each visit's events start; bag_sizes (B * T,).
    """

    visits: Tensor
    last_visit: Tensor
    tokens: Tensor
    values: Tensor
    bag_starts: Tensor
    bag_sizes: Tensor


def recent_events(events: pl.LazyFrame, keys: pl.DataFrame, lookback_days: int) -> pl.DataFrame:
    """Everything that became known within the look-back before each prediction time, and may be a token.

    Reads Events. keys: subject_id, prediction_time. Returns `row` (place in keys) with the event's columns.
    """
    reach = pl.duration(days=lookback_days)
    return (
        events.filter(pl.col("known_time").is_not_null(), visible_system())
        .select("subject_id", "known_time", "code", "numeric_value", "unit", "text_value", "record_id")
        .join(keys.lazy().select(KEYS).with_row_index("row"), on="subject_id")
        .filter(
            pl.col("known_time") <= pl.col("prediction_time"),
            pl.col("known_time") > pl.col("prediction_time") - reach,
        )
        .collect()
    )


def ages_years(events: pl.LazyFrame, keys: pl.DataFrame) -> NDArray[np.float64]:
    """Age at each prediction time, capped at 90 years; NaN when the birth is not known."""
    births = (
        events.filter(pl.col("code") == "MEDS_BIRTH").group_by("subject_id").agg(birth=pl.col("time").min()).collect()
    )
    age = (pl.col("prediction_time") - pl.col("birth")).dt.total_microseconds() / (DAY_US * 365.25)
    aged = keys.join(births, on="subject_id", how="left", maintain_order="left").select(age.alias("age"))
    return aged["age"].cast(pl.Float64).fill_null(np.nan).to_numpy().clip(max=OLDEST_AGE_YEARS)


def build_sequences(events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary) -> Sequences:
    """Turn what was known at each prediction time into sequences.

    Reads Events; nothing with known_time after the prediction time is used, except static facts (sex, birth).
    keys: subject_id, prediction_time; distinct rows, kept in their order.
    """
    keys = keys.select(KEYS)
    seen = pl.concat(
        [
            _state_events(events, keys, vocabulary),
            _visit_events(recent_events(events, keys, vocabulary.lookback_days), vocabulary),
        ]
    ).sort("row", "kind", "known_time", "token", "value", "record_id")
    visits = _visit_table(seen, keys, vocabulary, ages_years(events, keys))
    counted = visits.join(
        seen.group_by("row", "kind", "known_time").agg(events=pl.len()),
        on=["row", "kind", "known_time"],
        how="left",
        maintain_order="left",
    )
    return Sequences(
        keys=keys,
        visit_ends=_ends(np.bincount(visits["row"].to_numpy(), minlength=keys.height)),
        visits=visits.select("age", "gap", "days_before", "kind").cast(pl.Float32).to_numpy(),
        event_ends=_ends(counted["events"].fill_null(0).to_numpy()),
        events=seen.select("token", "value", "number", "unit", "record_id"),
    )


def batch_of(sequences: Sequences, rows: NDArray[np.integer]) -> SequenceBatch:
    """Pad the sequences at `rows` to one batch."""
    lengths = np.diff(sequences.visit_ends)[rows]
    longest = int(lengths.max())
    visit_index = _ranges(sequences.visit_ends[:-1][rows], lengths)
    # Visits are placed row by row: visit j of row i stands at i * T + j.
    place = _ranges(np.arange(len(rows)) * longest, lengths)
    visits = np.zeros((len(rows) * longest, sequences.visits.shape[1]), dtype=np.float32)
    visits[place] = sequences.visits[visit_index]
    sizes = np.zeros(len(rows) * longest, dtype=np.int64)
    sizes[place] = np.diff(sequences.event_ends)[visit_index]
    chosen = event_places(sequences, rows)
    return SequenceBatch(
        visits=torch.from_numpy(visits).view(len(rows), longest, -1),
        last_visit=torch.from_numpy(lengths - 1),
        tokens=torch.from_numpy(sequences.events["token"].to_numpy()[chosen].astype(np.int64)),
        values=torch.from_numpy(sequences.events["value"].to_numpy()[chosen]),
        bag_starts=torch.from_numpy(_ends(sizes)[:-1]),
        bag_sizes=torch.from_numpy(sizes),
    )


def event_places(sequences: Sequences, rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where the events of `rows` stand in `sequences.events`, in the order of a batch."""
    starts = sequences.event_ends[sequences.visit_ends[:-1][rows]]
    ends = sequences.event_ends[sequences.visit_ends[1:][rows]]
    return _ranges(starts, ends - starts)


def event_counts(sequences: Sequences) -> NDArray[np.int64]:
    """How many events each row has."""
    return np.diff(sequences.event_ends[sequences.visit_ends])


def _state_events(events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Sex, and one token for each chronic group with a code known before the look-back began."""
    rows = keys.with_row_index("row").with_columns(
        edge=pl.col("prediction_time") - pl.duration(days=vocabulary.lookback_days)
    )
    chronic = _chronic_events(events, vocabulary.chronic_groups)
    known_before = rows.join(chronic, on="subject_id").filter(pl.col("known_time") <= pl.col("edge"))
    sexes = (
        events.filter(pl.col("code").str.starts_with("SEX//")).select("subject_id", "record_id", token="code").collect()
    )
    columns = ["row", "edge", "token", "record_id"]
    state = pl.concat([known_before.select(columns), rows.join(sexes, on="subject_id").select(columns)])
    newest = state.group_by("row", "edge", "token").agg(pl.col("record_id").max())
    return _with_token_numbers(
        newest.select(
            "row",
            "token",
            "record_id",
            kind=pl.lit(STATE, pl.Int8),
            known_time="edge",
            value=pl.lit(0.0, pl.Float32),
            number=pl.lit(None, pl.Float32),
            unit=pl.lit(None, pl.String),
        ),
        vocabulary,
    )


def _chronic_events(events: pl.LazyFrame, groups: list[ChronicGroup]) -> pl.DataFrame:
    codes = events.select(pl.col("code").unique()).collect()["code"]
    members = chronic_tokens(codes, groups)
    return (
        events.filter(pl.col("known_time").is_not_null())
        .select("subject_id", "known_time", "code", "record_id")
        .join(members.lazy(), on="code")
        .collect()
    )


def _visit_events(recent: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """The events of the newest visits that fit, with a token and a value on the quantile scale."""
    words = pl.Series(vocabulary.tokens)
    named = (
        recent.with_columns(token=token())
        .with_columns(token=pl.when(pl.col("token").is_in(words.implode())).then("token").otherwise(other_token()))
        .filter(pl.col("token").is_in(words.implode()))
    )
    newest_first = pl.col("known_time").rank("dense", descending=True).over("row")
    kept = named.filter(newest_first <= vocabulary.most_visits - 2)  # the state and the prediction time are visits
    return _with_token_numbers(
        _with_values(kept, vocabulary).select(
            "row",
            "token",
            "record_id",
            kind=pl.lit(VISIT, pl.Int8),
            known_time="known_time",
            value="value",
            number="numeric_value",
            unit="unit",
        ),
        vocabulary,
    )


def _with_values(named: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Add `value`: quantile among train patients on a scale of -1 to 1; 0 without a number in the known unit."""
    units = pl.DataFrame(
        {"token": list(vocabulary.scales), "scale_unit": [scale.unit for scale in vocabulary.scales.values()]},
        schema={"token": pl.String, "scale_unit": pl.String},
    )
    placed = named.join(units, on="token", how="left").sort("token", maintain_order=True)
    has_value = (
        pl.col("numeric_value").is_finite() & (pl.col("unit").fill_null("") == pl.col("scale_unit"))
    ).fill_null(False)
    numbers = placed["numeric_value"].fill_null(0.0).to_numpy()
    usable = placed.select(has_value).to_series().to_numpy()
    value = np.zeros(placed.height, dtype=np.float32)
    spans = placed.with_row_index("place").group_by("token").agg(pl.col("place").min(), pl.len().alias("rows"))
    for word, start, rows in spans.iter_rows():
        if scale := vocabulary.scales.get(word):
            part = slice(start, start + rows)
            value[part] = np.interp(numbers[part], scale.values, scale.levels) * 2 - 1
    return placed.with_columns(value=pl.Series(np.where(usable, value, 0), dtype=pl.Float32))


def _with_token_numbers(named: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    numbering = pl.DataFrame({"token": vocabulary.tokens}).with_row_index("token_number")
    return (
        named.join(numbering, on="token")
        .with_columns(token=pl.col("token_number").cast(pl.Int32))
        .select("row", "kind", "known_time", "token", "value", "number", "unit", "record_id")
    )


def _visit_table(
    seen: pl.DataFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary, ages: NDArray[np.float64]
) -> pl.DataFrame:
    """One row per visit in order: row, kind, known_time, age (years / 100), gap (log scale), days_before."""
    lookback = vocabulary.lookback_days
    rows = keys.with_row_index("row").select("row", "prediction_time")
    edge = pl.col("prediction_time") - pl.duration(days=lookback)
    moments = pl.concat(
        [
            rows.select("row", kind=pl.lit(STATE, pl.Int8), known_time=edge),
            seen.filter(pl.col("kind") == VISIT).select("row", "kind", "known_time").unique(),
            rows.select("row", kind=pl.lit(NOW, pl.Int8), known_time="prediction_time"),
        ]
    ).sort("row", "kind", "known_time")
    age_now = pl.DataFrame({"age_now": ages}).with_row_index("row")
    age_now = age_now.with_columns(pl.col("age_now").fill_nan(vocabulary.median_age_years))
    days_before = (pl.col("prediction_time") - pl.col("known_time")).dt.total_microseconds() / DAY_US
    return (
        moments.join(rows, on="row", maintain_order="left")
        .join(age_now, on="row", maintain_order="left")
        .with_columns(days_before=days_before)
        .with_columns(
            age=(pl.col("age_now") - pl.col("days_before") / 365.25) / 100,
            gap=(pl.col("days_before").shift(1).over("row") - pl.col("days_before"))
            .fill_null(0)
            .log1p()
            .truediv(np.log1p(lookback)),
        )
    )


def _ends(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _ranges(starts: NDArray[np.integer], sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """The numbers start, start + 1, … of each range, one range after the other."""
    if len(sizes) == 0:
        return np.zeros(0, dtype=np.int64)
    shift = np.repeat(starts - _ends(sizes)[:-1], sizes)
    return (np.arange(int(np.sum(sizes))) + shift).astype(np.int64)
