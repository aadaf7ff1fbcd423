"""What was: events that no longer hold, and until when they did."""

import polars as pl
import pytest

from features.as_of import events_seen
from features.ingest import events_of, ingest
from features.privacy.keys import load_key
from features.settings import ObservationSettings, StudySettings
from features.superseded import history, superseded_events
from features.tables import Superseded, checked
from tests.features.updates.small_exports import WEIGHT, an_export, moved, patient, subject, visit, weight

SETTINGS = StudySettings()


def test_a_past_day_can_be_seen_as_it_was_seen_then(tmp_path, home):
    """70 kg until 3 June 08:00, when 71 kg was issued; then until the export of 1 July, which deletes it."""
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70, "2020-06-02T00:00:00Z"))
    ingest(place, home, SETTINGS)
    corrected = weight("w", "a", 71, "2020-06-03T08:00:00Z", issued="2020-06-03T08:00:00Z")
    an_export(place / "0002-since", corrected, until="2020-06-10T00:00:00Z")
    ingest(place, home, SETTINGS)
    an_export(place / "0003-since", deleted=("Observation/w",), until="2020-07-01T00:00:00Z")
    ingest(place, home, SETTINGS)
    past = checked(history(home, load_key()), Superseded)

    def seen(moment: str) -> list[float]:
        at = pl.DataFrame({"subject_id": [subject("a")], "prediction_time": [moved(home, "a", moment)]})
        return (
            events_seen(events_of(home), past, at).filter(pl.col("code") == WEIGHT).collect()["numeric_value"].to_list()
        )

    assert seen("2020-06-01T10:00:00") == []
    assert seen("2020-06-03T07:50:00") == [70]
    assert seen("2020-06-03T08:10:00") == [71]
    assert seen("2020-06-30T22:50:00") == [71]
    assert seen("2020-07-01T01:00:00") == []


@pytest.mark.parametrize(
    ("updated", "covered", "until"),
    [
        ("2020-06-05T10:00:00Z", "2020-06-10T00:00:00Z", "2020-06-05T10:00:00"),  # the version says when
        (None, "2020-06-10T05:00:00Z", "2020-06-09T23:00:00"),  # else the export does, whose last whole day sees it
        (None, None, "2020-06-01T23:00:00"),  # else the last day of the source, that of the last visit
        ("2020-01-01T00:00:00Z", "2020-06-10T05:00:00Z", "2020-06-09T23:00:00"),  # what the reading before saw held
        ("2020-06-11T00:00:00Z", "2020-06-10T05:00:00Z", "2020-06-09T23:00:00"),  # a clock that goes wrong
    ],
)
def test_until_when_an_event_held(tmp_path, home, updated, covered, until):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70))
    ingest(place, home, SETTINGS)
    an_export(place / "0002-since", weight("w", "a", 71, updated), until=covered)
    ingest(place, home, SETTINGS)
    [(value, found)] = superseded_events(home, load_key()).select("numeric_value", "known_until").rows()
    assert value == 70
    assert found == moved(home, "a", until)


def test_what_another_record_changes_ends_with_the_export_that_brought_it(tmp_path, home):
    """A death that is told later takes out what was dated after it, though its record is the same."""
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w", "a", 70), until="2020-06-09T00:00:00Z")
    ingest(place, home, SETTINGS)
    dead = patient("a") | {"deceasedDateTime": "2020-05-01T00:00:00Z", "meta": {"lastUpdated": "2020-06-11T00:00:00Z"}}
    an_export(place / "0002-since", dead, visit("v2", "a", "2020-04-01", "2020-04-01"), until="2020-06-12T00:00:00Z")
    ingest(place, home, SETTINGS)
    ended = superseded_events(home, load_key())
    assert set(ended["code"]) == {WEIGHT, "ENCOUNTER//OTHER//start", "ENCOUNTER//OTHER//end"}
    assert set(ended["known_until"]) == {moved(home, "a", "2020-06-11T23:00:00")}


def test_the_same_fact_told_by_another_record_did_not_end(tmp_path, home):
    place = tmp_path / "place"
    an_export(place / "0001-full", patient("a"), visit("v", "a"), weight("w1", "a", 70), weight("w2", "a", 70))
    ingest(place, home, SETTINGS)
    for number, name in enumerate(("w1", "w2"), 2):
        an_export(place / f"000{number}-since", deleted=(f"Observation/{name}",))
        ingest(place, home, SETTINGS)
        assert superseded_events(home, load_key()).height == (0 if name == "w1" else 1)


def test_births_that_move_up_as_time_passes_leave_no_past(tmp_path, home):
    """Else the years that are hidden now would stand in the past."""
    source = tmp_path / "source"
    an_export(source, patient("old", "1931-03-01"), visit("v", "old", "1931-06-01", "1931-06-01"), visit("v2", "old"))
    settings = [StudySettings(observation=ObservationSettings(data_end=end)) for end in ("2020-12-31", "2024-12-31")]
    ingest(source, home, settings[0])
    births = events_of(home).filter(pl.col("code") == "MEDS_BIRTH").collect()["time"]
    result = ingest(source, home, settings[1])
    assert result.subjects_rebuilt == 1
    assert births[0] < events_of(home).filter(pl.col("code") == "MEDS_BIRTH").collect()["time"][0]
    assert superseded_events(home, load_key()).is_empty()
