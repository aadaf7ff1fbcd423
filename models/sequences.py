"""What does a patient's timeline look like to the sequence models at each prediction time?

Events that became known on one day are pooled into one visit. A row (patient and prediction time) sees three things:
its *past*, the whole days of the look-back before the day of the prediction time; *today*, what became known on that
day up to the prediction time; and its *state*: sex, and the chronic conditions known by then with the years since
each. So a day that has passed looks alike to every later row, and one patient's days are worked out once for all rows.
A visit has an age, and nothing that counts from the start of the record or names a calendar date, because the length
and the dates of a record can give the outcome away.

Events are held once, in the order of the timeline, and each row says which stretches of them it sees: memory grows
with the events, not with the prediction times. Batches are put together in models/batches.py.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.points import DAY_US, DAYS_PER_YEAR
from models.questions import KEYS
from models.vocabulary import (
    ChronicGroup,
    SequenceVocabulary,
    chronic_tokens,
    other_token,
    places_on,
    token,
    visible_system,
)

LONGEST_STATE_YEARS = 10.0  # a longer history of a condition is not told apart: records begin at some time


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
    """The timelines of the patients of R rows, and which stretches of its patient's timeline each row sees.

    keys: subject_id, prediction_time of each row; prediction_us (R,) and ages_years (R,) at that time, NaN when the
    birth is not known: then median_age_years stands for it. events: token, value (-3 to 3, NaN when no number), number
    and unit as recorded, record_id. The E events of V visits stand first, oldest first within each patient; the states
    of the rows follow. known_us (E,) is when each became known, visit_ends (V + 1,) where each visit's events end. Of
    each row, past (R) are the places of its visits among the V, today (R) and states (R) those of its events.
    """

    keys: pl.DataFrame
    prediction_us: NDArray[np.int64]
    ages_years: NDArray[np.float64]
    median_age_years: float
    lookback_days: int
    events: pl.DataFrame
    known_us: NDArray[np.int64]
    visit_ends: NDArray[np.int64]
    past: Spans
    today: Spans
    states: Spans


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
    """Age at each prediction time; NaN when the birth is not known."""
    births = (
        events.filter(pl.col("code") == "MEDS_BIRTH").group_by("subject_id").agg(birth=pl.col("time").min()).collect()
    )
    age = (pl.col("prediction_time") - pl.col("birth")).dt.total_microseconds() / (DAY_US * DAYS_PER_YEAR)
    aged = keys.join(births, on="subject_id", how="left", maintain_order="left").select(age.alias("age"))
    return aged["age"].cast(pl.Float64).fill_null(np.nan).to_numpy()


def build_sequences(events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary) -> Sequences:
    """Turn what was known at each prediction time into sequences.

    Reads Events; a row sees nothing with known_time after its prediction time, except static facts (sex, birth).
    keys: subject_id, prediction_time; distinct rows, kept in their order.
    """
    keys = keys.select(KEYS)
    visited = _visit_events(seen_events(events, keys, vocabulary.lookback_days), vocabulary)
    sizes = visited.group_by("subject_id", pl.col("known_time").dt.date(), maintain_order=True).len()["len"].to_numpy()
    past, today = _seen_by_rows(visited, ends(sizes), keys, vocabulary.lookback_days)
    states = _state_events(events, keys, vocabulary)
    state_sizes = np.bincount(states["row"].to_numpy(), minlength=keys.height)
    kept = ["token", "value", "number", "unit", "record_id"]
    return Sequences(
        keys=keys,
        prediction_us=keys["prediction_time"].dt.epoch("us").to_numpy(),
        ages_years=ages_years(events, keys),
        median_age_years=vocabulary.median_age_years,
        lookback_days=vocabulary.lookback_days,
        events=pl.concat([visited.select(kept), states.select(kept)]).rechunk(),
        known_us=visited["known_time"].dt.epoch("us").to_numpy(),
        visit_ends=ends(sizes),
        past=past,
        today=today,
        states=Spans(visited.height + ends(state_sizes)[:-1], state_sizes),
    )


def ends(sizes: NDArray[np.integer]) -> NDArray[np.int64]:
    """Where stretches of these sizes end when they lie one after the other; a 0 before. Shapes: (N,) -> (N + 1,)."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _seen_by_rows(
    visited: pl.DataFrame, visit_ends: NDArray[np.int64], keys: pl.DataFrame, lookback_days: int
) -> tuple[Spans, Spans]:
    """The visits of each row's past, and the events of its own day up to its moment.

    The day on which the look-back begins is left out whole, so that a day is either there or not.
    """
    if visited.is_empty():
        none = np.zeros(keys.height, dtype=np.int64)
        return Spans(none, none), Spans(none, none)
    starts = visit_ends[:-1]
    subjects, known_us = visited["subject_id"].to_numpy(), visited["known_time"].dt.epoch("us").to_numpy()
    subject_of_visit, day_of_visit = subjects[starts], known_us[starts] // DAY_US
    different = np.unique(subject_of_visit)
    # One rising number for each visit, (patient, day), in which rows look themselves up.
    first_day = int(day_of_visit.min()) - 1
    days_kept = int(day_of_visit.max()) - first_day + 2  # one before the first and one after the last

    def number(patient: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
        return patient * days_kept + (day - first_day).clip(0, days_kept - 1)

    visit_number = number(np.searchsorted(different, subject_of_visit), day_of_visit)
    asked, asked_us = keys["subject_id"].to_numpy(), keys["prediction_time"].dt.epoch("us").to_numpy()
    patient = np.searchsorted(different, asked).clip(max=len(different) - 1)
    is_known = different[patient] == asked
    own_day = asked_us // DAY_US
    past_from = np.searchsorted(visit_number, number(patient, own_day - lookback_days), side="right")
    past_to = np.searchsorted(visit_number, number(patient, own_day), side="left")
    own = past_to.clip(max=len(starts) - 1)
    is_today = is_known & (visit_number[own] == number(patient, own_day)) & (day_of_visit[own] == own_day)
    moment_of_event = np.repeat(np.arange(len(starts)), np.diff(visit_ends)) * DAY_US + known_us % DAY_US
    today_to = np.searchsorted(moment_of_event, own * DAY_US + asked_us % DAY_US, side="right")
    return (
        Spans(past_from, np.where(is_known, past_to - past_from, 0)),
        Spans(np.where(is_today, visit_ends[own], 0), np.where(is_today, today_to - visit_ends[own], 0)),
    )


def _state_events(events: pl.LazyFrame, keys: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Sex, and one token for each chronic group known by the prediction time, its value the years since; by row."""
    rows = keys.with_row_index("row")
    chronic = _first_chronic_events(events, vocabulary.chronic_groups)
    since = (pl.col("prediction_time") - pl.col("known_time")).dt.total_microseconds() / (DAY_US * DAYS_PER_YEAR)
    known = (
        rows.join(chronic, on="subject_id")
        .filter(pl.col("known_time") <= pl.col("prediction_time"))
        # The square root tells a month from a year better than nine years from ten.
        .with_columns(value=2 * (since.clip(0, LONGEST_STATE_YEARS) / LONGEST_STATE_YEARS).sqrt() - 1)
    )
    sexes = (
        events.filter(pl.col("code").str.starts_with("SEX//"))
        .group_by("subject_id", token="code")
        .agg(pl.col("record_id").max())
        .collect()
    )
    columns = ["row", "token", "record_id"]
    state = pl.concat(
        [
            known.select(*columns, pl.col("value").cast(pl.Float32)),
            rows.join(sexes, on="subject_id").select(*columns, value=pl.lit(float("nan"), pl.Float32)),
        ]
    )
    return _with_token_numbers(
        state.with_columns(number=pl.lit(None, pl.Float32), unit=pl.lit(None, pl.String)), vocabulary
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
    """The events of the visits in order, with a token and a value on its scale."""
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
    """Add `value`: the number's place on its scale (models/vocabulary.py); NaN without a number in the known unit."""
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
            value[part] = places_on(scale, numbers[part])
    return placed.with_columns(value=pl.Series(np.where(usable, value, np.nan), dtype=pl.Float32))


def _with_token_numbers(named: pl.DataFrame, vocabulary: SequenceVocabulary) -> pl.DataFrame:
    """Tokens as their places in the vocabulary; what is not in it is left out."""
    numbering = pl.DataFrame({"token": vocabulary.tokens}).with_row_index("token_number")
    return named.join(numbering, on="token").with_columns(token=pl.col("token_number").cast(pl.Int32))
