"""Does ACES draw the same cohorts and give the same answers? `python -m benchmarks.aces --home DIR`.

es-aces caps polars below 2, so it lives in an environment of its own (`make meds-tools`) and is run as its command.
"""

import argparse
import json
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from features.observation import observation_periods
from features.settings import StudySettings
from features.tables import SPLITS
from features.tasks.aces import aces_events, without_answers, without_rows, write_aces_tasks
from features.tasks.aces_answers import aces_answers
from features.tasks.labels import build_labels, events_of_tasks
from features.tasks.moments import KEYS
from features.tasks.schema import Task, load_tasks
from orchestration.resources import Study

TOOLS = Path(__file__).parent.parent / ".venv-meds"


@dataclass(frozen=True)
class Agreement:
    """How our rows and ACES's compare at one task and horizon; answers among rows that are not censored.

    ours, theirs, both: rows. answered: rows of both with an answer of both. events: of those, ours. agree: of those,
    with the same answer.
    """

    task: str
    horizon_days: int
    ours: int
    theirs: int
    both: int
    answered: int
    events: int
    agree: int

    @property
    def is_exact(self) -> bool:
        """Whether nothing differs."""
        return self.ours == self.theirs == self.both and self.answered == self.agree


def agreements(
    parts: Iterable[pl.LazyFrame],
    labels: pl.DataFrame,
    periods: pl.DataFrame,
    tasks: list[Task],
    settings: StudySettings,
    tools: Path,
) -> list[Agreement]:
    """Have ACES draw the tasks again from events (`parts`: whole subjects each), and compare with our labels."""
    with TemporaryDirectory() as folder:
        room = Path(folder)
        (room / "data").mkdir()
        parts = list(parts)
        for number, part in enumerate(parts):
            aces_events(part).collect().write_parquet(room / "data" / f"{number}.parquet")
        write_aces_tasks(tasks, room / "tasks")
        run_aces(tools / "bin" / "aces-cli", room / "data", room / "tasks", room / "out")
        events = events_of_tasks(pl.concat(parts), tasks)
        return compare(labels, room / "out" / "counts", events, periods, tasks, settings)


def run_aces(command: Path, data: Path, tasks: Path, out: Path) -> None:
    """Let aces-cli draw every task of the folder `tasks` from every Parquet file of `data`; counts go to `out`.

    Raises subprocess.CalledProcessError with ACES's own words.
    """
    names = sorted(str(file.relative_to(tasks).with_suffix("")) for file in tasks.glob("*/*.yaml"))
    shards = sorted(str(file.relative_to(data).with_suffix("")) for file in data.rglob("*.parquet"))
    subprocess.run(
        [
            *(str(command), "--multirun", f"cohort_dir={tasks}", f"cohort_name={','.join(names)}"),
            *("data=sharded", "data.standard=meds", f"data.root={data}", f"data.shard={','.join(shards)}"),
            "output_filepath=" + str(out / "labels/${cohort_name}${data._prefix}.parquet"),
            *(f"window_stats_dir={out / 'counts'}", f"log_dir={out / 'logs'}", "hydra/job_logging=disabled"),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=3_600,
    )


def compare(
    labels: pl.DataFrame,
    counts: Path,
    events: pl.LazyFrame,
    periods: pl.DataFrame,
    tasks: Iterable[Task],
    settings: StudySettings,
) -> list[Agreement]:
    """Compare labels with what ACES counted, task by task, for each that it can draw."""
    compared = []
    for task in tasks:
        for days in () if without_rows(task) else task.horizons_days:
            files = (counts / task.name / f"{days}d").rglob("*.parquet")
            found = [table for file in files if (table := pl.read_parquet(file)).height]
            table = pl.concat(found) if found else pl.DataFrame()
            theirs = aces_answers(table, events, periods, task, days, settings)
            ours = labels.filter(pl.col("task") == task.name, pl.col("horizon_days") == days)
            both = ours.join(theirs, on=KEYS)
            answered = both.filter(pl.col("state") != "censored", pl.col("is_event").is_not_null())
            is_event = answered["state"] == "event"
            compared.append(
                Agreement(
                    task=task.name,
                    horizon_days=days,
                    ours=ours.height,
                    theirs=theirs.height,
                    both=both.height,
                    answered=answered.height,
                    events=int(is_event.sum()),
                    agree=int((is_event == answered["is_event"]).sum()),
                )
            )
    return compared


def main() -> None:
    """Compare on the events of a home."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--tools", type=Path, default=TOOLS, help="environment with es-aces (default: .venv-meds)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    study, tasks = Study(home_folder=str(options.home)), load_tasks()
    tables = options.home / "tables"
    read = pl.read_parquet(tables / "dataset.parquet").row(0, named=True)
    periods, _ = observation_periods(
        study.events(), study.shifts(), study.settings, read["is_windowed"], read["covers_until"]
    )
    splits = pl.read_parquet(tables / "subject_splits.parquet")
    labels = build_labels(study.events(), periods, splits, tasks, study.settings)
    parts = [pl.scan_parquet(options.home / "meds" / "data" / split / "*.parquet") for split in SPLITS]
    compared = agreements(parts, labels, periods, tasks, study.settings, options.tools)
    reasons = {task.name: reason for task in tasks if (reason := without_rows(task) or without_answers(task))}
    if options.json:
        print(json.dumps({"agreement": [asdict(one) for one in compared], "reasons": reasons}))
        return
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_cols=-1):
        print(pl.DataFrame([asdict(one) for one in compared]))
    for name, reason in reasons.items():
        print(f"{name}: {reason}")


if __name__ == "__main__":
    main()
