"""Collecting what the records say, as de-identified rows: nothing leaves this file under its own name or date.

A task (some files, or a part of one) fills a `Rows`, a stretch of text after the other; `features.records.frames`
hands the result over as tables. What is found beside rows goes to the facts of the stretch in hand.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from features.privacy.date_shift import DAY, draw_shift
from features.privacy.keys import Key
from features.privacy.pseudonyms import Hasher, finish_pseudonym, prefix_hasher, pseudonym
from features.privacy.rules import Rules
from features.records.concepts import Concepts
from features.records.facts import Facts
from features.records.references import identifier_in, kind_and_id
from features.records.resources import Meta, Reference, known_types
from features.records.times import Moment, read_moment

CACHE_LIMIT = 200_000  # entries; keeps memory flat however many patients a file holds


class Unreadable(Exception):
    """A record that cannot be understood; the message says why, without its content."""


class Deferred(Exception):
    """A record that names its patient by an identifier: readable once all patients are known."""


class Subject(NamedTuple):
    """A patient's pseudonym and move in time (microseconds)."""

    subject_id: int
    weeks: int
    seconds: int


class Rows:
    """The records and events of one task. `aliases` maps patients' identifiers to pseudonyms, once known."""

    def __init__(self, key: Key, rules: Rules, aliases: dict[int, int] | None = None) -> None:
        self.key = key
        self.rules = rules
        self.aliases = aliases
        self.facts = Facts()  # of the stretch in hand
        self.stretches = {self.facts.stretch: self.facts}
        self.records: list[tuple] = []  # one a record; the columns of `frames._RECORD`
        self.events: list[tuple] = []  # one an event; the columns of `frames._EVENT`
        # The record in hand.
        self._record_id = 0
        self._subject = Subject(0, 0, 0)
        self._seconds = 0
        self._encounter_id: int | None = None
        self._site_id: int | None = None
        # Caches of what repeats.
        self.concepts = Concepts(key, rules)
        self.subjects: dict[str, Subject] = {}
        self.visits: dict[str, int] = {}
        self.moments: dict[str, Moment] = {}
        self.measures: dict[tuple[int, str | None, str | None], int] = {}  # (concept, unit as written, answer) -> row
        self.contexts: dict[tuple[str, int, bool, int | None], int] = {}  # (kind, stretch, is_retired, site_id) -> row
        self.parts: defaultdict[str, dict] = defaultdict(dict)  # text of a part -> its meaning; of plain_records
        self.hashers: dict[str, Hasher] = {}
        self.names: Mapping[str, str] = {}  # fullUrl -> Type/id, for the bundle in hand where the two differ

    # Reading a record -------------------------------------------------------------------------------------------

    def begin_stretch(self, facts: Facts) -> None:
        """Start a stretch of text: what is found from here on belongs to it."""
        self.facts = facts
        self.stretches[facts.stretch] = facts

    def pseudonym(self, kind: str, identifier: str) -> int:
        """A pseudonym of `features.privacy.pseudonyms`, for a kind that comes often."""
        return finish_pseudonym(self.hasher(kind), identifier)

    def hasher(self, kind: str) -> Hasher:
        """What pseudonyms of a kind begin with."""
        hasher = self.hashers.get(kind)
        if hasher is None:
            hasher = self.hashers[kind] = prefix_hasher(self.key.pseudonyms, kind)
        return hasher

    def begin(self, record_id: int, subject: Subject) -> None:
        """Start a record about `subject`; events added from here on belong to it."""
        self._record_id = record_id
        self._subject = subject
        self._seconds = subject.seconds
        self._encounter_id = None
        self._site_id = None

    def finish(self, kind: str, resource: str, position: int, meta: Meta | None, *, is_retired: bool) -> None:
        """Keep the record in hand with its events. A retired one withdraws all versions of itself."""
        time, number = (0, 0) if meta is None else self.version(meta, self._seconds)
        subject_id, weeks, seconds = self._subject
        context = self.context(kind, is_retired=is_retired, site_id=self._site_id)
        self.records.append(
            (
                self._record_id,
                subject_id,
                weeks + seconds,
                context,
                position,
                time,
                number,
                resource,
                self._encounter_id,
            )
        )

    def context(self, kind: str, *, is_retired: bool, site_id: int | None = None) -> int:
        """The number, in this task, of what many records of a stretch share."""
        return self.contexts.setdefault((kind, self.facts.stretch, is_retired, site_id), len(self.contexts))

    def version(self, meta: Meta, seconds: int) -> tuple[int, int]:
        """When a version was written, ready for the move of a subject with these `seconds`, and its number."""
        number = int(meta.versionId) if meta.versionId is not None and meta.versionId.isdecimal() else 0
        if meta.lastUpdated is None:
            return 0, number
        _, last, has_time = self.moment(meta.lastUpdated)
        return last if has_time else last - seconds, number

    def count(self) -> int:
        """How many events there are; `cut_back` returns to it when a record turns out to give none."""
        return len(self.events)

    def cut_back(self, events: int) -> None:
        """Forget the events added since there were `events`."""
        del self.events[events:]

    def at_visit(self, encounter_id: int | None, site_id: int | None = None) -> None:
        """Say to which visit, and for a visit to which site, the record in hand belongs."""
        self._encounter_id = encounter_id
        self._site_id = site_id

    def add(
        self,
        concept: int,
        time: int | None,
        known: int | None,
        number: float | None = None,
        unit: str | None = None,
        text: str | None = None,
    ) -> None:
        """Add an event to the record in hand; times as `earliest` and `latest` give them."""
        self.events.append((len(self.records), self.measure(concept, unit, text), time, known, number))

    def measure(self, concept: int, unit: str | None, answer: str | None = None) -> int:
        """The number, in this task, of a concept with a unit as written, or with a coded answer."""
        return self.measures.setdefault((concept, unit, answer), len(self.measures))

    def note(self, finding: str, count: int = 1) -> None:
        """Count an oddity for the data profile."""
        self.facts.findings[finding] += count

    def forget_references(self) -> None:
        """Forget what references mean, as one bundle may call another thing by the same name."""
        self.subjects.clear()
        self.visits.clear()
        for part in ("subject", "visit", "site"):
            self.parts[part].clear()

    # Names and dates, as they leave ------------------------------------------------------------------------------

    def subject_of(self, reference: Reference | None) -> Subject:
        """The patient a record is about. Raises Unreadable without one, Deferred for a conditional reference."""
        if reference is None or reference.reference is None:
            raise Unreadable("no subject")
        text = reference.reference
        found = self.subjects.get(text)
        if found is None or self.aliases is not None:  # once these are known, each stretch notes what it asks
            if len(self.subjects) > CACHE_LIMIT:
                self.subjects.clear()
            found = self.subjects[text] = self.subject(self._subject_id_of(text))
        return found

    def _subject_id_of(self, reference: str) -> int:
        if (identifier := identifier_in(reference)) is not None:
            if self.aliases is None:
                raise Deferred
            alias = pseudonym(self.key.pseudonyms, "Patient identifier", identifier)
            known = self.facts.asked[alias] = self.aliases.get(alias)
            if known is None:
                raise Unreadable("subject named by an identifier that no patient has")
            return known
        kind, identifier = self.place_of(reference)
        if kind not in (None, "Patient"):
            raise Unreadable("subject is not a patient")
        return pseudonym(self.key.pseudonyms, "Patient", identifier)

    def subject(self, subject_id: int) -> Subject:
        """A patient with the move that the key gives."""
        return Subject(subject_id, *draw_shift(self.key.date_shift, subject_id))

    def new_patient(self, identifier: str) -> Subject:
        """Enter a patient, for the vault."""
        subject = self.subject(pseudonym(self.key.pseudonyms, "Patient", identifier))
        self.facts.patients.append((subject.subject_id, identifier, subject.weeks, subject.seconds))
        return subject

    def place_of(self, reference: str) -> tuple[str | None, str]:
        """Resource type and id that a reference means, inside the bundle in hand or outside it."""
        return kind_and_id(self.names.get(reference, reference))

    def name_patient(self, identifier: str, subject_id: int) -> None:
        """Remember that `identifier` (`system|value`) is another name of a patient."""
        self.facts.patient_aliases.append(
            (pseudonym(self.key.pseudonyms, "Patient identifier", identifier), subject_id)
        )

    def name_site(self, identifier: str, site: str) -> None:
        """Remember that `identifier` is another name of an organisation."""
        alias = pseudonym(self.key.pseudonyms, "Organization identifier", identifier)
        self.facts.site_aliases.append((alias, pseudonym(self.key.pseudonyms, "Organization", site)))

    def medication_id(self, reference: str) -> int:
        """Pseudonym of a Medication resource."""
        return pseudonym(self.key.pseudonyms, "Medication", self.place_of(reference)[1])

    def name_medication(self, medication: str, concept: int | None, position: int, meta: Meta | None) -> None:
        """Remember the code of a Medication resource, with the version that says so."""
        if concept is not None:
            version = (0, 0) if meta is None else self.version(meta, 0)
            medicine = self.concepts.codes[concept]
            self.facts.medications.append((self.medication_id(medication), *version, position, medicine))

    def withdraw(self, reference: str) -> None:
        """Note that the source no longer has a resource, named as `Type/id`; what names none by its id is counted."""
        kind, identifier = kind_and_id(reference)
        if kind not in known_types() or "?" in reference:
            self.note("deletions_not_understood")
            return
        self.note("deletions")
        self.facts.deletions.append(pseudonym(self.key.pseudonyms, kind, identifier))

    def condition_of(self, reference: Reference | None) -> int | None:
        """record_id of the condition that a reference names; null without one."""
        if reference is None or reference.reference is None:
            return None
        return pseudonym(self.key.pseudonyms, "Condition", self.place_of(reference.reference)[1])

    def saw_visit(self, start: str | None) -> None:
        """Count a visit's start on its true day; a count by day over all patients names nobody."""
        if start is None:
            return
        day = self.moment(start).first // DAY
        self.facts.visit_days[day] = self.facts.visit_days.get(day, 0) + 1

    def visit_of(self, *references: Reference | None) -> int | None:
        """Pseudonym of the visit that the first reference present names; null without one."""
        for reference in references:
            if reference is not None and reference.reference is not None:
                return self.visit(reference.reference)
        return None

    def visit(self, text: str) -> int | None:
        """Pseudonym of a visit; null for references that only a server could resolve."""
        found = self.visits.get(text)
        if found is None:
            if identifier_in(text) is not None:
                self.note("visit_named_by_identifier")
                return None
            if len(self.visits) > CACHE_LIMIT:
                self.visits.clear()
            found = self.visits[text] = self.pseudonym("Encounter", self.place_of(text)[1])
        return found

    def site_of(self, reference: Reference | None) -> int | None:
        """Pseudonym of an organisation; one named by an identifier gets that identifier's, mapped later."""
        if reference is None or reference.reference is None:
            return None
        identifier = identifier_in(reference.reference)
        if identifier is not None:
            return pseudonym(self.key.pseudonyms, "Organization identifier", identifier)
        return pseudonym(self.key.pseudonyms, "Organization", self.place_of(reference.reference)[1])

    def moment(self, text: str) -> Moment:
        """Read a FHIR date. Raises Unreadable when it is none."""
        found = self.moments.get(text)
        if found is None:
            found = read_moment(text)
            if found is None:
                raise Unreadable("a date that is not a FHIR date")
            if len(self.moments) > CACHE_LIMIT:
                self.moments.clear()
            self.moments[text] = found
        return found

    def earliest(self, *texts: str | None) -> int | None:
        """First moment that the first date present may mean, ready for the current subject's move."""
        for text in texts:
            if text is not None:
                first, _, has_time = self.moments.get(text) or self.moment(text)
                # What has no time of day moves by whole weeks alone (features/privacy/date_shift.py).
                return first if has_time else first - self._seconds
        return None

    def latest(self, *texts: str | None) -> int | None:
        """Last moment that the first date present may mean: nothing is known before it is certain."""
        for text in texts:
            if text is not None:
                _, last, has_time = self.moments.get(text) or self.moment(text)
                return last if has_time else last - self._seconds
        return None
