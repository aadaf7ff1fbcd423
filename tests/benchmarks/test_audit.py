"""On a real Synthea export the audit finds the ten-year window, and falls silent once everybody is observed alike."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks.audit import audits_of
from features.home import Home
from features.ingest import ingest
from features.settings import StudySettings

EXPORT = Path(__file__).parents[3] / "shared" / "data" / "synthea-r4" / "ndjson"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not EXPORT.exists(), reason="the Synthea exports are not beside this repository"),
]


@pytest.fixture(scope="module")
def audits(tmp_path_factory) -> pl.DataFrame:
    folder = tmp_path_factory.mktemp("audit")
    (folder / "key").write_text("5e" * 32)
    (folder / "key").chmod(0o600)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEQUELA_KEY_FILE", str(folder / "key"))
        home = Home(folder / "home")
        read = ingest(EXPORT, home, StudySettings())
        return audits_of(home, StudySettings(), is_windowed=read.source_kind == "synthea")


def row(audits: pl.DataFrame, guards: str, choice: str, task: str = "mortality") -> dict[str, float]:
    return audits.filter(guards=guards, choice=choice, task=task).row(0, named=True)


def test_without_guards_the_length_of_the_record_tells_who_dies(audits):
    length = row(audits, "off", "length")
    assert length["verdict"] == "gives away"
    assert length["auroc"] > 0.95
    assert length["age_sex_auroc"] < 0.8
    for choice in ("the whole shape", "calendar"):
        assert row(audits, "off", choice)["verdict"] == "gives away"
    assert row(audits, "off", "the whole shape")["most_used"] == "years_observed"


def test_with_guards_the_shape_tells_nothing_of_any_outcome(audits):
    guarded = audits.filter(guards="on", choice="the whole shape")
    assert "mortality" in guarded["task"]
    assert set(guarded["verdict"]) == {"silent"}


def test_how_often_people_come_is_care_and_would_be_taken_for_shape(audits):
    assert row(audits, "on", "visits a year in the look-back", "acute_care")["verdict"] == "gives away"
