"""The contract of every table up to features and scores: columns, types, units, null rules; checked when written.

What the models find stands in features.result_tables.

Times in these tables are the shifted, de-identified ones unless a column says otherwise.
"""

from collections.abc import Callable

import dataframely as dy
import polars as pl

from features.errors import TableError

SPLITS = ("train", "tuning", "held_out")
STATES = ("event", "none", "censored", "died_first")
INPUT_STATUSES = ("found", "assumed_absent", "assumed_normal", "missing", "out_of_range")


def one_of(values: list[str]) -> Callable[[pl.Expr], pl.Expr]:
    """A rule of a column: one of these values."""
    return lambda column: column.is_in(values)


class Events(dy.Schema):
    """One row per fact in a patient's record, with two times; a MEDS 0.4 dataset with extra columns."""

    subject_id = dy.Int64(description="Keyed pseudonym of the patient.")
    time = dy.Datetime(time_unit="us", nullable=True, description="When it happened; null for static facts.")
    known_time = dy.Datetime(
        time_unit="us",
        nullable=True,
        description="When it stood in the record; never before time; null when time is.",
    )
    code = dy.String(description="What it is, as SYSTEM//code.")
    numeric_value = dy.Float32(nullable=True, description="Measured value, in `unit`; null when not a number.")
    unit = dy.String(nullable=True, description="UCUM unit after harmonisation; null when the value has none.")
    text_value = dy.String(nullable=True, description="Coded answer; never free text.")
    encounter_id = dy.Int64(nullable=True, description="Pseudonym of the visit it belongs to.")
    site_id = dy.Int64(nullable=True, description="Pseudonym of the organisation that provided the visit.")
    record_id = dy.Int64(description="Pseudonym of the source resource; the vault leads back.")


class Superseded(Events):
    """What Events does not say of the past: events that held once, and events that came later than they say.

    What was seen on a past day: features.as_of.
    """

    known_from = dy.Datetime(
        time_unit="us",
        nullable=True,
        description="From when it was seen, as far as can be told; null when from known_time on.",
    )
    known_until = dy.Datetime(
        time_unit="us",
        nullable=True,
        description="When it ceased to hold; never before known_time. Null for an event that still holds.",
    )


class SubjectSplits(dy.Schema):
    """Which part of the study each patient belongs to, drawn by keyed hash."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    split = dy.String(check=one_of(list(SPLITS)), description="train, tuning or held_out.")


class Codes(dy.Schema):
    """Every code met, with its commonest wording and how often it occurs."""

    code = dy.String(primary_key=True, description="SYSTEM//code, as in events.")
    description = dy.String(
        nullable=True, description="Commonest wording of a standard code that two patients share; else null."
    )
    parent_codes = dy.List(dy.String(), nullable=True, description="Code groups it belongs to.")
    events = dy.Int64(description="Events with this code.")
    subjects = dy.Int64(description="Patients with this code.")
    wordings = dy.Int32(description="How many different wordings the source used; above 1 deserves a look.")


class Quarantine(dy.Schema):
    """Records that could not be read, with where they lie and why; never their content."""

    file = dy.String(description="File name when it holds only FHIR words, else a pseudonym (`sequela vault`).")
    offset = dy.Int64(description="Byte where the record starts, in the decompressed file.")
    resource_type = dy.String(nullable=True, description="FHIR resource type; null when it could not be told.")
    reason = dy.String(description="Why it was refused, in words without content of the record.")


class RecordCounts(dy.Schema):
    """What became of every record read: used + ignored + quarantined is all of them."""

    resource_type = dy.String(description="FHIR resource type; 'unknown' when it could not be told.")
    outcome = dy.String(check=one_of(["used", "ignored", "quarantined"]), description="What became of the records.")
    reason = dy.String(description="Why, for ignored and quarantined; empty for used.")
    records = dy.Int64(min=1, description="How many.")


class DataProfile(dy.Schema):
    """Oddities of the source that were handled, counted."""

    finding = dy.String(primary_key=True, description="Short name of the oddity or fact.")
    count = dy.Int64(description="How many there are.")
    unit = dy.String(
        check=one_of(["records", "entries", "events", "patients", "codes", "files"]), description="What was counted."
    )
    handling = dy.String(description="What was done about it.")


class Dataset(dy.Schema):
    """One row: what was read, for the steps that need to know the source."""

    source = dy.String(description="Where the records come from, in words; says it when they are not of real people.")
    source_kind = dy.String(description="simulated, synthea, fhir_server, fhir or example.")
    is_windowed = dy.Bool(
        description="Whether the source kept only some years before each person's end, as Synthea may."
    )
    covers_until = dy.Date(nullable=True, description="The last whole day that the source says it covers, if it does.")
    data_version = dy.String(description="Digest of the dataset.")
    subjects = dy.Int64(description="Patients.")
    events = dy.Int64(description="Events in all timelines.")
    records = dy.Int64(description="Records that the reader saw go past.")


class StudyDays(dy.Schema):
    """One row: the true days between which the source observes anybody. Not in the warehouse."""

    first_day = dy.Date(description="First day of the true calendar year in which the first person is observed.")
    last_day = dy.Date(description="Last true day that the source covers.")


class ObservationPeriods(dy.Schema):
    """When the source really records each person. Kept out of the warehouse: ends would betray the date shift."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    start = dy.Datetime(time_unit="us", description="First moment from which nothing is missing by design.")
    end = dy.Datetime(time_unit="us", description="Death, or the last moment the source covers this person.")
    covered_until = dy.Datetime(
        time_unit="us", description="Last moment the source covers, whether or not the person lived to see it."
    )
    calendar_year_start = dy.Int32(description="True calendar year of `start`.")


