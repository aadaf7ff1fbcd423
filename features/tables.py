"""The contract of every table: columns, types, units, null rules. Checked whenever a table is written.

Times in these tables are the shifted, de-identified ones unless a column says otherwise.
"""

from collections.abc import Callable

import dataframely as dy
import polars as pl

from features.errors import TableError

SPLITS = ("train", "tuning", "held_out")
STATES = ("event", "none", "censored", "died_first")
INPUT_STATUSES = ("found", "assumed_absent", "assumed_normal", "missing", "out_of_range")


def _one_of(values: list[str]) -> Callable[[pl.Expr], pl.Expr]:
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
    split = dy.String(check=_one_of(list(SPLITS)), description="train, tuning or held_out.")


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
    outcome = dy.String(check=_one_of(["used", "ignored", "quarantined"]), description="What became of the records.")
    reason = dy.String(description="Why, for ignored and quarantined; empty for used.")
    records = dy.Int64(min=1, description="How many.")


class DataProfile(dy.Schema):
    """Oddities of the source that were handled, counted."""

    finding = dy.String(primary_key=True, description="Short name of the oddity or fact.")
    count = dy.Int64(description="How many there are.")
    unit = dy.String(
        check=_one_of(["records", "entries", "events", "patients", "codes", "files"]), description="What was counted."
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
    split = dy.String(check=_one_of(list(SPLITS)), description="The patient's part of the study.")
    state = dy.String(
        check=_one_of(list(STATES)),
        description="event, none (followed to the horizon), censored, died_first.",
    )
    time_to_event_days = dy.Float32(description="Days to the outcome, death, end of follow-up or horizon.")


class CohortCounts(dy.Schema):
    """Who is asked for each task, and what followed: one row per step, outcome, site or calendar year."""

    task = dy.String(description="Name of the task.")
    horizon_days = dy.Int32(nullable=True, description="Horizon, days; null for the steps, which all horizons share.")
    part = dy.String(
        check=_one_of(["step", "left_out", "state", "site", "calendar_year", "refused", "no_code"]),
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
                "status": dy.String(check=_one_of(list(INPUT_STATUSES))),
            }
        ),
        description="Each input: its value in its unit, points, age and record; found, assumed_absent, "
        "assumed_normal, missing or out_of_range.",
    )


