"""Reading many plain observations at once: most of any record, and all alike.

A short cut and nothing more: an observation with one coded number, full dates, and nothing that was not met before
goes through here about four times as fast as through `features.records.events`; any other is left for that. Both give
the same rows, which a test holds them to.
"""

from collections.abc import Iterator, Sequence

from features.privacy.pseudonyms import finish_pseudonym, prefix_hasher
from features.records.resources import Observation, Struct
from features.records.rows import Rows

_FEWEST = 50  # below this, setting up costs more than it saves
_PLAIN_STATUSES = frozenset({"final", "amended", "corrected", "preliminary", "registered", "unknown", None})


def add_plain_observations(
    resources: Sequence[Struct], positions: Sequence[int], rows: Rows
) -> Iterator[tuple[int, Struct]]:
    """Add the plain observations among `resources` to `rows`; gives the others, with their positions, unread.

    The others must be read as they come: they fill the caches that make the next observation plain.
    """
    if len(resources) < _FEWEST or not isinstance(resources[0], Observation):
        yield from zip(positions, resources, strict=True)
        return
    hasher = prefix_hasher(rows.key.pseudonyms, "Observation")
    subjects, visits, moments, concepts = rows.subjects, rows.visits, rows.moments, rows.concepts
    measures, records, events, file = rows.measures, rows.records, rows.events, rows.file
    for position, record in zip(positions, resources, strict=True):
        try:
            quantity = record.valueQuantity  # type: ignore[attr-defined]
            (coding,) = record.code.coding  # type: ignore[attr-defined]
            subject_id, weeks, seconds = subjects[record.subject.reference]  # type: ignore[attr-defined]
            encounter_id = visits[(record.encounter or record.context).reference]  # type: ignore[attr-defined]
            time, _, has_time = moments[record.effectiveDateTime]  # type: ignore[attr-defined]
            _, known, is_exact = moments[record.issued]  # type: ignore[attr-defined]
            concept = concepts["", coding.system, coding.code, coding.display]
            measure = measures[concept, quantity.code or quantity.unit]
        except (AttributeError, KeyError, ValueError):
            yield position, record
            continue
        if (
            quantity.value is None
            or quantity.comparator is not None
            or not has_time
            or not is_exact
            or record.component  # type: ignore[attr-defined]
            or record.id is None  # type: ignore[attr-defined]
            or record.status not in _PLAIN_STATUSES  # type: ignore[attr-defined]
            or (record.meta is not None and not record.meta.says_nothing())  # type: ignore[attr-defined]
        ):
            yield position, record
            continue
        resource = record.id  # type: ignore[attr-defined]
        events.append((len(records), measure, time, known, quantity.value, None))
        records.append(
            (
                finish_pseudonym(hasher, resource),
                subject_id,
                "Observation",
                file,
                position,
                0,
                0,
                False,
                resource,
                weeks + seconds,
                encounter_id,
                None,
            )
        )
