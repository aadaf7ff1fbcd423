"""What is launched together: the main job, a day's scores or features, and the night."""

from datetime import timedelta

import dagster as dg

READING = dg.AssetSelection.assets(
    "landed_records", "timelines", "observation_periods"
).required_multi_asset_neighbors()
SCORING = dg.AssetSelection.assets("risk_scores", "warehouse")
A_PAST_DAY = dg.AssetSelection.assets("features_as_of")
TRAJECTORIES = dg.AssetSelection.assets("trajectory_model", "trajectories").required_multi_asset_neighbors()
TRUTH = dg.AssetSelection.assets("true_risks", "oracle")

main_job = dg.define_asset_job(
    "main_job",
    selection=dg.AssetSelection.all() - SCORING - A_PAST_DAY - TRUTH - TRAJECTORIES,
    description="From the source of records to the judged models and the report.",
)
score_day = dg.define_asset_job(
    "score_day", selection=SCORING, description="Score every eligible patient for one real day; publish."
)
features_of_day = dg.define_asset_job(
    "features_of_day", selection=A_PAST_DAY, description="The feature table of one real day, as it was seen then."
)
truth_job = dg.define_asset_job(
    "truth_job",
    selection=TRUTH | dg.AssetSelection.assets("warehouse"),
    description="Of a simulated population: the true risks, and how near the judged models come to them; publish.",
)
trajectory_job = dg.define_asset_job(
    "trajectory_job",
    selection=TRAJECTORIES | dg.AssetSelection.assets("warehouse"),
    description="Models of the courses of laboratory values and vital signs, and everybody's forecast; publish.",
)
nightly_scores = dg.define_asset_job(
    "nightly_scores",
    selection=READING | SCORING,
    description="Ask the source what is new, read it, score the day that has just ended with the model that stands, "
    "publish. Simulated patients, or a folder that nobody changed, bring nothing new.",
)


@dg.schedule(
    job=nightly_scores,
    cron_schedule="30 2 * * *",
    execution_timezone="UTC",
    description="Each night, ask the source what is new and score the day before. Off until somebody turns it on here.",
)
def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """The day before, when the time has come."""
    day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
    return dg.RunRequest(run_key=day, partition_key=day)
