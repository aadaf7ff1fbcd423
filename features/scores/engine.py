"""Computes clinical scores at prediction times: look up the inputs, apply what their absence means, ask the formula."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from features.points import KEYS
from features.scores.facts import completed_years, facts_of, highest_known, latest_known, read_events, static_facts
from features.scores.inputs import AGE, KINDS, Fact, Input
from features.scores.stays import STAY_DAYS, stay_facts
from features.tables import ClinicalScores, checked, empty

_ROWS_AT_ONCE = 50_000
_LONG = ["row", "fact", "value", "age_days", "record_id"]
_LACKING = ("missing", "out_of_range")
_STATUS_WHEN_MISSING = {
    "exclude": "missing",
    "assume_absent": "assumed_absent",
    "assume_normal": "assumed_normal",
}


@dataclass(frozen=True, eq=False)
class Score:
    """A clinical score: for whom it is meant, what it reads, and its formula.

    `population`, over the columns named after the inputs, says at which rows the score is meant; a row where it cannot
    be told, because an input is missing, is kept. `formula` adds `value`, and where the score has them `risk` (the
    published probability), `points_<input>`, and `reason`: why `value` is null, where that is not said by an input that
    is missing or out of its range. `note` says which variant was chosen, and what to beware of. `needs` is a code that
    must occur in the records at all, lest its absence say "none" where it means "not kept".
    """

    name: str
    title: str
    inputs: tuple[Input, ...]
    population: pl.Expr
    formula: Callable[[pl.LazyFrame], pl.LazyFrame]
    meant_for: str
    source: str
    note: str = ""
    unit: str | None = None
    needs: str | None = None


def clinical_scores(
    events: pl.LazyFrame, prediction_times: pl.DataFrame, names: Sequence[str] | None = None
) -> pl.DataFrame:
    """Compute clinical scores from what was known at each prediction time.

    Reads:    `events`: features.tables.Events. `prediction_times`: subject_id, prediction_time; doubles count once.
              `names`: which scores; all when None.
    Returns:  ClinicalScores, sorted by its keys. No row where a score is not meant for the patient or the moment;
              nor where no birth is on record by then; value null, with the reason, where it is meant but an input is
              missing or out of its range.
    Raises:   KeyError for an unknown name.
    """
    from features.scores.registry import load_scores  # the scores' files import this one

    scores = load_scores(names)
    rows = prediction_times.select(KEYS).unique().sort(KEYS).with_row_index("row")
    present = events.select("code").unique().collect()
    parts = [empty(ClinicalScores)]
    for first in range(0, rows.height, _ROWS_AT_ONCE):
        some = scored_rows(events, rows.slice(first, _ROWS_AT_ONCE), scores, present)
        # Sorted part by part, because the rows are in order and sorting lists takes room for all of them again.
        parts.append(pl.concat(_with_provenance(score, scored) for score, scored in some).sort(*KEYS, "score"))
    return checked(pl.concat(parts), ClinicalScores)


def scored_rows(
    events: pl.LazyFrame, rows: pl.DataFrame, scores: Sequence[Score], present: pl.DataFrame
) -> Iterator[tuple[Score, pl.LazyFrame]]:
    """Each score at the rows it is meant for. The events are read once for all scores.

    Reads:    `rows`: row, subject_id, prediction_time. `present`: code, every code of the events.
    Yields:   the score and a table: row, subject_id, prediction_time, value, risk, reason (from the formula), and for
              each input its number and `points_`, `seen_` (what the record says, or what was assumed), `age_days_`,
              `record_id_`, `status_` followed by its name.
    """
    facts = facts_of([AGE, *(one for score in scores for one in score.inputs)])
    places = {fact: place for place, fact in enumerate(facts)}
    of_subjects = events.filter(pl.col("subject_id").is_in(rows["subject_id"].unique().implode()))
    found = _look_up(read_events(of_subjects, facts, present), rows, facts)
    is_born = pl.col(f"{places[AGE.fact]}_value").is_not_null()
    for score in scores:
        columns = [column for one in score.inputs for column in _input_columns(one, places)]
        meant_for = (
            found.lazy().filter(is_born).select("row", *KEYS, *columns).filter(score.population.fill_null(value=True))
        )
        scored = score.formula(meant_for)
        known = scored.collect_schema().names()
        optional = {"reason": pl.String, "risk": pl.Float64} | {
            f"points_{one.name}": pl.Float64 for one in score.inputs
        }
        blank = [pl.lit(None, kind).alias(name) for name, kind in optional.items() if name not in known]
        is_lacking = pl.any_horizontal(pl.col(f"status_{one.name}").is_in(_LACKING) for one in score.inputs)
        yield (
            score,
            scored.with_columns(blank).with_columns(
                pl.when(~is_lacking).then(pl.col("value", "risk").cast(pl.Float64))
            ),
        )


def _look_up(read: pl.DataFrame, rows: pl.DataFrame, facts: dict[Fact, Input]) -> pl.DataFrame:
    """The rows, and for the fact of each place its `value`, `age_days` and `record_id` (`3_value`); null if unknown."""
    places = {kind: [place for place, one in enumerate(facts.values()) if one.kind == kind] for kind in KINDS}
    is_timed = pl.col("time").is_not_null() & ~pl.col("fact").is_in([*places["static"], *places["stay"]])
    highest = {
        place: window
        for place, window in enumerate(one.window_days for one in facts.values())
        if place in places["highest"]
    }
    latest = latest_known(read.filter(is_timed & ~pl.col("fact").is_in(places["highest"])), rows)
    is_age = pl.col("fact").is_in(places["age"])
    statics = read.filter(pl.col("fact").is_in(places["static"]) & pl.col("time").is_null())
    of_stays = read.filter(pl.col("fact").is_in(places["stay"]) & pl.col("time").is_not_null())
    stay_places = pl.DataFrame(
        [(one.name, place) for place, one in enumerate(facts.values()) if one.kind == "stay"],
        schema={"name": pl.String, "fact": pl.UInt32},
        orient="row",
    )
    long = pl.concat(
        [
            latest.with_columns(value=pl.when(is_age).then(completed_years()).otherwise("value")).select(_LONG),
            highest_known(read.filter(is_timed), rows, highest).select(_LONG),
            static_facts(statics, rows).select(_LONG),
            stay_facts(of_stays, rows).join(stay_places, on="name").select(_LONG),
        ]
    )
    parts = long.partition_by("fact", as_dict=True, include_key=False)
    nothing = long.clear().drop("row", "fact").clear(rows.height)
    columns = []
    for place in range(len(facts)):
        here = parts.get((place,))
        aligned = (
            nothing if here is None else rows.select("row").join(here, on="row", how="left", maintain_order="left")
        )
        columns.append(aligned.select(pl.col(nothing.columns).name.prefix(f"{place}_")))
    return pl.concat([rows, *columns], how="horizontal")


def _input_columns(one: Input, places: dict[Fact, int]) -> list[pl.Expr]:
    """The columns of one input: its number for the formula, and where that came from."""
    is_found, *found = _found(one, places)
    is_unreadable = pl.lit(value=False)
    for other in one.beside:
        is_beside, *found_beside = _found(other, places)
        if one.lapsing:
            found = [pl.when(is_found).then(mine).otherwise(its) for mine, its in zip(found, found_beside, strict=True)]
            is_found |= is_beside
        else:
            is_unreadable = is_beside & ~is_found
    value, age_days, record_id = found
    outside = pl.lit(value=False)
    if one.low is not None:
        outside |= value < one.low
    if one.high is not None:
        outside |= value > one.high
    assumed = pl.when(~is_unreadable).then(pl.lit(one.assumed, pl.Float64))
    status = (
        pl.when(is_found & outside)
        .then(pl.lit("out_of_range"))
        .when(is_found)
        .then(pl.lit("found"))
        .when(is_unreadable)
        .then(pl.lit("missing"))
        .otherwise(pl.lit(_STATUS_WHEN_MISSING[one.when_missing]))
    )
    return [
        pl.when(is_found & ~outside).then(value).when(~is_found).then(assumed).alias(one.name),
        pl.when(is_found).then(value).otherwise(assumed).alias(f"seen_{one.name}"),
        pl.when(is_found).then(age_days).alias(f"age_days_{one.name}"),
        pl.when(is_found).then(record_id).alias(f"record_id_{one.name}"),
        status.alias(f"status_{one.name}"),
    ]


def _found(one: Input, places: dict[Fact, int]) -> list[pl.Expr]:
    """Whether its fact is known and within its look-back, and the fact's value, age_days and record_id."""
    value, age_days, record_id = (pl.col(f"{places[one.fact]}_{name}") for name in ("value", "age_days", "record_id"))
    is_found = value.is_not_null()
    if one.window_days is not None:
        is_found &= age_days < one.window_days
    if one.within_stay:
        assert STAY_DAYS.fact in places, f"{one.name} is asked within a stay, so its score must read STAY_DAYS too"
        is_found &= (age_days <= pl.col(f"{places[STAY_DAYS.fact]}_age_days")).fill_null(value=False)
    return [is_found, value, age_days, record_id]


