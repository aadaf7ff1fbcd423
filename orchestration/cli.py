"""The `sequela` command: run the study, score a day, ask the warehouse, open Dagster, look into the vault.

What is typed is read here; what a command does stands in orchestration/commands.py, how it ends in
orchestration/endings.py.
"""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

from orchestration import commands
from orchestration.endings import explain, say

_PORT = 3000


def main(arguments: list[str] | None = None) -> int:
    """Parse and obey; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    try:
        command(options)
    except KeyboardInterrupt:
        return say("Interrupted. What was finished stays; run the same command again to go on.", 130)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return explain(error)
    return 0


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
    of = parser.add_subparsers(required=True, metavar="command")

    run = of.add_parser("run", parents=[shared], help="the main job: records in, explained risk scores out")
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
    run.set_defaults(command=commands.run)

    tasks = of.add_parser("tasks", help="what is forecast: the tasks, and the same as ACES task files")
    tasks.add_argument("--aces", type=Path, metavar="FOLDER", help="write them there for ACES, one file a horizon")
    tasks.set_defaults(command=commands.tasks)

    score = of.add_parser("score", parents=[shared], help="score every eligible patient for one day")
    score.add_argument("--as-of", type=_day, required=True, help="the real day, YYYY-MM-DD")
    score.set_defaults(command=commands.score)

    features = of.add_parser(
        "features", parents=[shared], help="write the feature table, or that of one day, to a file"
    )
    features.add_argument("--as-of", type=_day, help="as it was seen on that real day, YYYY-MM-DD, one row a patient")
    features.add_argument("--long", action="store_true", help="one row a feature instead of one column")
    features.add_argument("--out", type=Path, help="the Parquet file to write (default: features….parquet here)")
    features.set_defaults(command=commands.features_table)

    truth = of.add_parser("truth", parents=[shared], help="how near the models come to a simulated truth")
    truth.set_defaults(command=commands.truth)

    trajectories = of.add_parser(
        "trajectories", parents=[shared], help="forecast the course of laboratory values and vital signs"
    )
    trajectories.add_argument("--plot", type=int, metavar="SUBJECT", help="draw one patient's, made before")
    trajectories.add_argument("--out", type=Path, help="with --plot: the PNG file to write (default: trajectories.png)")
    trajectories.set_defaults(command=commands.trajectories)

    sql = of.add_parser("sql", parents=[shared], help="ask the warehouse a question")
    sql.add_argument("question", help='for example "SHOW TABLES" or "FROM codes"')
    sql.add_argument("--rows", type=_positive, default=40, help="rows to show at most (default: 40)")
    sql.set_defaults(command=commands.sql)

    ui = of.add_parser("ui", parents=[shared], help="open Dagster with the same assets")
    ui.add_argument("--port", type=_positive, default=_PORT, help=f"default: {_PORT}")
    ui.set_defaults(command=commands.ui)

    vault = of.add_parser("vault", parents=[shared], help="who is behind a pseudonym (needs the key)")
    vault.add_argument("kind", choices=["file", "record"], help="a file of the quarantine, or a record of events")
    vault.add_argument("id", help="the pseudonym")
    vault.set_defaults(command=commands.vault)
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


if __name__ == "__main__":
    sys.exit(main())
