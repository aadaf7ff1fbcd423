"""Does an export of changes say once more what was landed? So does that of a server that does not know `_since`."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.sources.landed import LandedFile

_NEARLY_ALL = 0.95


@dataclass(frozen=True)
class Repeats:
    """Of each type: how many lines had been landed, and how many of them came again, byte for byte."""

    landed: dict[str, int]
    again: dict[str, int]

    @property
    def are_everything(self) -> bool:
        """Whether what came is everything that the server has: of every type, 95 % or more came again unchanged.

        A server that knows `_since` sends what has changed. The standard lets it send, besides, all records of types
        whose changes it does not date, and of patients who joined the group; so no single type is evidence, nor are
        many lines. Some send the whole record of whoever was seen, which may be most patients. Only where nearly all of
        each type came again as it was did the server not look at `_since`.
        """
        shares = (self.again[kind] / count for kind, count in self.landed.items() if count)
        return min(shares, default=0) >= _NEARLY_ALL


def find_repeats(landed: Iterable[tuple[LandedFile, Path]], new: Iterable[tuple[LandedFile, Path]]) -> Repeats:
    """Compare the lines of files that were landed with those of new ones, type by type.

    Measured with a million lines of 1 kB on each side: 5 s, 75 MB of memory. Types are compared one after another.
    """
    before, after = _by_type(landed), _by_type(new)
    counts, again = {}, {}
    for kind, paths in before.items():
        lines = _digests(paths)
        counts[kind] = lines.size
        again[kind] = np.intersect1d(lines, _digests(after[kind]), assume_unique=True).size
    return Repeats(counts, again)


def _by_type(files: Iterable[tuple[LandedFile, Path]]) -> defaultdict[str, list[Path]]:
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for file, path in files:
        found[file.resource_type].append(path)
    return found


def _digests(paths: list[Path]) -> NDArray[np.int64]:
    """One number for each different line, in order; for this process only."""

    def each() -> Iterable[int]:
        for path in paths:
            with path.open("rb") as lines:
                yield from (hash(line.strip()) for line in lines if line.strip())

    return np.unique(np.fromiter(each(), np.int64))
