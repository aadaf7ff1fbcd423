"""Files told apart by what is in them: shape, compression, damage."""

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zstandard

from features.errors import SourceError
from features.records.blocks import Block
from features.records.reading import SourceFile, Stretch, blocks_of, find_files, read_stretches

PATIENTS = [{"resourceType": "Patient", "id": f"p{number}", "gender": "female"} for number in range(3)]
LINES = b"".join(json.dumps(patient).encode() + b"\n" for patient in PATIENTS)
BUNDLE = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient} for patient in PATIENTS]}

SHAPES = {
    "lines": LINES,
    "lines without a last newline": LINES.rstrip(b"\n"),
    "lines with empty ones": LINES.replace(b"\n", b"\n\n"),
    "lines after a byte order mark": b"\xef\xbb\xbf" + LINES,
    "bundle on one line": json.dumps(BUNDLE).encode(),
    "bundle on many lines": json.dumps(BUNDLE, indent=2).encode(),
    "bundles, one a line": b"".join(
        json.dumps({"resourceType": "Bundle", "entry": [{"resource": patient}]}).encode() + b"\n"
        for patient in PATIENTS
    ),
}
PACKING = {
    "plain": lambda content: content,
    "gzip": gzip.compress,
    "gzip in two members": lambda content: gzip.compress(content[:100]) + gzip.compress(content[100:]),
    "zstd": zstandard.ZstdCompressor().compress,
}


def read_all(folder: Path) -> tuple[list[str | None], list[tuple[int, str | None, str]]]:
    """The ids of the records that can be read in full, and what was refused."""
    files, _ = find_files(folder)
    ids: list[str | None] = []
    refused: list[tuple[int, str | None, str]] = []
    for start, block in blocks_in(files):
        found = list(block.refused)
        for number in range(len(block.records)):
            try:
                ids.append(getattr(block.whole(number), "id", None))
            except msgspec.MsgspecError as problem:
                found.append(block.refusal(number, problem))
        refused += [(start + one.offset, one.resource_type, one.reason) for one in found]
    return ids, refused


def blocks_in(files: list[SourceFile]) -> Iterator[tuple[int, Block]]:
    """Each block, with the byte at which the stretch starts from which its places count."""
    for file in files:
        for stretch in read_stretches(file):
            for block in blocks_of(file, stretch):
                yield stretch.offset, block


@pytest.mark.parametrize("packing", PACKING)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_in_every_packing_gives_the_same(tmp_path, shape, packing):
    # The name says nothing: content decides.
    (tmp_path / "records.dat").write_bytes(PACKING[packing](SHAPES[shape]))
    assert read_all(tmp_path) == (["p0", "p1", "p2"], [])


