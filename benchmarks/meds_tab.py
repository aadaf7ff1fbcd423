"""Running meds-tab 0.2.0 in a virtual environment of its own, and what its cells say.

What must be known to read its figures, found by comparing cells (tests/benchmarks/test_features.py):
- Its value aggregations come out empty: it looks for codes under the names of columns ("LOINC//8480-6/value"), which
  no event has (get_long_value_df). It goes through all windows for them all the same, so its time counts; its disk
  space is that of the counts alone.
- It leaves out the last event of each time, so a time with one event is seen by nobody (compute_agg).
- Its counts are of distinct times, not of events, and its sum of squares squares twice, since each aggregation is
  made within a time and again over the window.
- Its lowest and highest values all land in the first row (aggregate_matrix with SciPy 1.17: `.row` of a flat array).
`peer_cells` gives numbers to its own aggregation directly, so that these cells can be compared.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEER = "meds-tab==0.2.0"
AGGREGATIONS = ("code/count", "value/count", "value/sum", "value/sum_sqd", "value/min", "value/max")
_STEPS = ("meds-tab-describe", "meds-tab-tabularize-static", "meds-tab-tabularize-time-series")

# Runs inside the peer's environment: <events.parquet> <out.npz>. Columns: subject_id, time, measure, number; sorted.
_CELLS = """
import sys
import numpy as np, polars as pl
from scipy.sparse import csr_array
from MEDS_tabular_automl.generate_summarized_reps import compute_agg
events = pl.read_parquet(sys.argv[1])
width = events["measure"].max() + 1
numbers = events["number"].to_numpy()
matrix = csr_array((numbers, (np.arange(events.height), events["measure"].to_numpy())), shape=(events.height, width))
index = events.lazy().select("subject_id", "time")
np.savez(sys.argv[2], **{
    f"{window}|{agg}": compute_agg(index, matrix, window, agg, width).toarray()
    for window in ("30d", "365d", "full") for agg in sys.argv[3:]
})
"""


def peer_environment(folder: Path) -> Path:
    """The peer's Python, installed into `folder` unless it is there. Raises CalledProcessError when it cannot be."""
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True, stdout=sys.stderr)
        (folder / ".installed").touch()
    return python


def peer_commands(python: Path, dataset: Path, out: Path, windows: tuple[str, ...]) -> list[list[str]]:
    """The peer's three steps from a folder of MEDS shards to its sparse matrices, every code included."""
    common = [f"input_dir={dataset}", f"output_dir={out}"]
    asked = [
        "tabularization.min_code_inclusion_count=0",
        f"tabularization.window_sizes=[{','.join(windows)}]",
        f"tabularization.aggs=[{','.join(('static/present', *AGGREGATIONS))}]",
    ]
    programs = [str(python.with_name(step)) for step in _STEPS]
    return [[programs[0], *common], *([program, *common, *asked] for program in programs[1:])]


def peer_cells(python: Path, events: Path, out: Path, aggregations: tuple[str, ...] = AGGREGATIONS) -> None:
    """Cells of the peer's own aggregation, dense, one array named `window|aggregation` for each."""
    subprocess.run([python, "-c", _CELLS, events, out, *aggregations], check=True, stdout=sys.stderr)
