"""The calibration of the simulated population as tables and pictures in docs/simulation.md."""

import re
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.simulation.calibration import Cell
from benchmarks.simulation.census import Census
from benchmarks.simulation.figures import Figure

DOCUMENT = Path(__file__).parents[2] / "docs" / "simulation.md"
PICTURES = DOCUMENT.parent / "simulation"
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_INK, _PUBLISHED = "#1f4e79", "#c8602a"
_FORESEEN = "### How well could anybody foresee it"
_COLUMNS = ("published", "simulated", "±", "ratio", "tag", "source", "")
Table = list[tuple[str, ...]]


def write_document(
    cells: list[Cell],
    figures: list[Figure],
    interventions: list[Figure],
    confounding: pl.DataFrame,
    oracle: pl.DataFrame | None,
    people: int,
) -> None:
    """Replace what was measured in docs/simulation.md; what was foreseen stays where `oracle` is None."""
    text = DOCUMENT.read_text()
    hard = [one for one in [*cells, *figures, *interventions] if one.tag in "vc"]
    near, chance = sum(one.is_within for one in hard), sum(one.is_by_chance for one in hard)
    parts = [
        _BEGIN,
        f"\nMeasured on {people:,} simulated people by `python -m benchmarks.simulation --docs`. Of {len(hard)} "
        f"verified figures {near} lie within the accepted deviation (20 %, or what stands with the figure in "
        f"`benchmarks/simulation/`). Another {chance} lie outside by no more than chance, or have fewer than 20 people "
        "or events behind them: they are marked chance. The "
        f"other {len(hard) - near - chance} are marked **off**. ±: half the 95 % interval of the simulated figure, by "
        "chance alone. Tags: v read in the source, c computed from public NHANES records, v2 read in a page that "
        "quotes it, m from memory (these only warn).\n",
        "### Figures by age and sex\n",
        *_cells(cells),
        "### At admission, stays, survival, correlations, testing\n",
        *_table(("figure", *_COLUMNS), [(f.name, *_columns(f)) for f in figures]),
        "### Treatments forced on, against off, in the same lives\n",
        "Ratio of events within five years, unless it says otherwise.\n",
        *_table(("check", *_COLUMNS), [(f.name, *_columns(f)) for f in interventions]),
        "The crude picture that the records show instead, at 60 and over: who takes a drug is sicker (confounding by "
        "indication).\n",
        *_table(
            ("drug", "trouble", "with the drug, %", "without, %"),
            [(drug, trouble, f"{on:.1f}", f"{off:.1f}") for drug, trouble, on, off in confounding.iter_rows()],
        ),
        *(_foreseen(oracle) if oracle is not None else [text[text.index(_FORESEEN) : text.index(_END)].rstrip(), ""]),
        _END,
    ]
    pattern = re.compile(re.escape(_BEGIN) + ".*" + re.escape(_END), re.DOTALL)
    DOCUMENT.write_text(pattern.sub(lambda _: "\n".join(parts), text))


def _foreseen(oracle: pl.DataFrame) -> list[str]:
    return [
        f"{_FORESEEN}\n",
        "AUROC of the true risk, of one visit of each person or of every hospital stay (interval by bootstrap of "
        "people), and of age and sex alone, cross-validated, on the same rows. Horizons up to two years are asked of "
        "four times as many people. Death in hospital and a long stay are asked 24 hours after admission of who is "
        "still there, readmission at discharge. The true risk is itself estimated, at visits from 400 futures, or 200 "
        "beyond two years, so where outcomes are rare its AUROC is somewhat too low.\n",
        *_table(
            ("task", "horizon, days", "rows", "outcomes", "true risk", "95 %", "age and sex"),
            [
                (task, str(h), f"{rows:,}", str(events) if events >= 20 else "<20", *_aurocs(auroc, low, high, simple))
                for task, h, rows, events, auroc, low, high, simple, _ in oracle.iter_rows()
            ],
        ),
    ]


def _cells(cells: list[Cell]) -> list[str]:
    rows: Table = []
    for cell in cells:
        ages = f"{cell.ages[0]}-{cell.ages[1] - 1}" if cell.ages[1] < 110 else f"{cell.ages[0]}+"
        rows.append((cell.name, cell.sex, ages, *_columns(cell)))
    return _table(("figure", "sex", "age", *_COLUMNS), rows)