class Predictions(dy.Schema):
    """Each model's forecast for every row of the tuning and held-out patients."""

    subject_id = dy.Int64(description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(time_unit="us", description="The moment of the forecast.")
    task = dy.String(description="Name of the task.")
    horizon_days = dy.Int32(description="Horizon, days.")
    split = dy.String(check=_one_of(["tuning", "held_out"]), description="The patient's part of the study.")
    model = dy.String(description="Rung of the ladder.")
    score = dy.Float64(description="Uncalibrated log-odds; ranks are taken on this.")
    risk = dy.Float64(min=0, max=1, description="Calibrated probability.")
    is_event = dy.Bool(description="The outcome happened within the horizon.")


class Evaluations(dy.Schema):
    """How well each model did on held-out patients; intervals are 95 %, by bootstrap of patients."""

    task = dy.String(primary_key=True, description="Name of the task.")
    horizon_days = dy.Int32(primary_key=True, description="Horizon, days.")
    model = dy.String(primary_key=True, description="Rung of the ladder.")
    is_released = dy.Bool(description="The model chosen on tuning patients to give the risk scores.")
    rows = dy.Int64(description="Held-out prediction times with known outcome.")
    subjects = dy.Int64(description="Held-out patients.")
    events = dy.Int64(description="Held-out prediction times with the outcome.")
    auroc = dy.Float64(description="Area under the ROC curve.")
    auroc_low = dy.Float64(description="Lower end of its interval.")
    auroc_high = dy.Float64(description="Upper end of its interval.")
    auprc = dy.Float64(description="Area under the precision-recall curve; compare with events / rows.")
    brier = dy.Float64(description="Mean squared error of the probability.")
    calibration_slope = dy.Float64(nullable=True, description="1 is right; null when it cannot be fitted.")
    calibration_intercept = dy.Float64(nullable=True, description="0 is right; null when it cannot be fitted.")
    observed_expected = dy.Float64(nullable=True, description="Outcomes observed over outcomes forecast.")
    threshold = dy.Float64(description="Risk at or above which a patient is flagged; Youden's, on tuning patients.")
    true_positives = dy.Int64(description="Flagged, had the outcome.")
    false_positives = dy.Int64(description="Flagged, did not.")
    true_negatives = dy.Int64(description="Not flagged, did not.")
    false_negatives = dy.Int64(description="Not flagged, had the outcome.")
    accuracy = dy.Float64(description="Share classified rightly.")
    majority_accuracy = dy.Float64(description="Accuracy of always saying the commoner answer.")
    sensitivity = dy.Float64(description="Share of outcomes flagged.")
    sensitivity_low = dy.Float64(description="Lower end of its interval.")
    sensitivity_high = dy.Float64(description="Upper end of its interval.")
    specificity = dy.Float64(description="Share of non-outcomes not flagged.")
    specificity_low = dy.Float64(description="Lower end of its interval.")
    specificity_high = dy.Float64(description="Upper end of its interval.")
    positive_predictive_value = dy.Float64(nullable=True, description="Share of the flagged with the outcome.")


class League(dy.Schema):
    """Every model beside the best simpler one on the same held-out rows; intervals are 95 %, by bootstrap of patients.

    The best simpler model is the one with the highest AUROC on these very rows: the hardest to beat.
    """

    task = dy.String(primary_key=True, description="Name of the task.")
    horizon_days = dy.Int32(primary_key=True, description="Horizon, days.")
    model = dy.String(primary_key=True, description="Rung of the ladder.")
    is_simple = dy.Bool(description="One of the simpler models: age and sex, comparators, regression, LightGBM.")
    rows = dy.Int64(description="Held-out prediction times with known outcome.")
    subjects = dy.Int64(description="Held-out patients.")
    events = dy.Int64(description="Held-out prediction times with the outcome.")
    auroc = dy.Float64(description="Area under the ROC curve.")
    auroc_low = dy.Float64(description="Lower end of its interval.")
    auroc_high = dy.Float64(description="Upper end of its interval.")
    calibration_slope = dy.Float64(nullable=True, description="1 is right; null when it cannot be fitted.")
    brier = dy.Float64(description="Mean squared error of the probability.")
    accuracy = dy.Float64(description="Share classified rightly at the threshold found on tuning patients.")
    sensitivity = dy.Float64(description="Share of outcomes flagged.")
    specificity = dy.Float64(description="Share of non-outcomes not flagged.")
    best_simple = dy.String(nullable=True, description="The simpler model with the highest AUROC; null without any.")
    difference = dy.Float64(nullable=True, description="AUROC above the best simpler model; null for simple models.")
    difference_low = dy.Float64(nullable=True, description="Lower end of its interval.")
    difference_high = dy.Float64(nullable=True, description="Upper end of its interval.")
    chance = dy.Float64(
        nullable=True, min=0, max=1, description="Two-sided p-value of no difference, of this question alone."
    )
    holm_chance = dy.Float64(
        nullable=True, min=0, max=1, description="The same, adjusted for all questions of the model (Holm)."
    )
    verdict = dy.String(
        nullable=True,
        check=_one_of(["better", "worse", "no difference shown"]),
        description="better or worse than the best simpler model when holm_chance is 0.05 or less.",
    )


class Audits(dy.Schema):
    """Whether the way records were kept gives an outcome away; all labelled rows, cross-fitted by patient."""

    task = dy.String(primary_key=True, description="Name of the task.")
    horizon_days = dy.Int32(primary_key=True, description="Horizon, days.")
    rows = dy.Int64(description="Prediction times with known outcome.")
    subjects = dy.Int64(description="Patients.")
    events = dy.Int64(description="Prediction times with the outcome.")
    auroc = dy.Float64(description="AUROC of age, sex and the shape of the record.")
    age_sex_auroc = dy.Float64(description="AUROC of age and sex on the same rows.")
    difference = dy.Float64(description="How much the shape adds to AUROC.")
    difference_low = dy.Float64(description="Lower end of its 95 % interval, by bootstrap of patients.")
    difference_high = dy.Float64(description="Upper end of its interval.")
    chance = dy.Float64(
        min=0, max=1, description="How likely so large a gain is by chance in one of the questions audited together."
    )
    verdict = dy.String(check=_one_of(["silent", "gives away"]), description="gives away when chance is 0.025 or less.")
    most_used = dy.String(description="The measure of shape that helped most in fitting (features/record_shape.py).")


class SkippedTasks(dy.Schema):
    """Tasks that these records cannot answer, and why."""

    task = dy.String(primary_key=True, description="Name of the task.")
    reason = dy.String(description="What is missing, in words.")


class RiskScores(dy.Schema):
    """Each eligible patient's risk on one real day. Carries no shifted time: that would betray the shift."""

    as_of = dy.Date(primary_key=True, description="The real day; everything known by its end was used.")
    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    task = dy.String(primary_key=True, description="Name of the task.")
    horizon_days = dy.Int32(primary_key=True, description="Horizon, days.")
    risk = dy.Float64(
        min=0,
        max=1,
        nullable=True,
        description="Calibrated probability of the outcome within the horizon; null where is_unlike.",
    )
    risk_low = dy.Float64(min=0, max=1, nullable=True, description="Lower end of its 95 % interval; null as the risk.")
    risk_high = dy.Float64(min=0, max=1, nullable=True, description="Upper end of its 95 % interval; null as the risk.")
    is_unlike = dy.Bool(description="Whether the patient is unlike those the model learnt from: no risk is told.")
    unlike_because = dy.String(nullable=True, description="In what the patient is unlike them, in words.")
    model = dy.String(description="Rung of the ladder that gave it.")
    model_version = dy.String(description="Digest of the saved model.")
    data_version = dy.String(description="Digest of the dataset that was scored.")
    reasons = dy.List(
        dy.Struct(
            {
                "label": dy.String(),
                "contribution": dy.Float64(),
                "record_ids": dy.List(dy.Int64()),
            }
        ),
        description="Largest contributions first: words, log-odds added or taken, the records behind it.",
    )


class TrueRisks(dy.Schema):
    """What really is the risk, at visits and in stays of simulated people; for evaluation alone, never an input."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(primary_key=True, time_unit="us", description="The task's moment (shifted).")
    task = dy.String(primary_key=True, description="Name of the task; some are truths of tasks not asked yet.")
    horizon_days = dy.Int32(primary_key=True, description="Horizon, days.")
    treatment = dy.String(
        primary_key=True, description='"as usual", or "with X" and "without X": drug X held on, or off, for ever.'
    )
    risk = dy.Float64(min=0, max=1, description="Probability that the outcome comes in time.")
    standard_error = dy.Float64(min=0, description="Monte Carlo error of the risk.")
    drawn = dy.Bool(description="Whether it comes in one more future, outside the estimate.")


class Oracle(dy.Schema):
    """How well the true risk tells the outcomes on record apart, beside the models on the same held-out rows."""

    task = dy.String(primary_key=True, description="Name of the task.")
    horizon_days = dy.Int32(primary_key=True, description="Horizon, days.")
    model = dy.String(primary_key=True, description="Rung of the ladder.")
    rows = dy.Int64(description="Held-out rows of which the truth is known.")
    events = dy.Int64(description="Those with the outcome.")
    auroc = dy.Float64(description="AUROC of the model on these rows.")
    oracle_auroc = dy.Float64(description="AUROC of the true risk on these rows: no model can pass it but by chance.")
    oracle_low = dy.Float64(description="Lower end of its 95 % interval.")
    oracle_high = dy.Float64(description="Upper end of its 95 % interval.")
    oracle_share = dy.Float64(nullable=True, description="(auroc - 0.5) / (oracle_auroc - 0.5).")
    share_low = dy.Float64(nullable=True, description="Lower end of its 95 % interval, by bootstrap of patients.")
    share_high = dy.Float64(nullable=True, description="Upper end of its interval.")


class TrajectoryMeasures(dy.Schema):
    """Whose course is asked for: laboratory values and vital signs, and which model forecasts each."""

    setting = dy.String(primary_key=True, description="ambulatory or inpatient: outside hospital stays, or in them.")
    measure = dy.String(primary_key=True, description="Short name of the measure.")
    words = dy.String(description="The same in words.")
    unit = dy.String(description="UCUM unit of its values.")
    step_length = dy.Float64(description="Length of a step, in `time_unit`.")
    time_unit = dy.String(check=_one_of(["days", "hours"]), description="Unit of time ahead.")
    model = dy.String(nullable=True, description="The model that forecasts it; null when there is none.")
    reason = dy.String(nullable=True, description="Why there is none: what is missing, in words.")


class TrajectoryEvaluations(dy.Schema):
    """How near each model's forecasts came on held-out patients; intervals are 95 %, by bootstrap of patients."""

    setting = dy.String(primary_key=True, description="ambulatory or inpatient.")
    measure = dy.String(primary_key=True, description="Short name of the measure.")
    step = dy.Int32(primary_key=True, min=0, description="Steps ahead; 0: all steps together.")
    model = dy.String(primary_key=True, description="Who forecasts.")
    unit = dy.String(description="UCUM unit of crps, absolute_error, widths and differences.")
    is_released = dy.Bool(description="The model chosen on tuning patients to forecast this measure.")
    is_best_simple = dy.Bool(description="The best of the simple models on tuning patients.")
    values = dy.Int64(description="Held-out values judged.")
    subjects = dy.Int64(description="Held-out patients behind them.")
    crps = dy.Float64(description="Mean pinball loss over the quantiles, doubled: approximates the CRPS.")
    crps_low = dy.Float64(description="Lower end of its interval.")
    crps_high = dy.Float64(description="Upper end of its interval.")
    absolute_error = dy.Float64(description="Mean absolute error of the median.")
    raw_coverage = dy.Float64(description="Share of values inside the 80 % band, before correction.")
    raw_width = dy.Float64(description="Mean width of that band.")
    coverage = dy.Float64(description="Share inside the corrected band; 0.8 is right.")
    coverage_low = dy.Float64(description="Lower end of its interval.")
    coverage_high = dy.Float64(description="Upper end of its interval.")
    width = dy.Float64(description="Mean width of the corrected band.")
    difference = dy.Float64(description="crps less the best simple model's on the same values; below 0 is better.")
    difference_low = dy.Float64(description="Lower end of its interval.")
    difference_high = dy.Float64(description="Upper end of its interval.")


class TrajectoryImportance(dy.Schema):
    """What the Temporal Fusion Transformer looked at, on average over held-out courses of a measure."""

    setting = dy.String(primary_key=True, description="ambulatory or inpatient.")
    measure = dy.String(primary_key=True, description="Short name of the measure.")
    part = dy.String(
        primary_key=True,
        description="of the whole course, of each cell before, of each cell ahead: its variable selection; attention "
        "to earlier cells: of the first cell ahead.",
    )
    variable = dy.String(primary_key=True, description="The input; of attention: cells before the forecast.")
    weight = dy.Float64(min=0, max=1, description="Its share; a part sums to 1.")


class Trajectories(dy.Schema):
    """The course to be expected of each patient's laboratory values and vital signs, from their latest one on."""

    subject_id = dy.Int64(primary_key=True, description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(
        primary_key=True, time_unit="us", description="When a measurement of the setting last became known (shifted)."
    )
    setting = dy.String(primary_key=True, description="ambulatory or inpatient.")
    measure = dy.String(primary_key=True, description="Short name of the measure.")
    step = dy.Int32(primary_key=True, min=1, description="Steps ahead.")
    unit = dy.String(description="UCUM unit of the values.")
    ahead_from = dy.Float64(description="The value is the last one measured after so many `time_unit` ...")
    ahead_to = dy.Float64(description="... and until so many.")
    time_unit = dy.String(check=_one_of(["days", "hours"]), description="Unit of time ahead.")
    last_value = dy.Float64(description="The last value known.")
    q10 = dy.Float64(description="One in ten values will lie below.")
    q25 = dy.Float64(description="One in four values will lie below.")
    q50 = dy.Float64(description="The median.")
    q75 = dy.Float64(description="One in four values will lie above.")
    q90 = dy.Float64(description="One in ten values will lie above.")
    low = dy.Float64(description="Lower end of the corrected 80 % band.")
    high = dy.Float64(description="Upper end of the corrected 80 % band.")
    model = dy.String(description="Who forecasts.")
    model_version = dy.String(description="Digest of the saved models.")


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
