"""How results name where their records came from, so that nobody takes synthetic patients for real ones."""

_LABELS = {
    "simulated": "a simulated population (made by Sequela's simulator; not real people)",
    "example": "the small set of hand-written example patients that Sequela ships (synthetic, not real people)",
    "synthea": "Synthea (synthetic patients, not real people)",
    "fhir_server": "FHIR R4 records exported from a FHIR server",
    "fhir": "FHIR R4 records",
}


def source_label(source_kind: str) -> str:
    """In words for a person: a `source_kind` of features.tables.Dataset."""
    return _LABELS.get(source_kind, source_kind)
