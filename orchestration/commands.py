"""What each `sequela` command does with what was typed.

Imports what a command needs when it is given: the others, and --help, need not wait for it.
"""

import argparse
import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NoReturn

from features.counted import counted
from features.errors import ScoringError, SequelaError
from features.home import Home
from orchestration.endings import say

_DEV_STILL_WORKS = "ignore:Function `dev_command`"  # `dg dev`, which it would like better, is for developers of ours
_WHO_IS_FORECAST = {"inpatient": " (of those alone who are in hospital at the end of the records)"}
_NO_LIMIT = 100_000  # characters; a file or a pipe gets whole columns


def run(options: argparse.Namespace) -> None:
    """The main job, the scores of its last day, and what was found."""
    from features.settings import load_settings
    from features.sources.choice import OPTIONS, source_named
    from orchestration.days import last_day_to_ask_for
    from orchestration.launch import run_job
    from orchestration.resources import PROJECT_STUDY_FILE, StudyChoices
    from orchestration.summary import summarise, summary_lines, write_summary

    given = {name: str(getattr(options, name)) for name in OPTIONS if getattr(options, name)}
    home = Home(options.home)
    source = source_named(_named_source(options.source, home), given)
    study_file = options.study or (PROJECT_STUDY_FILE if PROJECT_STUDY_FILE.exists() else None)
    settings = load_settings(study_file, options.seed)
    if settings.models.accelerator != "cpu" or settings.models.devices > 1:
        from models.training_loop import fabric_of

        fabric_of(settings.models.accelerator, settings.models.devices)  # said now, not after an hour
    study: StudyChoices = {  # whole paths: Dagster keeps them, and may run this again from another folder
        "home_folder": str(home.path.resolve()),
        "source": source.named,
        "source_options": dict(source.options),
        "study_file": str(study_file.resolve() if study_file else ""),
        "seed": settings.seed,
    }
    if options.processes is not None:
        study["processes"] = options.processes
    with _sole_use(home):
        judged = run_job("main_job", study, home)
        as_of = min(_covered_days(home)[1], last_day_to_ask_for())
        scored = run_job("score_day", study, home, day=as_of.isoformat())
        write_summary(home, summarise(home, as_of, judged.seconds | scored.seconds))
    print("\n".join(summary_lines(home, as_of, settings.smallest_cell)))


def tasks(options: argparse.Namespace) -> None:
    """The tasks that ship with Sequela; with --aces, also their files for ACES and what it cannot say."""
    from features.tasks.aces import write_aces_tasks
    from features.tasks.schema import load_tasks

    shipped = load_tasks()
    width = max(len(task.name) for task in shipped)
    for task in shipped:
        horizons = ", ".join(f"{days:,}" for days in task.horizons_days)
        print(f"{task.name:{width}}  {task.title}; {horizons} days")
    if options.aces is not None:
        for name, reason in write_aces_tasks(shipped, options.aces).items():
            print(f"Not in ACES: {name}: {reason}")
        print(f"ACES task files: {options.aces}")


def _named_source(typed: str | None, home: Home) -> str:
    """What was typed after --from, or the simulated population; never in the place of a hospital's own records."""
    from features.sources.choice import is_of_ours
    from orchestration.resources import last_source

    if typed is not None and not typed.strip():
        raise SequelaError("--from is empty. Name a source, or leave --from out for the simulated population.")
    last = last_source(home)
    if typed is None and not is_of_ours(last):
        raise SequelaError(
            f"{home.path} holds records from {last}. To read them again, give the same --from; to put simulated people "
            "in their place, `--from simulated`; to keep both, another --home."
        )
    return typed or "simulated"


def score(options: argparse.Namespace) -> None:
    """Score one real day and publish."""
    from features.settings import StudySettings
    from orchestration.summary import command_name, scores_of, unlike_lines

    home = Home(options.home)
    _run_day("score_day", options.as_of, home)
    scored = scores_of(home, options.as_of)
    if not scored:
        print(f"Nobody is scored on {options.as_of}: no model was released, or nobody is eligible. See: ", end="")
        print(f'{command_name()} sql --home {home.path} "FROM skipped_tasks"')
        return
    print(f"{counted(scored, 'risk')} as of {options.as_of}. See: {command_name()} sql --home {home.path} ", end="")
    print(f"\"SELECT task, count(risk), avg(risk) FROM risk_scores WHERE as_of = '{options.as_of}' GROUP BY task\"")
    settings = StudySettings.model_validate_json((home.models / "settings.json").read_text())
    print("".join(f"{line}\n" for line in unlike_lines(home, options.as_of, settings.smallest_cell)), end="")


