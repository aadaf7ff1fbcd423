"""What a prediction task is: who is asked about, when, what counts as the outcome, and by when.

The shape follows ACES (predicates, a trigger, windows around it), with a horizon and death as a competing risk. Every
window stands relative to the prediction time, so a file can be checked for looking the wrong way; static_check.py does.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from features.codes import load_code_groups

_TASKS = Path(__file__).parent


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Predicate(_Part):
    """A named set of codes."""

    groups: tuple[str, ...] = Field((), description="Code groups of features/code_groups.toml.")
    every_chronic_group: bool = Field(False, description="All groups of code_groups.toml with is_chronic.")
    codes: tuple[str, ...] = Field((), description="Exact codes, SYSTEM//code.")
    prefixes: tuple[str, ...] = Field((), description="Beginnings of codes.")

    def units(self) -> dict[str, tuple[str, ...]]:
        """Patterns by unit: each group is a unit of its own, codes and prefixes make one more together.

        The first occurrence of an outcome is counted for each unit.
        """
        wanted = {
            group.name: group.patterns
            for group in load_code_groups()
            if group.name in self.groups or (self.every_chronic_group and group.is_chronic)
        }
        own = *self.codes, *(f"{prefix}*" for prefix in self.prefixes)
        return wanted | ({"codes": own} if own else {})


class PredictionTime(_Part):
    """At which moments the question is asked."""

    at: Literal["encounter_end"] = Field(description="The end of each encounter, when all of it is known.")
    at_most_one_per_days: int = Field(
        1,
        ge=1,
        description="After a moment was taken, the next is at least this many days later, so that a course of "
        "scheduled visits counts once.",
    )


class KnownWindow(_Part):
    """A stretch of time before the prediction time; an event is inside by when it was known."""

    predicate: str
    from_days_before: int | None = Field(None, description="Where it begins; the whole record when absent.")
    until_days_before: int = Field(0, description="Where it ends; 0 is the prediction time.")


class Eligibility(_Part):
    """Who is asked about, told from what is known at the prediction time alone."""

    age_at_least: float | None = Field(None, ge=0, le=150, description="Years.")
    age_below: float | None = Field(None, gt=0, le=150, description="Years.")
    none_before: tuple[str | KnownWindow, ...] = Field(
        (),
        description="Predicates of which nothing may be known at the prediction time (or in a window before it).",
    )

    def windows(self) -> tuple[KnownWindow, ...]:
        """`none_before`, each with its window."""
        return tuple(KnownWindow(predicate=w) if isinstance(w, str) else w for w in self.none_before)


class Outcome(_Part):
    """What is forecast, by the clinical time of events."""

    any_of: tuple[str, ...] = Field(min_length=1, description="Predicates; the earliest event of any counts.")
    first: bool = Field(
        False,
        description="Only the first event ever of each code group counts. A first event at or before the prediction "
        "time is no outcome, even if it becomes known only later.",
    )
    starts_after_days: int = Field(0, description="Days between the prediction time and the outcome window.")


class Comparator(_Part):
    """A simple model to be compared with: a regression of a few columns of the feature table."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = ""
    features: tuple[str, ...] = Field(min_length=1, description="Columns of the feature table.")


class Task(_Part):
    """One question about the future."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    description: str
    predicates: dict[str, Predicate]
    prediction_time: PredictionTime
    eligibility: Eligibility = Eligibility()
    outcome: Outcome
    competing: Literal["death"] = Field("death", description="What ends the wait without the outcome.")
    horizon_days: int
    comparators: tuple[Comparator, ...] = Field(
        (), description="Clinical scores by name, or regressions of feature columns, beyond age and sex."
    )

    @field_validator("comparators", mode="before")
    @classmethod
    def _scores_by_name(cls, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            return value
        return [{"name": one, "features": (f"score_{one}",)} if isinstance(one, str) else one for one in value]


def load_tasks(folder: Path | None = None) -> list[Task]:
    """Read every *.yaml of `folder` (the tasks that ship with Sequela when None), sorted by name.

    Raises TaskError with file, line and reason for a task that could look the wrong way in time or names something
    unknown.
    """
    from features.tasks.static_check import read_task, refuse_doubled_names

    paths = sorted((folder or _TASKS).glob("*.yaml"))
    tasks = [read_task(path) for path in paths]
    refuse_doubled_names(tasks, paths)
    return sorted(tasks, key=lambda task: task.name)
