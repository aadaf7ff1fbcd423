"""What a FHIR reference says: which type, which id, or which identifier."""


def kind_and_id(reference: str) -> tuple[str | None, str]:
    """Resource type (null when the form does not say) and id behind `Type/id`, an absolute URL, or `urn:uuid:`."""
    kind, _, identifier = reference.partition("/")
    if kind.isalpha() and identifier and not ("/" in identifier or ":" in identifier):  # by far the commonest
        return kind, identifier
    if reference.startswith(("urn:uuid:", "urn:oid:")):
        return None, reference.split(":", 2)[2]
    parts = reference.split("/_history/", maxsplit=1)[0].rstrip("/").split("/")
    return (parts[-2] if len(parts) > 1 else None), parts[-1]


def identifier_in(reference: str) -> str | None:
    """`system|value` of a conditional reference such as `Organization?identifier=system|value`."""
    _, found, query = reference.partition("?identifier=")
    return query if found else None
