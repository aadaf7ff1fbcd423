"""How is a number of things said? For messages."""

from collections.abc import Sequence


def in_a_row(words: Sequence[str]) -> str:
    """As in "a", "a and b" and "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def counted(number: int, thing: str) -> str:
    """As in "1 file" and "2,000 files"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
