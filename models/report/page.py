"""What does the report say? Gathers the numbers of each task, hides small counts, and fills the page."""

from dataclasses import dataclass
from math import isnan
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, Template, select_autoescape

from features.settings import StudySettings
from models.discrimination import auroc_difference, patient_weights
from models.evaluation import LADDER, bootstrap_seed
from models.questions import Question
from models.report.figures import calibration_picture, roc_picture
from models.report.small_cells import people_in_cells, share, shown

WORDS = {
    "age_sex": "Age and sex",
    "logistic_regression": "Logistic regression",
    "lightgbm": "LightGBM",
    "timeline_transformer": "Timeline transformer",
}
SYNTHETIC_SOURCES = ("synthea", "example", "simulat", "synthetic")
COUNTED_AS_PEOPLE = ("patients", "events", "records")


@dataclass(frozen=True)
class _Rung:
    """A line of the ladder's table, as text."""

    name: str
    is_released: bool
    auroc: str
    difference: str
    auprc: str
    brier: str
    slope: str
    intercept: str
    observed_expected: str


@dataclass(frozen=True)
class _OperatingPoint:
    """What happens at the threshold. `cells` is empty when a cell holds too few people."""

    threshold: str
    cells: dict[str, str]
    accuracy: str
    majority_accuracy: str
    sensitivity: str
    specificity: str
    positive_predictive_value: str


@dataclass(frozen=True)
class _TaskSection:
    """One question's part of the page."""

    title: str
    counts: list[tuple[str, str]]
    rungs: list[_Rung]
    released: str
    operating_point: _OperatingPoint
    roc: str
    calibration: str


def write_report(
    folder: Path,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
    evaluations: pl.DataFrame,
    skipped: pl.DataFrame,
    profile: pl.DataFrame,
    record_counts: pl.DataFrame,
    source_label: str,
    settings: StudySettings,
    *,
    model_version: str = "",
    data_version: str = "",
) -> Path:
    """Write folder/index.html and return its path.

    Reads Labels, Predictions, Evaluations, SkippedTasks, DataProfile and RecordCounts. A count that stands for fewer
    than `settings.smallest_cell` people is not shown. `source_label` says where the records came from; one that
    names Synthea, the example or a simulation puts a banner over the page: nothing in it is about real people.
    """
    smallest = settings.smallest_cell
    page = _template().render(
        is_synthetic=any(word in source_label.lower() for word in SYNTHETIC_SOURCES),
        source_label=source_label,
        model_version=model_version,
        data_version=data_version,
        smallest_cell=smallest,
        settings=settings,
        overview=_overview(labels, smallest),
        sections=[
            _section(Question(task, horizon), labels, predictions, evaluations, settings)
            for task, horizon in evaluations.select("task", "horizon_days").unique().sort(pl.all()).iter_rows()
        ],
        skipped=skipped.sort("task").rows(named=True),
        records=[
            row | {"records": shown(row["records"], row["records"], smallest)}
            for row in record_counts.sort("resource_type", "outcome", "reason").rows(named=True)
        ],
        findings=[
            row
            | {"count": shown(row["count"], row["count"] if row["unit"] in COUNTED_AS_PEOPLE else smallest, smallest)}
            for row in profile.sort("finding").rows(named=True)
        ],
    )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "index.html.partial"
    unfinished.write_text(page, encoding="utf-8")
    return unfinished.replace(folder / "index.html")


