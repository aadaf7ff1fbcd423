"""Could this task leak the future into its question, or the past into its answer? Refused with file and line if so."""

from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml
from pydantic import ValidationError

from features.codes import load_code_groups
from features.errors import TaskError
from features.privacy.rules import load_rules
from features.tasks.schema import Task
from features.tasks.value_sets import load_value_sets

LONGEST_HORIZON_DAYS = 3_653
"""Ten years: no source at hand observes people for longer, and no score that we compare with looks further."""

_TIMELESS = ("MEDS_BIRTH", "SEX//", "RACE//", "ETHNICITY//")
_OWN_SYSTEMS = (
    "MEDS_BIRTH MEDS_DEATH MOVED_AWAY SEX RACE ETHNICITY ENCOUNTER ENCOUNTER_TYPE ENCOUNTER_PRIORITY ENCOUNTER_REASON "
    "DISCHARGE ALLERGY REPORT CAREPLAN IMAGING DEVICE DERIVED LOCAL"
).split()

Where = tuple[str | int, ...]


def read_task(path: Path) -> Task:
    """Read one task file and check it. Raises TaskError."""
    try:
        tree = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise TaskError(f"{path.name}{line}: not YAML: {getattr(error, 'problem', error)}.") from error
    if not isinstance(values, dict) or tree is None:
        raise TaskError(f"{path.name}:1: a task is a table of names and values; see another task for the shape.")
    lines = _lines(tree)
    for line_number, key in _doubled_keys(tree):
        raise TaskError(f"{path.name}:{line_number}: {key} is written twice; keep one.")
    try:
        task = Task.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        reason = "this name is unknown here" if first["type"] == "extra_forbidden" else first["msg"]
        name = ".".join(str(step) for step in first["loc"])
        raise TaskError(f"{path.name}:{_line(lines, first['loc'])}: {name}: {reason}.") from error
    for where, reason in _faults(task):
        raise TaskError(f"{path.name}:{_line(lines, where)}: task {task.name} is refused: {reason}")
    return task.read_from(path.name, lines)


def refuse_doubled_names(tasks: list[Task], paths: list[Path]) -> None:
    """Raise TaskError when two files define one task; labels and scores are told apart by its name."""
    seen: dict[str, str] = {}
    for task, path in zip(tasks, paths, strict=True):
        if task.name in seen:
            raise TaskError(f"{path.name}:1: {seen[task.name]} already defines a task {task.name}; rename one.")
        seen[task.name] = path.name


def _faults(task: Task) -> Iterator[tuple[Where, str]]:
    yield from _faults_of_horizons(task)
    yield from _faults_of_outcome(task)
    yield from _faults_of_eligibility(task)
    yield from _faults_of_predicates(task)
    yield from _faults_of_names(task)


def _faults_of_horizons(task: Task) -> Iterator[tuple[Where, str]]:
    for index, horizon in enumerate(task.horizons_days):
        at: Where = ("horizons_days", index)
        if horizon <= 0:
            yield at, f"the horizon is {horizon} days; it must lie after the prediction time."
        if horizon > LONGEST_HORIZON_DAYS:
            yield (
                at,
                f"the horizon of {horizon:,} days is longer than the longest observable, {LONGEST_HORIZON_DAYS:,}.",
            )
        if horizon > 0 and task.outcome.starts_after_days >= horizon:
            yield (
                ("outcome", "starts_after_days"),
                f"the outcome window would start after its end, the horizon of {horizon} days.",
            )
        if index and horizon <= task.horizons_days[index - 1]:
            yield at, "write the horizons once each, the shortest first."


