"""A picture of one patient's courses: what was measured, and the bands of what is to be expected.

Its time is counted from the forecast, never a date: beside real days the moved dates of the table would tell the shift.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from features.errors import SequelaError
from features.home import Home
from features.ingest import events_of
from orchestration.source_labels import source_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UNITS = {"mm[Hg]": "mmHg", "Cel": "°C", "mL/min/{1.73_m2}": "mL/min/1.73 m²", "/min": "per minute"}
_DAYS_PER_MONTH = 365.25 / 12
_COLUMNS = 2
MODEL_WORDS = {
    "last_value": "last value",
    "mixed_trend": "mixed trend",
    "lightgbm": "LightGBM",
    "temporal_fusion_transformer": "Temporal Fusion Transformer",
    "average": "LightGBM and Temporal Fusion Transformer",
}


def plot_patient(home: Home, subject: int, file: Path) -> None:
    """Draw what was forecast for one patient of a home. Raises SequelaError when there is nothing to draw."""
    from models.trajectories.evaluation import ALL_STEPS

    made = home.tables / "trajectories.parquet"
    if not made.exists():
        raise SequelaError("Nothing has been forecast in this home yet. Run `sequela trajectories` first.")
    if file.suffix != ".png" or not file.absolute().parent.is_dir():
        raise SequelaError(f"{file}: name a file that ends in .png, in a folder that is there: --out")
    forecasts = pl.read_parquet(made).filter(pl.col("subject_id") == subject)
    if forecasts.is_empty():
        raise SequelaError('Nothing is forecast for this subject. Who is: `sequela sql "FROM trajectories"`')
    kind = pl.read_parquet(home.tables / "dataset.parquet")["source_kind"].item()
    measures = pl.read_parquet(home.tables / "trajectory_measures.parquet")
    judged = pl.read_parquet(home.tables / "trajectory_evaluations.parquet").filter(pl.col("step") == ALL_STEPS)
    plot_trajectories(forecasts, measures, judged, events_of(home), source_label(kind), file)


def plot_trajectories(
    forecasts: pl.DataFrame,
    measures: pl.DataFrame,
    judged: pl.DataFrame,
    events: pl.LazyFrame,
    source: str,
    file: Path,
) -> None:
    """Draw the Trajectories of one patient into a PNG file, a panel for each measure.

    Reads:  `forecasts`: Trajectories of one subject. `measures`: TrajectoryMeasures. `judged`: TrajectoryEvaluations of
            all steps together. `events`: Events. `source`: where the records come from, in words.
    """
    from matplotlib.figure import Figure

    from models.trajectories.measurements import measurements
    from models.trajectories.measures import SETTINGS

    of_patient = events.filter(pl.col("subject_id") == forecasts["subject_id"][0])
    measured = {setting.name: (setting, measurements(of_patient, setting)) for setting in SETTINGS}
    order = measures.select("setting", "measure").with_row_index("place")
    in_order = forecasts.join(order, on=["setting", "measure"]).sort("place", "step")
    panels = in_order.partition_by("setting", "measure", maintain_order=True)
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(5.6 * _COLUMNS, 1.2 + 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for panel, forecast in zip(axes, panels, strict=False):
        setting, values = measured[forecast["setting"][0]]
        start = forecast["prediction_time"][0]
        known = values.filter(
            pl.col("measure") == setting.names.index(forecast["measure"][0]),
            pl.col("known_time") <= start,
            pl.col("time") > start - setting.look_back * setting.cell,
        ).with_columns(at=(pl.col("time") - start).dt.total_seconds() / setting.cell_in.total_seconds())
        words = measures.filter(
            pl.col("setting") == forecast["setting"][0], pl.col("measure") == forecast["measure"][0]
        )["words"].item()
        covers = judged.filter(
            pl.col("setting") == forecast["setting"][0],
            pl.col("measure") == forecast["measure"][0],
            pl.col("model") == forecast["model"][0],
        )["coverage"].item()
        _draw(panel, forecast, known, words, covers)
        _lay_out_time(panel, forecast["time_unit"][0], setting.look_back * setting.cell_length)
    for panel in axes[len(panels) :]:
        panel.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle(f"Expected courses of patient {forecasts['subject_id'][0]}\nFrom {source}", fontsize="medium")
    figure.savefig(file, dpi=110)


def _draw(panel: "Axes", forecast: pl.DataFrame, known: pl.DataFrame, words: str, covers: float) -> None:
    in_days = forecast["time_unit"][0] == "days"
    scale = _DAYS_PER_MONTH if in_days else 1.0
    edges = [*(forecast["ahead_from"] / scale), forecast["ahead_to"][-1] / scale]

    def steps(name: str) -> list[float]:
        return [*forecast[name], forecast[name][-1]]

    panel.plot(known["at"] / scale, known["value"], "o-", color="black", markersize=3, linewidth=0.8, label="measured")
    for low, high, alpha, said in (("low", "high", 0.2, "80 % band"), ("q25", "q75", 0.35, "middle half")):
        panel.fill_between(
            edges, steps(low), steps(high), step="post", color="tab:blue", alpha=alpha, linewidth=0, label=said
        )
    panel.step(edges, steps("q50"), where="post", color="tab:blue", linewidth=1.5, label="median")
    panel.axvline(0, color="grey", linewidth=0.8, linestyle="dotted")
    where = "" if in_days else " in hospital"
    ages = (known["at"] / scale).abs().to_list()
    old = f"; the last value is {min(ages):.0f} {'months' if in_days else 'hours'} old" if ages else ""
    panel.set_title(
        f"{words}{where}, by {MODEL_WORDS[forecast['model'][0]]}\n"
        f"such 80 % bands held {covers:.0%} of held-out values{old}",
        fontsize="small",
    )
    panel.set_ylabel(_UNITS.get(forecast["unit"][0], forecast["unit"][0]))


def _lay_out_time(panel: "Axes", time_unit: str, look_back: float) -> None:
    """The whole look-back on every panel, so that panels compare; with a mark each half year, or half day."""
    in_days = time_unit == "days"
    earliest = look_back / (_DAYS_PER_MONTH if in_days else 1.0)
    panel.set_xlim(left=-earliest)
    mark = 6 if in_days else 12
    latest = int(panel.get_xlim()[1])
    panel.set_xticks(range(-mark * int(earliest // mark), latest + 1, mark))
    panel.set_xlabel(f"{'Months' if in_days else 'Hours'} from the forecast")
