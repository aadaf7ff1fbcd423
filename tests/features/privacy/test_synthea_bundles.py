"""Real Synthea bundles: the dates that their shift tool forgot, and the people's names and numbers, stay outside.

In these bundles everything was moved by 671 days, except the claims' `servicedPeriod`: whoever sees one of those
beside a moved date knows the move. The data are not part of the repository.
"""

import gzip
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from features.home import Home
from features.ingest import ingest
from features.privacy.keys import load_key
from features.privacy.pseudonyms import pseudonym
from features.settings import StudySettings
from tests.features.privacy.written_files import contents_of

BUNDLES = Path(__file__).resolve().parents[4] / "shared" / "data" / "synthea-r4" / "bundles"
PATIENTS = 12
DATE_TIME = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))"')
SERVICED = re.compile(rb'"servicedPeriod":\s*\{\s*"start":\s*"([^"]+)",\s*"end":\s*"([^"]+)"')

pytestmark = pytest.mark.skipif(
    not BUNDLES.exists(), reason="the Synthea bundles (shared/data/synthea-r4/bundles) are not on this machine"
)


@pytest.fixture(scope="module")
def sources() -> dict[Path, bytes]:
    people = sorted(path for path in BUNDLES.glob("*.json.gz") if "Information" not in path.name)[:PATIENTS]
    return {path: gzip.decompress(path.read_bytes()) for path in people}


@pytest.fixture(scope="module")
def home(sources: dict[Path, bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("bundles")
    key_file = folder / "key" / "key"
    key_file.parent.mkdir()
    key_file.write_text("7c" * 32)
    key_file.chmod(0o600)
    source = folder / "source"
    source.mkdir()
    for path in sources:
        (source / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEQUELA_KEY_FILE", str(key_file))
        home = Home(folder / "home")
        assert ingest(source, home, StudySettings()).subjects == PATIENTS
        yield home


def test_no_name_or_number_of_a_patient_passes(sources: dict[Path, bytes], home: Home) -> None:
    written = _everything_written(home).lower()
    wordings = b" ".join(re.findall(rb'"(?:display|text|div)":\s*"([^"]*)"', b"".join(sources.values()))).lower()
    for content in sources.values():
        person = _patient(content)
        numbers = [identifier["value"] for identifier in person["identifier"]]
        numbers += [number.replace("-", "") for number in numbers] + [person["id"]]
        numbers += [contact["value"] for contact in person["telecom"]] + person["address"][0]["line"]
        names = [name for one in person["name"] for name in [one["family"], *one["given"]]]
        # A name that is also a word of a diagnosis, such as Long, cannot be told from it.
        names = [name for name in names if len(name) > 4 and name.lower().encode() not in wordings]
        for text in numbers + names:
            assert text.lower().encode() not in written


def test_no_true_date_passes_as_text(sources: dict[Path, bytes], home: Home) -> None:
    written = _everything_written(home)
    for content in sources.values():
        true = {text[:10] for text in DATE_TIME.findall(content)} | {_patient(content)["birthDate"].encode()}
        assert len(true) > 10
        assert [day for day in sorted(true) if day in written] == []


def test_a_persons_times_are_all_moved_alike_and_none_by_the_forgotten_shift(
    sources: dict[Path, bytes], home: Home
) -> None:
    events = pl.concat([pl.read_parquet(path) for path in (home.meds / "data").rglob("*.parquet")])
    key = load_key()
    for content in sources.values():
        subject = pseudonym(key.pseudonyms, "Patient", _patient(content)["id"])
        of_person = events.filter(pl.col("subject_id") == subject)
        written = set(of_person["time"].drop_nulls()) | set(of_person["known_time"].drop_nulls())
        assert len(written) > 5
        true = {_minute(text) for text in DATE_TIME.findall(content)}
        original = {_minute(text) for period in SERVICED.findall(content) for text in period}
        assert original
        # By chance a moved visit may fall on another true one (yearly visits lie whole weeks apart), not most of them.
        for known in (true, original):
            assert len(written & known) <= 0.2 * len(written)


def _everything_written(home: Home) -> bytes:
    parts = []
    for where, content in contents_of(home.path):
        values = [content] if isinstance(content, bytes) else content
        parts.append(where.encode())
        parts.extend(value if isinstance(value, bytes) else str(value).encode() for value in _texts(values))
    return b"\n".join(parts)


def _texts(values: list[object] | list[bytes]) -> Iterator[object]:
    """The values that are text or numbers; moved times are judged apart, for they may fall on any day."""
    for value in values:
        if isinstance(value, list):
            yield from _texts(value)
        elif isinstance(value, str | bytes | int | float):
            yield value


def _patient(content: bytes) -> dict:
    entries = json.loads(content)["entry"]
    return next(entry["resource"] for entry in entries if entry["resource"]["resourceType"] == "Patient")


def _minute(text: bytes) -> datetime:
    moment = datetime.fromisoformat(text.decode()).astimezone(UTC)
    return moment.replace(second=0, microsecond=0, tzinfo=None)
