"""The tests' own population: the same for the same seed, each person's record independent of the others."""

import json
from datetime import datetime
from pathlib import Path

from fhir.resources.R4B import get_fhir_model_class

from tests.fhir_resources import SYNTHEA
from tests.synthetic_records import DATA_END, person, write_records


def read(folder: Path, kind: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{kind}.ndjson").read_text().splitlines()]


def test_a_larger_population_holds_the_smaller_one(tmp_path: Path) -> None:
    write_records(tmp_path / "few", patients=3, seed=1)
    write_records(tmp_path / "more", patients=6, seed=1)
    write_records(tmp_path / "other", patients=3, seed=2)
    few, more, other = (read(tmp_path / name, "Encounter") for name in ("few", "more", "other"))
    assert more[: len(few)] == few
    assert other[0]["id"] != few[0]["id"]


def test_records_are_valid_r4_and_end_with_the_person_or_the_data() -> None:
    for number in range(12):
        record = person(number, seed=4)
        for resource in record:
            get_fhir_model_class(str(resource["resourceType"])).model_validate(resource)
        patient, *others = record
        death = str(patient.get("deceasedDateTime", "9999"))
        for resource in others:
            if resource["resourceType"] == "Encounter":
                end = str(resource["period"]["end"])  # type: ignore[index]
                assert end <= death
                assert datetime.fromisoformat(end).date() <= DATA_END


def test_only_a_synthea_population_carries_its_system(tmp_path: Path) -> None:
    write_records(tmp_path / "plain", patients=1, seed=1)
    write_records(tmp_path / "synthea", patients=1, seed=1, as_synthea=True)
    systems = [read(tmp_path / name, "Patient")[0]["identifier"][0]["system"] for name in ("plain", "synthea")]
    assert systems[0] != SYNTHEA
    assert systems[1] == SYNTHEA
