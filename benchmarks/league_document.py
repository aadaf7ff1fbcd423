"""The league as people read it: docs/models.md, from the figures that runs of the benchmark kept."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.curves import curve_lines, curves_of
from benchmarks.league_figures import STACK, TRANSFORMER, Figures
from features.settings import StudySettings
from models.ladder import NOT_SIMPLE, ladder_of, words_of

KEPT = Path(__file__).parent / "figures"
LEAGUES, CURVES, MORE = "models_*.json", "curves_*.json", "more_*.json"
SIZEABLE = 0.03  # AUROC that the truth leaves to gain
SMALLEST_CELL = StudySettings().smallest_cell
TO_REACH = 0.95  # of the truth's discrimination
_HEAD = """\
# How good the models are

Written by `python -m benchmarks.models --write docs/models.md` from the figures that these runs kept; do not edit it.
Simulated and Synthea's patients are no real people, and none of this is evidence about real ones.

Every model of a question is judged on the same held-out rows of patients from whom nothing was learnt. The best simpler
model is the one of age and sex, the clinical scores, logistic regression and LightGBM that has the highest AUROC on
*these very rows*, which is the hardest choice for the others. Intervals are 95 %, from one bootstrap of patients that
all models share, so differences are paired. **Better** and **worse** are said where the p-value, adjusted for all
questions of the model (Holm), is 0.05 or less. Of simulated people the true risk of some rows is known: *left to gain*
is how much higher its AUROC is than the best simpler model's on those rows, and a *share* is (AUROC - 0.5) / (AUROC of
the true risk - 0.5) there. The true risk knows each person's hidden state, which no record holds, so 100 % cannot
always be reached. It comes of a hundred simulated futures of each row: of a rare outcome that is a coarse measure and
ranks worse than the truth would, so shares come out too high, and where the truth is known of few outcomes they may
pass 100 % by chance. Ranks are taken on the score, but a model whose recalibration gives everybody one risk ranks
nobody, so its AUROC is 0.500. *Slope* is the calibration slope of the stack (of the transformer where there is none).

The simulated people of seed 20260202 are not those on whom models and methods were developed (seed 20260101). Synthea's
are those on whom all of it was tried out before. What the networks are, and what else was tried:
[sequence_models.md](sequence_models.md).
"""


def write_document(place: Path, kept: Path = KEPT) -> None:
    """Write the document from all kept figures."""
    place.write_text(document(kept))


def document(kept: Path = KEPT) -> str:
    """The whole page, from the figures in the folder `kept`."""
    leagues, curves, more = (
        [json.loads(file.read_text()) for file in sorted(kept.glob(names))] for names in (LEAGUES, CURVES, MORE)
    )
    lines = [_HEAD, *(line for run in leagues for line in league_lines(run)), *_learning(curves)]
    lines += [line for run in more for line in more_lines(run)]
    return "\n".join(lines).rstrip() + "\n"


def league_lines(run: Figures) -> Iterator[str]:
    """A run's part of the page."""
    about, training = run["about"], run["training"]
    yield f"## {_capital(about['source'])}, {about['patients']:,} patients\n"
    yield (
        f"{about.get('train', 0):,} train, {about.get('tuning', 0):,} tuning and {about.get('held_out', 0):,} held-out "
        f"patients have a labelled row; seed {about['seed']}. The whole ladder took {training['seconds']:,.0f} s"
        + (f" and at most {training['peak_mb']:,.0f} MB" if training["peak_mb"] else "")
        + ".\n"
    )
    if not run["tasks"]:
        yield "These records could answer no question.\n"
    else:
        yield from _goals(run["tasks"])
        yield from _beside_best(run["tasks"])
        yield from _all_models(run["tasks"])
    if run["skipped"]:
        skipped = ", ".join(f"`{task}`" for task in sorted(run["skipped"]))
        yield f"At one horizon or more not answerable with these records, or without a released model: {skipped}.\n"
    yield from _costs(run["costs"])


