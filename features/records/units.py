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


def harmonise(events: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Bring values to their code's unit, and count what had to be done.

    Reads:    code, numeric_value, unit (as the source wrote it, or null).
    Changes:  numeric_value to Float32 in the canonical unit, rounded to what the method deserves; null when the
              unit cannot be converted or the value cannot be true. unit to the canonical one, as UCUM; null when it
              is no unit of UCUM, because a source may write anything there.
    Returns:  the events, in the same order, and counts by finding for the data profile.
    """
    # Units depend on the code and the wording alone, so they are worked out once for each pair that occurs.
    pairs = events.select("code", "unit").unique().filter(pl.col("code").is_in(_conversions()["code"].to_list()))
    spelt = pl.col("unit").replace(_spellings())
    foreign = [unit for unit in events["unit"].drop_nulls().unique() if not is_ucum(_spellings().get(unit, unit))]
    per_code = _conversions().filter("is_canonical").drop("unit", "factor", "offset", "is_canonical")
    plan = (
        pairs.with_columns(spelt=spelt)
        .join(per_code, on="code")
        .with_columns(has_no_unit=pl.col("spelt").is_null())
        # A value without a unit is taken in the canonical one if it is plausible there.
        .with_columns(spelt=pl.col("spelt").fill_null(pl.col("canonical_unit")))
        .join(
            _conversions().select("code", pl.col("unit").alias("spelt"), "factor", "offset"),
            on=["code", "spelt"],
            how="left",
        )
        .drop("spelt")
    )
    joined = events.join(plan, on=["code", "unit"], how="left", nulls_equal=True, maintain_order="left")
    value = pl.col("numeric_value") * pl.col("factor") + pl.col("offset")
    is_number = pl.col("numeric_value").is_not_null()
    joined = joined.with_columns(
        value=value,
        is_planned=pl.col("canonical_unit").is_not_null() & is_number,
    ).with_columns(is_plausible=pl.col("value").is_between("low", "high"))
    rescued = _under_another_unit(joined)
    is_relabelled = pl.col("rescued").is_not_null()
    scale = 10.0 ** pl.col("digits")
    joined = joined.with_columns(rescued=rescued).with_columns(
        numeric_value=pl.when(is_relabelled)
        .then((pl.col("rescued") * scale).round() / scale)
        .when("is_planned")
        .then(pl.when("is_plausible").then((pl.col("value") * scale).round() / scale))
        .otherwise(pl.col("numeric_value").round_sig_figs(_OTHER_CODES_FIGURES))
        .cast(pl.Float32),
        unit=pl.when("is_planned").then("canonical_unit").otherwise(spelt.replace(foreign, None)),
        unit_as_written=pl.col("unit"),
    )
    planned = joined.filter("is_planned")
    is_foreign = joined["unit_as_written"].is_in(foreign) & ~joined["is_planned"]
    no_factor = planned["factor"].is_null()
    counts = {
        "values_without_unit": planned["has_no_unit"].sum(),
        "units_spelt_otherwise": (planned["unit_as_written"] != planned["unit"]).sum(),
        "units_not_in_ucum": is_foreign.sum(),
        "values_under_wrong_unit": planned["rescued"].is_not_null().sum(),
        "values_in_inconvertible_unit": no_factor.sum(),
        "values_implausible": (
            ~no_factor & planned["rescued"].is_null() & ~planned["is_plausible"].fill_null(value=False)
        ).sum(),
    }
    return joined.select(events.columns), {name: int(count) for name, count in counts.items() if count}


def _under_another_unit(joined: pl.DataFrame) -> pl.Series:
    """Each implausible value as it reads under the one other listed unit that makes it plausible, else null."""
    suspects = (
        joined.with_row_index("row")
        .filter(pl.col("is_planned") & pl.col("factor").is_not_null() & ~pl.col("is_plausible"))
        .select("row", "code", "numeric_value", "factor", "offset")
    )
    fitting = (
        suspects.join(_conversions(), on="code", suffix="_other")
        .filter((pl.col("factor") != pl.col("factor_other")) | (pl.col("offset") != pl.col("offset_other")))
        .with_columns(other=pl.col("numeric_value") * pl.col("factor_other") + pl.col("offset_other"))
        .filter(pl.col("other").is_between("low", "high"))
        .group_by("row")
        .agg(pl.col("other").first(), ways=pl.len())
        .filter(pl.col("ways") == 1)
    )
    rows = pl.DataFrame({"row": pl.int_range(joined.height, dtype=pl.UInt32, eager=True)})
    return rows.join(fitting, on="row", how="left", maintain_order="left")["other"]