class Labels(dy.Schema):
    """What followed each prediction time, for each task."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(time_unit="us", primary_key=True, description="The moment of the forecast.")
    task = dy.String(primary_key=True, description="Name of the task.")
    horizon_days = dy.Int32(primary_key=True, min=1, description="How far ahead the outcome is asked for, days.")
    split = dy.String(check=one_of(list(SPLITS)), description="The patient's part of the study.")
    state = dy.String(
        check=one_of(list(STATES)),
        description="event, none (followed to the horizon), censored, died_first.",
    )
    time_to_event_days = dy.Float32(description="Days to the outcome, death, end of follow-up or horizon.")


class CohortCounts(dy.Schema):
    """Who is asked for each task, and what followed: one row per step, outcome, site or calendar year."""

    task = dy.String(description="Name of the task.")
    horizon_days = dy.Int32(nullable=True, description="Horizon, days; null for the steps, which all horizons share.")
    part = dy.String(
        check=one_of(["step", "left_out", "state", "site", "calendar_year", "refused", "no_code"]),
        description="step: what is left after a rule of who is asked; left_out: what of the last step has no answer "
        "within the horizon; state: what followed the others; site, calendar_year: where and when the question was "
        "asked; refused: these records cannot answer the task; no_code: a predicate that matches none of their codes.",
    )
    place = dy.Int32(description="Order within the part.")
    name = dy.String(description="The rule, the state, the site's pseudonym, the true calendar year, or the reason.")
    prediction_times = dy.Int64(description="Prediction times.")
    subjects = dy.Int64(description="Patients behind them.")
    events = dy.Int64(nullable=True, description="Prediction times with the outcome; null for steps and left_out.")
    subjects_with_event = dy.Int64(nullable=True, description="Patients with it; null for steps and left_out.")
    followed_years = dy.Float64(
        nullable=True, description="Years of follow-up together, to the outcome, death, censoring or horizon."
    )
    median_followed_days = dy.Float64(nullable=True, description="Median follow-up of a prediction time, days.")


class FeatureKeys(dy.Schema):
    """The keys of the feature table; its other columns are Float32 and listed in `feature_definitions`."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(time_unit="us", primary_key=True, description="The moment of the forecast.")


