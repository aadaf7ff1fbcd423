"""The codes of the illnesses that clinical scores count, from conditions.toml."""

import re
import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from features.scores.inputs import Input, history

_FILE = Path(__file__).with_name("conditions.toml")
_RANGE = re.compile(r"([A-Z])(\d+)-\1(\d+)")
_DIGITS = re.compile(r"(\w+)\[(\d+)\]")


class Condition(BaseModel):
    """One illness of conditions.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    icd10: str
    snomed: str

    @property
    def codes(self) -> tuple[str, ...]:
        """Its codes as patterns of features.codes."""
        families = [family for word in self.icd10.split() for family in _families(word)]
        spelt = dict.fromkeys(one for family in families for one in (_dotted(family), family))
        return (
            *(f"SNOMED//{code}" for code in self.snomed.split()),
            *(f"{system}//{family}*" for system in ("ICD10CM", "ICD10") for family in spelt),
        )


def condition(name: str, *, window_days: int | None = None) -> Input:
    """An illness of conditions.toml as an input: 1 when it is on record (ever, or in the window), else absent.

    Raises KeyError when there is no such illness.
    """
    found = load_conditions()[name]
    return history(name, found.codes, found.description, window_days=window_days)


@cache
def load_conditions() -> dict[str, Condition]:
    """Every illness of conditions.toml by its name."""
    return {name: Condition.model_validate(table) for name, table in tomllib.loads(_FILE.read_text()).items()}


def _families(word: str) -> list[str]:
    """The code families of one word: itself, all of a range (I60-I69), or one for each digit (E11[27])."""
    if spread := _RANGE.fullmatch(word):
        letter, first, last = spread.groups()
        return [f"{letter}{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    if digits := _DIGITS.fullmatch(word):
        return [digits[1] + digit for digit in digits[2]]
    return [word]


def _dotted(family: str) -> str:
    return family if len(family) <= 3 else f"{family[:3]}.{family[3:]}"
