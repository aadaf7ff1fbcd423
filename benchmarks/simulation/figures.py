"""One published figure beside its simulated counterpart, and whether they agree."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

_RARE, _RARE_FACTOR = 1.0, 1.5  # a share below 1 % may differ by a factor of 1.5
PARTS, _STUDENT = 10, 2.26  # parts of the population; the t distribution's 97.5 % quantile for so many


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published figure, what was simulated, and how far they may lie apart (relative, or `absolute`).

    margin: half the 95 % interval of the simulated figure, by chance alone; nan where it was not worked out.
    """

    name: str
    published: float
    simulated: float
    tag: str = "v"
    source: str = ""
    within: float = 0.20
    absolute: float | None = None
    is_percent: bool = False
    margin: float = float("nan")

    @property
    def accepted(self) -> tuple[float, float]:
        """From where to where the simulated figure may lie."""
        if self.is_percent and self.published < _RARE:
            return self.published / _RARE_FACTOR, self.published * _RARE_FACTOR
        allowed = self.within * abs(self.published) if self.absolute is None else self.absolute
        return self.published - allowed, self.published + allowed

    @property
    def is_within(self) -> bool:
        """Whether it lies within the accepted deviation."""
        low, high = self.accepted
        return low - 1e-9 <= self.simulated <= high + 1e-9

    @property
    def is_by_chance(self) -> bool:
        """Whether it lies outside, but by no more than chance."""
        low, high = self.accepted
        return not self.is_within and low - self.margin <= self.simulated <= high + self.margin

    @property
    def verdict(self) -> str:
        """What the table says of it."""
        return "" if self.is_within else "chance" if self.is_by_chance else "**off**"


F = TypeVar("F", bound=Figure)
P = TypeVar("P")


def with_margins(measure: Callable[[P], Iterable[F]], whole: P, parts: Sequence[P]) -> list[F]:
    """The figures of the whole, each with the margin that its spread over PARTS equal parts gives.

    A part in which a figure is nan, as nobody is concerned, is left out. Raises ValueError at another number of parts.
    """
    if len(parts) != PARTS:
        raise ValueError(f"The margin is worked out from {PARTS} parts, not {len(parts)}: simulate more people.")
    of_parts = np.array([[one.simulated for one in measure(part)] for part in parts])
    margins = _STUDENT * np.nanstd(of_parts, axis=0, ddof=1) / np.sqrt(PARTS)
    return [replace(one, margin=float(margin)) for one, margin in zip(measure(whole), margins, strict=True)]