def features_table(options: argparse.Namespace) -> None:
    """Write a feature table to a file: the study's, or that of one real day as it was seen then; wide or long."""
    import polars as pl

    from features.privacy.keys import load_key
    from features.privacy.vault import unseal

    home = Home(options.home)
    name = "features" if options.as_of is None else f"features-{options.as_of}"
    file = options.out or Path(f"{name}{'-long' if options.long else ''}.parquet")
    if file.suffix != ".parquet":
        raise SequelaError(f"{file.name}: the table is written as Parquet; name a file that ends in .parquet: --out")
    if not file.absolute().parent.is_dir():
        raise SequelaError(f"{file.absolute().parent} is no folder. Name another file: --out")
    if options.as_of is None:
        _require(home, home.tables / "features.parquet")
        table, keys = pl.scan_parquet(home.tables / "features.parquet"), ["subject_id", "prediction_time"]
    else:
        _run_day("features_of_day", options.as_of, home)
        made = home.tables / "features_as_of" / f"{options.as_of}.vault"
        table, keys = unseal(load_key(keep_away_from=(home.path,)), made).lazy(), ["as_of", "subject_id"]
    if options.long:
        table = table.unpivot(index=keys, variable_name="feature").drop_nulls("value")
    table.sink_parquet(file, compression="zstd")
    rows = pl.scan_parquet(file).select(pl.len()).collect().item()
    print(f"{counted(rows, 'row')} in {file}")
    if options.as_of is not None:
        print("Beside the events it tells true dates: only for people who are cleared for those (docs/privacy.md).")


def truth(options: argparse.Namespace) -> None:
    """Of simulated people: hold the judged models against the true risks."""
    import polars as pl

    from models.ladder import ladder_of, words_of
    from orchestration.launch import run_job
    from orchestration.summary import command_name

    home = Home(options.home)
    _require(home, home.tables / "predictions.parquet")
    with _sole_use(home):
        run_job("truth_job", {"home_folder": str(home.path.resolve())}, home)
    compared = pl.read_parquet(home.tables / "oracle.parquet")
    if compared.is_empty():
        print("No task has outcomes enough on rows whose truth is known: simulate more people (--patients).")
    print(
        "Held-out rows whose truth is known; by chance a model may pass the truth, the more so the fewer the outcomes."
    )
    for (task, days), of_question in compared.group_by("task", "horizon_days", maintain_order=True):
        first, models = of_question.row(0, named=True), {row["model"]: row for row in of_question.iter_rows(named=True)}
        print(
            f"{task} within {counted(int(str(days)), 'day')}: {first['events']:,} of {first['rows']:,}, AUROC of the "
            f"true risk {first['oracle_auroc']:.3f} ({first['oracle_low']:.3f}-{first['oracle_high']:.3f})"
        )
        for model in ladder_of(models):
            print(f"  {words_of(model):32} {models[model]['auroc']:.3f}")
    print(f'Simulated people, not real ones. See: {command_name()} sql --home {home.path} "FROM oracle"')


def trajectories(options: argparse.Namespace) -> None:
    """Forecast the course of everybody's values; with --plot, draw what was forecast for one patient."""
    import polars as pl

    from orchestration.launch import run_job
    from orchestration.summary import command_name
    from orchestration.trajectory_plot import MODEL_WORDS, plot_patient

    home = Home(options.home)
    if options.plot is not None:
        file = options.out or Path("trajectories.png")
        plot_patient(home, options.plot, file)
        print(f"{file}: what was measured, and what is forecast, of {options.plot}")
        return
    _require(home, home.tables / "predictions.parquet")
    with _sole_use(home):
        run_job("trajectory_job", {"home_folder": str(home.path.resolve())}, home)
    judged = pl.read_parquet(home.tables / "trajectory_evaluations.parquet").filter(pl.col("step") == 0)
    print("Held-out patients, all steps ahead: CRPS (the less the better), and how much the 80 % bands cover.")
    for row in judged.filter(pl.col("is_released")).iter_rows(named=True):
        beside = f"{row['difference']:+.2g} ({row['difference_low']:+.2g} to {row['difference_high']:+.2g})"
        print(
            f"  {row['setting']:10} {row['measure']:20} {MODEL_WORDS[row['model']]:40} CRPS {row['crps']:.3g} "
            f"{row['unit']}, {'the' if row['is_best_simple'] else f'{beside} against the'} best simple model; covers "
            f"{row['coverage']:.0%}"
        )
    left_out = pl.read_parquet(home.tables / "trajectory_measures.parquet").drop_nulls("reason")
    for row in left_out.iter_rows(named=True):
        print(f"  {row['setting']:10} {row['measure']:20} not forecast: {row['reason']}")
    for setting, count in _forecast_patients(home).items():
        print(f"  {setting:10} forecasts for {counted(count, 'patient')}{_WHO_IS_FORECAST.get(setting, '')}")
    print(f"See: {command_name()} sql --home {home.path} ", end="")
    print('"FROM trajectories", or --plot SUBJECT')


