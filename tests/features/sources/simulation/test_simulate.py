"""The same people whatever the number of people and processes; files that say what they are; clean failures."""

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features import processes
from features.errors import SourceError
from features.sources.landed import changed_files, content_digest, sum_of_digests
from features.sources.simulation import VERSION, simulate
from features.sources.simulation import simulate as module_function
from features.sources.simulation.lives import BLOCK
from features.sources.simulation.people import draw_arrivals
from features.sources.simulation.simulate import simulate_block
from features.sources.simulation.world import World
from features.sources.simulation.writing import KINDS, patient_id
from tests.features.sources.simulation.conftest import SEED, Block

Texts = dict[str, list[tuple[int, str]]]
FEW: Texts = {kind: [(0, f'{{"resourceType":"{kind}","id":"{kind}-0"}}')] for kind in KINDS}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of a block, one resource of each type."""
    _in_place_of_a_block(monkeypatch, lambda *_: FEW)


def _in_place_of_a_block(monkeypatch: pytest.MonkeyPatch, stand_in: Callable[..., Texts]) -> None:
    monkeypatch.setitem(module_function.__globals__, "simulate_block", stand_in)


def digest(lines: list[tuple[int, str]]) -> str:
    return content_digest(line.encode() for _, line in lines)


def test_the_first_of_a_block_are_the_same_people(world: World, block: Block) -> None:
    some = simulate_block(world, SEED, 0, 100)
    for kind in KINDS:
        assert some[kind] == [(person, line) for person, line in block.texts[kind] if person < 100]


def test_more_people_and_more_processes_change_nobody(world: World, block: Block, tmp_path: Path) -> None:
    manifest = simulate(tmp_path, BLOCK + 1, SEED, processes=2)
    last = simulate_block(world, SEED, 1, 1)
    for kind in KINDS:
        assert manifest.content(kind) == sum_of_digests([digest(block.texts[kind]), digest(last[kind])])
    assert changed_files(tmp_path, manifest) == []
    assert {file.name for file in manifest.files} == {path.name for path in tmp_path.iterdir()}
    counts = {kind: sum(file.resources for file in manifest.files if file.resource_type == kind) for kind in KINDS}
    assert counts == {kind: len(block.texts[kind]) + len(last[kind]) for kind in KINDS}
    assert msgspec.json.decode(last["Patient"][0][1])["id"] == patient_id(SEED, 1, 0)


def test_the_first_people_are_as_old_as_the_others(world: World) -> None:
    age = draw_arrivals(world, np.random.default_rng(4), 800, 156).people.age
    assert abs(np.corrcoef(age, np.arange(800))[0, 1]) < 4 / np.sqrt(800)
    assert age[:100].mean() == pytest.approx(age.mean(), abs=4 * age.std() / np.sqrt(100))


def test_another_seed_gives_other_people(world: World) -> None:
    one, same, other = (draw_arrivals(world, np.random.default_rng(seed), 50, 156) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.people.level, same.people.level)
    np.testing.assert_array_equal(one.month, same.month)
    assert (one.people.age != other.people.age).all()
    assert patient_id(1, 0, 0) != patient_id(2, 0, 0)


def test_a_manifest_says_that_nobody_is_real(few: None, world: World, tmp_path: Path) -> None:
    manifest = simulate(tmp_path, 7, 5, processes=1)
    assert manifest.kind == "simulated"
    assert "not real people" in manifest.origin
    assert "synthea" not in manifest.origin.lower()
    assert manifest.covers_until == f"{world.end}T23:59:59Z"
    assert manifest.parameters == {"patients": 7, "seed": 5, "version": VERSION, "format": "ndjson"}
    assert [file.resource_type for file in manifest.files] == sorted([*KINDS, "Organization", "Practitioner"])
    assert {file.name.split(".")[0] for file in manifest.files} == {*KINDS, "Organization", "Practitioner"}


def test_many_blocks_share_at_most_thirty_two_files_of_a_type(few: None, tmp_path: Path) -> None:
    manifest = simulate(tmp_path, 100 * BLOCK, 5, processes=1)
    patients = [file for file in manifest.files if file.resource_type == "Patient"]
    assert len(patients) <= 32
    assert sum(file.resources for file in patients) == 100
    assert sum(file.resources for file in manifest.files if file.resource_type == "Organization") == 4


def test_bundles_are_one_file_a_patient(few: None, tmp_path: Path) -> None:
    manifest = simulate(tmp_path, 1, 5, processes=1, format="bundles")
    entries = [len(msgspec.json.decode(path.read_bytes())["entry"]) for path in tmp_path.glob("bundle-*.json")]
    assert manifest.resources == sum(entries) > 0  # as many as are read
    assert [file.name for file in manifest.files] == ["bundle-00000-000.json"]
    assert manifest.files[0].resource_type == "Bundle"
    bundle = msgspec.json.decode((tmp_path / "bundle-00000-000.json").read_bytes())
    assert [entry["resource"]["resourceType"] for entry in bundle["entry"]] == KINDS


def test_a_full_disk_is_told_with_the_next_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object) -> Texts:
        raise OSError(errno.ENOSPC, "No space left on device")

    _in_place_of_a_block(monkeypatch, full)
    with pytest.raises(SourceError, match=r"No space left on device.*fewer --patients"):
        simulate(tmp_path, 3, 1, processes=1)


def test_an_interruption_ends_every_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(*_: object) -> Texts:
        raise KeyboardInterrupt

    def start() -> subprocess.Popen[bytes]:
        started.append(original())
        return started[-1]

    original = processes._start
    monkeypatch.setattr(processes, "_start", start)
    _in_place_of_a_block(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path, 40 * BLOCK, 1, processes=2)
    assert all(child.poll() is not None for child in started)
