"""Records that already lie in a folder: a hospital's export, Synthea's output, or the project's own examples."""

from importlib.resources import files
from pathlib import Path


def example_patients() -> Path:
    """The small set of hand-written patients, for a first look without any data of one's own."""
    return Path(str(files("features.sources") / "example_patients"))
