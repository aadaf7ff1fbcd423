"""How fast and how small are the features, beside meds-tab, and what does a large population need?

python -m benchmarks.features --from HOME_OR_MEDS_FOLDER [--patients N] [--people N] [--peer FOLDER] [--json]

Both make every code in windows of 30 days, 365 days and the whole record, at every distinct time of an event: how
often it occurred; of numbers the count, sum, sum of squares, lowest and highest; and the static codes. The same shard
of the same MEDS dataset, one process each, one after the other; memory is the largest resident set of a process.
meds-tab 0.2.0 has an environment of its own, made in --peer (benchmarks.meds_tab says what its cells mean). It keeps
every cell, this project runs of equal cells; `expanded` counts making every cell of every run too.

With --people, the feature table of a home is also made, planned and written with its sources, for so many people:
those of the home over and over under new ids.

The last line with --json is one JSON object. ratio_speed: how many times as fast, by seconds on the clock;
ratio_cpu: the same by seconds of processor; ratio_memory and ratio_disk: our share of what the peer takes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from benchmarks.meds_tab import peer_commands, peer_environment
from features.code_runs import cells_of, write_code_runs

WINDOWS = {"30d": 30, "365d": 365, "full": None}

Figures = dict[str, float | int | None]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, required=True, help="a home, or a folder of MEDS shards")
    parser.add_argument("--patients", type=int, default=300, help="people that both tabularize (default: 300)")
    parser.add_argument("--people", type=int, default=0, help="people of a feature table of a home; 0: none")
    parser.add_argument("--peer", type=Path, default=Path(tempfile.gettempdir()) / "meds-tab-0.2.0")
    parser.add_argument("--no-peer", action="store_true", help="measure only this project")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # what runs in a process of its own
    options = parser.parse_args()
    if options.step:
        _step(*options.step)
        return
    with tempfile.TemporaryDirectory(prefix="sequela-benchmark-") as name:
        figures = measure(options.source, options.patients, Path(name), None if options.no_peer else options.peer)
        if options.people:
            figures |= _ours("table", options.source, Path(name) / "table", str(options.people), prefix="table_")
    for name, value in figures.items():
        print(f"{name:28} {value}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(figures))


def measure(source: Path, patients: int, folder: Path, peer: Path | None) -> Figures:
    """The figures of one dataset, for some patients and, of this project alone, for all."""
    some = folder / "some"
    events = write_some(source, some, patients)
    ours = _ours("runs", some, folder / "runs", "", prefix="")
    expanded = _ours("cells", folder / "runs", folder / "none", "", prefix="")
    everything = _ours("runs", source, folder / "all", "", prefix="")
    all_events = int(pl.concat(shards_in(source)).select(pl.len()).collect().item())
    figures: Figures = {
        "patients": patients,
        "events": events,
        "events_per_s": round(events / ours["seconds"]),
        "peak_mb": ours["peak_mb"],
        "disk_mb": ours["disk_mb"],
        "cells": expanded["cells"],
        "expanded_events_per_s": round(events / (ours["seconds"] + expanded["seconds"])),
        "all_events": all_events,
        "all_events_per_s": round(all_events / everything["seconds"]),
        "all_peak_mb": everything["peak_mb"],
        "all_disk_mb": everything["disk_mb"],
    }
    if peer is None:
        return figures
    out = folder / "peer"
    steps = [_watched(one) for one in peer_commands(peer_environment(peer), some, out, tuple(WINDOWS))]
    seconds, cpu = sum(one[0] for one in steps), sum(one[1] for one in steps)
    peak, disk = max(one[2] for one in steps), _megabytes(out)
    return figures | {
        "meds_tab_events_per_s": round(events / seconds),
        "meds_tab_seconds": round(seconds, 1),
        "meds_tab_peak_mb": round(peak),
        "meds_tab_disk_mb": round(disk, 1),
        "ratio_speed": round(seconds / ours["seconds"], 1),
        "ratio_cpu": round(cpu / ours["cpu"], 1),
        "ratio_speed_expanded": round(seconds / (ours["seconds"] + expanded["seconds"]), 1),
        "ratio_memory": round(ours["peak_mb"] / peak, 3),
        "ratio_disk": round(ours["disk_mb"] / disk, 4),
    }


def shards_in(source: Path) -> list[pl.LazyFrame]:
    """The shards of a home or of a folder of MEDS shards, in order of their names."""
    data = source / "meds" / "data"
    files = sorted((data if data.exists() else source).rglob("*.parquet"))
    return [pl.scan_parquet(file, hive_partitioning=False) for file in files]


def write_some(source: Path, folder: Path, patients: int) -> int:
    """Write the first patients, in the order of their ids, as one MEDS shard of plain columns. Returns the events.

    One shard is what MEDS tools make of so few people: their default is 50,000 in each.
    """
    shards = shards_in(source)
    chosen = pl.concat(shards).select("subject_id").unique().sort("subject_id").head(patients).collect()
    columns = ["subject_id", "time", "code", "numeric_value"]
    parts = [shard.select(columns).join(chosen.lazy(), on="subject_id", how="semi").collect() for shard in shards]
    events = pl.concat(parts).sort("subject_id", "time", maintain_order=True)
    place = folder / "train" / "0.parquet"
    place.parent.mkdir(parents=True)
    events.write_parquet(place)
    return events.height


def _ours(step: str, source: Path, out: Path, argument: str, prefix: str) -> dict[str, float]:
    """Figures of one step of ours in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.features", "--from", str(source), "--step", step, str(out), argument]
    seconds, cpu, peak, told = _watched(command)
    figures: dict[str, float] = {
        "seconds": round(seconds, 2),
        "cpu": round(cpu, 2),
        "peak_mb": round(peak),
        **json.loads(told or "{}"),
    }
    if out.exists():
        figures["disk_mb"] = round(_megabytes(out), 1)
    return {f"{prefix}{name}": value for name, value in figures.items()}


def _step(step: str, out: str, argument: str) -> None:
    source = Path(sys.argv[sys.argv.index("--from") + 1])
    if step == "runs":
        write_code_runs(shards_in(source), Path(out), WINDOWS)
    elif step == "cells":
        files = sorted(source.rglob("codes.parquet")) + sorted(source.rglob("values.parquet"))
        runs = (pl.read_parquet(file) for file in files if file.parent != source)
        print(json.dumps({"cells": sum(cells_of(one).height for one in runs)}))
    else:
        from benchmarks.feature_table import make_table  # its imports would stand in the memory of the other steps

        print(json.dumps(make_table(source, Path(out), int(argument))))


def _watched(command: list[str]) -> tuple[float, float, float, str]:
    """Run a command: seconds, seconds of processor, largest resident set in MB, the last line it printed."""
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        printed = running.stdout.read()
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command, printed)
    seconds = time.perf_counter() - began
    return seconds, used.ru_utime + used.ru_stime, _peak_mb(used), printed.strip().rpartition("\n")[2]


def _peak_mb(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def _megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1024**2


if __name__ == "__main__":
    main()
