"""How results name where their records came from, so that nobody takes synthetic patients for real ones."""

_LABELS = {
    "example": "the small set of hand-written example patients that Sequela ships (synthetic, not real people)",
    "synthea": "Synthea (synthetic patients, not real people)",
    "fhir": "FHIR R4 records",
}


def source_label(source_kind: str) -> str:
    """In words for a person: example, synthea or fhir."""
    return _LABELS.get(source_kind, source_kind)
