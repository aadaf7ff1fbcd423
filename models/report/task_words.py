"""Who is asked what, and when? A task's definition as sentences for the report."""

from features.codes import load_code_groups
from features.tasks.schema import Fall, KnownWindow, Predicate, Task
from features.tasks.value_sets import load_value_sets
from models.reason_words import VISIT_WORDS


def task_facts(task: Task, horizon_days: int) -> list[tuple[str, str]]:
    """What a reader must know of a task asked for one horizon: pairs of a heading and a sentence."""
    dies = " Who dies before without the outcome counts as not having had it."
    return [
        ("Who is asked", _who(task)),
        ("When", _when(task)),
        ("Outcome", _outcome(task)),
        ("Within", f"{horizon_days:,} days{_lasting(task)}.{'' if 'MEDS_DEATH' in _outcome_codes(task) else dies}"),
    ]


def horizon_words(task: Task | None, days: int) -> str:
    """A horizon after a title: by when the outcome must come, or when it is decided whether a stay lasts."""
    is_of_stay = task is not None and task.outcome.stay_lasts_days is not None
    return f"decided {days:,} days after the question" if is_of_stay else f"within {days:,} days"


def _lasting(task: Task) -> str:
    """Of a stay that must last: the horizon counts from the question, which comes after the admission."""
    days = task.outcome.stay_lasts_days
    return "" if days is None else f" after the question, which is {days:,} days after the admission"


def _when(task: Task) -> str:
    moment = task.prediction_time
    words = {
        "encounter_end": "At the end of a visit, when all of it is known",
        "admission": f"{moment.hours_after} hours after the start of a hospital stay, of who is still in it",
        "discharge": "At the end of a hospital stay, when all of it is known",
        "result": "When a result is known: " + (moment.predicate or "").replace("_", " "),
    }[moment.at]
    days = moment.at_most_one_per_days
    return f"{words}; at most once in {days} days." if days > 1 else f"{words}."


def _who(task: Task) -> str:
    eligibility = task.eligibility
    ages = []
    if eligibility.sex is not None:
        ages.append({"female": "who are women", "male": "who are men"}[eligibility.sex])
    if eligibility.age_at_least is not None:
        ages.append(f"aged {eligibility.age_at_least:g} years or more")
    if eligibility.age_below is not None:
        ages.append(f"younger than {eligibility.age_below:g} years")
    asked = [f"with {_within(task, window, 'known')}" for window in eligibility.required()]
    barred = [f"nothing {_within(task, window, 'known of')}" for window in eligibility.windows()]
    inside = [f"no {_any_of(_predicate_words(task.predicates[name]))} in the stay" for name in eligibility.none_in_stay]
    who = " and ".join(["Patients", *ages]).replace("Patients and ", "Patients ")
    return "; ".join([who, *asked, *barred, *inside]) + "."


def _within(task: Task, window: KnownWindow, known: str) -> str:
    words = f"{known} {_any_of(_predicate_words(task.predicates[window.predicate]))}"
    if window.from_days_before is not None:
        words += f" in the {window.from_days_before:,} days"
    until = f" until {window.until_days_before:,} days" if window.until_days_before else ""
    return f"{words}{until} before"


def _outcome(task: Task) -> str:
    of = task.outcome
    if of.stay_lasts_days is not None:
        return f"The stay still goes on {of.stay_lasts_days} days after the admission."
    words = [word for name in of.any_of for word in _predicate_words(task.predicates[name])]
    words += [_fall_words(fall) for fall in of.falls]
    first = {
        None: "",
        "of_each_group": " Only the first record ever of each counts.",
        "of_any": " Only the first record ever of any of them counts.",
    }[of.first]
    starts = f" At least {of.starts_after_days:,} days later." if of.starts_after_days else ""
    stay = " Only until the end of the stay." if of.within_stay else ""
    verified = [word for name in of.verified_by for word in _predicate_words(task.predicates[name])]
    believed = f" That it did not come is believed only after this: {_any_of(verified)}." if verified else ""
    told = _any_of(words)
    return f"{told[0].upper()}{told[1:]}.{first}{starts}{stay}{believed}"


def _fall_words(fall: Fall) -> str:
    again = f", confirmed {fall.confirmed_after_days} days later or more" if fall.confirmed_after_days else ""
    return f"a fall of {fall.predicate.replace('_', ' ')} by {fall.by_percent:g} %{again}"


def _outcome_codes(task: Task) -> set[str]:
    return {code for name in task.outcome.any_of for code in task.predicates[name].codes}


def _predicate_words(predicate: Predicate) -> list[str]:
    groups = {group.name: group.description for group in load_code_groups()}
    chronic = sum(group.is_chronic for group in load_code_groups())
    words = [
        *(
            [f"any of {chronic} chronic conditions (features/code_groups.toml)"]
            if predicate.every_chronic_group
            else []
        ),
        *(groups[name] for name in predicate.groups),
        *(load_value_sets()[name].description for name in predicate.value_sets),
        *(_code_words(code) for code in predicate.codes),
        *(f"a code that begins with {prefix}" for prefix in predicate.prefixes),
    ]
    return [f"{word}{_bound_words(predicate)}" for word in words]


def _bound_words(predicate: Predicate) -> str:
    low = "" if predicate.value_at_least is None else f" from {predicate.value_at_least:g}"
    high = "" if predicate.value_below is None else f" below {predicate.value_below:g}"
    unit = f" {predicate.unit}" if predicate.has_bound else ""
    without = predicate.unless_same_visit
    planned = f" (not in a visit with {without.replace('_', ' ')})" if without else ""
    return f"{low}{high}{unit}{planned}"


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