def _goals(tasks: Figures) -> Iterator[str]:
    """How many questions each model that is not simple does well on, and which goals are met."""
    head = (
        "model",
        "interval above 0",
        "holds 0",
        "below 0",
        "better (Holm)",
        "worse (Holm)",
        "AUROC above age and sex",
    )
    rows, counted = [], {}
    for model in NOT_SIMPLE:
        of_model = {name: task["models"][model] for name, task in tasks.items() if model in task["models"]}
        compared = {name: one for name, one in of_model.items() if one["difference_low"] is not None}
        above = {name for name, one in compared.items() if one["difference_low"] > 0}
        below = {name for name, one in compared.items() if one["difference_high"] < 0}
        counted[model] = (set(compared), above, below)
        verdicts = [one["verdict"] for one in compared.values()]
        simplest = {name: tasks[name]["models"].get("age_sex") for name in of_model}
        beaten = [of_model[name]["auroc"] > one["auroc"] for name, one in simplest.items() if one]
        if of_model:
            rows.append(
                (
                    words_of(model),
                    *(str(count) for count in (len(above), len(compared) - len(above) - len(below), len(below))),
                    *(str(verdicts.count(verdict)) for verdict in ("better", "worse")),
                    f"{sum(beaten)} of {len(beaten)}",
                )
            )
    yield f"Of {len(tasks)} questions, AUROC less that of the best simpler model:\n"
    yield _table(head, rows)
    judged = STACK if any(STACK in task["models"] for task in tasks.values()) else TRANSFORMER
    yield f"The goals, held against the {words_of(judged).lower()}:\n"
    yield _table(("goal", "found", ""), list(_held_against(tasks, *counted[judged])))


def _held_against(
    tasks: Figures, compared: set[str], above: set[str], below: set[str]
) -> Iterator[tuple[str, str, str]]:
    """Each goal, how often it is reached, and whether that is enough."""
    fine = len(compared) - len(below)
    yield "nowhere an interval below 0", f"{fine} of {len(compared)}", _met(not below)
    sizeable = {name for name in compared if (tasks[name]["left_to_gain"] or 0) > SIZEABLE}
    if sizeable:
        found = f"{len(above & sizeable)} of {len(sizeable)}"
        goal = f"an interval above 0 on half of the questions where the truth leaves more than {SIZEABLE} AUROC"
        yield goal, found, _met(2 * len(above & sizeable) >= len(sizeable))
    shares = [
        (task["oracle_share_low"], task["oracle_share_high"])
        for task in tasks.values()
        if task["oracle_share_low"] is not None
    ]
    if shares:
        surely, surely_not = sum(low >= TO_REACH for low, _ in shares), sum(high < TO_REACH for _, high in shares)
        found = f"surely on {surely}, surely not on {surely_not}, not told on {len(shares) - surely - surely_not}"
        yield "95 % of the truth's discrimination on every question", found, _met(surely == len(shares))
    sloped = [task for task in tasks.values() if task["calibration_slope"] is not None]
    right = sum(0.9 <= task["calibration_slope"] <= 1.1 for task in sloped)
    ends = [(task["calibration_slope_low"], task["calibration_slope_high"]) for task in sloped]
    known = [(low, high) for low, high in ends if low is not None]
    outside = f"; surely outside, by its interval, {sum(low > 1.1 or high < 0.9 for low, high in known)}"
    found = f"{right} of {len(sloped)}" + (outside if known else "")
    yield "calibration slope from 0.9 to 1.1 on every question", found, _met(right == len(sloped))


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def _beside_best(tasks: Figures) -> Iterator[str]:
    models = [model for model in NOT_SIMPLE if any(model in task["models"] for task in tasks.values())]
    has_truth = any(task["oracle_auroc"] is not None for task in tasks.values())
    head = ["question", "rows", "outcomes", "best simpler model"]
    head += [words_of(model) for model in models] + ["slope"]
    head += ["left to gain", "share of the truth"] if has_truth else []
    rows = []
    for name, task in tasks.items():
        best = task["best_simple"]
        row = [_question(name), _count(task["rows"]), _count(task["events"])]
        row += ["–" if best is None else f"{words_of(best['name'])} {best['auroc']:.3f}"]
        row += [_gain(task["models"].get(model)) for model in models] + [_slope(task)]
        if has_truth:
            row += [_number(task["left_to_gain"], 3), _share(task)]
        rows.append(tuple(row))
    yield "### Beside the best simpler model\n"
    yield "AUROC, and in brackets the difference to the best simpler model with its interval.\n"
    yield _table(tuple(head), rows)


def _all_models(tasks: Figures) -> Iterator[str]:
    yield "### Every model\n"
    head = (
        "question",
        "model",
        "AUROC",
        "slope",
        "Brier",
        "accuracy",
        "sensitivity",
        "specificity",
        "share of the truth",
    )
    rows = []
    for name, task in tasks.items():
        for model in ladder_of(task["models"]):
            one = task["models"][model]
            rows.append(
                (
                    _question(name),
                    words_of(model),
                    f"{one['auroc']:.3f} ({_number(one['auroc_low'], 3)} to {_number(one['auroc_high'], 3)})",
                    _slope(one),
                    _number(one["brier"], 4),
                    *(_percent(one[measure]) for measure in ("accuracy", "sensitivity", "specificity", "oracle_share")),
                )
            )
    yield _table(head, rows)


