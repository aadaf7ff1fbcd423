"""The shipped study file writes out the defaults, all of them."""

import tomllib
from pathlib import Path

from features.settings import StudySettings, load_settings

STUDY_FILE = Path(__file__).parent.parent / "study.toml"


def test_study_file_is_the_defaults():
    assert load_settings(STUDY_FILE) == StudySettings()


def test_every_choice_is_written_out():
    written = tomllib.loads(STUDY_FILE.read_text())
    defaults = StudySettings().model_dump(exclude_none=True)
    assert set(written) == set(defaults)
    for part in ("records", "observation", "splits"):
        assert set(written[part]) == set(defaults[part])
