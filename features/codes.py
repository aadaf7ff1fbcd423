"""Which codes mean what: code groups, and matching of events' codes with exact codes and prefixes.

A pattern is an exact code ("SNOMED//44054006"), or the beginning of codes marked by a star ("ICD10CM//E11*").
"""

import tomllib
from functools import cache
from pathlib import Path

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from features.errors import SequelaError

_CODE_GROUPS = Path(__file__).with_name("code_groups.toml")
_MEDICATION_ACT = r"//(administered|stated)$"
_ICD10 = r"^ICD10//"
_UNDOTTED = r"^(ICD10CM//[A-Z][0-9][0-9AB])([0-9A-Z]+)$"


class CodeGroup(BaseModel):
    """A set of codes that mean one thing to a clinician."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    is_chronic: bool
    active_days: int | None = None
    codes: tuple[str, ...]
    prefixes: tuple[str, ...]

    @property
    def patterns(self) -> tuple[str, ...]:
        """Its codes and prefixes as patterns."""
        return *self.codes, *(f"{prefix}*" for prefix in self.prefixes)


@cache
def _code_groups() -> tuple[CodeGroup, ...]:
    try:
        tables = tomllib.loads(_CODE_GROUPS.read_text())
        groups = [CodeGroup.model_validate({"name": name} | table) for name, table in tables.items()]
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise SequelaError(f"{_CODE_GROUPS.name} cannot be used: {error}") from error
    return tuple(groups)


def load_code_groups() -> list[CodeGroup]:
    """Every group of code_groups.toml, in its order. Raises SequelaError when the file is malformed."""
    return list(_code_groups())


def patterns_of_groups(*names: str) -> tuple[str, ...]:
    """The patterns of these groups together. Raises KeyError when a group does not exist."""
    groups = {group.name: group for group in _code_groups()}
    return tuple(pattern for name in names for pattern in groups[name].patterns)


def groups_of_codes(codes: pl.DataFrame) -> pl.DataFrame:
    """The code groups that each code belongs to.

    Reads:    code; doubled rows do not matter.
    Returns:  code, group; a row for each pair, none for a code without a group; sorted.
    """
    patterns = pl.DataFrame(
        [(group.name, pattern) for group in _code_groups() for pattern in group.patterns],
        schema={"group": pl.String, "pattern": pl.String},
        orient="row",
    )
    return match_patterns(codes, patterns).select("code", "group").unique().sort("code", "group")


def match_patterns(codes: pl.DataFrame, patterns: pl.DataFrame) -> pl.DataFrame:
    """Pair codes with the patterns that they match.

    Reads:    `codes`: code. `patterns`: pattern, and any other columns.
    Returns:  code and the columns of `patterns`, a row for each match. A medication that was administered or
              stated ("RXNORM//860975//stated") matches the patterns of the medication itself too; a code of WHO's
              ICD-10, and one of ICD-10-CM without its dot, matches those of ICD-10-CM.
    """
    spelled = codes.select("code").unique()
    icd = pl.col("code").str.replace(_ICD10, "ICD10CM//")
    spellings = pl.concat(
        [
            spelled.with_columns(spelling="code"),
            spelled.with_columns(spelling=pl.col("code").str.replace(_MEDICATION_ACT, "")),
            spelled.with_columns(spelling=icd),
            spelled.with_columns(spelling=icd.str.replace(_UNDOTTED, "$1.$2")),
        ]
    ).unique()
    is_prefix = pl.col("pattern").str.ends_with("*")
    prefixes = patterns.filter(is_prefix).with_columns(beginning=pl.col("pattern").str.strip_suffix("*"))
    matches = [spellings.join(patterns.filter(~is_prefix), left_on="spelling", right_on="pattern", coalesce=False)]
    # One equality join for each length of prefix: comparing every code with every prefix would grow with both.
    for length in prefixes["beginning"].str.len_chars().unique().sort():
        matches.append(
            spellings.with_columns(beginning=pl.col("spelling").str.slice(0, length)).join(
                prefixes.filter(pl.col("beginning").str.len_chars() == length), on="beginning"
            )
        )
    return pl.concat([match.select("code", *patterns.columns) for match in matches]).unique()
