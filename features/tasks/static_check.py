"""Could this task leak the future into its question, or the past into its answer? Refused with file and line if so."""

from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from features.codes import load_code_groups
from features.errors import TaskError
from features.tasks.schema import Task

LONGEST_HORIZON_DAYS = 3_653
"""Ten years: no source at hand observes people for longer, and no score that we compare with looks further."""

_TIMELESS = ("MEDS_BIRTH", "SEX//", "RACE//", "ETHNICITY//")

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
    return task


def refuse_doubled_names(tasks: list[Task], paths: list[Path]) -> None:
    """Raise TaskError when two files define one task; labels and scores are told apart by its name."""
    seen: dict[str, str] = {}
    for task, path in zip(tasks, paths, strict=True):
        if task.name in seen:
            raise TaskError(f"{path.name}:1: {seen[task.name]} already defines a task {task.name}; rename one.")
        seen[task.name] = path.name


def _faults(task: Task) -> Iterator[tuple[Where, str]]:
    yield from _faults_of_time(task)
    yield from _faults_of_names(task)


def _faults_of_time(task: Task) -> Iterator[tuple[Where, str]]:
    outcome, horizon = task.outcome, task.horizon_days
    if outcome.starts_after_days < 0:
        yield (
            ("outcome", "starts_after_days"),
            f"the outcome window starts {-outcome.starts_after_days} days before the prediction time, so the label "
            "could be read off the record. Set starts_after_days to 0 or more.",
        )
    if horizon <= 0:
        yield ("horizon_days",), f"the horizon is {horizon} days; it must lie after the prediction time."
    if horizon > LONGEST_HORIZON_DAYS:
        yield (
            ("horizon_days",),
            f"the horizon of {horizon:,} days is longer than the longest observable, {LONGEST_HORIZON_DAYS:,} days.",
        )
    if horizon > 0 and outcome.starts_after_days >= horizon:
        yield (
            ("outcome", "starts_after_days"),
            f"the outcome window would start after its end, the horizon of {horizon} days.",
        )
    ages = task.eligibility
    if ages.age_at_least is not None and ages.age_below is not None and ages.age_at_least >= ages.age_below:
        yield (
            ("eligibility", "age_below"),
            "nobody is that old and that young; age_below must exceed age_at_least.",
        )
    for index, window in enumerate(ages.windows()):
        at: Where = ("eligibility", "none_before", index)
        if window.until_days_before < 0 or (window.from_days_before is not None and window.from_days_before <= 0):
            yield (
                (*at, "until_days_before" if window.until_days_before < 0 else "from_days_before"),
                f"eligibility looks at {window.predicate} after the prediction time, which nobody can know then. "
                "Days before are positive.",
            )
        elif window.from_days_before is not None and window.from_days_before <= window.until_days_before:
            yield (*at, "from_days_before"), "the window ends before it begins."


def _faults_of_names(task: Task) -> Iterator[tuple[Where, str]]:
    groups = {group.name for group in load_code_groups()}
    for name, predicate in task.predicates.items():
        at: Where = ("predicates", name)
        for index, group in enumerate(predicate.groups):
            if group not in groups:
                yield (*at, "groups", index), f"no code group {group} in features/code_groups.toml."
        if not predicate.units() and not predicate.groups:
            yield at, f"predicate {name} holds no code."
        for kind, spellings in (("codes", predicate.codes), ("prefixes", predicate.prefixes)):
            for index, spelling in enumerate(spellings):
                if not spelling or spelling.endswith("*"):
                    yield (*at, kind, index), "write a whole code, or its beginning under prefixes; no star."
    used: list[tuple[Where, str]] = [
        (("eligibility", "none_before", index), window.predicate)
        for index, window in enumerate(task.eligibility.windows())
    ]
    outcomes: list[tuple[Where, str]] = [
        (("outcome", "any_of", index), name) for index, name in enumerate(task.outcome.any_of)
    ]
    for where, name in used + outcomes:
        if name not in task.predicates:
            yield where, f"no predicate {name} is defined in this file."
    for where, name in outcomes:
        if any(code.startswith(_TIMELESS) for code in task.predicates[name].codes + task.predicates[name].prefixes):
            yield where, f"predicate {name} holds a fact without a time in the future, which cannot be an outcome."
    for name in task.predicates.keys() - {name for _, name in used + outcomes}:
        yield ("predicates", name), f"predicate {name} is never used; remove it, or use it."


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
