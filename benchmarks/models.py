"""How good is each model of the ladder on each task, beside the best simpler one and beside the truth?

python -m benchmarks.models [--from SOURCE] [--patients N] [--home HOME] [--json]      fit and judge the ladder
python -m benchmarks.models --test-from SOURCE [--test-home HOME] …                    judge it at another site
python -m benchmarks.models … --figures benchmarks/figures/NAME.json                   keep the figures
python -m benchmarks.models --write docs/models.md                                     write them down

SOURCE is as for `sequela run`. HOME is prepared up to its feature table unless it was; without it all is made in a
folder that is thrown away. Nothing but that is written to it: the ladder that is fitted here is no study's. With
--test-from the ladder learns from all train patients of SOURCE, its tuning patients calibrate it, and everybody at the
other site judges. --tasks a,b restricts it to some tasks. The last line with --json is one JSON object: `tasks`
{task@days: best_simple, transformer, stack, oracle_auroc, oracle_share, calibration_slope (the last two of the stack,
or of the transformer where there is no stack), models {...}}, `costs`, `training`, `about`.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from benchmarks.league_document import league_lines, write_document
from benchmarks.league_figures import Figures, costs_of, tasks_of
from benchmarks.main_job import peak_mb, resident_mb, watch
from benchmarks.site import Site, moved, of_tasks, prepare, read_site
from features.errors import SequelaError
from features.home import Home
from features.result_tables import Oracle
from features.settings import StudySettings
from features.tables import empty
from features.tasks.schema import load_tasks
from models.costs import listening
from models.league import league_table
from models.oracle import compare_with_oracle
from models.risk_transformer import TransformerSettings
from models.train import train_ladder


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, fit, judge, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", default="simulated", help="as in sequela run (default: simulated)")
    parser.add_argument("--patients", type=int, help="how many to simulate")
    parser.add_argument("--home", type=Path, help="where the study lies, or is to be made and kept")
    parser.add_argument("--test-from", help="another site, whose patients judge what was learnt at the first")
    parser.add_argument("--test-home", type=Path, help="where that study lies, or is to be made and kept")
    parser.add_argument("--tasks", help="names, apart by commas (default: all)")
    parser.add_argument("--seed", type=int, default=StudySettings().seed, help="of the people simulated and of the fit")
    parser.add_argument("--figures", type=Path, help="keep the figures in this JSON file")
    parser.add_argument("--write", type=Path, help="only write the kept figures down, into this document")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args(arguments)
    if options.write:
        write_document(options.write)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        site = _site(options, Path(folder))
        if options.tasks:
            site = of_tasks(site, options.tasks.split(","))
        found = judged(site, StudySettings(seed=options.seed), Path(folder) / "models")
    if options.figures:
        options.figures.parent.mkdir(parents=True, exist_ok=True)
        options.figures.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(league_lines(found)))
    return 0


def judged(
    site: Site,
    settings: StudySettings,
    folder: Path,
    transformer: TransformerSettings | None = None,
) -> Figures:
    """Fit the ladder, save it under `folder`, and judge it; see the module for what the figures say."""
    began, samples, is_over = time.time(), [(time.time(), resident_mb(os.getpid()))], threading.Event()
    watcher = threading.Thread(target=watch, args=(samples, is_over), daemon=True)
    watcher.start()
    try:
        with listening() as heard:
            ladder = train_ladder(
                site.events,
                site.labels,
                site.features,
                site.definitions,
                settings,
                folder,
                refused=site.refused,
                comparators={task.name: task.comparators for task in load_tasks()},
                transformer=transformer,
            )
    finally:
        is_over.set()
        watcher.join()
    ended = time.time()
    league = league_table(ladder.predictions, ladder.evaluations, settings)
    oracle = (
        empty(Oracle)
        if site.true_risks is None
        else compare_with_oracle(ladder.predictions, site.true_risks, settings.bootstrap_resamples, settings.seed)
    )
    splits = dict(site.labels.group_by("split").agg(pl.col("subject_id").n_unique()).iter_rows())
    return {
        "about": {"source": site.words, "patients": site.patients, "seed": settings.seed, **splits},
        "tasks": tasks_of(league, oracle, settings.smallest_cell),
        "skipped": dict(ladder.skipped.select("task", "reason").iter_rows()),
        "costs": costs_of(heard, samples),
        "training": {"seconds": round(ended - began, 1), "peak_mb": peak_mb(samples, began, ended)},
    }


def _site(options: argparse.Namespace, folder: Path) -> Site:
    settings = StudySettings(seed=options.seed)
    home = Home(options.home or folder / "home")
    prepare(home, options.source, options.patients, seed=options.seed)
    site = read_site(home, settings)
    if options.test_from is None and options.test_home is None:
        return site
    other_home = Home(options.test_home or folder / "other_home")
    prepare(other_home, options.test_from or "", None, seed=options.seed)
    return moved(site, read_site(other_home, settings), other_home)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except SequelaError as error:
        raise SystemExit(f"Error: {error}") from None