class FeatureSources(dy.Schema):
    """Which record is behind each latest value in the feature table: join it by the keys, and by the column's name."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(time_unit="us", primary_key=True, description="The moment of the forecast.")
    feature = dy.String(primary_key=True, description="The column with the latest value, such as hba1c_last.")
    record_id = dy.Int64(description="Pseudonym of the source resource; the vault leads back.")


class FeaturesLong(FeatureKeys):
    """The feature table turned: one row per subject, prediction time and feature; none where there is no value."""

    feature = dy.String(primary_key=True, description="Column name in the feature table.")
    value = dy.Float32(description="Its value.")


class FeaturesAsOfKeys(dy.Schema):
    """The keys of a real day's feature table, whose other columns are those of `features`. Sealed.

    Carries no moved time, but days since what `events` dates: beside those it tells the shift.
    """

    as_of = dy.Date(primary_key=True, description="The real day; what was seen by its end was used.")
    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")


class FeatureDefinitions(dy.Schema):
    """The dictionary of the feature table: one row per column."""

    feature = dy.String(primary_key=True, description="Column name in the feature table.")
    description = dy.String(description="What it says, in words.")
    unit = dy.String(nullable=True, description="Unit of the column; null for counts and flags.")
    kind = dy.String(description="demographic, state, count, utilisation, rhythm, value or clinical_score.")
    statistic = dy.String(description="How it is computed: count, is_present, last, mean, slope, days_since, …")
    codes = dy.List(
        dy.String(),
        description="The event codes it reads; one ending in * stands for all that begin so; empty for demographics.",
    )
    window_days = dy.Int32(
        nullable=True, description="Look-back window; null for what is never forgotten, and demographics."
    )


class ClinicalScores(dy.Schema):
    """Published clinical scores at each prediction time for which they are meant, with what they were computed from."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(time_unit="us", primary_key=True, description="The moment of the forecast.")
    score = dy.String(primary_key=True, description="Name of the score, as in docs/clinical_scores.md.")
    value = dy.Float64(nullable=True, description="The score, in its own unit or points; null for a reason.")
    risk = dy.Float64(nullable=True, min=0, max=1, description="Published probability; null where the score has none.")
    reason = dy.String(nullable=True, description="Why `value` is null: the inputs that are missing or out of range.")
    inputs = dy.List(
        dy.Struct(
            {
                "input": dy.String(),
                "value": dy.Float64(nullable=True),
                "unit": dy.String(nullable=True),
                "points": dy.Float64(nullable=True),
                "age_days": dy.Float64(nullable=True),
                "record_id": dy.Int64(nullable=True),
                "status": dy.String(check=one_of(list(INPUT_STATUSES))),
            }
        ),
        description="Each input: its value in its unit, points, age and record; found, assumed_absent, "
        "assumed_normal, missing or out_of_range.",
    )


def checked(table: pl.DataFrame, schema: type[dy.Schema]) -> pl.DataFrame:
    """Return `table` if it keeps the contract of `schema`, columns in the contract's order.

    Raises TableError that names the table and the broken rules with the number of rows.
    """
    missing = set(schema.column_names()) - set(table.columns)
    extra = set(table.columns) - set(schema.column_names())
    if missing or extra:
        raise TableError(
            f"Table {schema.__name__}: missing columns {sorted(missing)}, unexpected columns {sorted(extra)}. "
            "Change features/tables.py together with the code that writes the table."
        )
    table = table.select(schema.column_names())
    wrong = {
        name: (table.schema[name], column.dtype)
        for name, column in schema.columns().items()
        if table.schema[name] != column.dtype
    }
    if wrong:
        raise TableError(f"Table {schema.__name__}: column types differ from the contract: {wrong}.")
    _, failures = schema.filter(table)
    if counts := failures.counts():
        broken = ", ".join(f"{rule} ({rows:,} rows)" for rule, rows in counts.items())
        raise TableError(f"Table {schema.__name__} breaks its contract: {broken}.")
    return table


def empty(schema: type[dy.Schema]) -> pl.DataFrame:
    """A table of `schema` with no rows."""
    return pl.DataFrame(schema={name: column.dtype for name, column in schema.columns().items()})
