"""A key, a home, and records to be changed."""

import shutil
from pathlib import Path

import pytest

from features.home import Home
from tests.synthetic_records import write_records


@pytest.fixture(autouse=True)
def key_file(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(path))


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_records(folder, patients=25, seed=1)
    return folder


@pytest.fixture
def source(records, tmp_path) -> Path:
    """A copy of 25 patients' records, to be changed."""
    shutil.copytree(records, tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def home(tmp_path) -> Home:
    return Home(tmp_path / "home")
