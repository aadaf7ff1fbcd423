"""Wider headings over codes: families of code groups, the chapters of ICD-10-CM, and its three-character categories."""

import re
import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from features.codes import load_code_groups
from features.errors import SequelaError

_CODE_FAMILIES = Path(__file__).with_name("code_families.toml")
_CATEGORY = re.compile(r"^(ICD10CM//[A-Z][0-9][0-9A-Z])")


class CodeFamily(BaseModel):
    """A heading over code groups and codes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    groups: tuple[str, ...]
    prefixes: tuple[str, ...]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of its groups, and its prefixes as patterns."""
        of_groups = {group.name: group.patterns for group in load_code_groups()}
        return *(one for name in self.groups for one in of_groups[name]), *(f"{prefix}*" for prefix in self.prefixes)


@cache
def load_code_families() -> tuple[CodeFamily, ...]:
    """Every family of code_families.toml, in its order.

    Raises SequelaError when the file is malformed or names a group that is not in code_groups.toml.
    """
    try:
        tables = tomllib.loads(_CODE_FAMILIES.read_text())
        families = tuple(CodeFamily.model_validate({"name": name} | table) for name, table in tables.items())
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SequelaError(f"{_CODE_FAMILIES.name} cannot be used: {error}") from error
    groups = {group.name for group in load_code_groups()}
    if strangers := sorted({name for family in families for name in family.groups} - groups):
        raise SequelaError(f"{_CODE_FAMILIES.name} names groups that code_groups.toml lacks: {', '.join(strangers)}.")
    return families


def icd10cm_category(code: str) -> str | None:
    """The three-character category of an ICD-10-CM code, as a code: ICD10CM//E11 for ICD10CM//E11.65; else None."""
    found = _CATEGORY.match(code)
    return found.group(1) if found else None
