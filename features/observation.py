"""When does the source really record each person?

A record's own length tells who died: Synthea, for one, exports the ten years before death or export. So the period
is decided from the calendar of the whole source, before the dates were shifted, and is alike for everybody:

- A person is observed until they die or move away, else until the source ends.
- Everybody's source ends on one day, `data_end`: the study's; else the last whole day that the source says it covers,
  if visits go on until then; else the last day on which an encounter starts.
- `window`: everybody is observed from one calendar day on (or from birth): the first day of dense recording among
  people who are alive. Their measurements, immunisations and reports begin in the weeks after the export window opens,
  so the day by which 1 % of the living have theirs marks the opening, a few days late. For Synthea it is data_end less
  ten years, unless it was asked for the whole history. Who died before that day was never observed inside the window.
- `first_contact`: each person is observed from the first encounter on (or from birth). Nothing tells here what the
  source left out before, so it is for sources that keep everything.
"""

from datetime import date, datetime, time, timedelta

import polars as pl

from features.errors import SequelaError
from features.meds_codes import BIRTH, DEATH, ENCOUNTER_START, MOVED
from features.settings import StudySettings
from features.tables import ObservationPeriods, checked

_DENSE = r"^(LOINC|CVX|REPORT)//"
_SHARE_OPENING = 0.01
_SHARE_ISOLATED = 0.001
_ISOLATING_GAP_DAYS = 365
_LONGEST_SILENCE = timedelta(days=92)


def observation_periods(
    events: pl.LazyFrame,
    shifts: pl.DataFrame,
    settings: StudySettings,
    is_windowed: bool,
    covers_until: date | None = None,
) -> tuple[pl.DataFrame, date]:
    """Decide from when to when each person is observed.

    Reads:    `events`: features.tables.Events, shifted. `shifts`: subject_id, shift_us (shifted = true + shift);
              a row for every person. `is_windowed`: the source kept only some years before each person's end.
              `covers_until`: the last whole true day that the source says it covers, when it says one.
    Returns:  ObservationPeriods in shifted time, and the true last day of the source. No row for a person who died
              before the window opens, is born after the source ends or, under first_contact, never had a contact.
    Raises:   SequelaError when the records hold nothing from which to tell the end, or the opening, of the source.
    """
    starts = settings.observation.starts
    is_window = starts == "window" or (starts == "auto" and is_windowed)
    true_events = _true_events(events, shifts)
    data_end = settings.observation.data_end or _data_end(true_events, covers_until)
    people = _people(true_events, shifts)
    opening = _opening(people) if is_window else None
    covered_until = datetime.combine(data_end, time.max)
    periods = (
        people.with_columns(
            start=pl.max_horizontal(pl.lit(opening, pl.Datetime("us")) if is_window else "first_contact", "birth"),
            end=pl.min_horizontal("death", "moved", pl.lit(covered_until)),
            covered_until=pl.lit(covered_until),
        )
        # The maximum skips nulls: a person of unknown birth starts with the window or the contact. A birth alone is
        # no contact.
        .filter(pl.lit(is_window) | pl.col("first_contact").is_not_null())
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(calendar_year_start=pl.col("start").dt.year())
        .with_columns(pl.col("start", "end", "covered_until") + pl.col("shift"))
        .select(ObservationPeriods.column_names())
        .sort("subject_id")
    )
    return checked(periods, ObservationPeriods), data_end


def dense_records(
    events: pl.LazyFrame, shifts: pl.DataFrame, settings: StudySettings, covers_until: date | None = None
) -> pl.DataFrame:
    """Each person's own dense record as if it were the observation period, wherever in the calendar it lies.

    It is what a study takes that does not ask how its source keeps records, and where a windowed source tells by the
    start of a record who died. Made to show what the audit of the records' shape finds without the common window;
    never for training. Reads and returns what observation_periods does; no row without a dense event.
    """
    true_events = _true_events(events, shifts)
    covered_until = datetime.combine(settings.observation.data_end or _data_end(true_events, covers_until), time.max)
    records = (
        _people(true_events, shifts)
        .with_columns(
            start="first_dense",
            end=pl.min_horizontal("death", "moved", pl.lit(covered_until)),
            covered_until=pl.lit(covered_until),
        )
        .filter(pl.col("start") < pl.col("end"))
        .with_columns(calendar_year_start=pl.col("start").dt.year())
        .with_columns(pl.col("start", "end", "covered_until") + pl.col("shift"))
        .select(ObservationPeriods.column_names())
        .sort("subject_id")
    )
    return checked(records, ObservationPeriods)


