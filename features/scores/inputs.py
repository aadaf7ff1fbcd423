"""What may a clinical score read? Each input says which codes, which unit, how far back, and what its absence means.

Policies for an input that is not on record (`when_missing`):
exclude         the score is null, and its reason names the input: a measurement is never filled in.
assume_absent   a coded illness, drug, visit or procedure that nobody recorded counts as absent; said in the result.
assume_normal   a state that is recorded only when it is abnormal counts as normal; said in the result. It is missing
                where something is recorded within the look-back that cannot be read, as a number in another unit.
Multiple imputation is not offered: it needs a model of the missing values fitted on train patients, and a score that
depends on such a model is no longer the published one. The models of the ladder are there for that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from features.meds_codes import BIRTH

Kind = Literal["value", "highest", "history", "answer", "static", "age", "stay"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Policy = Literal["exclude", "assume_absent", "assume_normal"]
Conversion = tuple[str, float, float]  # UCUM unit, factor, offset: value x factor + offset
LAPSE_DAYS = 730  # illnesses that resolve, and records that a source drops when they are closed
Fact = tuple[object, ...]  # what is looked up in the record, whatever its look-back or policy


@dataclass(frozen=True)
class Input:
    """One input of a score; made by the functions below.

    `codes` are patterns (features.codes). `low` and `high` are the ends of the range for which the score was made; a
    value outside makes it null. `answers` maps coded answers, or static codes, to numbers. `within_stay` keeps only
    what happened since the start of the stay that ended last, within the day before. `lapsing` are further codes of a
    history that count for LAPSE_DAYS alone. Codes that match the regular expression `except_for` do not count.
    """

    name: str
    kind: Kind
    codes: tuple[str, ...]
    description: str
    unit: str | None = None
    window_days: int | None = None
    when_missing: Policy = "exclude"
    assumed: float | None = None
    low: float | None = None
    high: float | None = None
    conversions: tuple[Conversion, ...] = ()
    answers: tuple[tuple[str, float], ...] = ()
    within_stay: bool = False
    lapsing: tuple[str, ...] = ()
    except_for: str | None = None

    @property
    def fact(self) -> Fact:
        """What is looked up in the record; inputs that differ only in look-back, range or policy share it."""
        own = {"stay": self.name, "highest": self.window_days}.get(self.kind)
        return self.kind, own, self.codes, self.except_for, self.conversions, self.answers

    @property
    def all_codes(self) -> tuple[str, ...]:
        """The patterns of everything that it reads."""
        return *self.codes, *self.lapsing

    @property
    def beside(self) -> tuple["Input", ...]:
        """What is looked up beside it: its lapsing codes, or whether anything is recorded that may be unreadable."""
        if self.lapsing:
            return (history(self.name, self.lapsing, self.description, window_days=LAPSE_DAYS),)
        if self.when_missing == "assume_normal":
            return (history(self.name, self.codes, self.description, window_days=self.window_days),)
        return ()


def value(
    name: str,
    codes: tuple[str, ...],
    unit: str,
    description: str,
    *,
    window_days: int | None,
    conversions: tuple[Conversion, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Input:
    """The latest number of any of the codes within the look-back, in `unit` (UCUM).

    Values in a unit that is neither `unit` nor among `conversions` are not read.
    """
    return Input(
        name,
        "value",
        codes,
        description,
        unit,
        window_days,
        low=low,
        high=high,
        conversions=((unit, 1.0, 0.0), *conversions),
    )


def history(
    name: str,
    codes: tuple[str, ...],
    description: str,
    *,
    window_days: int | None = None,
    when_missing: Policy = "assume_absent",
) -> Input:
    """1 when any of the codes (illness, drug, procedure) is on record within the look-back; ever, when None."""
    assumed = None if when_missing == "exclude" else 0.0
    return Input(name, "history", codes, description, None, window_days, when_missing, assumed)


def highest(measured: Input) -> Input:
    """The highest number within the look-back, in place of the latest."""
    return replace(measured, kind="highest", description=f"{measured.description}, the highest")


def answer(
    name: str, codes: tuple[str, ...], answers: Mapping[str, float], description: str, *, window_days: int | None
) -> Input:
    """The latest coded answer within the look-back as a number. An answer that is not listed counts as missing."""
    return Input(name, "answer", codes, description, None, window_days, answers=tuple(answers.items()))


def static(name: str, numbers: Mapping[str, float], description: str) -> Input:
    """A fact without a time (sex, race) as a number by its code; missing when two codes contradict each other."""
    return Input(name, "static", tuple(numbers), description, answers=tuple(numbers.items()))


def or_normal(measured: Input, normal: float) -> Input:
    """The same input, taken as `normal` when it is not recorded; the result says so (assumed_normal)."""
    return replace(measured, when_missing="assume_normal", assumed=normal)


def in_stay(of: Input) -> Input:
    """The same input, since the start of the stay that ended last, within the day before."""
    return replace(of, within_stay=True)


OLDEST_AGE_YEARS = 90
AGE = Input("age_years", "age", (BIRTH,), f"Age in completed years, {OLDEST_AGE_YEARS} and above as that", "a")
IS_FEMALE = static("is_female", {"SEX//female": 1.0, "SEX//male": 0.0}, "Recorded sex: 1 female, 0 male")


def creatinine(window_days: int) -> Input:
    """Creatinine in serum, plasma or blood, mg/dL (µmol/L / 88.4)."""
    return value(
        "creatinine",
        ("LOINC//2160-0", "LOINC//38483-4"),
        "mg/dL",
        "Creatinine",
        window_days=window_days,
        conversions=(("umol/L", 1 / 88.4, 0.0),),
    )


def systolic_bp(window_days: int, low: float | None = None, high: float | None = None) -> Input:
    """Systolic blood pressure, mm[Hg]."""
    return value(
        "systolic_bp",
        ("LOINC//8480-6",),
        "mm[Hg]",
        "Systolic blood pressure",
        window_days=window_days,
        low=low,
        high=high,
    )
