"""The `sequela` command: run the study, score a day, ask the warehouse, open Dagster, look into the vault.

Whatever a person can put right ends in one message with the next step and exit code 2, Ctrl-C in 130; anything
else is a fault of ours, with its traceback and exit code 1.
"""

import argparse
import errno
import fcntl
import os
import shutil
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NoReturn

from features.counted import counted
from features.errors import ScoringError, SequelaError
from features.home import Home

_PORT = 3000
_DEV_STILL_WORKS = "ignore:Function `dev_command`"  # `dg dev`, which it would like better, is for developers of ours
_NO_LIMIT = 100_000  # characters; a file or a pipe gets whole columns
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
_FULL_DISK = ("No space left on device", "database or disk is full", "disk I/O error")


def main(arguments: list[str] | None = None) -> int:
    """Parse and obey; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    try:
        command(options)
    except KeyboardInterrupt:
        return _say("Interrupted. What was finished stays; run the same command again to go on.", 130)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _explain(error)
    return 0


def _run(options: argparse.Namespace) -> None:
    from features.settings import load_settings
    from features.sources.choice import OPTIONS, source_named
    from orchestration.launch import run_job
    from orchestration.resources import PROJECT_STUDY_FILE, StudyChoices
    from orchestration.summary import summarise, summary_lines, write_summary

    given = {name: str(getattr(options, name)) for name in OPTIONS if getattr(options, name)}
    home = Home(options.home)
    source = source_named(_named_source(options.source, home), given)
    study_file = options.study or (PROJECT_STUDY_FILE if PROJECT_STUDY_FILE.exists() else None)
    settings = load_settings(study_file, options.seed)
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
        as_of = min(_covered_days(home)[1], _last_day_to_ask_for())
        scored = run_job("score_day", study, home, day=as_of.isoformat())
        write_summary(home, summarise(home, as_of, judged.seconds | scored.seconds))
    print("\n".join(summary_lines(home, as_of, settings.smallest_cell)))


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


def _score(options: argparse.Namespace) -> None:
    from features.scoring_day import require_scorable
    from orchestration.launch import run_job
    from orchestration.summary import command_name, scores_of

    home = Home(options.home)
    require_scorable(options.as_of, *_covered_days(home))
    if options.as_of > _last_day_to_ask_for():
        raise ScoringError(f"{options.as_of} has not come yet. Choose a day up to today.")
    with _sole_use(home):
        run_job("score_day", {"home_folder": str(home.path.resolve())}, home, day=options.as_of.isoformat())
    scored = scores_of(home, options.as_of)
    if not scored:
        print(f"Nobody is scored on {options.as_of}: no model was released, or nobody is eligible. See: ", end="")
        print(f'{command_name()} sql --home {home.path} "FROM skipped_tasks"')
        return
    print(f"{counted(scored, 'risk')} as of {options.as_of}. See: {command_name()} sql --home {home.path} ", end="")
    print(f"\"SELECT task, count(*), avg(risk) FROM risk_scores WHERE as_of = '{options.as_of}' GROUP BY task\"")


def _truth(options: argparse.Namespace) -> None:
    import polars as pl

    from orchestration.launch import run_job
    from orchestration.summary import command_name

    home = Home(options.home)
    _require(home, home.tables / "predictions.parquet")
    _say("Living the visits of simulated people on, a hundred times each: some minutes.")
    with _sole_use(home):
        run_job("truth_job", {"home_folder": str(home.path.resolve())}, home)
    compared = pl.read_parquet(home.tables / "oracle.parquet")
    if compared.is_empty():
        print("No task has outcomes enough on rows whose truth is known: simulate more people (--patients).")
    print(
        "Held-out rows whose truth is known; by chance a model may pass the truth, the more so the fewer the outcomes."
    )
    for row in compared.iter_rows(named=True):
        said = f"{row['task']:22} {row['horizon_days']:4} d  {row['events']:,} of {row['rows']:,}"
        said += f"  {row['model']:12} AUROC {row['auroc']:.3f}"
        print(f"{said}  true risk {row['oracle_auroc']:.3f} ({row['oracle_low']:.3f}-{row['oracle_high']:.3f})")
    print(f'Simulated people, not real ones. See: {command_name()} sql --home {home.path} "FROM oracle"')


def _sql(options: argparse.Namespace) -> None:
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


def _ui(options: argparse.Namespace) -> NoReturn:
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
    _say(f"Dagster opens on http://127.0.0.1:{options.port} for {home.path}; Ctrl-C ends it.")
    dagster = [sys.executable, "-W", _DEV_STILL_WORKS, "-m", "dagster", "dev", "-m", "orchestration.definitions"]
    place = ["-d", str(Path(__file__).parent.parent), "-h", "127.0.0.1", "-p", str(options.port)]
    os.execve(sys.executable, [*dagster, *place], environment)


def _vault(options: argparse.Namespace) -> None:
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


def _parser() -> argparse.ArgumentParser:
    from orchestration.resources import default_home

    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--home",
        type=Path,
        default=default_home(),
        help="the study's folder (default: SEQUELA_HOME, ./sequela-home)",
    )
    parser = argparse.ArgumentParser(prog="sequela", description="Explained, calibrated risks from FHIR R4 records.")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser("run", parents=[shared], help="the main job: records in, explained risk scores out")
    run.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="simulated (default), synthea, examples, the https:// address of a FHIR server, or a folder of FHIR R4 "
        "records",
    )
    run.add_argument("--patients", type=_positive, help="how many to make (default: 3000 simulated, 500 of Synthea)")
    run.add_argument("--format", choices=("ndjson", "bundles"), help="simulated: how it is written (default: ndjson)")
    run.add_argument("--state", help="with --from synthea: where they live, as Massachusetts (default: everywhere)")
    run.add_argument("--city", help="with --from synthea and --state")
    run.add_argument("--types", help="with a FHIR server: types of resources, as Patient,Encounter (default: all used)")
    run.add_argument("--client-id", help="with a FHIR server: how it knows this program")
    run.add_argument("--client-key", metavar="FILE", help="with a FHIR server: the private key, a JWK or PEM file")
    run.add_argument("--token-url", help="with a FHIR server: where it gives out tokens (default: as it says itself)")
    run.add_argument("--scope", help="with a FHIR server: what is asked leave for (default: to read each of the types)")
    run.add_argument("--full", action="store_true", help="with a FHIR server: everything again, not only what is new")
    run.add_argument("--seed", type=int, help="start of every random draw, from 0 (default: the study file's)")
    run.add_argument("--study", type=Path, help="study file (default: the project's study.toml)")
    run.add_argument("--processes", type=_positive, help="processes that read records (default: one a core)")
    run.set_defaults(command=_run)

    score = commands.add_parser("score", parents=[shared], help="score every eligible patient for one day")
    score.add_argument("--as-of", type=_day, required=True, help="the real day, YYYY-MM-DD")
    score.set_defaults(command=_score)

    truth = commands.add_parser("truth", parents=[shared], help="how near the models come to a simulated truth")
    truth.set_defaults(command=_truth)

    sql = commands.add_parser("sql", parents=[shared], help="ask the warehouse a question")
    sql.add_argument("question", help='for example "SHOW TABLES" or "FROM codes"')
    sql.add_argument("--rows", type=_positive, default=40, help="rows to show at most (default: 40)")
    sql.set_defaults(command=_sql)

    ui = commands.add_parser("ui", parents=[shared], help="open Dagster with the same assets")
    ui.add_argument("--port", type=_positive, default=_PORT, help=f"default: {_PORT}")
    ui.set_defaults(command=_ui)

    vault = commands.add_parser("vault", parents=[shared], help="who is behind a pseudonym (needs the key)")
    vault.add_argument("kind", choices=["file", "record"], help="a file of the quarantine, or a record of events")
    vault.add_argument("id", help="the pseudonym")
    vault.set_defaults(command=_vault)
    return parser


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a day; write it as 2021-03-01") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


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


def _covered_days(home: Home) -> tuple[date, date]:
    """The first and the last true day of the home's records."""
    import polars as pl

    _require(home, home.tables / "study_days.parquet")
    return pl.read_parquet(home.tables / "study_days.parquet").row(0)


