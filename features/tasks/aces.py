"""How would ACES draw this cohort? Our tasks as ACES task files, and our events as ACES can read them.

ACES (https://github.com/justin13601/ACES, es-aces 0.7) is the MEDS community's language of tasks. It can draw most of
our cohorts again from the events alone, by code that we did not write. Four things differ:

- It knows one time per event. `aces_events` therefore gives every event twice: as it is, when it happened, and as
  `KNOWN//<code>`, when it stood in the record. Who is asked is told by the second, what followed by the first.
- Constraints of its windows drop rows. So only what is known at the prediction time is a constraint; the windows of the
  answer only count, and nobody is left out for what came later.
- Its answer is whether one predicate occurs in one window. Where ours is more (a first occurrence, within the stay, an
  absence), it is put together from several of its counts by features/tasks/aces_answers.py; each file says so.
- It knows no observation periods, no spacing of moments, no coverage of a horizon: the same module applies ours.

`without_rows` and `without_answers` say which tasks it cannot draw, or cannot answer, and why.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl
import yaml

from features.derived_events import egfr_events
from features.meds_codes import BIRTH, DEATH
from features.tasks.eligibility import DAYS_PER_YEAR
from features.tasks.moments import STAY_END, STAY_START
from features.tasks.schema import KnownWindow, Predicate, Task

KNOWN = "KNOWN//"
RECORD_END = "RECORD_END"

_VISIT_END = f"^{KNOWN}ENCOUNTER//.*//end$"
_OLDEST_YEARS = 150
_SOME, _NONE, _COUNTED = "(1, None)", "(None, 0)", "(0, None)"

Window = dict[str, str | bool | dict[str, str] | None]
AcesTask = dict[str, object]


def aces_events(events: pl.LazyFrame) -> pl.LazyFrame:
    """The events as ACES files of this module ask for them.

    Reads:    features.tables.Events of whole subjects.
    Returns:  subject_id, time, code, numeric_value, unit, sorted by subject and time: every event, and each that has a
              time again as KNOWN//<code> at its known_time; kidney function made of creatinine (derived_events.py);
              RECORD_END a year after a subject's last event, because ACES drops a row when a window has no end.
              Values are rounded to four decimals, as predicates.py compares them.
    """
    columns = ["subject_id", "time", "known_time", "code", "encounter_id", "numeric_value", "unit"]
    events = events.select(columns)
    every = pl.concat([events, egfr_events(events)]).with_columns(pl.col("numeric_value").round(4))
    known = every.filter(pl.col("time").is_not_null()).with_columns(
        time="known_time", code=pl.concat_str(pl.lit(KNOWN), "code")
    )
    ends = events.group_by("subject_id").agg(
        time=pl.max_horizontal(pl.col("time").max(), pl.col("known_time").max()) + pl.duration(days=365)
    )
    ends = ends.filter(pl.col("time").is_not_null()).with_columns(code=pl.lit(RECORD_END))
    kept = ["subject_id", "time", "code", "numeric_value", "unit"]
    return pl.concat([every.select(kept), known.select(kept), ends], how="diagonal").sort(
        "subject_id", "time", nulls_last=False, maintain_order=True
    )


def write_aces_tasks(tasks: Iterable[Task], folder: Path) -> dict[str, str]:
    """Write `<folder>/<task>/<horizon>d.yaml` for every task and horizon that ACES can draw.

    Returns:  by task, why there is no file, or why ACES's rows have no answer; nothing for the others.
    """
    reasons: dict[str, str] = {}
    for task in tasks:
        if reason := without_rows(task) or without_answers(task):
            reasons[task.name] = reason
        if without_rows(task) is not None:
            continue
        (folder / task.name).mkdir(parents=True, exist_ok=True)
        for days in task.horizons_days:
            written = yaml.safe_dump(aces_task(task, days), sort_keys=False, width=120)
            (folder / task.name / f"{days}d.yaml").write_text(written)
    return reasons


def without_rows(task: Task) -> str | None:
    """Why ACES cannot draw the rows of a task; None when it can."""
    if task.eligibility.none_in_stay:
        return "who is asked depends on what the stay itself holds (none_in_stay), and ACES does not know visits."
    if task.prediction_time.at == "admission" and task.prediction_time.hours_after == 0:
        return "whether the admission is known at its own moment cannot be asked: an ACES window has a length."
    return None


def without_answers(task: Task) -> str | None:
    """Why ACES cannot answer a task of which it can draw the rows; None when it can."""
    if task.outcome.falls:
        return (
            "a value falls by a share of what was last known, and ACES compares values with fixed bounds alone; "
            "it draws the rows."
        )
    if any(task.predicates[name].unless_same_visit is not None for name in task.outcome.any_of):
        return "an outcome is left out for what its visit holds (unless_same_visit), and ACES does not know visits."
    return None


def said_afterwards(task: Task) -> list[str]:
    """What ACES's rows and counts still need before they are our labels, in words."""
    spacing = task.prediction_time.at_most_one_per_days
    said = [
        "Only moments inside the person's observation period count, a whole look-back after its start.",
        *(
            [f"Of the rest, the first of a person counts, then the next {spacing} days later or more."]
            if spacing
            else []
        ),
        "Only moments after which the source covers the horizon count; who moves away before it is censored.",
        "Moments in the midst of another hospital stay do not count.",
    ]
    for name in task.eligibility.last_value:
        said.append(f"The latest known value must be a {name}.")
    if task.is_about_stays:
        said.append(
            "Stays are told apart by time alone: exact where one person's stays neither overlap nor are empty, and "
            "each is known to have ended before the next begins."
        )
    if task.outcome.starts_after_days:
        said.append("A row with an outcome in the window `gap` is left out, after the spacing.")
    if task.outcome.first is not None:
        each = "each group" if task.outcome.first == "of_each_group" else "all together"
        said.append(f"Only a first outcome ever counts, of {each}: one in `record` (or `gap`) takes the answer away.")
    if task.outcome.within_stay:
        said.append("The outcome must lie in the window `stay` too.")
    if task.outcome.stay_lasts_days is not None:
        said.append("ACES labels who leaves or dies in the window; our outcome is that this does not happen.")
    if task.outcome.verified_by:
        said.append("Without an outcome, and without what verifies it in `target`, the answer is unknown.")
    return said


