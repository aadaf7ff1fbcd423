"""The shipped patients are valid FHIR R4, as many as their README says, and all of their records are understood."""

import json
import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from fhir.resources.R4B import get_fhir_model_class

from features.home import Home
from features.ingest import ingest
from features.privacy.rules import load_rules
from features.settings import StudySettings
from features.sources.folder import example_patients


@pytest.fixture(scope="module")
def ndjson() -> list[dict]:
    return [json.loads(line) for path in example_patients().glob("*.ndjson") for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def bundles() -> list[dict]:
    return [json.loads(path.read_text()) for path in example_patients().glob("bundle-*.json")]


def test_all_are_valid_r4(ndjson: list[dict], bundles: list[dict]) -> None:
    for resource in [*ndjson, *bundles]:
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)


def test_there_are_as_many_as_the_readme_says(ndjson: list[dict], bundles: list[dict]) -> None:
    readme = (example_patients() / "README.md").read_text()
    rows = re.findall(r"^\| ([A-Z]\w+) \| (\d+) \| (\d+) \| (\d+) \|$", readme, re.MULTILINE)
    in_lines = Counter(resource["resourceType"] for resource in ndjson)
    in_bundles = Counter(entry["resource"]["resourceType"] for bundle in bundles for entry in bundle["entry"])
    assert {kind: (int(lines), int(bundled)) for kind, lines, bundled, _ in rows} == {
        kind: (in_lines[kind], in_bundles[kind]) for kind in in_lines | in_bundles
    }
    assert all(int(lines) + int(bundled) == int(both) for _, lines, bundled, both in rows)
    assert len(bundles) == 4
    assert in_lines["Patient"] + in_bundles["Patient"] == 24


def test_every_type_that_is_read_occurs(ndjson: list[dict]) -> None:
    assert {resource["resourceType"] for resource in ndjson} == set(load_rules().elements)


def test_all_records_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("11" * 32)
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("SEQUELA_KEY_FILE", str(tmp_path / "key"))
    home = Home(tmp_path / "home")
    result = ingest(example_patients(), home, StudySettings())
    assert result.source_kind == "example"
    assert result.subjects == 24
    assert (result.records_in, result.records_used, result.records_ignored) == (822, 803, 19)
    assert result.records_quarantined == 0
    counts = pl.read_parquet(home.tables / "record_counts.parquet")
    reasons = counts.filter(pl.col("outcome") == "ignored").group_by("reason").agg(pl.col("records").sum())
    assert sorted(reasons["records"]) == [1, 1, 1, 1, 3, 5, 7]
