"""One unit for each kind of result: spellings, conversions, mistaken labels, implausible values, rounding."""

import re
import tomllib
from functools import cache
from importlib.resources import files

import polars as pl

_PREFIXES = "YZEPTGMkhdcmunpfazy"
_ANNOTATION = re.compile(r"\{([^{}]*)\}")
_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_TRAILING_EXPONENT = re.compile(r"(?<=[A-Za-z%'])-?\d$")
_NUMBER = re.compile(r"\d{1,3}|10[*^]-?\d{1,2}")
_OTHER_CODES_FIGURES = 4  # significant figures kept of results without an entry in units.toml


@cache
def _spellings() -> dict[str, str]:
    return _file()["spellings"]


@cache
def _file() -> dict:
    return tomllib.loads(files("features.records").joinpath("units.toml").read_text())


@cache
def _conversions() -> pl.DataFrame:
    """One row a code and unit: code, unit, canonical_unit, factor, offset, low, high, digits, is_canonical."""
    rows = [
        {
            "code": f"LOINC//{code}",
            "unit": source["unit"],
            "canonical_unit": entry["unit"],
            "factor": float(source.get("factor", 1)),
            "offset": float(source.get("offset", 0)),
            "low": float(entry["low"]),
            "high": float(entry["high"]),
            "digits": entry["digits"],
            "is_canonical": source["unit"] == entry["unit"],
        }
        for code, entry in _file()["codes"].items()
        for source in [{"unit": entry["unit"]}, *entry.get("from", [])]
    ]
    return pl.DataFrame(rows)


@cache
def is_ucum(unit: str) -> bool:
    """Whether `unit` is made of words of UCUM alone, so that it cannot say anything else (10*3/uL, mm[Hg], {score})."""
    words = {kind: set(text.split()) for kind, text in _file()["words"].items()}
    bare = _ANNOTATION.sub(lambda found: "" if found[1] in words["annotations"] else found[0], unit)
    bare = _BRACKET.sub(lambda found: "" if found[1] in words["brackets"] else found[0], bare)
    factors = (_TRAILING_EXPONENT.sub("", factor) for factor in re.split(r"[/.()]", bare))
    # What is left of `k[IU]` is its prefix alone, hence the empty atom.
    return all(
        factor in words["atoms"] or _NUMBER.fullmatch(factor) or _without_prefix(factor) in words["atoms"] | {""}
        for factor in factors
    )


def _without_prefix(factor: str) -> str:
    return factor[2:] if factor.startswith("da") else factor[1:] if factor[:1] in _PREFIXES else factor


def plan_measures(measures: pl.DataFrame) -> pl.DataFrame:
    """Work out, for each code and unit as written, what its values become.

    Reads:    code, unit (as the source wrote it, or null).
    Adds:     unit_after (as UCUM; null when there is none or it is no unit, because a source may write anything
              there), factor, offset (null when the unit cannot be converted), low, high, scale (10 ** decimals; these
              are null for codes without an entry in units.toml), and the flags has_no_unit, is_respelt, is_foreign.
    """
    spelt = pl.col("unit").replace(_spellings())
    foreign = [unit for unit in measures["unit"].drop_nulls().unique() if not is_ucum(_spellings().get(unit, unit))]
    of_code = _conversions().filter("is_canonical").select("code", "canonical_unit", "low", "high", "digits")
    return (
        measures.with_columns(spelt=spelt, has_no_unit=pl.col("unit").is_null())
        .join(of_code, on="code", how="left", maintain_order="left")
        # A value without a unit is taken in the canonical one if it is plausible there.
        .with_columns(spelt=pl.coalesce("spelt", "canonical_unit"))
        .join(
            _conversions().select("code", "factor", "offset", spelt="unit"),
            on=["code", "spelt"],
            how="left",
            maintain_order="left",
        )
        .with_columns(
            unit_after=pl.coalesce("canonical_unit", pl.col("spelt").replace(foreign, None)),
            scale=10.0 ** pl.col("digits"),
            is_foreign=pl.col("canonical_unit").is_null() & pl.col("unit").is_in(foreign),
        )
        .with_columns(is_respelt=pl.col("canonical_unit").is_not_null() & (pl.col("unit") != pl.col("unit_after")))
        .drop("spelt", "canonical_unit", "digits")
    )


