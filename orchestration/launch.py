"""Running a Dagster job in this process, as the command line does: same assets, quiet console, timed steps."""

import logging
import sys
from dataclasses import dataclass, field

import dagster as dg

from features.errors import CheckError
from features.home import Home
from orchestration.resources import StudyChoices

# Pools keep two runs from reading records, or training, at the same time.
_FOR_THE_UI = """\
telemetry:
  enabled: false
nux: # no invitation to newsletters
  enabled: false
concurrency:
  pools:
    default_limit: 1
run_monitoring: # a run whose process died must not hold its pool for ever
  enabled: true
  free_slots_after_run_end_seconds: 60
"""
# From the command line Dagster keeps no copy of what is printed; with one, progress bars would see no terminal.
_FOR_THE_COMMAND_LINE = (
    _FOR_THE_UI
    + """\
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
)
_COMMAND_LINE_FILE = "command_line.yaml"
_LOGGER = "sequela.steps"
_HERE = {"sequela/launched_by": "command line"}


@dataclass
class Progress:
    """What a run has told so far."""

    seconds: dict[str, float] = field(default_factory=dict)  # by step, in the order in which they ended
    checks: set[str] = field(default_factory=set)  # steps that checked
    materialised: set[str] = field(default_factory=set)  # steps that made an asset
    failed_checks: list[str] = field(default_factory=list)  # in words; warnings are not among them


class _Listener(logging.Handler):
    """Hears Dagster's events: says how long each step took, keeps which checks failed."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.DEBUG)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        event: dg.DagsterEvent | None = getattr(record, "dagster_meta", {}).get("dagster_event")
        if event is None or event.step_key is None:
            return
        if event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            seconds = round(event.step_success_data.duration_ms / 1000, 2)
            self._progress.seconds[event.step_key] = seconds
            if event.step_key in self._progress.materialised:
                print(f"  {event.step_key.replace('_', ' ')}: {seconds:,.1f} s", file=sys.stderr)
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            self._progress.materialised.add(event.step_key)
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            self._progress.checks.add(event.step_key)
            name = check.check_name.replace("_", " ")
            if not check.passed and check.severity == dg.AssetCheckSeverity.WARN:
                print(f"  warning: {check.description or name}", file=sys.stderr)
            elif not check.passed:
                self._progress.failed_checks.append(f"{name} ({check.asset_key.to_user_string()}): {check.description}")


def prepare_dagster_home(home: Home) -> None:
    """Make the folder where Dagster keeps its runs and events, with its settings."""
    home.dagster.mkdir(parents=True, exist_ok=True)
    for_the_ui = home.dagster / "dagster.yaml"
    if not for_the_ui.exists():  # somebody may have changed it since
        for_the_ui.write_text(_FOR_THE_UI)
    (home.dagster / _COMMAND_LINE_FILE).write_text(_FOR_THE_COMMAND_LINE)


def run_job(name: str, study: StudyChoices, home: Home, day: str | None = None) -> Progress:
    """Run the job `name` with the choices `study` (fields of the Study resource); `day` is its partition.

    Returns how long each step took. Raises what the failing step raised, CheckError when a blocking check failed.
    """
    from orchestration.definitions import defs

    prepare_dagster_home(home)
    progress = Progress()
    logger = logging.getLogger(_LOGGER)
    logger.handlers = [_Listener(progress)]
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    job = defs().resolve_job_def(name)
    choices = {"resources": {"study": {"config": study}}, "loggers": {"steps": {}}}
    with dg.DagsterInstance.from_config(str(home.dagster), _COMMAND_LINE_FILE) as instance:
        _bury_dead_runs(instance)
        try:
            job.execute_in_process(instance=instance, partition_key=day, run_config=choices, tags=_HERE)
        except dg.DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error
        except dg.DagsterError as error:
            if not progress.failed_checks:
                raise
            raise CheckError(
                "A fact that must hold does not, so nothing was published; the last warehouse still stands. "
                + "; ".join(progress.failed_checks)
                + " Look at the table with `sequela ui`, and report it if the records look right."
            ) from error
    if progress.checks:
        print("  every fact that must hold does", file=sys.stderr)
    return progress


def _bury_dead_runs(instance: dg.DagsterInstance) -> None:
    """End, for Dagster too, earlier runs of the command line that were killed: they would hold their pools for ever.

    The caller holds the home's lock, so no such run is alive.
    """
    unfinished = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished, tags=_HERE)):
        instance.report_run_failed(run, "The process of this run ended without a word; it was killed, or ran dry.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


@dg.logger(None, description="Hands Dagster's events to whoever launched the run in this process.")
def step_lines(context: dg.InitLoggerContext) -> logging.Logger:
    """The logger that `run_job` listens to."""
    return logging.getLogger(_LOGGER)
