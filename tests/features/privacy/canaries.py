"""Which words, numbers and dates were planted, and do any of them turn up in what was written?"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import numpy as np

_MARK = "Qzvxwkjy"  # every planted word begins so: one search finds them all, whole or cut short


@dataclass
class Planted:
    """Everything planted, each with the place it was planted in. Lives while the records are being written."""

    words: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)
    days: dict[date, str] = field(default_factory=dict)
    moments: dict[datetime, str] = field(default_factory=dict)

    def word(self, place: str) -> str:
        """A word that occurs nowhere else; short and plain, so that it also passes for a code."""
        word = f"{_MARK}{len(self.words):03}"
        self.words[word] = place
        return word

    def number(self, place: str, text: str) -> str:
        """Remember `text`, a number or a number-like identifier of at least seven characters."""
        assert len(text) >= 7
        assert text not in self.numbers
        self.numbers[text] = place
        return text

    def day(self, place: str, text: str) -> str:
        """Remember a true date, such as 1987-03-14."""
        self.days[date.fromisoformat(text)] = place
        return text

    def moment(self, place: str, text: str) -> str:
        """Remember a true date and time of day with offset, and its day."""
        true = datetime.fromisoformat(text)
        self.moments[true.astimezone(UTC).replace(tzinfo=None)] = place
        self.days[true.date()] = place
        self.days[true.astimezone(UTC).date()] = place
        return text


def leaks(planted: Planted, contents: Iterable[tuple[str, bytes | list[object]]]) -> list[str]:
    """Every canary found in `contents`, (where, raw bytes or decoded values), as `place in where`."""
    found = {
        f"{place} in {where}"
        for where, content in contents
        for place in (
            leaks_in_text(planted, content) if isinstance(content, bytes) else leaks_in_values(planted, content)
        )
    }
    return sorted(found)


def leaks_in_text(planted: Planted, text: bytes) -> Iterator[str]:
    """Places whose canary stands in `text`: plain, in any case, in base64, dates in the usual orders."""
    lower = text.lower()
    mark = _MARK.lower().encode()
    for found in re.finditer(re.escape(mark) + rb"\d*", lower):
        yield planted.words.get(_MARK + found.group()[len(mark) :].decode(), "a planted word, cut short")
    for form in _base64_forms(_MARK.encode()):
        if form in text:
            yield "a planted word, in base64"
    for number, place in planted.numbers.items():
        if any(form in lower for form in {number.lower().encode(), re.sub(r"[-. ]", "", number).lower().encode()}):
            yield place
    for day, place in planted.days.items():
        if any(_stands_alone(form, text) for form in _forms_of_day(day)):
            yield place
    for moment, place in planted.moments.items():
        seconds = int(moment.replace(tzinfo=UTC).timestamp())
        if any(_stands_alone(str(seconds * scale).encode(), text) for scale in (1, 1_000, 1_000_000)):
            yield f"{place}, as seconds since 1970"


def leaks_in_values(planted: Planted, values: Iterable[object]) -> Iterator[str]:
    """Places whose canary stands in decoded values: text as above, numbers nearly equal, days and moments."""
    texts: list[bytes] = []
    numbers: list[float] = []
    days: set[date] = set()
    for value in _flat(values):
        match value:
            case bytes():
                texts.append(value)
            case str():
                texts.append(value.encode())
            case datetime():
                days.add((value.astimezone(UTC) if value.tzinfo else value).date())
            case date():
                days.add(value)
            case int():
                texts.append(str(value).encode())
                numbers.append(value)
            case float():
                numbers.append(value)
    yield from leaks_in_text(planted, b"\n".join(texts))
    yield from (planted.days[day] for day in sorted(days & planted.days.keys()))
    written = np.array(numbers, dtype=float)
    for text, place in planted.numbers.items():
        if _is_number(text) and (abs(written - float(text)) <= 2e-6 * abs(float(text))).any():  # float32: 7 digits
            yield place


def _flat(values: Iterable[object]) -> Iterator[object]:
    for value in values:
        if isinstance(value, dict):
            yield from _flat(value.values())
        elif isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _forms_of_day(day: date) -> list[bytes]:
    forms = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
    return [day.strftime(form).encode() for form in (*forms, "%d %B %Y", "%B %d, %Y", "%d %b %Y")]


def _stands_alone(digits: bytes, text: bytes) -> bool:
    start = text.find(digits)
    while start >= 0:
        before, after = text[max(start - 1, 0) : start], text[start + len(digits) :][:1]
        if not before.isdigit() and not after.isdigit():
            return True
        start = text.find(digits, start + 1)
    return False


def _base64_forms(word: bytes) -> list[bytes]:
    """How `word` looks inside base64, for each of the three places it can start at."""
    forms = []
    for offset, first in ((0, 0), (1, 2), (2, 3)):
        encoded = b64encode(b"x" * offset + word)
        unsure = {0: 0, 1: 3, 2: 2}[(offset + len(word)) % 3]
        forms.append(encoded[first : len(encoded) - unsure])
    return forms
