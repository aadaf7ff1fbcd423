"""What a prediction task is: who is asked about, when, what counts as the outcome, and by when.

The shape follows ACES (predicates, a trigger, windows around it), with horizons, death as a competing risk, and the
simple models to be compared with. Every window stands relative to the prediction time, so a file can be checked for
looking the wrong way; static_check.py does. docs/tasks.md explains the language with examples.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StrictInt, field_validator

from features.codes import load_code_groups
from features.tasks.value_sets import load_value_sets

_TASKS = Path(__file__).parent
_LONGEST_DAYS = 36_525  # a hundred years


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Predicate(_Part):
    """A named set of codes, perhaps only with some values, or only in some visits."""

    groups: tuple[str, ...] = Field((), description="Code groups of features/code_groups.toml.")
    every_chronic_group: bool = Field(False, description="All groups of code_groups.toml with is_chronic.")
    value_sets: tuple[str, ...] = Field((), description="Value sets of features/tasks/value_sets.toml.")
    codes: tuple[str, ...] = Field((), description="Exact codes, SYSTEM//code.")
    prefixes: tuple[str, ...] = Field((), description="Beginnings of codes.")
    unit: str | None = Field(None, description="Only values in this UCUM unit; needed with a bound.")
    value_at_least: float | None = Field(None, description="Only values that reach this.")
    value_below: float | None = Field(None, description="Only values below this.")
    unless_same_visit: str | None = Field(
        None, description="A predicate: leaves out events of a visit that holds one of its events, whenever."
    )

    def units(self) -> dict[str, tuple[str, ...]]:
        """Patterns by unit: each group or value set is a unit of its own, codes and prefixes make one more together.

        The first occurrence of an outcome can be counted for each unit.
        """
        wanted = {
            group.name: group.patterns
            for group in load_code_groups()
            if group.name in self.groups or (self.every_chronic_group and group.is_chronic)
        }
        wanted |= {name: found.patterns for name, found in load_value_sets().items() if name in self.value_sets}
        own = *self.codes, *(f"{prefix}*" for prefix in self.prefixes)
        return wanted | ({"codes": own} if own else {})

    def without_bound(self) -> "Predicate":
        """The same codes with any value."""
        return self.model_copy(update={"value_at_least": None, "value_below": None})

    @property
    def has_bound(self) -> bool:
        """Whether values decide which events count."""
        return self.value_at_least is not None or self.value_below is not None


class PredictionTime(_Part):
    """At which moments the question is asked."""

    at: Literal["encounter_end", "admission", "discharge", "result"] = Field(
        description="encounter_end: the end of each visit, when all of it is known. admission: some hours after a "
        "hospital stay began, of who is still in it. discharge: the end of each hospital stay. result: when an event "
        "of `predicate` becomes known."
    )
    hours_after: int = Field(0, ge=0, le=24 * 365, description="After the admission.")
    predicate: str | None = Field(None, description="Whose events are the moments of `result`.")
    at_most_one_per_days: int = Field(
        1,
        ge=0,
        le=_LONGEST_DAYS,
        description="After a moment was taken, the next is at least this many days later, so that a course of "
        "scheduled visits counts once. 0 takes every moment.",
    )


class KnownWindow(_Part):
    """A stretch of time before the prediction time; an event is inside by when it was known."""

    predicate: str
    from_days_before: int | None = Field(
        None, le=_LONGEST_DAYS, description="Where it begins; the whole record when absent."
    )
    until_days_before: int = Field(0, le=_LONGEST_DAYS, description="Where it ends; 0 is the prediction time.")


class Eligibility(_Part):
    """Who is asked about, told from what is known at the prediction time alone."""

    age_at_least: float | None = Field(None, ge=0, le=150, description="Years.")
    age_below: float | None = Field(None, gt=0, le=150, description="Years.")
    sex: Literal["female", "male"] | None = None
    any_before: tuple[str | KnownWindow, ...] = Field(
        (), description="Predicates of each of which something must be known (in its window)."
    )
    none_before: tuple[str | KnownWindow, ...] = Field(
        (),
        description="Predicates of which nothing may be known at the prediction time (or in a window before it).",
    )
    last_value: tuple[str, ...] = Field(
        (),
        description="Predicates with a bound: of the values of their codes that are known, the latest by clinical time "
        "must lie within it.",
    )
    none_in_stay: tuple[str, ...] = Field(
        (), description="Predicates of which nothing may be known in the stay that is asked about."
    )

    def required(self) -> tuple[KnownWindow, ...]:
        """`any_before`, each with its window."""
        return tuple(KnownWindow(predicate=w) if isinstance(w, str) else w for w in self.any_before)

    def windows(self) -> tuple[KnownWindow, ...]:
        """`none_before`, each with its window."""
        return tuple(KnownWindow(predicate=w) if isinstance(w, str) else w for w in self.none_before)


class Fall(_Part):
    """A value that falls by a share of what was last known at the prediction time."""

    predicate: str
    by_percent: float = Field(gt=0, lt=100)
    confirmed_after_days: int = Field(
        0,
        ge=0,
        le=365,
        description="The first value that was measured so many days later, and at most a year after that, must be as "
        "low; where there is none nobody knows, and follow-up ends at the low value. 0: one value is enough.",
    )


class Outcome(_Part):
    """What is forecast, by the clinical time of events."""

    any_of: tuple[str, ...] = Field((), description="Predicates; the earliest event of any counts.")
    falls: tuple[Fall, ...] = Field((), description="Values whose fall counts too.")
    stay_lasts_days: int | None = Field(
        None, description="Instead: the stay still goes on so many days after the admission."
    )
    first: Literal["of_each_group", "of_any"] | None = Field(
        None,
        description="Only a first event ever counts, of each code group apart or of all predicates together. A first "
        "event at or before the prediction time is no outcome, even if it becomes known only later.",
    )
    starts_after_days: int = Field(
        0,
        description="Days between the prediction time and the outcome window; who has the outcome before is not asked.",
    )
    within_stay: bool = Field(False, description="Counts only until the end of the stay that is asked about.")
    verified_by: tuple[str, ...] = Field(
        (), description="Predicates one of which must happen in the window before its absence is believed."
    )
    verified_within_days: int | None = Field(
        None, gt=0, description="How long before the horizon at most the last of them may lie; anywhere when absent."
    )


class Comparator(_Part):
    """A simple model to be compared with: a regression of a few columns of the feature table."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = ""
    features: tuple[str, ...] = Field(min_length=1, description="Columns of the feature table.")


