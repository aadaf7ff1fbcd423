"""The codes of the illnesses that clinical scores count, from conditions.toml."""

import re
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from features.scores.inputs import LAPSE_DAYS, Input, history

_FILE = Path(__file__).with_name("conditions.toml")
_RANGE = re.compile(r"([A-Z])(\d+)-\1(\d+)")
_DIGITS = re.compile(r"(\w+)\[(\d+)\]")


class Condition(BaseModel):
    """One illness of conditions.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    icd10: str = ""
    snomed: str = ""
    others: str = ""
    lapsing: str = ""

    @property
    def codes(self) -> tuple[str, ...]:
        """The codes that count for ever, as patterns of features.codes."""
        return _patterns(f"{self.snomed} {self.icd10} {self.others}")

    @property
    def lapsing_codes(self) -> tuple[str, ...]:
        """The codes that count for LAPSE_DAYS alone, as patterns of features.codes."""
        return _patterns(self.lapsing)


def condition(name: str, *, window_days: int | None = None) -> Input:
    """An illness of conditions.toml as an input: 1 when it is on record (ever, or in the window), else absent.

    Codes that lapse count within their own look-back. Raises KeyError when there is no such illness.
    """
    found = load_conditions()[name]
    if not found.codes:
        return history(name, found.lapsing_codes, found.description, window_days=LAPSE_DAYS)
    lasting = history(name, found.codes, found.description, window_days=window_days)
    return replace(lasting, lapsing=found.lapsing_codes)


@cache
def load_conditions() -> dict[str, Condition]:
    """Every illness of conditions.toml by its name."""
    return {name: Condition.model_validate(table) for name, table in tomllib.loads(_FILE.read_text()).items()}


def _patterns(words: str) -> tuple[str, ...]:
    """SNOMED CT codes (digits alone), beginnings of ICD-10 codes (with and without the dot), and patterns (with //)."""
    exact = [f"SNOMED//{word}" if word.isdigit() else word for word in words.split() if word.isdigit() or "//" in word]
    families = [family for word in words.split() if not (word.isdigit() or "//" in word) for family in _families(word)]
    spelt = dict.fromkeys(one for family in families for one in (_dotted(family), family))
    return *exact, *(f"{system}//{family}*" for system in ("ICD10CM", "ICD10") for family in spelt)


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