def _forecast_patients(home: Home) -> dict[str, int]:
    """Patients with a forecast, by setting; nought for a setting whose models stand ready for nobody."""
    import polars as pl

    made = (
        pl.scan_parquet(home.tables / "trajectories.parquet").group_by("setting").agg(pl.col("subject_id").n_unique())
    )
    settings = pl.read_parquet(home.tables / "trajectory_measures.parquet").drop_nulls("model")["setting"].unique()
    patients = dict(made.collect().iter_rows())
    return {setting: patients.get(setting, 0) for setting in settings.sort()}


def sql(options: argparse.Namespace) -> None:
    """Print the warehouse's answer to a question."""
    import duckdb

    from orchestration.warehouse import open_warehouse

    home = Home(options.home)
    _require(home, home.warehouse)
    if not options.question.strip():
        raise SequelaError('No question was asked. Try: `sequela sql "SHOW TABLES"`')
    try:
        with open_warehouse(home.warehouse) as connection:
            answer = connection.sql(options.question)
            if answer is not None:
                width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _NO_LIMIT
                answer.show(max_rows=options.rows, max_width=width)
    except duckdb.Error as error:
        raise SequelaError(f'The warehouse cannot answer: {error}\nIts tables: `sequela sql "SHOW TABLES"`') from error


def ui(options: argparse.Namespace) -> NoReturn:
    """Become Dagster's own process, with this home."""
    from orchestration.launch import prepare_dagster_home

    home = Home(options.home.resolve())
    _make_home(home)
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind(("127.0.0.1", options.port))
        except (OSError, OverflowError):
            raise SequelaError(f"Port {options.port} cannot be had. Choose another: --port (1024 to 65535).") from None
    prepare_dagster_home(home)
    environment = os.environ | {
        "DAGSTER_HOME": str(home.dagster),
        "SEQUELA_HOME": str(home.path),
        "PYTHONSAFEPATH": "1",  # a models.py where the person happens to stand is not ours
    }
    say(f"Dagster opens on http://127.0.0.1:{options.port} for {home.path}; Ctrl-C ends it.")
    dagster = [sys.executable, "-W", _DEV_STILL_WORKS, "-m", "dagster", "dev", "-m", "orchestration.definitions"]
    place = ["-d", str(Path(__file__).parent.parent), "-h", "127.0.0.1", "-p", str(options.port)]
    os.execve(sys.executable, [*dagster, *place], environment)


def vault(options: argparse.Namespace) -> None:
    """Print who or what is behind a pseudonym."""
    from features.privacy.keys import load_key
    from features.privacy.vault import file_name_of, resource_of

    home = Home(options.home)
    _require(home, home.vault)
    key = load_key(keep_away_from=(home.path,))
    if options.kind == "file":
        print(file_name_of(home.vault, key, options.id))
    elif options.id.isdecimal():
        print(resource_of(home.vault, key, int(options.id)))
    else:
        raise SequelaError("A record is named by its number, from the `record_id` column of events.")


def _require(home: Home, path: Path) -> None:
    if not path.exists():
        raise SequelaError(
            f"{path.parent} holds no {path.name} yet. Run `sequela run --home {home.path}` first, or name another home."
        )


@contextmanager
def _sole_use(home: Home) -> Iterator[None]:
    """Nobody else runs this home meanwhile; what a killed run was building is cleared away."""
    from orchestration.beside import clear_leftovers

    _make_home(home)
    with (home.path / ".run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SequelaError(f"Another run is using {home.path}. Wait for it, or choose another --home.") from None
        clear_leftovers(home.path)
        yield


def _run_day(job: str, day: date, home: Home) -> None:
    """Run a job of one real day. Raises ScoringError for a day of which the records cannot speak."""
    from features.scoring_day import require_scorable
    from orchestration.days import last_day_to_ask_for
    from orchestration.launch import run_job

    require_scorable(day, *_covered_days(home))
    if day > last_day_to_ask_for():
        raise ScoringError(f"{day} has not come yet. Choose a day up to today.")
    with _sole_use(home):
        run_job(job, {"home_folder": str(home.path.resolve())}, home, day=day.isoformat())


def _covered_days(home: Home) -> tuple[date, date]:
    """The first and the last true day of the home's records."""
    import polars as pl

    _require(home, home.tables / "study_days.parquet")
    return pl.read_parquet(home.tables / "study_days.parquet").row(0)


def _make_home(home: Home) -> None:
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SequelaError(f"{home.path} cannot be the home: {error.strerror}. Choose another --home.") from error
