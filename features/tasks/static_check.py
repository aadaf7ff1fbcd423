"""Could this task leak the future into its question, or the past into its answer? Refused with file and line if so."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from features.errors import TaskError
from features.tasks.name_check import Where, faults_of_comparators, faults_of_names, faults_of_predicates
from features.tasks.schema import KnownWindow, Task

LONGEST_HORIZON_DAYS = 3_653
"""Ten years: no source at hand observes people for longer, and no score that we compare with looks further."""

# What pydantic says of a value of another shape, in words that tell what to write.
_SHAPES = {
    "tuple_type": "write a list, such as [365]",
    "model_type": "write names and values below it, or leave it out",
    "dict_type": "write names and values below it",
    "missing": "this is missing",
    "extra_forbidden": "this name is unknown here",
    "too_short": "name at least one",
}


def read_task(path: Path) -> Task:
    """Read one task file and check it. Raises TaskError."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path.name}:1: not UTF-8; save the file in that encoding.") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise TaskError(f"{path.name}{line}: not YAML: {getattr(error, 'problem', error)}.") from error
    if not isinstance(values, dict) or tree is None:
        raise TaskError(f"{path.name}:1: a task is a table of names and values; see another task for the shape.")
    try:
        lines = _lines(tree)
    except RecursionError as error:
        raise TaskError(f"{path.name}:1: a part of the file refers to itself (& and *); write it out.") from error
    for line_number, key in _doubled_keys(tree):
        raise TaskError(f"{path.name}:{line_number}: {key} is written twice; keep one.")
    try:
        task = Task.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        reason = _SHAPES.get(first["type"], first["msg"])
        name = ".".join(str(step) for step in first["loc"])
        raise TaskError(f"{path.name}:{_line(lines, first['loc'])}: {name}: {reason}.") from error
    for where, reason in _faults(task):
        raise TaskError(f"{path.name}:{_line(lines, where)}: task {task.name} is refused: {reason}")
    return task.read_from(path.name, lines)


def refuse_other_names(paths: Iterable[Path]) -> None:
    """Raise TaskError for a file that would be left out without a word, because its name ends in .yml."""
    for path in sorted(paths):
        if path.suffix == ".yml":
            raise TaskError(f"{path.name}: a task's file ends in .yaml; rename it {path.stem}.yaml.")


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
    yield from _faults_of_falls_and_absence(task)
    yield from _faults_of_eligibility(task)
    yield from faults_of_predicates(task)
    yield from faults_of_names(task)
    yield from faults_of_comparators(task)


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


def _faults_of_falls_and_absence(task: Task) -> Iterator[tuple[Where, str]]:
    outcome = task.outcome
    if outcome.starts_after_days and (outcome.falls or outcome.within_stay):
        yield (
            ("outcome", "starts_after_days"),
            "a gap goes with events alone, not with falls or within_stay.",
        )
    for index, fall in enumerate(outcome.falls):
        if fall.confirmed_after_days >= min(task.horizons_days):
            yield (
                ("outcome", "falls", index, "confirmed_after_days"),
                "a fall could be confirmed only after the shortest horizon; ask for less.",
            )
    if outcome.verified_within_days is not None and not outcome.verified_by:
        yield ("outcome", "verified_within_days"), "verified_within_days needs verified_by."


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
    whole = [
        {window.predicate for window in windows if window == KnownWindow(predicate=window.predicate)}
        for windows in (of.required(), of.windows())
    ]
    for name in sorted(whole[0] & whole[1]):
        yield ("eligibility",), f"{name} must be known and must not be known, so nobody is asked."
    if of.none_in_stay and not task.is_about_stays:
        yield ("eligibility", "none_in_stay"), "none_in_stay needs a stay: ask at: admission or at: discharge."
    if moment.hours_after and moment.at != "admission":
        yield ("prediction_time", "hours_after"), "hours_after counts from an admission: ask at: admission."
    if (moment.predicate is not None) != (moment.at == "result"):
        yield ("prediction_time", "at"), "at: result and the predicate whose results are meant belong together."


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