class Task(_Part):
    """One question about the future, at one or several horizons."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    description: str
    predicates: dict[str, Predicate]
    prediction_time: PredictionTime
    eligibility: Eligibility = Eligibility()
    outcome: Outcome
    competing: Literal["death"] = Field("death", description="What ends the wait without the outcome.")
    horizons_days: tuple[StrictInt, ...] = Field(min_length=1, description="By when, in days; shortest first.")
    comparators: tuple[Comparator, ...] = Field(
        (), description="Clinical scores by name, or regressions of feature columns, beyond age and sex."
    )

    @field_validator("comparators", mode="before")
    @classmethod
    def _scores_by_name(cls, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            return value
        return [{"name": one, "features": (f"score_{one}",)} if isinstance(one, str) else one for one in value]

    _file: str = PrivateAttr("")
    _lines: dict[tuple[str | int, ...], int] = PrivateAttr(default_factory=dict)

    def read_from(self, file: str, lines: dict[tuple[str | int, ...], int]) -> "Task":
        """The task with the places of its parts in its file, for messages."""
        self._file, self._lines = file, lines
        return self

    def place(self, *where: str | int) -> str:
        """File and line of a part, or of the nearest part around it that the file has."""
        while where and where not in self._lines:
            where = where[:-1]
        return f"{self._file}:{self._lines.get(where, 1)}"

    @property
    def is_about_stays(self) -> bool:
        """Whether the moments belong to hospital stays."""
        return self.prediction_time.at in ("admission", "discharge")


def load_tasks(folder: Path | None = None) -> list[Task]:
    """Read every *.yaml of `folder` (the tasks that ship with Sequela when None), sorted by name.

    Raises TaskError with file, line and reason for a task that could look the wrong way in time or names something
    unknown.
    """
    from features.tasks.static_check import read_task, refuse_doubled_names, refuse_other_names

    paths = sorted((folder or _TASKS).glob("*.yaml"))
    refuse_other_names((folder or _TASKS).iterdir())
    tasks = [read_task(path) for path in paths]
    refuse_doubled_names(tasks, paths)
    return sorted(tasks, key=lambda task: task.name)
