"""Does each name in a task name something: a code that events can have, a predicate, a score, a rung of its own?"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from math import isfinite

from features.codes import load_code_groups
from features.privacy.rules import load_rules
from features.scores.registry import SCORES
from features.tasks.schema import Task
from features.tasks.value_sets import load_value_sets

Where = tuple[str | int, ...]

_TIMELESS = ("MEDS_BIRTH", "SEX//", "RACE//", "ETHNICITY//")
_OF_MEDS = ("MEDS_BIRTH", "MEDS_DEATH", "MOVED_AWAY")
_RUNGS = ("age_sex", "logistic_regression", "lightgbm", "gru_d", "retain", "timeline_transformer", "stack")
_OWN_SYSTEMS = (
    "MEDS_BIRTH MEDS_DEATH MOVED_AWAY SEX RACE ETHNICITY ENCOUNTER ENCOUNTER_TYPE ENCOUNTER_PRIORITY ENCOUNTER_REASON "
    "DISCHARGE ALLERGY REPORT CAREPLAN IMAGING DEVICE DERIVED LOCAL"
).split()


def faults_of_predicates(task: Task) -> Iterator[tuple[Where, str]]:
    """Codes that match nothing, or everything, and bounds that no value keeps."""
    known = {"groups": {group.name for group in load_code_groups()}, "value_sets": set(load_value_sets())}
    for name, predicate in task.predicates.items():
        at: Where = ("predicates", name)
        low, high = predicate.value_at_least, predicate.value_below
        for bound, value in (("value_at_least", low), ("value_below", high)):
            if value is not None and not isfinite(value):
                yield (*at, bound), "write a number."
        if low is not None and high is not None and low >= high:
            yield (*at, "value_below"), "no value is that high and that low; value_below must exceed value_at_least."
        if predicate.has_bound != (predicate.unit is not None):
            yield at, "a bound on values and the unit of them belong together."
        for kind, spellings in (("codes", predicate.codes), ("prefixes", predicate.prefixes)):
            for index, spelling in enumerate(spellings):
                if (fault := _fault_of_code(spelling, is_whole=kind == "codes")) is not None:
                    yield (*at, kind, index), fault
        for kind, file in (("groups", "features/code_groups.toml"), ("value_sets", "features/tasks/value_sets.toml")):
            for index, wanted in enumerate(getattr(predicate, kind)):
                if wanted not in known[kind]:
                    what = "code group" if kind == "groups" else "value set"
                    yield (*at, kind, index), f"no {what} {wanted} in {file}.{_meant(wanted, known[kind])}"
        if not (predicate.units() or predicate.groups or predicate.value_sets):
            yield at, f"predicate {name} holds no code."


def _fault_of_code(spelling: str, is_whole: bool) -> str | None:
    """Why no event, or every event of a system, has such a code; None when it may have."""
    if not spelling or spelling.endswith("*"):
        return "write a whole code, or its beginning under prefixes; no star."
    if spelling in _OF_MEDS:
        return None
    system, _, code = spelling.partition("//")
    if system not in known_systems():
        return (
            f"no event has a code of {system}//, so it matches nothing.{_meant(system.upper(), set(known_systems()))}"
        )
    if not code:
        return f"write what stands after {system}//: alone it names a whole system."
    form = _forms().get(system)
    # What follows another // is an act, such as //administered, and not the code.
    if is_whole and form is not None and not form.fullmatch(code.split("//")[0]):
        return f"no {system} code has this form, so it matches nothing; look for a slip of the pen."
    return None


def _meant(name: str, known: set[str]) -> str:
    near = get_close_matches(name, sorted(known), 1)
    return f" Did you mean {near[0]}?" if near else ""


def faults_of_comparators(task: Task) -> Iterator[tuple[Where, str]]:
    """Scores that there are none of, names that are taken, and columns that no feature table has."""
    scores = {f"score_{score.name}" for score in SCORES}
    seen: set[str] = set()
    for index, one in enumerate(task.comparators):
        at: Where = ("comparators", index)
        if one.name in _RUNGS:
            yield at, f"{one.name} is a model of every ladder; name the comparator otherwise."
        if one.name in seen:
            yield at, f"{one.name} is named twice; keep one."
        seen.add(one.name)
        for feature in one.features:
            if feature.startswith("score_") and feature not in scores:
                wanted = feature.removeprefix("score_")
                meant = _meant(wanted, {score.removeprefix("score_") for score in scores})
                yield at, f"there is no clinical score {wanted} (docs/clinical_scores.md lists them).{meant}"


def faults_of_names(task: Task) -> Iterator[tuple[Where, str]]:
    """Predicates that are named but not defined, defined but not named, or named where they would tell the future."""
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
        if predicate and any(code.startswith(_TIMELESS) for code in (*predicate.codes, *predicate.prefixes)):
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
    for kind, names in (("last_value", task.eligibility.last_value), ("none_in_stay", task.eligibility.none_in_stay)):
        for index, name in enumerate(names):
            yield ("eligibility", kind, index), name


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


@cache
def _forms() -> dict[str, re.Pattern[str]]:
    return {terminology.name: terminology.form for terminology in load_rules().terminologies.values()}
