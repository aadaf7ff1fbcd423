"""python -m benchmarks.simulation [--solve ROUNDS] [--people N]: the calibration table of the simulated population."""

import argparse
import sys
import tomllib

from benchmarks.simulation.calibration import compare, correct, write_solved
from benchmarks.simulation.census import take_census
from features.sources.simulation.lives import BLOCK
from features.sources.simulation.world import TABLES, compile_world, load_world


def main() -> int:
    """Compare, and with --solve correct and compare again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--solve", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    blocks = -(-options.people // BLOCK)
    solved = tomllib.loads((TABLES / "solved.toml").read_text()) if (TABLES / "solved.toml").exists() else {}
    for turn in range(options.solve):
        world = compile_world(load_world().raw | {"solved": solved})
        cells = compare(take_census(blocks, options.seed + 100 + turn, world=world), world)
        print(f"round {turn + 1}: {sum(c.is_within for c in cells)} of {len(cells)} figures within", file=sys.stderr)
        solved = correct(cells, solved)
        write_solved(solved)
    world = compile_world(load_world().raw | {"solved": solved})
    cells = compare(take_census(blocks, options.seed, world=world), world)
    for cell in cells:
        ages = f"{cell.ages[0]}-{cell.ages[1] - 1}"
        ratio = cell.simulated / cell.published if cell.published else float("nan")
        mark = "" if cell.is_within else "  <-"
        print(
            f"{cell.target['name'][:52]:54}{cell.sex:7}{ages:8}{cell.published:9.2f}{cell.simulated:9.2f}{ratio:7.2f} {cell.target['tag']:3} {cell.count:6}{mark}"
        )
    hard = [c for c in cells if c.target["tag"] in "vc"]
    print(
        f"{sum(c.is_within for c in hard)} of {len(hard)} verified figures within; of all {sum(c.is_within for c in cells)} of {len(cells)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
