"""The shipped study file writes out the defaults, all of them."""

import tomllib
from pathlib import Path

import pytest

from features.errors import SequelaError
from features.settings import StudySettings, load_settings
from orchestration.resources import Study

STUDY_FILE = Path(__file__).parent.parent / "study.toml"


def test_study_file_is_the_defaults():
    assert load_settings(STUDY_FILE) == StudySettings()


def test_every_choice_is_written_out():
    written = tomllib.loads(STUDY_FILE.read_text())
    defaults = StudySettings().model_dump(exclude_none=True)
    assert set(written) == set(defaults)
    for part in ("records", "observation", "splits"):
        assert set(written[part]) == set(defaults[part])


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_no_random_generator_takes_is_refused(tmp_path, seed):
    """Typed, written in the study file, or given to Dagster."""
    (tmp_path / "study.toml").write_text(f"seed = {seed}")
    for given in ((tmp_path / "study.toml", None), (STUDY_FILE, seed), (None, seed)):
        with pytest.raises(SequelaError, match="seed: Input should be"):
            load_settings(*given)
    with pytest.raises(SequelaError, match="seed: Input should be"):
        _ = Study(home_folder=str(tmp_path), seed=seed).settings
