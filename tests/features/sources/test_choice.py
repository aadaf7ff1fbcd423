"""What a person types after --from is understood, or refused with what to do."""

from pathlib import Path

import pytest

from features.errors import SourceError
from features.sources.choice import OPTIONS, source_named


@pytest.mark.parametrize(
    ("named", "kind", "remembered"),
    [
        ("", "simulated", "simulated"),
        ("simulated", "simulated", "simulated"),
        ("synthea", "synthea", "synthea"),
        ("examples", "examples", "examples"),
        ("https://fhir.example.org/R4", "fhir_server", "https://fhir.example.org/R4"),
        ("HTTP://localhost:8080/fhir", "fhir_server", "HTTP://localhost:8080/fhir"),
        ("/usr", "folder", "/usr"),
    ],
)
def test_each_source_has_its_name(named: str, kind: str, remembered: str) -> None:
    source = source_named(named, {})
    assert (source.kind, source.named) == (kind, remembered)


def test_a_folder_called_like_a_word_is_written_with_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthea").mkdir()
    source = source_named("./synthea", {})
    assert (source.kind, source.named) == ("folder", str(tmp_path / "synthea"))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            "exampels",
            "no folder exampels. Did you mean examples[?] .*simulated, synthea, examples, the https:// address",
        ),
        ("Synthea", "Did you mean synthea[?]"),
        ("simulatd", "Did you mean simulated[?]"),
        ("fhir.example.org/R4", "no folder fhir.example.org/R4. --from understands .*https://"),
    ],
)
def test_a_word_that_is_none_of_ours_is_answered_with_those(typed: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        source_named(typed, {"patients": "5"})


def test_how_many_patients_are_made() -> None:
    assert source_named("", {}).patients == 3_000
    assert source_named("synthea", {}).patients == 500
    assert source_named("synthea", {"patients": "12"}).patients == 12
    with pytest.raises(SourceError, match="not a number above 0"):
        _ = source_named("", {"patients": "many"}).patients


@pytest.mark.parametrize(
    ("named", "option", "words"),
    [
        ("/usr", "patients", "--patients is for `--from simulated` and `--from synthea`; leave it out .* a folder"),
        ("examples", "patients", "leave it out when reading from the example patients"),
        ("simulated", "state", "--state is for `--from synthea`; leave it out"),
        ("https://fhir.example.org", "patients", "leave it out when reading from a FHIR server"),
        ("synthea", "client_key", "--client-key is for a FHIR server; leave it out"),
        ("synthea", "colour", "no option colour.*patients, format, state"),
    ],
)
def test_an_option_of_another_source_is_refused(named: str, option: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        source_named(named, {option: "1"})


@pytest.mark.parametrize("named", ["https://me:secret@fhir.example.org/R4", "https://fhir.example.org/R4?token=secret"])
def test_an_address_with_a_secret_is_refused_without_repeating_it(named: str) -> None:
    with pytest.raises(SourceError, match="--client-id") as refused:
        source_named(named, {})
    assert "secret" not in str(refused.value)


def test_a_key_file_is_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = source_named("https://fhir.example.org", {"client_key": "key.pem", "client_id": "sequela"})
    assert source.options == {"client_key": str(tmp_path / "key.pem"), "client_id": "sequela"}


def test_no_option_is_listed_twice() -> None:
    assert len(OPTIONS) == len(set(OPTIONS)) == 10