def _last_day_to_ask_for() -> date:
    from orchestration.defs.scoring import DAYS

    return date.fromisoformat(DAYS.get_partition_keys()[-1])


def _make_home(home: Home) -> None:
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SequelaError(f"{home.path} cannot be the home: {error.strerror}. Choose another --home.") from error


def _explain(error: Exception) -> int:
    """Tell the person what to do when the error, or one that it came from, says so."""
    for cause in _causes(error):
        if isinstance(cause, SequelaError):
            return _say(str(cause), 2)
        if isinstance(cause, KeyboardInterrupt):
            return _say("Interrupted. What was finished stays; run the same command again to go on.", 130)
        if _is_disk_full(cause):
            return _say(
                "The disk is full or refuses to be written. The last good state stands; make room, run again.", 2
            )
        if isinstance(cause, OSError) and cause.errno in _NOT_ALLOWED:
            where = (
                f" in {Path(str(cause.filename)).parent}" if cause.filename else ""
            )  # a file's name may be a patient's
            return _say(f"A file or folder{where} may not be read or written ({cause.strerror}). Change who may.", 2)
    traceback.print_exception(error)
    return _say("That was not expected: please report it with the lines above.", 1)


def _is_disk_full(error: BaseException) -> bool:
    """Python, polars and DuckDB, and SQLite say it each in their own way."""
    said = str(error)
    is_said = any(words in said for words in _FULL_DISK)
    return is_said or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _say(message: str, exit_code: int = 0) -> int:
    """Tell the person; the commands that a message names as `sequela ...` are told as they can be typed here."""
    from orchestration.summary import command_name

    print(message.replace("`sequela ", f"`{command_name()} "), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