def _template() -> Template:
    surroundings = Environment(
        loader=PackageLoader("models.report", "."),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return surroundings.get_template("page.html")


def _overview(labels: pl.DataFrame, smallest: int) -> list[tuple[str, str, str]]:
    """Patients and prediction times in each part of the study."""
    return [
        (
            split.replace("_", "-"),
            shown(part["subject_id"].n_unique(), part["subject_id"].n_unique(), smallest),
            shown(part.select("subject_id", "prediction_time").n_unique(), part["subject_id"].n_unique(), smallest),
        )
        for split in ("train", "tuning", "held_out")
        for part in [labels.filter(pl.col("split") == split)]
    ]


def _section(
    question: Question,
    labels: pl.DataFrame,
    predictions: pl.DataFrame,
    evaluations: pl.DataFrame,
    settings: StudySettings,
) -> _TaskSection:
    is_asked = (pl.col("task") == question.task) & (pl.col("horizon_days") == question.horizon_days)
    held_out = predictions.filter(is_asked, pl.col("split") == "held_out").sort("subject_id", "prediction_time")
    by_model = {model: held_out.filter(pl.col("model") == model) for model in LADDER}
    table = {row["model"]: row for row in evaluations.filter(is_asked).rows(named=True)}
    released = next(model for model, row in table.items() if row["is_released"])
    judged = by_model[released]
    people_with_event = judged.filter("is_event")["subject_id"].n_unique()
    is_drawable = people_with_event >= settings.smallest_cell
    weights = patient_weights(
        judged["subject_id"].to_numpy(),
        settings.bootstrap_resamples,
        bootstrap_seed(settings, question, "held-out resamples"),
    )
    events = judged["is_event"].to_numpy()
    scores = {model: frame["score"].to_numpy() for model, frame in by_model.items()}
    differences = {model: auroc_difference(scores[model], scores["age_sex"], events, weights) for model in LADDER[1:]}
    risk, people = judged["risk"].to_numpy(), judged["subject_id"].to_numpy()
    return _TaskSection(
        title=f"{question.task.replace('_', ' ').capitalize()} within {question.horizon_days:,} days",
        counts=_state_counts(labels.filter(is_asked), settings.smallest_cell),
        rungs=[_rung(model, table[model], differences.get(model)) for model in LADDER],
        released=WORDS[released],
        operating_point=_operating_point(table[released], judged, settings.smallest_cell),
        roc=roc_picture({model: (scores[model], events) for model in LADDER}, WORDS) if is_drawable else "",
        calibration=calibration_picture(risk, events, people, settings.smallest_cell) if is_drawable else "",
    )


def _state_counts(labels: pl.DataFrame, smallest: int) -> list[tuple[str, str]]:
    """Prediction times by what followed, all parts of the study together."""
    words = {
        "event": "had the outcome",
        "none": "followed to the horizon without it",
        "died_first": "died first",
        "censored": "followed too short",
    }
    people = labels["subject_id"].n_unique()
    states = []
    for state, wording in words.items():
        part = labels.filter(pl.col("state") == state)
        states.append((wording, shown(part.height, part["subject_id"].n_unique(), smallest)))
    is_hidden = any(count.startswith("fewer") for _, count in states)
    # An exact total less the other counts would give the hidden one away.
    total = f"about {round(labels.height / 50) * 50:,}" if is_hidden else f"{labels.height:,}"
    return [("patients", shown(people, people, smallest)), ("prediction times", total), *states]


def _rung(model: str, row: dict[str, float], difference: tuple[float, float, float] | None) -> _Rung:
    return _Rung(
        name=WORDS[model],
        is_released=bool(row["is_released"]),
        auroc=f"{row['auroc']:.3f} ({row['auroc_low']:.3f} to {row['auroc_high']:.3f})",
        difference="–" if difference is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*difference),
        auprc=f"{row['auprc']:.3f}",
        brier=f"{row['brier']:.4f}",
        slope=_number(row["calibration_slope"]),
        intercept=_number(row["calibration_intercept"]),
        observed_expected=_number(row["observed_expected"]),
    )


def _operating_point(row: dict[str, float], judged: pl.DataFrame, smallest: int) -> _OperatingPoint:
    people = people_in_cells(judged, row["threshold"])
    # One small cell could be worked out from the others and the totals, so then none of the four is shown.
    is_small = any(0 < count < smallest for count in people.values())
    ends = {
        name: f" ({row[f'{name}_low'] * 100:.0f} to {row[f'{name}_high'] * 100:.0f} %)" if not is_small else ""
        for name in ("sensitivity", "specificity")
    }
    return _OperatingPoint(
        threshold=f"{row['threshold'] * 100:.1f} %",
        cells={} if is_small else {name: f"{row[name]:,}" for name in people},
        accuracy=share(row["accuracy"], is_small),
        majority_accuracy=share(row["majority_accuracy"], is_small),
        sensitivity=share(row["sensitivity"], is_small) + ends["sensitivity"],
        specificity=share(row["specificity"], is_small) + ends["specificity"],
        positive_predictive_value=share(row["positive_predictive_value"], is_small),
    )


def _number(value: float | None) -> str:
    return "–" if value is None or isnan(value) else f"{value:.2f}"