def answer_names(task: Task) -> dict[str, list[str]]:
    """The ACES predicates of the outcome, by the unit of which a first occurrence is counted."""
    if task.outcome.stay_lasts_days is not None:
        return {"any": ["stay_end", "death"]}
    if task.outcome.first != "of_each_group":
        return {"any": list(task.outcome.any_of)}
    names: dict[str, list[str]] = {}
    for name in task.outcome.any_of:
        for unit in task.predicates[name].units():
            names.setdefault(unit, []).append(f"{name}_{unit}")
    return names


def aces_task(task: Task, horizon_days: int) -> AcesTask:
    """One task at one horizon as ACES reads it; its rows alone, without a label, where it cannot answer."""
    predicates = _trigger(task) | _eligibility_predicates(task)
    windows = _eligibility_windows(task)
    if without_answers(task) is None:
        predicates |= _answer_predicates(task)
        windows |= _answer_windows(task, horizon_days)
        if task.outcome.first is not None:
            _has(windows["record"]).update(dict.fromkeys(_answers(task), _COUNTED))
    sex = task.eligibility.sex
    return {
        "description": f"{task.title}: {task.description.strip()}",
        "metadata": {"task": task.name, "horizon_days": horizon_days, "afterwards": said_afterwards(task)},
        **({"patient_demographics": {sex: {"code": f"SEX//{sex}"}}} if sex else {}),
        "predicates": predicates,
        "trigger": "asked",
        "windows": windows,
    }


def _trigger(task: Task) -> dict[str, object]:
    moment = task.prediction_time
    if moment.at == "result":
        return {"asked": _plain(task.predicates[moment.predicate or ""], KNOWN)}
    code: dict[str, object] = {
        "encounter_end": {"code": {"regex": _VISIT_END}},
        "admission": {"code": STAY_START},
        "discharge": {"code": f"{KNOWN}{STAY_END}"},
    }
    return {"asked": code[moment.at]}


def _eligibility_predicates(task: Task) -> dict[str, object]:
    of = task.eligibility
    names = dict.fromkeys(window.predicate for window in (*of.required(), *of.windows()))
    found: dict[str, object] = {f"{name}_known": _plain(task.predicates[name], KNOWN) for name in names}
    if of.age_at_least is not None or of.age_below is not None:
        found["birth"] = {"code": BIRTH}
    if task.prediction_time.at == "admission":
        found |= {"stay_start_known": {"code": KNOWN + STAY_START}, "stay_end_known": {"code": KNOWN + STAY_END}}
    return found


def _eligibility_windows(task: Task) -> dict[str, Window]:
    """Windows that end at the prediction time or before; the end of `record` is the prediction time."""
    of, hours = task.eligibility, task.prediction_time.hours_after
    now = _now(task)
    windows = {"record": _window(None, f"trigger + {hours} hours" if hours else "trigger", "[]", {})}
    windows["record"]["index_timestamp"] = "end"
    if task.prediction_time.at == "admission":
        windows["admitted"] = _window("trigger", f"start + {hours} hours", "[]", {"stay_start_known": _SOME})
        windows["still_in"] = _window("trigger", f"start + {hours} hours", "(]", {"stay_end_known": _NONE})
    if of.age_at_least is not None or of.age_below is not None:
        youngest, oldest = of.age_at_least or 0, of.age_below or _OLDEST_YEARS
        begins = _before("end", (oldest - youngest) * DAYS_PER_YEAR)
        windows["born"] = _window(begins, _before(now, youngest * DAYS_PER_YEAR), "(]", {"birth": _SOME})
    wanted = [(window, _SOME) for window in of.required()] + [(window, _NONE) for window in of.windows()]
    for number, (window, bounds) in enumerate(wanted, start=1):
        has = {f"{window.predicate}_known": bounds}
        if window == KnownWindow(predicate=window.predicate):
            _has(windows["record"]).update(has)
        else:  # where nothing bounds it: ACES drops a row when nothing lies before the end of an open window
            from_days = _OLDEST_YEARS * DAYS_PER_YEAR if window.from_days_before is None else window.from_days_before
            begins = _before("end", from_days - window.until_days_before)
            windows[f"before_{number}"] = _window(begins, _before(now, window.until_days_before), "(]", has)
    return windows


