import json
from pathlib import Path

import pytest

import models.saved_model
from features.errors import ModelError
from models.saved_model import SavedModel, load_model, save_model
from tests.models.planted_population import DEFINITIONS, SETTINGS

BLANK = SavedModel(SETTINGS, DEFINITIONS, {}, {}, None, None, "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(BLANK, tmp_path / "models")
    return tmp_path / "models"


def test_a_missing_model_says_what_to_do(tmp_path):
    with pytest.raises(ModelError, match="Run `sequela run` to train one"):
        load_model(tmp_path / "models")


def test_a_changed_file_is_refused(folder):
    text = (folder / "settings.json").read_text()
    (folder / "settings.json").write_text(text.replace("730", "731"))
    with pytest.raises(ModelError, match=r"changed after it was written: settings\.json"):
        load_model(folder)


def test_an_added_or_removed_file_is_refused(folder):
    (folder / "extra.pkl").write_bytes(b"anything")
    with pytest.raises(ModelError, match=r"extra\.pkl"):
        load_model(folder)
    (folder / "extra.pkl").unlink()
    (folder / "ladder.json").unlink()
    with pytest.raises(ModelError, match=r"ladder\.json"):
        load_model(folder)


def test_a_changed_manifest_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["version"] = "0" * 16
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"manifest\.json"):
        load_model(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", "not json"])
def test_a_broken_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ModelError):
        load_model(folder)


def test_a_model_of_another_format_is_refused_and_says_what_to_do(tmp_path, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(models.saved_model, "FORMAT", models.saved_model.FORMAT - 1)
        save_model(BLANK, tmp_path / "models")
    with pytest.raises(ModelError, match=r"another version of this program\. Run `sequela run`"):
        load_model(tmp_path / "models")


def test_saving_again_replaces_the_model_and_leaves_nothing_beside(folder):
    version = save_model(BLANK, folder)
    assert load_model(folder).version == version
    assert [path.name for path in folder.parent.iterdir()] == ["models"]


def test_a_run_killed_between_the_renames_leaves_the_last_good_model(folder):
    version = load_model(folder).version
    folder.rename(folder.with_name("models.previous"))
    assert load_model(folder).version == version


def test_nothing_on_disk_can_be_executed(folder):
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        ".json",
        ".parquet",
        ".txt",
        ".safetensors",
    }
