"""How fast, and in how much memory, does a population come from nothing to NDJSON on disk?"""

import os
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.main_job import resident_mb
from features.sources.simulation import simulate

_PAUSE_SECONDS = 0.05


def measure_speed(patients: int, seed: int = 1) -> dict[str, float]:
    """Simulate `patients` into a temporary folder; patients, resources, megabytes, seconds, rates and peak memory."""
    peak, is_over = [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(_PAUSE_SECONDS):
            peak[0] = max(peak[0], resident_mb(os.getpid()))

    with tempfile.TemporaryDirectory() as folder:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        began = time.perf_counter()
        manifest = simulate(Path(folder), patients, seed)
        seconds = time.perf_counter() - began
        is_over.set()
        watcher.join()
    resources, size = sum(f.resources for f in manifest.files), sum(f.size for f in manifest.files)
    return {
        "patients": patients,
        "resources": resources,
        "resources_per_patient": round(resources / patients, 1),
        "megabytes": round(size / 1e6),
        "seconds": round(seconds, 1),
        "patients_per_s": round(patients / seconds, 1),
        "resources_per_s": round(resources / seconds),
        "peak_mb": round(peak[0]),
    }