def _with_provenance(score: Score, scored: pl.LazyFrame) -> pl.DataFrame:
    """The rows of a score as ClinicalScores."""
    reason = pl.concat_str([_named(score, status) for status in _LACKING], separator="; ", ignore_nulls=True)
    return scored.select(
        *KEYS,
        score=pl.lit(score.name),
        value="value",
        risk="risk",
        reason=pl.when(pl.col("value").is_null()).then(
            pl.when(reason != "").then(reason).otherwise(pl.coalesce("reason", pl.lit("not defined for these inputs")))
        ),
        inputs=_provenance(score),
    ).collect()


def _provenance(score: Score) -> pl.Expr:
    """The inputs of each row as a list. By way of an array: `concat_list` takes thirty times as long with structs."""
    inputs = [
        pl.struct(
            input=pl.lit(one.name),
            value=f"seen_{one.name}",
            unit=pl.lit(one.unit, pl.String),
            points=pl.col(f"points_{one.name}").cast(pl.Float64),
            age_days=f"age_days_{one.name}",
            record_id=f"record_id_{one.name}",
            status=f"status_{one.name}",
        )
        for one in score.inputs
    ]
    return pl.concat_arr(inputs).arr.to_list()


def _named(score: Score, status: str) -> pl.Expr:
    """`status: a, b` with the names of the inputs that have it; null when none has."""
    names = [pl.when(pl.col(f"status_{one.name}") == status).then(pl.lit(one.name)) for one in score.inputs]
    listed = pl.concat_str(names, separator=", ", ignore_nulls=True)
    return pl.when(listed != "").then(pl.lit(f"{status.replace('_', ' ')}: ") + listed)