def _aurocs(auroc: float | None, low: float, high: float, simple: float) -> tuple[str, str, str]:
    return ("", "", "") if auroc is None else (f"{auroc:.3f}", f"{low:.3f}-{high:.3f}", f"{simple:.3f}")


def _columns(figure: Figure) -> tuple[str, ...]:
    ratio = f"{figure.simulated / figure.published:.2f}" if figure.published else ""
    numbers = (figure.published, figure.simulated, figure.margin)
    return (*(_number(one) for one in numbers), ratio, figure.tag, figure.source, figure.verdict)


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _table(head: tuple[str, ...], rows: Table) -> list[str]:
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rows), ""]


def draw_pictures(cells: list[Cell], census: Census) -> None:
    """Pictures in docs/simulation/: published (dots) against simulated (lines)."""
    import matplotlib

    matplotlib.use("Agg")
    PICTURES.mkdir(exist_ok=True)
    _lines(cells, ["Death, all causes"], "deaths.png", "deaths per 1,000 person-years", log=True)
    _lines(
        cells,
        [
            "Diabetes (told, or HbA1c 6.5 % or more)",
            "Hypertension (140/90 or drug)",
            "Infarction ever",
            "Stroke ever",
            "Heart failure",
            "eGFR below 60",
        ],
        "conditions.png",
        "percent of people",
    )
    _lines(
        cells,
        [
            "Body-mass index, mean",
            "Systolic pressure, mean",
            "LDL cholesterol, mean",
            "HbA1c, mean",
            "eGFR, mean",
            "Smokes",
        ],
        "risk_factors.png",
        "",
    )
    _lines(cells, ["Statin", "ACE inhibitor or ARB", "Beta blocker", "Thiazide"], "drugs.png", "percent of people")
    _stays(census)


def _lines(cells: list[Cell], names: list[str], file: str, unit: str, log: bool = False) -> None:
    import matplotlib.pyplot as plt

    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.1 * rows), squeeze=False)
    for name, panel in zip(names, panels.flat, strict=False):
        for sex, style in (("female", "-"), ("male", "--"), ("all", "-")):
            of = [cell for cell in cells if cell.name == name and cell.sex == sex]
            if not of:
                continue
            ages = [(cell.ages[0] + min(cell.ages[1], 95)) / 2 for cell in of]
            panel.plot(ages, [cell.simulated for cell in of], style, color=_INK, label=f"simulated, {sex}")
            marker = "o" if sex != "male" else "s"
            panel.plot(
                ages, [cell.published for cell in of], marker, color=_PUBLISHED, label=f"published, {sex}", markersize=4
            )
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("age", fontsize=8)
        panel.set_ylabel(unit, fontsize=8)
        panel.tick_params(labelsize=8)
        if log:
            panel.set_yscale("log")
    panels.flat[0].legend(fontsize=7)
    for panel in list(panels.flat)[len(names) :]:
        panel.set_visible(False)
    figure.suptitle("Simulated population, not real people", fontsize=8, x=0.01, ha="left")
    figure.tight_layout()
    figure.savefig(PICTURES / file, dpi=90)
    plt.close(figure)


def _stays(census: Census) -> None:
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(5, 3.2))
    days = census.stays["hours"].to_numpy() / 24
    edges = np.arange(0, 22)
    panel.hist(np.clip(days, 0, 21), bins=edges, color=_INK, density=True, label="simulated")
    middle = edges[:-1] + 0.5
    log_normal = np.exp(-((np.log(middle) - 1.1) ** 2) / (2 * 0.9**2)) / (middle * 0.9 * np.sqrt(2 * np.pi))
    panel.plot(middle, log_normal, "o", color=_PUBLISHED, markersize=4, label="log-normal of the published moments")
    panel.set_xlabel("length of stay, days", fontsize=8)
    panel.set_ylabel("share of stays a day", fontsize=8)
    panel.legend(fontsize=7)
    panel.set_title("Simulated population, not real people", fontsize=8, loc="left")
    figure.tight_layout()
    figure.savefig(PICTURES / "stays.png", dpi=90)
    plt.close(figure)
