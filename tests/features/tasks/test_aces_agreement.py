"""ACES draws our cohorts again: other people's code, the same rows, the same answers.

Runs where `make meds-tools` has made .venv-meds; SEQUELA_MEDS_TOOLS names another place.
"""

import os
import random
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from benchmarks.aces import TOOLS, Agreement, agreements
from features.home import Home
from features.ingest import events_of, ingest
from features.observation import observation_periods
from features.privacy.keys import load_key
from features.privacy.vault import read_shifts
from features.settings import StudySettings
from features.tasks.aces import without_answers, without_rows
from features.tasks.labels import build_labels
from features.tasks.schema import load_tasks
from tests.features.small_events import WIDE_END, WIDE_START, events_table, period, person

SYNTHEA = Path(__file__).parents[4] / "shared" / "data" / "synthea-r4" / "ndjson"
PLACE = Path(os.environ.get("SEQUELA_MEDS_TOOLS") or TOOLS)
DRAWN = [task for task in load_tasks() if without_rows(task) is None]
SETTINGS = StudySettings()
YEAR = timedelta(days=365.25)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PLACE / "bin" / "aces-cli").exists(), reason="ACES is not installed: make meds-tools"),
]

FACTS = (
    "SNOMED//44054006 ICD10CM//E11.9 RXNORM//860975 RXNORM//106892//stated SNOMED//26929004 ICD10CM//F01.50 "
    "SNOMED//386805003 SNOMED//254837009 SNOMED//22298006 ICD10CM//I63.9 SNOMED//399957001 SNOMED//233604007 "
    "ICD10CM//E11.319 CPT//92014 SNOMED//46177005 ICD10CM//I10 SNOMED//72892002 SNOMED//44465007"
).split()


def life(subject_id: int, draw: random.Random) -> tuple[list[dict[str, object]], pl.DataFrame]:
    """A record whose times lie on whole days, so that moments meet the edges of windows, and late knowledge."""
    now = WIDE_START + timedelta(days=draw.randrange(900))
    rows: list[dict[str, object]] = []
    moments, encounter_id, end = [], subject_id * 1_000, WIDE_END
    while now < WIDE_END - timedelta(days=40):
        encounter_id += 1
        visit_class = draw.choice(["AMB", "AMB", "AMB", "EMER", "IMP"])
        length = timedelta(days=draw.choice([1, 2, 6, 7, 8]) if visit_class == "IMP" else 0)
        of_visit: dict[str, object] = {"subject_id": subject_id, "encounter_id": encounter_id}
        rows += [
            of_visit | {"time": now, "known_time": now, "code": f"ENCOUNTER//{visit_class}//start"},
            of_visit | {"time": now + length, "known_time": now + length, "code": f"ENCOUNTER//{visit_class}//end"},
        ]
        moments.append(now + length)
        for _ in range(draw.choice([0, 0, 1, 2])):
            facts = [{"code": draw.choice(FACTS)}, {"code": "DISCHARGE//NUBC//20"} if draw.random() < 0.02 else {}]
            values = [
                {"code": "LOINC//4548-4", "numeric_value": draw.choice([6.4, 6.5, 7.0]), "unit": "%"},
                {"code": "LOINC//2160-0", "numeric_value": draw.choice([0.8, 1.6, 2.4, 5.0]), "unit": "mg/dL"},
            ]
            fact = draw.choice([*facts, *values])
            when = now - timedelta(days=draw.choice([0, 0, 0, 30]))
            late = timedelta(days=draw.choice([0, 0, 0, 1, 90, 365]))
            if fact:
                rows.append(of_visit | fact | {"time": when, "known_time": max(when + late, when)})
        now += length
        if draw.random() < 0.03:
            end = now + timedelta(days=draw.choice([0, 0, 5]))
            known = {"subject_id": subject_id, "time": end, "known_time": end}
            rows.append(known | {"code": draw.choice(["MEDS_DEATH", "MOVED_AWAY"])})
            break
        now += timedelta(days=draw.choice([1, 5, 30, 90, 180, 365]))
    # On their birthday of 18, 30, 55 or 80 years at one of the moments, or some day.
    born = draw.choice(moments) - draw.choice([18, 30, 55, 80]) * YEAR
    rows = [row for row in rows if row["time"] <= end]
    return person(subject_id, born, draw.choice(["female", "male"])) + rows, period(subject_id, end=end)


def check(compared: list[Agreement]) -> None:
    assert [one for one in compared if not one.is_exact] == []
    expected = {(task.name, days) for task in DRAWN for days in task.horizons_days}
    assert {(one.task, one.horizon_days) for one in compared} == expected


def test_people_at_the_edges_of_every_window():
    draw = random.Random(4)
    lives = [life(subject_id, draw) for subject_id in range(1, 401)]
    events = events_table(*(row for rows, _ in lives for row in rows))
    periods = pl.concat([of for _, of in lives])
    splits = periods.select("subject_id", split=pl.lit("train"))
    labels = build_labels(events, periods, splits, DRAWN, SETTINGS)
    compared = agreements([events], labels, periods, DRAWN, SETTINGS, PLACE)
    check(compared)
    answerable = {task.name for task in DRAWN if without_answers(task) is None}
    assert all(one.ours > 0 for one in compared)
    assert all(0 < one.events < one.answered for one in compared if one.task in answerable)


@pytest.mark.skipif(not SYNTHEA.exists(), reason="the Synthea exports are not beside this repository")
def test_synthea_records(tmp_path, monkeypatch):
    key = tmp_path / "key"
    key.write_text("5e" * 32)
    key.chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(key))
    home = Home(tmp_path / "home")
    ingest(SYNTHEA, home, SETTINGS)
    events, splits = events_of(home), pl.read_parquet(home.tables / "subject_splits.parquet")
    periods, _ = observation_periods(events, read_shifts(home.vault, load_key()), SETTINGS, is_windowed=True)
    labels = build_labels(events, periods, splits, DRAWN, SETTINGS)
    compared = agreements([events], labels, periods, DRAWN, SETTINGS, PLACE)
    check(compared)
    assert sum(one.events for one in compared) > 0
