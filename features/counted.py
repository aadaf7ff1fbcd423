"""How is a number of things said? For messages."""


def counted(number: int, thing: str) -> str:
    """As in "1 file" and "2,000 files"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
