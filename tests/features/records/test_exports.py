"""Which export a file is of, and exports that brought nothing."""

from pathlib import Path

from features.records.exports import exports_of
from features.records.reading import find_files
from features.sources.landed import MANIFEST
from tests.features.updates.small_exports import an_export, patient


def test_an_export_without_a_record_counts_and_says_until_when_it_knows(tmp_path: Path):
    an_export(tmp_path / "0001-full", patient("p"), until="2021-02-01T00:00:00Z")
    an_export(tmp_path / "0002-since", until="2021-03-01T00:00:00Z")
    an_export(tmp_path / "0003-since", patient("q"))
    an_export(tmp_path / ".exporting", until="2021-04-01T00:00:00Z")  # not landed yet
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MANIFEST).write_text('{"of": "another tool"}')
    files, _ = find_files(tmp_path)
    of_files, exports = exports_of(tmp_path, files)
    assert of_files == [0, 2]
    assert exports["folder"].to_list() == ["0001-full", "0002-since", "0003-since"]
    days = [None if moment is None else moment // 86_400_000_000 for moment in exports["covers_until"]]
    assert days == [18_659, 18_687, None]  # of 2021-02-01 and 2021-03-01 since 1970


def test_beside_a_single_file_no_export_is_looked_for(tmp_path: Path):
    an_export(tmp_path / "0001-full", until="2021-02-01T00:00:00Z")
    (tmp_path / "Patient.ndjson").write_text('{"resourceType": "Patient", "id": "p"}\n')
    files, _ = find_files(tmp_path / "Patient.ndjson")
    of_files, exports = exports_of(tmp_path / "Patient.ndjson", files)
    assert of_files == [0]
    assert exports["folder"].to_list() == ["."]
