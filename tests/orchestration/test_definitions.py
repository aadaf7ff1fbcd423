"""What Dagster loads: the journey's assets, the facts that block, the jobs and the night."""

import warnings
from datetime import UTC, datetime

import dagster as dg
import pytest

from orchestration.definitions import defs

GROUPS = {"records", "timelines", "cohorts", "features", "models", "evaluation", "scoring"}
MUST_HOLD = {
    "landed_files_are_whole",
    "every_landed_record_was_read",
    "events_keep_their_contract",
    "keeps_its_contract",
    "every_record_is_accounted_for",
    "no_subject_in_two_splits",
    "no_event_after_death",
    "known_time_never_before_time",
    "pseudonyms_do_not_collide",
    "no_feature_from_the_future",
    "no_sequence_from_the_future",
    "every_published_subject_is_in_the_timelines",
}
SHOULD_HOLD = {
    "sampled_records_follow_r4",
    "the_server_exported_everything",
    "record_shape_is_silent",
    "trajectory_bands_cover",
}


@pytest.fixture(scope="module")
def definitions():
    return defs()


@pytest.fixture(scope="module")
def assets(definitions):
    return list(definitions.get_repository_def().assets_defs_by_key.values())


def test_assets_follow_the_journey(assets):
    specs = [spec for asset in assets for spec in asset.specs]
    assert {spec.group_name for spec in specs} == GROUPS
    assert all(spec.description and spec.code_version and spec.kinds for spec in specs)


def test_every_fact_that_must_hold_blocks(definitions):
    checks = definitions.get_repository_def().asset_graph.asset_check_keys
    assert {key.name for key in checks} == MUST_HOLD | SHOULD_HOLD
    graph = definitions.get_repository_def().asset_graph
    assert {key.name for key in checks if graph.get_check_spec(key).blocking} == MUST_HOLD


@pytest.mark.parametrize("selection", ["*", "group:scoring", "key:labels+", "+key:risk_scores", "not group:records"])
def test_selections_parse(assets, selection):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Dagster calls parts of its own selections beta
        assert dg.AssetSelection.from_string(selection).resolve(assets)


def test_the_night_scores_the_day_before(definitions):
    schedule = definitions.resolve_schedule_def("every_night")
    tick = datetime(2021, 4, 2, 2, 30, tzinfo=UTC)
    context = dg.build_schedule_context(scheduled_execution_time=tick, repository_def=definitions.get_repository_def())
    (request,) = schedule.evaluate_tick(context).run_requests
    assert request.partition_key == "2021-04-01"
    assert schedule.job_name == "nightly_scores"


def test_the_night_asks_the_source_what_is_new(definitions):
    for job in ("nightly_scores", "main_job"):
        steps = [node.name for node in definitions.resolve_job_def(job).nodes]
        assert {"landed_records", "landed_records_landed_files_are_whole", "read_records"} <= set(steps)


def test_today_can_be_scored(definitions):
    days = definitions.resolve_job_def("score_day").partitions_def
    assert days.get_partition_keys()[0] == "2000-01-01"
    assert days.has_partition_key(datetime.now(UTC).date().isoformat())


def test_courses_are_a_job_of_their_own(definitions):
    steps = {
        job: {node.name for node in definitions.resolve_job_def(job).nodes} for job in ("main_job", "trajectory_job")
    }
    ours = {"train_trajectory_models", "trajectories"}
    assert ours <= steps["trajectory_job"]
    assert not ours & steps["main_job"]


def test_nothing_is_pickled(definitions):
    """Every table goes through our own Parquet storage."""
    manager = definitions.resources["io_manager"]
    assert type(manager).__name__ == "ParquetTablesFactory"


def test_the_truth_is_no_input_of_features_or_models():
    graph = defs().resolve_asset_graph()
    after = {key.to_user_string() for key in dg.AssetSelection.assets("true_risks").downstream().resolve(graph)}
    assert after == {"true_risks", "oracle", "warehouse"}
