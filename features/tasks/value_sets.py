"""Sets of codes that only tasks ask for: what counts as an eye examination, a planned stay, a failed kidney."""

import tomllib
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from features.errors import SequelaError

_VALUE_SETS = Path(__file__).with_name("value_sets.toml")


class ValueSet(BaseModel):
    """A set of codes with where it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str
    source: str
    codes: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()

    @property
    def patterns(self) -> tuple[str, ...]:
        """Its codes and prefixes as patterns of features/codes.py."""
        return *self.codes, *(f"{prefix}*" for prefix in self.prefixes)


@cache
def load_value_sets() -> dict[str, ValueSet]:
    """Every set of value_sets.toml by its name. Raises SequelaError when the file is malformed."""
    try:
        tables = tomllib.loads(_VALUE_SETS.read_text())
        return {name: ValueSet.model_validate(table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SequelaError(f"{_VALUE_SETS.name} cannot be used: {error}") from error