def _true_events(events: pl.LazyFrame, shifts: pl.DataFrame) -> pl.LazyFrame:
    """Subject, code and both times of everything dated, each person's shift taken back; the shift beside them."""
    return (
        events.select("subject_id", "time", "known_time", "code")
        .filter(pl.col("time").is_not_null())
        .join(shifts.lazy().select("subject_id", shift=pl.duration(microseconds=pl.col("shift_us"))), on="subject_id")
        .with_columns(pl.col("time", "known_time") - pl.col("shift"))
    )


def _people(true_events: pl.LazyFrame, shifts: pl.DataFrame) -> pl.DataFrame:
    """One row per person: shift, and the true times birth, death, moved, first_contact, first_dense, or null."""
    of = {name: pl.col("code") == name for name in (BIRTH, DEATH, MOVED)}
    is_visit = pl.col("code").str.contains(ENCOUNTER_START)
    found = true_events.group_by("subject_id").agg(
        birth=pl.col("time").filter(of[BIRTH]).min(),
        death=pl.col("time").filter(of[DEATH]).min(),
        moved=pl.col("time").filter(of[MOVED]).max(),
        first_encounter=pl.col("time").filter(is_visit).min(),
        first_known=pl.col("known_time").filter(~pl.any_horizontal(*of.values())).min(),
        # Synthea dates a few records before their person's birth; those say nothing about the window.
        first_dense=pl.col("time")
        .filter(
            pl.col("code").str.contains(_DENSE)
            & (pl.col("time") >= pl.col("time").filter(of[BIRTH]).min().fill_null(datetime.min))
        )
        .min(),
    )
    return (
        shifts.lazy()
        .select("subject_id", shift=pl.duration(microseconds=pl.col("shift_us")))
        .join(found, on="subject_id", how="left")
        .with_columns(first_contact=pl.coalesce("first_encounter", "first_known"))
        .collect()
    )


def _data_end(true_events: pl.LazyFrame, covers_until: date | None) -> date:
    """What the source says, unless its last visit lies a season earlier: then nobody kept records until then.

    A server that was filled once, long ago, covers the years since with silence only.
    """
    found = _last_day(true_events)
    return covers_until if covers_until and covers_until - found <= _LONGEST_SILENCE else found


def _last_day(true_events: pl.LazyFrame) -> date:
    """The last day on which an encounter starts, isolated late days apart.

    Days after a gap of more than a year that hold at most 0.1 % of the encounters are mistakes in the record, not
    the end of the source. Without any encounter, the last day of any event but births and deaths.
    """
    days = (
        true_events.filter(~pl.col("code").is_in([BIRTH, DEATH, MOVED]))
        .with_columns(is_encounter=pl.col("code").str.contains(ENCOUNTER_START))
        .group_by(day=pl.col("time").dt.date(), is_encounter="is_encounter")
        .agg(events=pl.len())
        .sort("day")
        .collect()
    )
    encounters = days.filter("is_encounter")
    days = days if encounters.is_empty() else encounters
    if days.is_empty():
        raise SequelaError(
            "These records hold no encounter and no other dated event, so the last day of the source cannot be "
            "found. Add the Encounter files to the folder, or set observation.data_end in the study file."
        )
    return last_covered_day(days)


def last_covered_day(days: pl.DataFrame) -> date:
    """The last day of the source, isolated late days apart. Reads: day, events; not empty."""
    days = days.sort("day")
    isolated = days.with_columns(
        gap_days=pl.col("day").diff().dt.total_days(),
        share_from_here=pl.col("events").cum_sum(reverse=True) / pl.col("events").sum(),
    ).filter((pl.col("gap_days") > _ISOLATING_GAP_DAYS) & (pl.col("share_from_here") <= _SHARE_ISOLATED))
    believed = days if isolated.is_empty() else days.filter(pl.col("day") < isolated["day"][0])
    last: date = believed["day"][-1]
    return last


def _opening(people: pl.DataFrame) -> datetime:
    """Midnight of the true day by which 1 % of the living have their first dense event."""
    first = people.filter(pl.col("death").is_null())["first_dense"].drop_nulls().sort()
    if first.is_empty():
        raise SequelaError(
            "No living patient has an observation, immunisation or report, so the day from which the source "
            'records people cannot be found. Set observation.starts = "first_contact" in the study file.'
        )
    return datetime.combine(first[int(_SHARE_OPENING * (first.len() - 1))].date(), time.min)
