"""The contracts of what the models find: forecasts, how they were judged, risks, trajectories.

As in features.tables, where the tables before them stand: one class a table, with columns, types, units, null rules.
"""

import dataframely as dy

from features.tables import one_of


class Predictions(dy.Schema):
    """Each model's forecast for every row of the tuning and held-out patients."""

    subject_id = dy.Int64(description="Keyed pseudonym of the patient.")
    prediction_time = dy.Datetime(time_unit="us", description="The moment of the forecast.")
    task = dy.String(description="Name of the task.")
    horizon_days = dy.Int32(description="Horizon, days.")
    split = dy.String(check=one_of(["tuning", "held_out"]), description="The patient's part of the study.")
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
    calibration_slope_low = dy.Float64(nullable=True, description="Lower end of its interval, by sandwich variance.")
    calibration_slope_high = dy.Float64(nullable=True, description="Upper end of its interval.")
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
    calibration_slope_low = dy.Float64(nullable=True, description="Lower end of its interval, by sandwich variance.")
    calibration_slope_high = dy.Float64(nullable=True, description="Upper end of its interval.")
    brier = dy.Float64(description="Mean squared error of the probability.")
    accuracy = dy.Float64(description="Share classified rightly at the threshold found on tuning patients.")
    sensitivity = dy.Float64(description="Share of outcomes flagged.")
    specificity = dy.Float64(description="Share of non-outcomes not flagged.")
    best_simple = dy.String(nullable=True, description="The simpler model with the highest AUROC; null without any.")
    difference = dy.Float64(nullable=True, description="AUROC above the best simpler model; null for simple models.")
    difference_low = dy.Float64(nullable=True, description="Lower end of its interval.")
    difference_high = dy.Float64(nullable=True, description="Upper end of its interval.")
    p_value = dy.Float64(
        nullable=True, min=0, max=1, description="Two-sided p-value of no difference, of this question alone."
    )
    holm_p_value = dy.Float64(
        nullable=True, min=0, max=1, description="The same, adjusted for all questions of the model (Holm)."
    )
    verdict = dy.String(
        nullable=True,
        check=one_of(["better", "worse", "no difference shown"]),
        description="better or worse than the best simpler model when holm_p_value is 0.05 or less.",
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
    verdict = dy.String(check=one_of(["silent", "gives away"]), description="gives away when chance is 0.025 or less.")
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
    time_unit = dy.String(check=one_of(["days", "hours"]), description="Unit of time ahead.")
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
    is_best_simple = dy.Bool(description="The simple model with the lowest CRPS over all these steps.")
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
    time_unit = dy.String(check=one_of(["days", "hours"]), description="Unit of time ahead.")
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