def _answer_predicates(task: Task) -> dict[str, object]:
    outcome = task.outcome
    found: dict[str, object] = {}
    if outcome.stay_lasts_days is not None or outcome.within_stay:
        found |= {"stay_end": {"code": STAY_END}, "death": {"code": DEATH}, "left": {"expr": "or(stay_end, death)"}}
        found |= {"left_or_record_end": {"expr": "or(left, record_end)"}, "record_end": {"code": RECORD_END}}
    for name in outcome.any_of:
        predicate = task.predicates[name]
        if outcome.first == "of_each_group":
            found |= {f"{name}_{unit}": _plain(predicate, "", unit) for unit in predicate.units()}
        else:
            found[name] = _plain(predicate, "")
    found |= {name: _plain(task.predicates[name], "") for name in outcome.verified_by}
    if len(_answers(task)) > 1:
        found["outcome"] = {"expr": f"or({', '.join(_answers(task))})"}
    return found


def _answer_windows(task: Task, horizon_days: int) -> dict[str, Window]:
    """Windows after the prediction time. They count and leave nobody out."""
    outcome, now = task.outcome, _now(task)
    counted = dict.fromkeys(_answers(task), _COUNTED)
    windows: dict[str, Window] = {}
    gap = outcome.starts_after_days
    if gap:
        windows["gap"] = _window(now, f"start + {gap} days", "(]", dict(counted))
    has = counted | dict.fromkeys(outcome.verified_by, _COUNTED)
    until = "()" if outcome.stay_lasts_days is not None else "(]"  # who leaves at the last moment stayed
    windows["target"] = _window("gap.end" if gap else now, f"start + {horizon_days - gap} days", until, has)
    windows["target"]["label"] = "outcome" if len(counted) > 1 else next(iter(counted))
    if outcome.within_stay:
        windows["stay"] = _window(now, "start -> left_or_record_end", "(]", dict(counted))
    return windows


def _answers(task: Task) -> list[str]:
    return [name for names in answer_names(task).values() for name in names]


def _now(task: Task) -> str:
    return "record.end" if task.prediction_time.hours_after else "trigger"


def _before(now: str, days: float) -> str:
    """A moment so many days before another, in words that ACES reads: whole days, hours and seconds."""
    seconds = round(days * 86_400)
    parts = ((seconds // 86_400, "days"), (seconds % 86_400 // 3_600, "hours"), (seconds % 3_600, "seconds"))
    words = " ".join(f"{count} {unit}" for count, unit in parts if count)
    return f"{now} - {words}" if words else now


def _window(start: str | None, end: str, edges: str, has: dict[str, str]) -> Window:
    """A window of ACES; `edges` are brackets: round excludes, square includes."""
    return {
        "start": start,
        "end": end,
        "start_inclusive": edges[0] == "[",
        "end_inclusive": edges[1] == "]",
        "has": has,
    }


def _has(window: Window) -> dict[str, str]:
    has = window["has"]
    assert isinstance(has, dict)
    return has


def _plain(predicate: Predicate, clock: str, unit: str | None = None) -> dict[str, object]:
    """A predicate by when it happened (`clock` empty) or was known, of one of its units or of all."""
    patterns = [pattern for name, of in predicate.units().items() if unit in (None, name) for pattern in of]
    exact = [re.escape(pattern) for pattern in patterns if not pattern.endswith("*")]
    prefixes = [re.escape(pattern.removesuffix("*")) for pattern in patterns if pattern.endswith("*")]
    either = [f"(?:{'|'.join(exact)})(?://(?:administered|stated))?$"] if exact else []
    plain: dict[str, object] = {"code": {"regex": f"^{clock}(?:{'|'.join(either + prefixes)})"}}
    if predicate.unit is not None:
        plain["unit"] = predicate.unit
    if predicate.value_at_least is not None:
        plain |= {"value_min": predicate.value_at_least, "value_min_inclusive": True}
    if predicate.value_below is not None:
        plain |= {"value_max": predicate.value_below, "value_max_inclusive": False}
    return plain