def _faults_of_outcome(task: Task) -> Iterator[tuple[Where, str]]:
    outcome, moment = task.outcome, task.prediction_time
    if outcome.starts_after_days < 0:
        yield (
            ("outcome", "starts_after_days"),
            f"the outcome window starts {-outcome.starts_after_days} days before the prediction time, so the label "
            "could be read off the record. Set starts_after_days to 0 or more.",
        )
    is_named = bool(outcome.any_of or outcome.falls)
    if is_named == (outcome.stay_lasts_days is not None):
        yield ("outcome",), "name the outcome by any_of or falls, or else by stay_lasts_days."
    if not task.is_about_stays:
        for name, is_set in (
            ("within_stay", outcome.within_stay),
            ("stay_lasts_days", outcome.stay_lasts_days is not None),
        ):
            if is_set:
                yield ("outcome", name), f"{name} needs a stay: ask at: admission or at: discharge."
    if outcome.within_stay and moment.at == "discharge":
        yield ("outcome", "within_stay"), "the stay has ended at the discharge, so nothing can come within it."
    if outcome.stay_lasts_days is not None and moment.at == "discharge":
        yield (
            ("outcome", "stay_lasts_days"),
            "how long the stay lasted is known at the discharge, so the label could be read off the record.",
        )
    elif outcome.stay_lasts_days is not None:
        needed = outcome.stay_lasts_days * 24 - moment.hours_after
        if needed <= 0 or any(horizon * 24 != needed for horizon in task.horizons_days):
            yield (
                ("outcome", "stay_lasts_days"),
                f"that the stay lasts {outcome.stay_lasts_days} days is decided {needed} hours after the prediction "
                "time: horizons_days must hold just that, in whole days.",
            )


def _faults_of_eligibility(task: Task) -> Iterator[tuple[Where, str]]:
    of, moment = task.eligibility, task.prediction_time
    if of.age_at_least is not None and of.age_below is not None and of.age_at_least >= of.age_below:
        yield (
            ("eligibility", "age_below"),
            "nobody is that old and that young; age_below must exceed age_at_least.",
        )
    for name, windows in (("any_before", of.required()), ("none_before", of.windows())):
        for index, window in enumerate(windows):
            at: Where = ("eligibility", name, index)
            if window.until_days_before < 0 or (window.from_days_before is not None and window.from_days_before <= 0):
                yield (
                    (*at, "until_days_before" if window.until_days_before < 0 else "from_days_before"),
                    f"eligibility looks at {window.predicate} after the prediction time, which nobody can know then. "
                    "Days before are positive.",
                )
            elif window.from_days_before is not None and window.from_days_before <= window.until_days_before:
                yield (*at, "from_days_before"), "the window ends before it begins."
    if of.none_in_stay and not task.is_about_stays:
        yield ("eligibility", "none_in_stay"), "none_in_stay needs a stay: ask at: admission or at: discharge."
    if moment.hours_after and moment.at != "admission":
        yield ("prediction_time", "hours_after"), "hours_after counts from an admission: ask at: admission."
    if (moment.predicate is not None) != (moment.at == "result"):
        yield ("prediction_time", "at"), "at: result and the predicate whose results are meant belong together."


def _faults_of_predicates(task: Task) -> Iterator[tuple[Where, str]]:
    for name, predicate in task.predicates.items():
        at: Where = ("predicates", name)
        low, high = predicate.value_at_least, predicate.value_below
        if low is not None and high is not None and low >= high:
            yield (*at, "value_below"), "no value is that high and that low; value_below must exceed value_at_least."
        if predicate.has_bound != (predicate.unit is not None):
            yield at, "a bound on values and the unit of them belong together."
        for kind, spellings in (("codes", predicate.codes), ("prefixes", predicate.prefixes)):
            for index, spelling in enumerate(spellings):
                if not spelling or spelling.endswith("*"):
                    yield (*at, kind, index), "write a whole code, or its beginning under prefixes; no star."
                elif (system := spelling.split("//")[0]) not in known_systems():
                    near = get_close_matches(system, known_systems(), 1)
                    meant = f"; did you mean {near[0]}?" if near else "."
                    yield (*at, kind, index), f"no event has a code of {system}//, so it matches nothing{meant}"
        known = {
            "groups": {group.name for group in load_code_groups()},
            "value_sets": set(load_value_sets()),
        }
        for kind, file in (("groups", "features/code_groups.toml"), ("value_sets", "features/tasks/value_sets.toml")):
            for index, wanted in enumerate(getattr(predicate, kind)):
                if wanted not in known[kind]:
                    what = "code group" if kind == "groups" else "value set"
                    yield (*at, kind, index), f"no {what} {wanted} in {file}."
        if not (predicate.units() or predicate.groups or predicate.value_sets):
            yield at, f"predicate {name} holds no code."


