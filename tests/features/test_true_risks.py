"""The true risks under a study's pseudonyms: they fall on the very moments at which the study's tasks are asked."""

import polars as pl
import pytest

from features.home import Home
from features.ingest import events_of, ingest
from features.privacy.keys import load_key
from features.privacy.vault import read_shifts
from features.settings import StudySettings
from features.sources.landed import write_manifest
from features.sources.simulation import simulate
from features.sources.simulation.stay_truth import HORIZON_DAYS
from features.true_risks import AS_USUAL, true_risks

PEOPLE, SEED = 40, 5


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The home of a simulated study, and its true risks."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "key").write_text("ab" * 32)
    (folder / "key").chmod(0o600)
    (folder / "records").mkdir()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEQUELA_KEY_FILE", str(folder / "key"))
        write_manifest(folder / "records", simulate(folder / "records", PEOPLE, SEED, processes=1))
        home = Home(folder / "home")
        ingest(folder / "records", home, StudySettings(), processes=1)
        key = load_key()
        risks = true_risks(PEOPLE, SEED, key, read_shifts(home.vault, key), each=1, copies=3, treatments=("statin",))
    return home, risks


@pytest.mark.parametrize(
    ("tasks", "code", "hours"),
    [
        (None, "ENCOUNTER//AMB//end", 0),
        (["readmission"], "ENCOUNTER//IMP//end", 0),
        (["inpatient_mortality", "long_stay"], "ENCOUNTER//IMP//start", 24),
    ],
)
def test_every_true_risk_stands_at_its_moment_of_a_visit_or_stay_on_record(study, tasks, code, hours):
    home, risks = study
    of_stays = pl.col("task").is_in(list(HORIZON_DAYS))
    of = risks.filter(pl.col("task").is_in(tasks) if tasks else ~of_stays)
    moments = of.select("subject_id", "prediction_time").unique()
    on_record = events_of(home).filter(pl.col("code") == code).collect()
    on_record = on_record.select("subject_id", prediction_time=pl.col("time") + pl.duration(hours=hours))
    assert moments.height > PEOPLE // 4
    assert moments.join(on_record, on=["subject_id", "prediction_time"], how="anti").is_empty()
    if tasks:
        assert of.select("task", "horizon_days").unique().height == len(tasks)
        assert set(of["treatment"]) == {AS_USUAL}


def test_risks_are_shares_of_futures_and_treatments_come_in_pairs(study):
    _, risks = study
    assert set(risks["treatment"]) == {AS_USUAL, "with statin", "without statin"}
    of_visits = risks.filter(~pl.col("task").is_in(list(HORIZON_DAYS)))
    assert set((of_visits["risk"] * 3).round(9)) <= {0, 1, 2, 3}
    with_it, without = (
        risks.filter(pl.col("treatment") == f"{word} statin").drop("treatment", "risk", "standard_error", "drawn")
        for word in ("with", "without")
    )
    assert with_it.equals(without)