def _costs(costs: Figures) -> Iterator[str]:
    if not costs:
        return
    yield "### What they cost\n"
    yield (
        "Models are fitted side by side on two cores, so seconds and memory (above that before any fitting) are those "
        "of a busy machine. A simple model is fitted for each question and forecasts one at a time; a sequence model "
        "is fitted once, and forecasts all questions of a row at once.\n"
    )
    head = ("model", "fits", "seconds", "peak memory, MB", "rows forecast a second")
    yield _table(
        head,
        [
            (
                words_of(model),
                f"{costs[model]['fits']}",
                f"{costs[model]['fit_seconds']:,.1f}",
                _number(costs[model]["peak_mb"], 0),
                _number(costs[model]["forecasts_per_second"], 0),
            )
            for model in ladder_of(costs)
        ],
    )


def _learning(runs: list[Figures]) -> Iterator[str]:
    if not runs:
        return
    yield "## Learning curves\n"
    yield (
        "AUROC on all held-out patients of models that learnt from so many labelled patients, tuning patients among "
        "them: mean, and lowest to highest, over draws of patients and seeds (`benchmarks.learning_curves`).\n"
    )
    for run in runs:
        yield f"{_capital(run['source'])}:\n"
        yield "\n".join(curve_lines(curves_of(run["fits"]))) + "\n"


def more_lines(run: Figures) -> Iterator[str]:
    """What LightGBM learns from more and more patients, beside the truth (`benchmarks.more_patients`)."""
    about, questions = run["about"], {name: one for name, one in run["questions"].items() if one}
    if not questions:
        return
    sizes = list(next(iter(questions.values()))["sizes"])
    yield "## What more patients would teach\n"
    yield (
        f"{_capital(about['source'])}: LightGBM learnt from so many train patients of a second population of "
        f"{about['learnt_from']:,} people (all are {about['all']:,}), and was judged on the held-out patients of the "
        f"one of {about['patients']:,} above (`benchmarks.more_patients`). In brackets the difference to the size "
        "before; its interval is of the judged patients, not of which ones were learnt from. The three last columns "
        "are of the rows whose true risk is known. The truth knows the hidden state, which no record holds; how much "
        "of the gap that is, these figures do not tell.\n"
    )
    words = ["all" if size == "all" else f"{int(size):,}" for size in sizes]
    head = ("question", "outcomes learnt from", *(f"{size} patients" for size in words))
    rows = []
    for name, one in questions.items():
        learnt = [one["sizes"][size] for size in sizes]
        known = ("–", "–", "–")
        if "truth" in one:
            judged = one["outcomes_where_known"]
            known = (_few(judged), _number(learnt[-1]["auroc_where_known"], 3), _number(one["truth"], 3))
        outcomes = ", ".join(_few(size["outcomes"]) for size in learnt)
        rows.append((_question(name), outcomes, *(_step(size) for size in learnt), *known))
    yield _table((*head, "outcomes, truth known", f"{words[-1]}, truth known", "truth"), rows)


def _step(size: Figures) -> str:
    if size["gain"] is None:
        return f"{size['auroc']:.3f}"
    gain, low, high = (_signed(one) for one in size["gain"])
    return f"{size['auroc']:.3f} ({gain}, {low} to {high})"


def _few(count: int) -> str:
    return _count(count if count >= SMALLEST_CELL else None)


def _gain(one: Figures | None) -> str:
    if one is None:
        return "–"
    if one["difference"] is None:
        return f"{one['auroc']:.3f}"
    low, high = _signed(one["difference_low"]), _signed(one["difference_high"])
    told = f"{one['auroc']:.3f} ({one['difference']:+.3f}, {low} to {high})"
    return told if one["verdict"] == "no difference shown" else f"{told} **{one['verdict']}**"


def _slope(one: Figures) -> str:
    slope, low, high = (_number(one[f"calibration_slope{end}"], 2) for end in ("", "_low", "_high"))
    return slope if one["calibration_slope_low"] is None else f"{slope} ({low} to {high})"


def _share(task: Figures) -> str:
    if task["oracle_share"] is None:
        return "–"
    low, high = _percent(task["oracle_share_low"]), _percent(task["oracle_share_high"])
    return f"{_percent(task['oracle_share'])} ({low} to {high})"


def _question(name: str) -> str:
    task, _, days = name.partition("@")
    return f"`{task}`, {int(days):,} d"


def _count(count: int | None) -> str:
    return "few" if count is None else f"{count:,}"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