def test_a_truncated_gzip_gives_what_came_before(tmp_path):
    many = b"".join(b'{"resourceType":"Patient","id":"p%06d"}\n' % number for number in range(200_000))
    packed = gzip.compress(many)
    (tmp_path / "Patient.ndjson.gz").write_bytes(packed[: len(packed) // 2])
    ids, refused = read_all(tmp_path)
    assert 10_000 < len(ids) < 200_000
    assert ids == [f"p{number:06d}" for number in range(len(ids))]
    line = len('{"resourceType":"Patient","id":"p000000"}\n')
    assert refused == [(len(ids) * line, None, "compressed file ends too early")]


def test_one_bad_line_costs_that_line_alone_and_names_its_byte(tmp_path):
    lines = LINES.split(b"\n")
    damaged = b"\n".join([lines[0], b'{"resourceType":"Patient","id":"p1', *lines[2:]])
    (tmp_path / "a.ndjson").write_bytes(damaged)
    ids, refused = read_all(tmp_path)
    assert ids == ["p0", "p2"]
    assert refused == [(len(lines[0]) + 1, "Patient", "malformed JSON: ends too early")]


def test_one_bad_entry_costs_that_entry_alone_and_names_its_byte(tmp_path):
    bundle = json.dumps(BUNDLE).replace('"id": "p1"', '"id": 17')
    (tmp_path / "a.json").write_text(bundle)
    ids, refused = read_all(tmp_path)
    assert ids == ["p0", "p2"]
    [(offset, kind, reason)] = refused
    assert bundle[offset:].startswith('{"resourceType": "Patient", "id": 17')
    assert kind == "Patient"
    assert "Expected `str | null` at $.id" in reason


def test_a_reason_never_repeats_the_record(tmp_path):
    line = b'{"resourceType":"Observation","id":"x","status":{"Quillfeather":"Quillfeather"},"Quillfeather":1}\n'
    unknown = b'{"resourceType":"Quillfeather","id":"x"}\n'
    (tmp_path / "a.ndjson").write_bytes(line + unknown + LINES)
    _, refused = read_all(tmp_path)
    assert len(refused) == 2
    assert "Quillfeather" not in str(refused)


def test_parts_of_a_file_hold_every_record_once(tmp_path, monkeypatch):
    monkeypatch.setattr("features.records.reading.LEAST_BYTES", 1)
    monkeypatch.setattr("features.records.reading._MOST_BYTES", 2)
    monkeypatch.setattr("features.records.reading._CHUNK_BYTES", 50)
    (tmp_path / "a.ndjson").write_bytes(LINES)
    [file], _ = find_files(tmp_path)
    parts = [
        [
            record.id
            for stretch in read_stretches(file, part, 2)
            for block in blocks_of(file, stretch)
            for record in block.records
        ]
        for part in range(2)
    ]
    assert sorted(parts[0] + parts[1]) == ["p0", "p1", "p2"]
    assert all(parts)
    assert [stretch.nth for stretch in read_stretches(file, wanted={1})] == [1]


@pytest.mark.parametrize("chunk_bytes", [50, 1_000, 1 << 15])
def test_a_line_more_or_less_changes_only_the_stretches_around_it(tmp_path, monkeypatch, chunk_bytes):
    """Where a stretch ends is told by its lines alone, so those far from the change stay the same."""
    monkeypatch.setattr("features.records.reading.LEAST_BYTES", 2_000)
    monkeypatch.setattr("features.records.reading._LINES_TO_AN_END", 4)
    monkeypatch.setattr("features.records.reading._CHUNK_BYTES", chunk_bytes)
    draw = random.Random(1)
    lines = [b'{"resourceType":"Patient","id":"%d"}\n' % draw.randrange(10**9) for _ in range(3_000)]
    changed = lines[:1_500] + lines[1_501:] + [lines[0]]
    before, after = (stretches_of(tmp_path / name, some) for name, some in (("a", lines), ("b", changed)))
    assert b"".join(one.text for one in before) == b"".join(lines)
    assert [one.offset for one in before] == [sum(len(one.text) for one in before[:nth]) for nth in range(len(before))]
    assert len(before) > 30
    assert all(len(one.text) >= 2_000 for one in before[:-1])
    assert len({one.text for one in before} - {one.text for one in after}) < 8


def test_lines_of_which_none_ends_a_stretch_do_not_run_on(tmp_path, monkeypatch):
    monkeypatch.setattr("features.records.reading.LEAST_BYTES", 100)
    monkeypatch.setattr("features.records.reading._MOST_BYTES", 500)
    monkeypatch.setattr("features.records.reading._LINES_TO_AN_END", 1 << 33)
    assert max(len(one.text) for one in stretches_of(tmp_path / "a", [LINES] * 100)) < 600


def stretches_of(folder: Path, lines: list[bytes]) -> list[Stretch]:
    folder.mkdir()
    (folder / "Patient.ndjson").write_bytes(b"".join(lines))
    [file], _ = find_files(folder)
    return list(read_stretches(file))


def test_files_without_fhir_are_counted_and_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("# Notes")
    (tmp_path / "empty.json").write_text("")
    (tmp_path / "log.ndjson").write_text('{"exportId":"e","eventId":"kickoff"}\n')
    (tmp_path / ".hidden.json").write_bytes(LINES)
    (tmp_path / "Patient.ndjson").write_bytes(LINES)
    files, others = find_files(tmp_path)
    assert [file.name for file in files] == ["Patient.ndjson"]
    assert others == 3


def test_no_folder_and_an_empty_folder_say_what_to_do(tmp_path):
    with pytest.raises(SourceError, match="--from"):
        find_files(tmp_path / "absent")
    with pytest.raises(SourceError, match="is empty"):
        find_files(tmp_path)


def test_an_element_off_the_allow_list_is_not_read(monkeypatch):
    import dataclasses

    from features.privacy import rules
    from features.records import resources

    full = rules.load_rules()
    fewer = dataclasses.replace(
        full, elements=full.elements | {"Observation": full.elements["Observation"] - {"valueString"}}
    )
    trimmed = rules.only_allowed(resources.Observation, fewer)
    line = b'{"resourceType":"Observation","id":"x","valueString":"Yes","valueInteger":3}'
    assert msgspec.json.decode(line, type=resources.Observation).valueString == "Yes"
    read = msgspec.json.decode(line, type=trimmed)
    assert isinstance(read, resources.Resource)
    assert (read.valueString, read.valueInteger) == (None, 3)
