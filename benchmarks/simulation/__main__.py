"""Is the simulated population like the world?

python -m benchmarks.simulation [--people N]     the calibration table
python -m benchmarks.simulation --docs           with stays, treatments and true risks, into docs/simulation.md
python -m benchmarks.simulation --solve ROUNDS   adjust tables/solved.toml first
python -m benchmarks.simulation --speed          patients/s and peak memory from nothing to NDJSON on disk
"""

import argparse
import json
import sys
import tomllib

import polars as pl

from benchmarks.simulation.admissions import admission_figures, take_admissions
from benchmarks.simulation.calibration import Cell, compare, correct, write_solved
from benchmarks.simulation.census import Census, split, take_census
from benchmarks.simulation.correlations import correlation_figures
from benchmarks.simulation.courses import course_figures
from benchmarks.simulation.document import draw_pictures, write_document
from benchmarks.simulation.figures import PARTS, Figure, with_margins
from benchmarks.simulation.hospital import stay_figures
from benchmarks.simulation.interventions import check_interventions, confounding
from benchmarks.simulation.oracle import oracle_table, true_risks
from benchmarks.simulation.speed import measure_speed
from features.sources.simulation.lives import BLOCK
from features.sources.simulation.world import TABLES, compile_world, load_world


def main() -> int:
    """Do what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--solve", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument(
        "--oracle-people", type=int, default=6_000, help="with --docs (default: 6000; 0: leave what was foreseen)"
    )
    parser.add_argument("--speed", action="store_true")
    options = parser.parse_args()
    if options.speed:
        print(json.dumps(measure_speed(options.people)))
        return 0
    blocks = -(-options.people // BLOCK)
    _solve(options.solve, blocks, options.seed)
    load_world.cache_clear()
    world = load_world()
    census = take_census(blocks, options.seed)
    if not options.docs:
        _print(compare(census, world))
        return 0
    parts = split(census, PARTS)
    cells = with_margins(lambda of: compare(of, world), census, parts)
    _print(cells)
    admissions = take_admissions(max(PARTS, blocks // 4), options.seed)
    of_parts = [admissions.filter(pl.col("block") % PARTS == part) for part in range(PARTS)]
    figures = with_margins(admission_figures, admissions, of_parts)
    figures += with_margins(_figures, census, parts)
    oracle = None
    if options.oracle_people:
        oracle = oracle_table(true_risks(options.oracle_people, options.seed))
    interventions = check_interventions(max(PARTS, blocks // 2))
    draw_pictures(cells, census)
    write_document(cells, figures, interventions, confounding(census.survey), oracle, blocks * BLOCK)
    return 0


def _figures(census: Census) -> list[Figure]:
    return [*stay_figures(census), *course_figures(census), *correlation_figures(census)]


def _solve(rounds: int, blocks: int, seed: int) -> None:
    path = TABLES / "solved.toml"
    solved = tomllib.loads(path.read_text()) if path.exists() else {}
    for turn in range(rounds):
        world = compile_world(load_world().raw | {"solved": solved})
        cells = compare(take_census(blocks, seed + 100 + turn, world=world), world)
        print(f"round {turn + 1}: {sum(c.is_within for c in cells)} of {len(cells)} figures within", file=sys.stderr)
        solved = correct(cells, solved, damping=1 / (1 + turn / 2))
        write_solved(solved)


def _print(cells: list[Cell]) -> None:
    for cell in cells:
        ratio = cell.simulated / cell.published if cell.published else float("nan")
        print(
            f"{cell.name[:52]:54}{cell.sex:7}{cell.ages[0]:3}-{cell.ages[1] - 1:3} {cell.published:9.2f}"
            f"{cell.simulated:9.2f}{ratio:7.2f} {cell.tag:3} {cell.count:6}  {cell.verdict}"
        )
    hard = [cell for cell in cells if cell.tag in "vc"]
    print(f"{sum(c.is_within for c in hard)} of {len(hard)} verified figures within", end="; ")
    print(f"of all {sum(c.is_within for c in cells)} of {len(cells)}")


if __name__ == "__main__":
    sys.exit(main())
