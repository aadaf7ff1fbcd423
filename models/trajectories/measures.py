"""Which courses are forecast, on which grid of time, and from what beside the values themselves?

A setting is a kind of care with a grid of its own. Values measured in a hospital stay and those measured outside are
different courses: fluids, pain and infection move the first within hours.
"""

from datetime import timedelta
from typing import NamedTuple

from features.derived_events import EGFR

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
MEDIAN = QUANTILES.index(0.5)
BAND = 0.8  # what lies between the first and the last quantile


class Measure(NamedTuple):
    """A value whose course is forecast; values in another unit, or outside lowest to highest, are not read."""

    name: str
    words: str
    codes: tuple[str, ...]
    unit: str
    lowest: float
    highest: float


class Setting(NamedTuple):
    """Measures that share a grid: `look_back` cells of length `cell` before a forecast, `ahead` after it."""

    name: str
    words: str
    cell: timedelta
    cell_in: timedelta  # the unit in which people count its time: a day or an hour
    look_back: int
    ahead: int
    measures: tuple[Measure, ...]
    conditions: tuple[str, ...]  # code groups, once known known for good
    drugs: tuple[str, ...]  # code groups, active for a while after each order

    @property
    def names(self) -> list[str]:
        """Its measures by name."""
        return [measure.name for measure in self.measures]

    @property
    def cell_length(self) -> float:
        """Days, or hours, of a cell."""
        return self.cell / self.cell_in

    @property
    def time_unit(self) -> str:
        """In which people count its time."""
        return "days" if self.cell_in == timedelta(days=1) else "hours"


_SYSTOLIC = ("LOINC//8480-6",)
_CHRONIC = (
    "type_2_diabetes",
    "chronic_kidney_disease",
    "hypertension",
    "heart_failure",
    "coronary_heart_disease",
    "copd",
    "obesity",
)

AMBULATORY = Setting(
    name="ambulatory",
    words="measured outside hospital stays, by quarters of a year",
    cell=timedelta(days=90),
    cell_in=timedelta(days=1),
    look_back=8,
    ahead=5,  # so that a yearly check-up, seldom to the day, falls inside
    measures=(
        Measure("hba1c", "HbA1c", ("LOINC//4548-4",), "%", 3, 20),
        Measure("egfr", "Kidney function (eGFR)", (EGFR,), "mL/min/{1.73_m2}", 1, 250),
        Measure("systolic_pressure", "Systolic blood pressure", _SYSTOLIC, "mm[Hg]", 50, 300),
        Measure("diastolic_pressure", "Diastolic blood pressure", ("LOINC//8462-4",), "mm[Hg]", 20, 200),
        Measure("weight", "Body weight", ("LOINC//29463-7",), "kg", 20, 400),
        Measure("ldl", "LDL cholesterol", ("LOINC//18262-6", "LOINC//13457-7", "LOINC//2089-1"), "mg/dL", 5, 500),
    ),
    conditions=_CHRONIC,
    drugs=(
        "metformin",
        "insulin",
        "newer_glucose_lowering_drugs",
        "statins",
        "blood_pressure_drugs",
        "loop_diuretics",
    ),
)

INPATIENT = Setting(
    name="inpatient",
    words="measured in hospital stays, by blocks of six hours",
    cell=timedelta(hours=6),
    cell_in=timedelta(hours=1),
    look_back=8,
    ahead=4,
    measures=(
        Measure("heart_rate", "Heart rate", ("LOINC//8867-4",), "/min", 20, 250),
        Measure("systolic_pressure", "Systolic blood pressure", _SYSTOLIC, "mm[Hg]", 50, 300),
        Measure("respiratory_rate", "Respiratory rate", ("LOINC//9279-1",), "/min", 3, 80),
        Measure("temperature", "Body temperature", ("LOINC//8310-5", "LOINC//8331-1"), "Cel", 30, 43),
        Measure("oxygen_saturation", "Oxygen saturation", ("LOINC//59408-5", "LOINC//2708-6"), "%", 40, 100),
    ),
    conditions=_CHRONIC,
    drugs=("blood_pressure_drugs", "loop_diuretics"),
)

SETTINGS = (AMBULATORY, INPATIENT)
