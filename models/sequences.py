"""What does a patient's timeline look like to the transformer at each prediction time?

Each row (patient and prediction time) becomes a sequence of visits: first the state at the edge of the look-back
(sex, chronic conditions known before it), then the events of the look-back, those that became known on one day pooled
into one visit, and last an empty visit at the prediction time itself. A visit has an age and a gap to the visit
before, and nothing that counts from the start of the record or names a calendar date, because the length and the
dates of a record can give the outcome away.

The look-backs of one patient's rows overlap. So events are held once, in the order of the timeline, and each row
says which stretch of them it sees: memory grows with the events, not with the prediction times. What a row sees is
put together when a batch is made (models/batches.py).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.questions import KEYS
from models.vocabulary import (
    ChronicGroup,
    SequenceVocabulary,
    chronic_tokens,
    other_token,
    token,
    visible_system,
)

DAY_US = 86_400_000_000
DAYS_PER_YEAR = 365.25
OLDEST_AGE_YEARS = 90.0


@dataclass(frozen=True)
class Spans:
    """N stretches of places that lie side by side: `sizes` (N,) places each, from `starts` (N,) on."""

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.integer]) -> "Spans":
        return Spans(self.starts[chosen], self.sizes[chosen])

    def places(self) -> NDArray[np.int64]:
        """The places of each stretch, one stretch after the other."""
        shift = np.repeat(self.starts - ends(self.sizes)[:-1], self.sizes)
        return (np.arange(len(shift)) + shift).astype(np.int64)


@dataclass(frozen=True)
class Sequences:
    """The timelines of the patients of R rows, and which stretch of its patient's timeline each row sees.

    keys: subject_id, prediction_time of each row; prediction_us (R,) and ages_years (R,) at that time.
    events: token, value (-1 to 1, 0 when no number), number and unit as recorded, record_id. The E events of V visits
    stand first, oldest first within each patient; the states of the rows follow. known_us (E,) is when each became
    known, visit_ends (V + 1,) where each visit's events end. Of each row, seen (R) are the places of its events among
    the E, states (R) those of its state. A row sees the visits (R) that its events lie in: of the first and the last,
    perhaps only the part inside its look-back.
    """

    keys: pl.DataFrame
    prediction_us: NDArray[np.int64]
    ages_years: NDArray[np.float64]
    lookback_days: int
    events: pl.DataFrame
    known_us: NDArray[np.int64]
    visit_ends: NDArray[np.int64]
    seen: Spans
    visits: Spans
    states: Spans

    def lengths(self) -> NDArray[np.int64]:
        """Visits of each row, with the state and the prediction time. Shapes: (R,)."""
        return self.visits.sizes + 2


def seen_events(events: pl.LazyFrame, keys: pl.DataFrame, lookback_days: int) -> pl.DataFrame:
    """Everything that may be a token and became known within the look-back of some prediction time of its patient.

    Reads Events. keys: subject_id, prediction_time. Returns each event once, with the columns that matter here.
    """
    moments = keys.select(KEYS).unique().sort("prediction_time")
    return (
        events.filter(pl.col("known_time").is_not_null(), visible_system())
        .filter(pl.col("subject_id").is_in(moments["subject_id"].unique().implode()))
        .select("subject_id", "known_time", "code", "numeric_value", "unit", "text_value", "record_id")
        .collect()
        .sort("known_time")
        # The first prediction time after an event became known has the best chance to see it.
        .join_asof(
            moments,
            left_on="known_time",
            right_on="prediction_time",
            by="subject_id",
            strategy="forward",
            coalesce=False,
            check_sortedness=False,  # both sides are sorted above
        )
        .filter(pl.col("known_time") > pl.col("prediction_time") - pl.duration(days=lookback_days))
        .drop("prediction_time")
    )


def ages_years(events: pl.LazyFrame, keys: pl.DataFrame) -> NDArray[np.float64]:
    """Age at each prediction time, capped at 90 years; NaN when the birth is not known."""
    births = (
        events.filter(pl.col("code") == "MEDS_BIRTH").group_by("subject_id").agg(birth=pl.col("time").min()).collect()
    )
    age = (pl.col("prediction_time") - pl.col("birth")).dt.total_microseconds() / (DAY_US * DAYS_PER_YEAR)
    aged = keys.join(births, on="subject_id", how="left", maintain_order="left").select(age.alias("age"))
    return aged["age"].cast(pl.Float64).fill_null(np.nan).to_numpy().clip(max=OLDEST_AGE_YEARS)


def build_sequences(events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary) -> Sequences:
    """Turn what was known at each prediction time into sequences.

    Reads Events; a row sees nothing with known_time after its prediction time, except static facts (sex, birth).
    keys: subject_id, prediction_time; distinct rows, kept in their order.
    """
    keys = keys.select(KEYS)
    visited = _visit_events(seen_events(events, keys, vocabulary.lookback_days), vocabulary)
    sizes = visited.group_by("subject_id", pl.col("known_time").dt.date(), maintain_order=True).len()["len"].to_numpy()
    seen, visits = _seen_by_rows(visited, ends(sizes), keys, vocabulary)
    states = _state_events(events, keys, vocabulary)
    state_sizes = np.bincount(states["row"].to_numpy(), minlength=keys.height)
    kept = ["token", "value", "number", "unit", "record_id"]
    ages = ages_years(events, keys)
    return Sequences(
        keys=keys,
        prediction_us=keys["prediction_time"].dt.epoch("us").to_numpy(),
        ages_years=np.where(np.isnan(ages), vocabulary.median_age_years, ages),
        lookback_days=vocabulary.lookback_days,
        events=pl.concat([visited.select(kept), states.select(kept)]).rechunk(),
        known_us=visited["known_time"].dt.epoch("us").to_numpy(),
        visit_ends=ends(sizes),
        seen=seen,
        visits=visits,
        states=Spans(visited.height + ends(state_sizes)[:-1], state_sizes),
    )


def ends(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where stretches of these sizes end when they lie one after the other; a 0 before. Shapes: (N,) -> (N + 1,)."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _seen_by_rows(
    visited: pl.DataFrame, visit_ends: NDArray[np.int64], keys: pl.DataFrame, vocabulary: SequenceVocabulary
) -> tuple[Spans, Spans]:
    """The places of the events known within each row's look-back, and those of their visits, the newest that fit."""
    moments = (
        visited.select("subject_id", "known_time", place=pl.int_range(pl.len()))
        .group_by("subject_id", "known_time")
        .agg(first=pl.col("place").min(), end=pl.col("place").max() + 1)
        .sort("known_time")
    )
    edge = pl.col("prediction_time") - pl.duration(days=vocabulary.lookback_days)
    rows = keys.with_row_index("row").with_columns(edge=edge).sort("prediction_time")
    # The last moment by the prediction time, and the first one after the edge, which itself is outside.
    found = rows.join_asof(
        moments.select("subject_id", "known_time", "end"),
        left_on="prediction_time",
        right_on="known_time",
        by="subject_id",
        strategy="backward",
        coalesce=False,
        check_sortedness=False,  # both sides are sorted above
    ).join_asof(
        moments.select("subject_id", "known_time", "first"),
        left_on="edge",
        right_on="known_time",
        by="subject_id",
        strategy="forward",
        allow_exact_matches=False,
        coalesce=False,
        check_sortedness=False,  # the edge lies as far before each prediction time
        suffix="_first",
    )
    # Null is where there is no such moment; none in between is where the last one lies before the first.
    is_any = (pl.col("first") < pl.col("end")).fill_null(False)
    bounds = found.sort("row").select(pl.when(is_any).then(place).otherwise(0) for place in ("first", "end"))
    first, end = (bounds[name].to_numpy() for name in ("first", "end"))
    first_visit = np.searchsorted(visit_ends, first, side="right") - 1
    end_visit = np.where(first < end, np.searchsorted(visit_ends, end, side="left"), first_visit)
    first_visit = np.maximum(first_visit, end_visit - (vocabulary.most_visits - 2))  # state and now are visits too
    first = np.maximum(first, np.minimum(visit_ends[first_visit], end))
    return Spans(first, end - first), Spans(first_visit, end_visit - first_visit)