def harmonise(
    measure: pl.Series, numbers: pl.Series, measures: pl.DataFrame, stretch: pl.Series
) -> tuple[pl.Series, pl.Series, pl.DataFrame]:
    """Bring values to their code's unit, and count what had to be done.

    Reads:    for each event its `measure` (a row of `measures`, as `plan_measures` gives them), its number, or null,
              and the stretch of text that it is from.
    Returns:  the numbers as Float32 in the unit of the code, rounded to what the method deserves, null when the unit
              cannot be converted or the value cannot be true; their units, null without a number; and for the data
              profile stretch, finding, count.
    """
    events = measures.drop("code", "unit")[measure].with_columns(measure=measure, number=numbers, stretch=stretch)
    is_number = pl.col("number").is_not_null()
    is_planned = is_number & pl.col("low").is_not_null()
    events = events.with_columns(value=pl.col("number") * pl.col("factor") + pl.col("offset")).with_columns(
        is_plausible=pl.col("value").is_between("low", "high"), rescued=_NEVER
    )
    if events.select((is_planned & ~pl.col("is_plausible")).any()).item():
        events = events.with_columns(rescued=_under_another_unit(events, measures))
    after = events.select(
        number=pl.when(is_planned)
        .then(
            (pl.coalesce("rescued", pl.when("is_plausible").then("value")) * pl.col("scale")).round() / pl.col("scale")
        )
        .otherwise(pl.col("number").round_sig_figs(_OTHER_CODES_FIGURES))
        .cast(pl.Float32),
        unit=pl.when(is_number).then("unit_after"),
    )
    is_rescued = pl.col("rescued").is_not_null()
    found = {
        "values_without_unit": is_planned & pl.col("has_no_unit"),
        "units_spelt_otherwise": is_number & pl.col("is_respelt"),
        "units_not_in_ucum": is_number & pl.col("is_foreign"),
        "values_under_wrong_unit": is_rescued,
        "values_in_inconvertible_unit": is_planned & pl.col("factor").is_null(),
        "values_implausible": is_planned & ~pl.col("is_plausible") & ~is_rescued,
    }
    counts = (
        events.filter(pl.any_horizontal(found.values()))
        .group_by("stretch")
        .agg(**{name: condition.sum().cast(pl.Int64) for name, condition in found.items()})
        .unpivot(index="stretch", variable_name="finding", value_name="count")
        .filter(pl.col("count") > 0)
    )
    return after["number"], after["unit"], counts


_NEVER = pl.lit(None, pl.Float64)


def _under_another_unit(events: pl.DataFrame, measures: pl.DataFrame) -> pl.Series:
    """Each implausible value as it reads under the one other listed unit that makes it plausible, else null."""
    codes = measures.select("code", measure=pl.int_range(pl.len(), dtype=pl.UInt32))
    fitting = (
        events.with_row_index("row")
        .filter(~pl.col("is_plausible"))
        .select("row", "measure", "number", "factor", "offset")
        .join(codes, on="measure")
        .join(_conversions(), on="code", suffix="_other")
        .filter((pl.col("factor") != pl.col("factor_other")) | (pl.col("offset") != pl.col("offset_other")))
        .with_columns(other=pl.col("number") * pl.col("factor_other") + pl.col("offset_other"))
        .filter(pl.col("other").is_between("low", "high"))
        .group_by("row")
        .agg(pl.col("other").first(), ways=pl.len())
        .filter(pl.col("ways") == 1)
    )
    rows = pl.DataFrame({"row": pl.int_range(events.height, dtype=pl.UInt32, eager=True)})
    return rows.join(fitting, on="row", how="left", maintain_order="left")["other"]
