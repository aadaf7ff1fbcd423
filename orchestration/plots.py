"""Small pictures for Dagster's pages. They show measures only, never counts."""

import base64
import io

import dagster as dg
import polars as pl


def auroc_chart(evaluations: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """AUROC with its interval for each task and model, as a PNG inside Markdown.

    Reads:  task, horizon_days, model, auroc, auroc_low, auroc_high (features.result_tables.Evaluations).
    """
    return _chart(evaluations, "auroc", ("auroc_low", "auroc_high"), 0.5, "AUROC, 95 % interval, held-out patients")


def league_chart(compared: pl.DataFrame) -> dg.MarkdownMetadataValue:
    """The difference of AUROC to the best simpler model for each task and model that is not simple, in the same form.

    Reads:  task, horizon_days, model, difference, difference_low, difference_high (League, no nulls).
    """
    told = "AUROC above the best simpler model's, held-out patients"
    return _chart(compared, "difference", ("difference_low", "difference_high"), 0.0, told)


def _chart(
    table: pl.DataFrame, measure: str, ends: tuple[str, str], nothing: float, words: str
) -> dg.MarkdownMetadataValue:
    """`measure` of each task and model as a point between its `ends`; a dotted line where it says `nothing`."""
    from matplotlib.figure import Figure

    from models.ladder import words_of

    models = table["model"].unique(maintain_order=True).to_list()
    tasks = table.select("task", "horizon_days").unique(maintain_order=True).rows()
    figure = Figure(figsize=(7, 1.3 + 0.6 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    for position, model in enumerate(models):
        rows = table.filter(pl.col("model") == model)
        heights = [tasks.index(key) - 0.3 + 0.6 * (position + 0.5) / len(models) for key in _keys(rows)]
        below, above = rows[measure] - rows[ends[0]], rows[ends[1]] - rows[measure]
        whiskers = [below.clip(lower_bound=0).to_list(), above.clip(lower_bound=0).to_list()]
        axes.errorbar(rows[measure].to_list(), heights, xerr=whiskers, fmt="o", markersize=4, label=words_of(model))
    axes.axvline(nothing, color="grey", linewidth=0.8, linestyle="dotted")
    axes.set_yticks(range(len(tasks)), [f"{task}, {horizon} d" for task, horizon in tasks])
    axes.set_xlabel(words)
    axes.invert_yaxis()
    figure.legend(fontsize="small", loc="outside upper center", ncols=3, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=80)
    return dg.MetadataValue.md(f"![{measure}](data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()})")


def _keys(rows: pl.DataFrame) -> list[tuple[str, int]]:
    return rows.select("task", "horizon_days").rows()
