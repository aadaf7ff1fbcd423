"""Writes docs/clinical_scores.md from the scores: `python -m features.scores.document docs/clinical_scores.md`."""

import sys
from pathlib import Path

from features.scores.conditions import load_conditions
from features.scores.engine import Score
from features.scores.inputs import LAPSE_DAYS, Input
from features.scores.registry import SCORES

_HEAD = """# Clinical scores

Written by `python -m features.scores.document docs/clinical_scores.md` from the code; change the code, not this page.

Each score is computed at every prediction time for which it is meant, from what was known then, and stands in the table
`clinical_scores` with each input: its value in its unit, points, age in days, record, and status. `status` is `found`;
`assumed_absent` (an illness, drug, visit or procedure that nobody recorded); `assumed_normal` (a state that is recorded
only when it is abnormal); `missing` or `out_of_range`, and then `value` is null and `reason` names the inputs. A
measurement is never filled in, and missing ones are not imputed: a score that depends on a fitted model of its missing
inputs is no longer the published one. Where a score is not meant for the patient or the moment, there is no row. `risk`
is the published probability, where there is one. Each score is also a column of the feature table, `score_<name>`.

Illnesses are looked for by the codes of `features/scores/conditions.toml`, listed at the end; values are converted from
the units named, and values in other units are not read: an input that is assumed normal when it is not recorded is
`missing` when it is recorded in such a unit. A look-back of 1 d means the 24 hours before.
"""
_POLICIES = {
    "exclude": "null, with the reason",
    "assume_absent": "absent",
    "assume_normal": "normal",
}


def document(scores: tuple[Score, ...] = SCORES) -> str:
    """The page, in Markdown."""
    return "\n".join([_HEAD, _overview(scores), *(_section(score) for score in scores), _conditions(scores)])


def _overview(scores: tuple[Score, ...]) -> str:
    rows = [f"| `{one.name}` | {one.title} | {one.meant_for} | {one.source} |" for one in scores]
    return "\n".join(["| score | what it is | meant for | source |", "|---|---|---|---|", *rows, ""])


def _section(score: Score) -> str:
    note = f"{score.note}\n\n" if score.note else ""
    head = "| input | what | codes | look-back | if not recorded |\n|---|---|---|---|---|"
    return "\n".join([f"## `{score.name}`: {score.title}\n\n{note}{head}", *(_row(one) for one in score.inputs), ""])


def _row(one: Input) -> str:
    unit = f", {one.unit}" if one.unit else ""
    other_units = [
        f"{of} x {factor:.6g}{f' {offset:+.6g}' if offset else ''}" for of, factor, offset in one.conversions[1:]
    ]
    converted = f"; also {', '.join(other_units)}" if other_units else ""
    limits = f"; from {_number(one.low)} to {_number(one.high)}" if one.low is not None or one.high is not None else ""
    policy = _POLICIES[one.when_missing] + (f" ({_number(one.assumed)})" if one.when_missing == "assume_normal" else "")
    what = f"{one.description}{unit}{converted}{limits}"
    return f"| `{one.name}` | {what} | {_codes(one)} | {_look_back(one)} | {policy} |"


def _codes(one: Input) -> str:
    """Its codes; those of an illness stand at the end of the page."""
    if _is_condition(one):
        return "see below"
    return ", ".join(f"`{code}`" for code in one.codes)


def _look_back(one: Input) -> str:
    if one.kind in ("age", "static", "stay"):
        return "–"
    if one.within_stay:
        return "the stay"
    lapsing = f"; {LAPSE_DAYS} d for what lapses" if one.lapsing else ""
    return ("ever" if one.window_days is None else f"{one.window_days} d") + lapsing


def _conditions(scores: tuple[Score, ...]) -> str:
    read = {one.name for score in scores for one in score.inputs if _is_condition(one)}
    rows = [
        f"| `{name}` | {found.description} | {found.icd10} | {' '.join(f'{found.snomed} {found.others}'.split())} | "
        f"{' '.join(found.lapsing.split())} |"
        for name, found in load_conditions().items()
        if name in read
    ]
    head = f"""## Codes of illnesses

ICD-10 and ICD-10-CM codes that begin so, with or without the dot (`I60-I69`: each of these categories; `E11[27]`: E112
and E117); SNOMED CT codes exactly; others with their system, a star for any ending. What lapses counts for {LAPSE_DAYS}
days only: it resolves, or a source may drop the record once it is closed, so that "ever" would tell who lived on.

| illness | what | ICD-10, ICD-10-CM | SNOMED CT and others | lapsing |
|---|---|---|---|---|
"""
    return head + "\n".join(rows) + "\n"


def _is_condition(one: Input) -> bool:
    found = load_conditions().get(one.name)
    return found is not None and (found.codes or found.lapsing_codes) == one.codes


def _number(number: float | None) -> str:
    return "any" if number is None else f"{number:g}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document())