def _faults_of_names(task: Task) -> Iterator[tuple[Where, str]]:
    before = list(_named_before(task))
    after = list(_named_after(task))
    inside: list[tuple[Where, str]] = [
        (("predicates", name, "unless_same_visit"), predicate.unless_same_visit)
        for name, predicate in task.predicates.items()
        if predicate.unless_same_visit is not None
    ]
    for where, name in before + after + inside:
        if name not in task.predicates:
            yield where, f"no predicate {name} is defined in this file."
    for where, name in before:
        if name in task.predicates and task.predicates[name].unless_same_visit is not None:
            yield (
                where,
                f"predicate {name} looks at a visit to its end (unless_same_visit), which eligibility may depend on "
                "only after the prediction time. Name a predicate without it here.",
            )
    for where, name in inside:
        if name in task.predicates and task.predicates[name].unless_same_visit is not None:
            yield where, "unless_same_visit must name a predicate that has none itself."
    for where, name in after:
        predicate = task.predicates.get(name)
        if predicate and any(code.startswith(_TIMELESS) for code in predicate.codes + predicate.prefixes):
            yield where, f"predicate {name} holds a fact without a time in the future, which cannot be an outcome."
    for name in sorted(task.predicates.keys() - {name for _, name in before + after + inside}):
        yield ("predicates", name), f"predicate {name} is never used; remove it, or use it."


def _named_before(task: Task) -> Iterator[tuple[Where, str]]:
    """Where predicates are named that decide who is asked."""
    if task.prediction_time.predicate is not None:
        yield ("prediction_time", "predicate"), task.prediction_time.predicate
    for kind, windows in (("any_before", task.eligibility.required()), ("none_before", task.eligibility.windows())):
        for index, window in enumerate(windows):
            yield ("eligibility", kind, index), window.predicate
    for index, name in enumerate(task.eligibility.none_in_stay):
        yield ("eligibility", "none_in_stay", index), name


def _named_after(task: Task) -> Iterator[tuple[Where, str]]:
    """Where predicates are named that decide the answer."""
    for kind, names in (("any_of", task.outcome.any_of), ("verified_by", task.outcome.verified_by)):
        for index, name in enumerate(names):
            yield ("outcome", kind, index), name
    for index, fall in enumerate(task.outcome.falls):
        yield ("outcome", "falls", index), fall.predicate


@cache
def known_systems() -> tuple[str, ...]:
    """The beginnings of all codes that events can have."""
    terminologies = {terminology.name for terminology in load_rules().terminologies.values()}
    return tuple(sorted(terminologies | set(_OWN_SYSTEMS)))


def _lines(node: yaml.Node, where: Where = ()) -> dict[Where, int]:
    """The line (from 1) of every place in a YAML tree."""
    lines = {where: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            lines |= _lines(value, (*where, key.value)) | {(*where, key.value): key.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines |= _lines(value, (*where, index))
    return lines


def _line(lines: dict[Where, int], where: Where) -> int:
    """The line of a place, or of the nearest place around it that the file has."""
    while where not in lines:
        where = where[:-1]
    return lines[where]


def _doubled_keys(node: yaml.Node) -> Iterator[tuple[int, str]]:
    """Line and name of each key that a mapping holds twice; YAML would silently keep the last."""
    children = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, key.value
            seen.add(key.value)
            children = [*children, value]
    for child in children:
        yield from _doubled_keys(child)
