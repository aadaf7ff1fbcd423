"""Who is asked what, and when? A task's definition as sentences for the report."""

from features.codes import load_code_groups
from features.tasks.schema import KnownWindow, Predicate, Task
from models.reason_words import VISIT_WORDS


def task_facts(task: Task) -> list[tuple[str, str]]:
    """What a reader must know of a task: pairs of a heading and a sentence."""
    return [
        ("Who is asked", _who(task)),
        (
            "When",
            "At the end of a visit, when all of it is known"
            + (
                f"; at most once in {task.prediction_time.at_most_one_per_days} days."
                if task.prediction_time.at_most_one_per_days > 1
                else "."
            ),
        ),
        ("Outcome", _outcome(task)),
        (
            "Within",
            f"{task.horizon_days:,} days. Who dies before without the outcome counts as not having had it."
            if "MEDS_DEATH" not in _outcome_codes(task)
            else f"{task.horizon_days:,} days.",
        ),
    ]


def _who(task: Task) -> str:
    eligibility = task.eligibility
    ages = []
    if eligibility.age_at_least is not None:
        ages.append(f"aged {eligibility.age_at_least:g} years or more")
    if eligibility.age_below is not None:
        ages.append(f"younger than {eligibility.age_below:g} years")
    barred = [_barred(task, window) for window in eligibility.windows()]
    return "; ".join([" and ".join(["Patients", *ages]).replace("Patients and ", "Patients "), *barred]) + "."


def _barred(task: Task, window: KnownWindow) -> str:
    words = f"nothing known of {_any_of(_predicate_words(task.predicates[window.predicate]))}"
    if window.from_days_before is not None:
        words += f" in the {window.from_days_before:,} days"
    until = f" until {window.until_days_before:,} days" if window.until_days_before else ""
    return f"{words}{until} before"


def _outcome(task: Task) -> str:
    words = [word for name in task.outcome.any_of for word in _predicate_words(task.predicates[name])]
    starts = f" At least {task.outcome.starts_after_days:,} days later." if task.outcome.starts_after_days else ""
    first = " Only the first record ever of each counts." if task.outcome.first else ""
    told = _any_of(words)
    return f"{told[0].upper()}{told[1:]}.{first}{starts}"


def _outcome_codes(task: Task) -> set[str]:
    return {code for name in task.outcome.any_of for code in task.predicates[name].codes}


def _predicate_words(predicate: Predicate) -> list[str]:
    groups = {group.name: group.description for group in load_code_groups()}
    chronic = sum(group.is_chronic for group in load_code_groups())
    return [
        *(
            [f"any of {chronic} chronic conditions (features/code_groups.toml)"]
            if predicate.every_chronic_group
            else []
        ),
        *(groups[name] for name in predicate.groups),
        *(_code_words(code) for code in predicate.codes),
        *(f"a code that begins with {prefix}" for prefix in predicate.prefixes),
    ]


def _code_words(code: str) -> str:
    if code == "MEDS_DEATH":
        return "death"
    parts = code.split("//")
    if parts[0] == "ENCOUNTER" and len(parts) == 3:
        visit = VISIT_WORDS.get(parts[1], parts[1]).lower()
        return visit if parts[2] == "start" else f"end of a {visit}"
    return code


def _any_of(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
