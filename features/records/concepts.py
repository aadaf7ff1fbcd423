"""Codes as they leave: spelt SYSTEM//code where the system is on the allow-list, else as pseudonyms."""

from features.privacy.keys import Key
from features.privacy.pseudonyms import label
from features.privacy.rules import Rules
from features.records.resources import CodeableConcept, Coding


class Concepts:
    """The codes met in one task, each with a number of its own, by which rows hold it.

    codes, wordings: how each is spelt and worded, by its number; the wording is null for local and for our own codes.
    """

    def __init__(self, key: Key, rules: Rules) -> None:
        self._key = key
        self._rules = rules
        self._numbers: dict[tuple[str, str | None, str | None, str | None], int] = {}
        self.codes: list[str] = []
        self.wordings: list[str | None] = []

    def of(self, concept: CodeableConcept | None, prefix: str = "") -> int | None:
        """The code that a concept stands for: its first coding in a known terminology, else its first coding."""
        if concept is None:
            return None
        if len(concept.coding) == 1 and concept.coding[0].code is not None:
            return self.coding(concept.coding[0], prefix)
        first: Coding | None = None
        for coding in concept.coding:
            if coding.code is not None:
                if coding.system in self._rules.terminologies:
                    return self.coding(coding, prefix)
                first = first or coding
        return None if first is None else self.coding(first, prefix)

    def coding(self, coding: Coding, prefix: str = "") -> int:
        """The number of a code with its wording."""
        key = (prefix, coding.system, coding.code, coding.display)
        found = self._numbers.get(key)
        return self._new(key, *self._spelt(coding, prefix)) if found is None else found

    def plain(self, code: str) -> int:
        """The number of one of our own codes, such as MEDS_BIRTH."""
        key = (code, None, None, None)
        found = self._numbers.get(key)
        return self._new(key, code, None) if found is None else found

    def _new(self, key: tuple[str, str | None, str | None, str | None], code: str, wording: str | None) -> int:
        self._numbers[key] = len(self.codes)
        self.codes.append(code)
        self.wordings.append(wording)
        return self._numbers[key]

    def _spelt(self, coding: Coding, prefix: str) -> tuple[str, str | None]:
        terminology = self._rules.terminologies.get(coding.system or "")
        code = coding.code or ""
        if terminology is not None and terminology.form.fullmatch(code):
            return f"{prefix}{terminology.name}//{code}", coding.display
        # A local code may be anything, a name too; it leaves as a pseudonym until its system is on the list.
        system = label(self._key.pseudonyms, "LOCAL", coding.system or "")
        return f"{prefix}{system}//{label(self._key.pseudonyms, 'code', code)}", None
