"""How long does each step of the main job take, and how much memory does it need?

python -m benchmarks.main_job [--from DIR] [--json]

The last line with --json is one JSON object: `steps` {name: {seconds, peak_mb}}, `seconds`, `peak_mb`, `patients`,
`events`. Memory is resident memory of this process and its children, sampled every 50 ms (Linux only; else null).
Steps include the start of Dagster's step around them; checks are steps too.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from orchestration.cli import main as sequela

_PAUSE_SECONDS = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run the main job in a fresh home, watched."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="source", default="examples", help="as in sequela run (default: examples)")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        samples: list[tuple[float, float]] = []
        is_over = threading.Event()
        watcher = threading.Thread(target=watch, args=(samples, is_over), daemon=True)
        watcher.start()
        began = time.time()
        with contextlib.redirect_stdout(sys.stderr):
            exit_code = sequela(["run", "--home", str(home), "--from", options.source])
        seconds = time.time() - began
        is_over.set()
        watcher.join()
        if exit_code:
            return exit_code
        summary = json.loads((home / "summary.json").read_text())
        steps = {
            name: {"seconds": round(end - start, 2), "peak_mb": peak_mb(samples, start, end)}
            for name, start, end in _steps(home)
        }
    result = {
        "seconds": round(seconds, 1),
        "peak_mb": peak_mb(samples, began, began + seconds),
        "patients": summary["patients"],
        "events": summary["events"],
        "steps": steps,
    }
    if options.json:
        print(json.dumps(result))
        return 0
    for name, step in steps.items():
        print(f"{name:55} {step['seconds']:8.2f} s {step['peak_mb'] or '':>8} MB")
    print(f"{'in all':55} {result['seconds']:8.2f} s {result['peak_mb'] or '':>8} MB")
    return 0


def _steps(home: Path) -> list[tuple[str, float, float]]:
    """Each step with the moments of its start and end, from Dagster's event log."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home / "dagster"), "command_line.yaml") as instance:
        records = [
            entry
            for run in reversed(instance.get_run_ids())
            for entry in instance.all_logs(run)
            if entry.is_dagster_event
        ]
    moments: dict[str, dict[str, float]] = {}
    for entry in records:
        event = entry.get_dagster_event()
        if event.event_type in (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS) and event.step_key:
            moments.setdefault(event.step_key, {})[event.event_type.value] = entry.timestamp
    return [(name, of["STEP_START"], of["STEP_SUCCESS"]) for name, of in moments.items()]


def watch(samples: list[tuple[float, float]], is_over: threading.Event) -> None:
    """Add the moment and the resident memory, MB, of this process to `samples` until it is over."""
    while not is_over.wait(_PAUSE_SECONDS):
        samples.append((time.time(), resident_mb(os.getpid())))


def resident_mb(process: int) -> float:
    """Resident memory of `process` and its children, shared pages once for each; 0 where /proc is missing."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        tasks = Path(f"/proc/{process}/task").iterdir()
        children = {int(child) for task in tasks for child in (task / "children").read_text().split()}
    except (OSError, IndexError, ValueError):  # it has just ended
        return 0.0
    return pages * _PAGE / 1e6 + sum(resident_mb(child) for child in children)


def peak_mb(samples: list[tuple[float, float]], start: float, end: float) -> float | None:
    """The highest sample between two moments; of the nearest one for a step shorter than the pause."""
    inside = [mb for moment, mb in samples if start - _PAUSE_SECONDS <= moment <= end + _PAUSE_SECONDS]
    peak = max(inside, default=0.0)
    return round(peak, 1) or None


if __name__ == "__main__":
    sys.exit(main())