def _state_events(events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Sex, and one token for each chronic group with a code known before the look-back began; sorted by row."""
    rows = keys.with_row_index("row").with_columns(
        edge=pl.col("prediction_time") - pl.duration(days=vocabulary.lookback_days)
    )
    chronic = _first_chronic_events(events, vocabulary.chronic_groups)
    known_before = rows.join(chronic, on="subject_id").filter(pl.col("known_time") <= pl.col("edge"))
    sexes = (
        events.filter(pl.col("code").str.starts_with("SEX//"))
        .group_by("subject_id", token="code")
        .agg(pl.col("record_id").max())
        .collect()
    )
    columns = ["row", "token", "record_id"]
    state = pl.concat([known_before.select(columns), rows.join(sexes, on="subject_id").select(columns)])
    return _with_token_numbers(
        state.with_columns(
            value=pl.lit(0.0, pl.Float32), number=pl.lit(None, pl.Float32), unit=pl.lit(None, pl.String)
        ),
        vocabulary,
    ).sort("row", "token")


def _first_chronic_events(events: pl.LazyFrame, groups: list[ChronicGroup]) -> pl.DataFrame:
    """When each patient's chronic groups were first known: subject_id, token, known_time, record_id."""
    codes = events.select(pl.col("code").unique()).collect()["code"]
    members = chronic_tokens(codes, groups)
    return (
        events.filter(pl.col("known_time").is_not_null())
        .select("subject_id", "known_time", "code", "record_id")
        .join(members.lazy(), on="code")
        .sort("known_time", "record_id")
        .unique(["subject_id", "token"], keep="first", maintain_order=True)
        .collect()
    )


def _visit_events(seen: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """The events of the visits in order, with a token and a value on the quantile scale."""
    words = pl.Series(vocabulary.tokens)
    named = (
        seen.with_columns(token=token())
        .with_columns(token=pl.when(pl.col("token").is_in(words.implode())).then("token").otherwise(other_token()))
        .filter(pl.col("token").is_in(words.implode()))
    )
    return _with_token_numbers(
        _with_values(named, vocabulary).rename({"numeric_value": "number"}),
        vocabulary,
    ).sort("subject_id", "known_time", "token", "value", "record_id")


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
    """Tokens as their places in the vocabulary; what is not in it is left out."""
    numbering = pl.DataFrame({"token": vocabulary.tokens}).with_row_index("token_number")
    return named.join(numbering, on="token").with_columns(token=pl.col("token_number").cast(pl.Int32))
