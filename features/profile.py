"""The data profile: what was odd about the source, how often, and what was done about it."""

from collections.abc import Mapping

import polars as pl

from features.tables import DataProfile, checked

# finding -> (what was counted, what was done)
HANDLING: dict[str, tuple[str, str]] = {
    "files_read": ("files", "Read."),
    "files_without_fhir": ("files", "Left alone: their content is not JSON of FHIR resources."),
    "patients_made_by_synthea": ("patients", "Synthetic; results are labelled so, and observation is windowed."),
    "patients_without_birth_date": ("patients", "Kept without age; tasks that ask for an age leave them out."),
    "deaths_without_date": ("patients", "No death event: when it happened is not told."),
    "addresses_not_understood": ("patients", "Taken as still living there: observed until the source ends."),
    "local_codes": ("codes", "Code and system leave as pseudonyms until the system is in privacy/rules.toml."),
    "codes_with_several_wordings": ("codes", "Keyed on system and code; the commonest wording is shown."),
    "components_without_value": ("events", "No event."),
    "values_with_comparator": ("events", "Kept at the limit that was written, such as 5 for '<5'."),
    "values_without_unit": ("events", "Taken in the code's usual unit when plausible there."),
    "units_spelt_otherwise": ("events", "Spelt as in UCUM, or converted to the code's unit."),
    "units_not_in_ucum": ("events", "Unit left out: it may say anything. The value is kept."),
    "values_under_wrong_unit": ("events", "Read under the one listed unit that makes them plausible."),
    "values_in_inconvertible_unit": ("events", "Value left out; that the test was done is kept."),
    "values_implausible": ("events", "Value left out; that the test was done is kept."),
    "visit_named_by_identifier": ("events", "Visit left out: only the source's server could resolve the name."),
    "dates_taken_from_visit": ("events", "Happened at the visit's start, known at its end."),
    "known_before_it_happened": ("events", "Known when it happened."),
    "deletions": ("records", "The resources they name are taken out; of a patient, everything."),
    "deletions_not_understood": ("records", "Left alone: they do not name a resource by its type and id."),
    "entries_without_resource": ("entries", "Left alone: entries of bundles that hold no resource and delete none."),
    "visits_of_absurd_length": ("records", "Their start is kept, their end is not believed."),
    "ends_before_start": ("records", "Their start is kept, their end is not believed."),
}


def data_profile(
    findings: Mapping[str, int], codes: pl.DataFrame, files_read: int, files_without_fhir: int
) -> pl.DataFrame:
    """The DataProfile table. Reads `code` and `wordings` of `codes`; findings that did not occur have no row."""
    counts = {
        **findings,
        "files_read": files_read,
        "files_without_fhir": files_without_fhir,
        "local_codes": codes.filter(pl.col("code").str.contains("LOCAL_")).height,
        "codes_with_several_wordings": codes.filter(pl.col("wordings") > 1).height,
    }
    rows = [(name, counts[name], *HANDLING[name]) for name in HANDLING if counts.get(name)]
    schema = {name: column.dtype for name, column in DataProfile.columns().items()}
    return checked(pl.DataFrame(rows, schema=schema, orient="row"), DataProfile)
