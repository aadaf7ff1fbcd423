"""The feature table of a past day: as it was made on that day, whatever arrived, was corrected or taken back since."""

import random
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import polars as pl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from features.as_of import features_of_day, seen_on
from features.feature_plan import plan_columns
from features.home import Home
from features.ingest import events_of, ingest
from features.meds_codes import MOVED
from features.privacy.keys import load_key
from features.privacy.vault import read_shifts
from features.scoring_day import prediction_times_at_end_of
from features.settings import RecordSettings, StudySettings
from tests.features.growing_source import GrowingSource
from tests.features.updates.small_exports import WEIGHT, an_export, patient, subject, visit, weight

SETTINGS = StudySettings(records=RecordSettings(quarantine_share_limit=1))
STEPS = ("add_export",) * 5 + ("drop_lines", "drop_export", "restore", "reorder", "split", "rename")
FIRST = date(2021, 1, 1)


class DatedSource(GrowingSource):
    """Exports in the small hours, each of which tells what it covers; nobody so old that their birth is moved up."""

    births = (1950, 1960, 1990)
    corrected_births = (1951, 1970)

    def add_export(self, *, first: bool = False) -> None:
        super().add_export(first=first)
        self.days = {} if first else self.days
        self.days[list(self.exports)[-1]] = FIRST + timedelta(days=self.clock)

    @property
    def last_day(self) -> date:
        """The last whole day that an export covers."""
        return max(self.days[name] for name in self.exports)

    def _moment(self) -> str:
        day = self.clock if self.draw.random() < 0.5 else self.draw.randrange(self.clock + 1)
        return f"{FIRST + timedelta(days=day)}T{self.draw.randrange(24):02}:{self.draw.randrange(60):02}:17Z"

    def _covers_until(self, name: str) -> str:
        return f"{self.days[name] + timedelta(days=1)}T03:00:00Z"


class Look(NamedTuple):
    """What was seen of a day: by whom, when."""

    day: date
    last_day: date
    events: pl.DataFrame
    moments: pl.DataFrame


def look(home: Home, day: date, last_day: date) -> Look:
    """At a past day, through the home as it stands."""
    events, moments = seen_on(day, last_day, home, load_key())
    return Look(day, last_day, events.collect(), moments)


def look_plainly(home: Home, day: date) -> Look:
    """At the last day, by the rule that made every table until now: what the timelines hold and was known by then."""
    moments = prediction_times_at_end_of(day, day, read_shifts(home.vault, load_key()))
    events = events_of(home).join(moments.lazy(), on="subject_id")
    is_known = (pl.col("known_time") <= pl.col("prediction_time")).fill_null(value=True)
    return Look(day, day, events.filter(is_known).drop("prediction_time").collect(), moments)


def subjects_of(home: Home) -> set[int]:
    return set(events_of(home).select("subject_id").collect()["subject_id"])


def table(seen: Look, definitions: pl.DataFrame, subjects: set[int]) -> pl.DataFrame:
    moments = seen.moments.filter(pl.col("subject_id").is_in(subjects))
    return features_of_day(seen.day, seen.events.lazy(), moments, definitions, SETTINGS.lookback_days)


def facts(seen: Look, subjects: set[int]) -> pl.DataFrame:
    """In any order; a fact that several records tell may be told by another of them."""
    is_asked = pl.col("subject_id").is_in(subjects) & (pl.col("code") != MOVED)
    return seen.events.filter(is_asked).drop("record_id").sort(pl.all())


@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), min_size=2, max_size=6))
@example(seed=18103, steps=["add_export", "drop_lines", "add_export", "restore"])  # the last export is left empty
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_past_day_is_given_back_as_it_was_seen(seed, steps):
    """Each reading's last day, and a day before it, are looked at; after everything has arrived they look the same."""
    with tempfile.TemporaryDirectory() as folder:
        source = DatedSource(Path(folder) / "source", random.Random(seed))
        home = Home(Path(folder) / "home")
        looks: list[Look] = []
        present: list[tuple[date, set[int]]] = []  # after each reading
        for step in ("touch", *steps):
            getattr(source, step)()
            source.write()
            ingest(source.folder, home, SETTINGS, processes=1)
            last_day = source.last_day
            present.append((last_day, subjects_of(home)))
            looks = [one for one in looks if one.last_day < last_day]  # the newest reading of a day shows that day
            looks.append(look_plainly(home, last_day))
            looks.append(look(home, last_day - timedelta(days=source.draw.randrange(1, 15)), last_day))
        everything = events_of(home)
        now = looks[-2]
        definitions = plan_columns([everything], now.moments, SETTINGS)
        for then in looks:
            again = look(home, then.day, now.last_day)
            # Who was erased since, be it for a while, is not given back.
            stayed = set.intersection(*(subjects for day, subjects in present if day >= then.last_day))
            assert_frame_equal(facts(again, stayed), facts(then, stayed))
            assert table(again, definitions, stayed).equals(table(then, definitions, stayed))


def test_a_correction_by_hand(tmp_path, home):
    """70 kg is read on 10 June and corrected to 80 kg with the export of 12 June, which says no other time of issue.

    A patient who comes with that export, with a record of 1 June, was unknown until then.
    """
    place = tmp_path / "place"
    for number, (day, said) in enumerate(
        [
            (11, [patient("a"), visit("v", "a"), weight("w", "a", 70)]),
            (13, [weight("w", "a", 80), patient("b"), visit("x", "b"), weight("y", "b", 60)]),
        ]
    ):
        an_export(place / f"{number}", *said, until=f"2020-06-{day}T03:00:00Z")
        ingest(place, home, SETTINGS)

    def weights_on(day: int) -> dict[int, float]:
        events, _ = seen_on(date(2020, 6, day), date(2020, 6, 12), home, load_key())
        found = events.filter(pl.col("code") == WEIGHT).collect()
        return dict(found.select("subject_id", "numeric_value").iter_rows())

    assert weights_on(1) == weights_on(10) == weights_on(11) == {subject("a"): 70}
    assert weights_on(12) == weights_on(13) == {subject("a"): 80, subject("b"): 60}


def test_a_corrected_birth_leaves_the_other_one_in_the_past(tmp_path, home):
    """Only the years before a birth that is moved up to cap a great age are forgotten."""
    place = tmp_path / "place"
    an_export(place / "1", patient("a"), visit("v", "a"), until="2020-06-11T03:00:00Z")
    ingest(place, home, SETTINGS)
    an_export(place / "2", patient("a", "1970-01-01"), until="2020-06-13T03:00:00Z")
    ingest(place, home, SETTINGS)
    for day, years in ((11, 60), (12, 50)):
        events, moments = seen_on(date(2020, 6, day), date(2020, 6, 12), home, load_key())
        born = events.filter(pl.col("code") == "MEDS_BIRTH").collect()["time"].item()
        assert (moments["prediction_time"].item() - born).days // 365.25 == years
