"""The true risks of hospital stays are probabilities of what the record then shows."""

import numpy as np
import polars as pl
import pytest

from features.sources.simulation.lives import live
from features.sources.simulation.record import DAY_MINUTES, DIED, INPATIENT, MONTH_MINUTES, Recorder
from features.sources.simulation.stay_truth import HORIZON_DAYS, risks_of_stays
from features.sources.simulation.world import World, compile_world
from tests.features.sources.simulation.conftest import SEED, Block, quiet
from tests.features.sources.simulation.test_engine import within_chance

KEYS = ["person", "prediction_minute", "task"]
FIRST, LAST = 26 * MONTH_MINUTES, 140 * MONTH_MINUTES  # well inside the months in which predictions are made


@pytest.fixture(scope="module")
def risks(world: World) -> pl.DataFrame:
    return risks_of_stays(world, SEED, 0, copies=12)


def outcomes(encounters: dict[str, np.ndarray]) -> pl.DataFrame:
    """From the record: person, prediction_minute, task, came; a row for each stay that is asked about."""
    stays = pl.DataFrame(encounters).filter(kind=INPATIENT).select("patient", "start", "end", "priority", "disposition")
    return pl.concat([_after_a_day(stays), _after_discharge(stays)])


def _after_a_day(stays: pl.DataFrame) -> pl.DataFrame:
    asked = stays.filter(pl.col("end") > pl.col("start") + DAY_MINUTES)
    came = {
        "inpatient_mortality": pl.col("disposition") == DIED,
        "long_stay": pl.col("end") - pl.col("start") >= 7 * DAY_MINUTES,
    }
    moment = {"person": "patient", "prediction_minute": pl.col("start") + DAY_MINUTES}
    return pl.concat([asked.select(**moment, task=pl.lit(task), came=of) for task, of in came.items()])


def _after_discharge(stays: pl.DataFrame) -> pl.DataFrame:
    left = stays.filter(pl.col("disposition") != DIED).select("patient", left="end")
    days_until = (pl.col("start") - pl.col("left")) / DAY_MINUTES
    returns = left.join(stays.filter(priority=0), on="patient").filter(days_until.is_between(0, 30, closed="right"))
    came = left.join(
        returns.select("patient", "left").unique().with_columns(came=True), on=["patient", "left"], how="left"
    )
    moment = {"person": "patient", "prediction_minute": "left", "task": pl.lit("readmission")}
    return came.select(**moment, came=pl.col("came").fill_null(False))


def assert_calibrated(foreseen: pl.DataFrame, column: str) -> None:
    """What came is as often as foreseen: of all, and of the three thirds by risk."""
    for (task,), of in foreseen.group_by("task"):
        ordered = of.sort("risk")
        third = of.height // 3
        for part in (ordered, ordered[:third], ordered[third:-third], ordered[-third:]):
            sd = np.sqrt((part["risk"] * (1 - part["risk"])).sum())
            assert abs(part[column].sum() - part["risk"].sum()) < 4 * sd + 1e-6, task


def test_what_the_record_then_shows_is_as_often_as_foreseen(risks: pl.DataFrame, block: Block) -> None:
    found = risks.join(outcomes(block.tables["Encounter"]), on=KEYS)
    assert found.height == risks.height
    month = (found["prediction_minute"] // MONTH_MINUTES).to_numpy()
    person = found["person"].to_numpy()
    has_moved = np.any([block.gone[person, month + later] for later in range(3)], axis=0)
    assert has_moved.mean() < 0.1
    assert_calibrated(found.filter(~has_moved), "came")
    assert found.filter(pl.col("came"))["task"].n_unique() == 3


def test_drawn_lives_agree_with_the_risks(risks: pl.DataFrame) -> None:
    assert_calibrated(risks, "drawn")
    assert risks["risk"].is_between(0, 1).all()
    assert risks["standard_error"].mean() < 0.03


def test_every_stay_is_asked_about_at_its_moments(risks: pl.DataFrame, block: Block) -> None:
    inside = pl.col("prediction_minute").is_between(FIRST, LAST)
    asked, expected = (
        set(table.filter(inside).select(KEYS).iter_rows()) for table in (risks, outcomes(block.tables["Encounter"]))
    )
    assert len(asked) > 1_000
    assert asked == expected
    horizons = {tuple(row) for row in risks.select("task", "horizon_days").unique().iter_rows()}
    assert horizons == set(HORIZON_DAYS.items()) == {("inpatient_mortality", 45), ("long_stay", 6), ("readmission", 30)}


def test_nobodys_risk_depends_on_how_many_are_wanted(risks: pl.DataFrame, world: World) -> None:
    few = risks_of_stays(world, SEED, 0, wanted=40, copies=12)
    assert few.height > 20
    assert few.sort(KEYS).equals(risks.filter(pl.col("person") < 40).sort(KEYS))


def busy(world: World, until: str, **stays: dict) -> World:
    """Nothing happens but these stays, at 45 to 55, `rate` by 1,000 years, without illness; records of three years."""
    raw = quiet(world)
    raw["care"]["population"]["records_end"] = f"{world.begin.year + 3}-{until}"
    of_all = raw["stays"]["_of_all"]
    of_all |= {"severity": {}, "hours": {}, "readmission": {}, "severity_a_decade_past_60": 0.0}
    well = {"severity": [-5.0, 0.0], "home_hours": 30, "readmission": 1e-9, "planned_readmission": 0.0, "ratios": {}}
    for name, one in stays.items():
        rate = [0, 0, one["rate"], one.pop("rate"), 0, 0, 0, 0]
        raw["stays"][name] |= {**well, "female": rate, "male": rate, **one}
    return compile_world(raw)


def test_a_stay_in_every_month_is_foreseen_as_far_as_thirty_days_reach(world: World) -> None:
    monthly = busy(world, "01-31", other_medical={"rate": 1e6})
    risks = risks_of_stays(monthly, SEED, 0, copies=40).filter(pl.col("age").is_between(45, 55))
    # Severity is about 0 after some days, where the hazard of death is exp(-10.35) an hour: 0.0008 a day.
    assert (risks.filter(task="inpatient_mortality")["risk"] < 0.005).all()
    at_discharge = risks.filter(task="readmission")
    left, person = at_discharge["prediction_minute"].to_numpy(), at_discharge["person"].to_numpy()
    after = (left - Recorder(monthly, SEED, 0).phase[person]) % MONTH_MINUTES  # in the person's own month
    # The next stay begins anywhere between 6 % and 50 % of the next month, but for the hour of the day.
    expected = ((after + 30 * DAY_MINUTES) / MONTH_MINUTES - 1 - 0.06) / 0.44
    difference = at_discharge["risk"].to_numpy() - expected.clip(0, 1)
    assert at_discharge.height > 40
    assert abs(difference.mean()) < 0.03
    assert np.quantile(np.abs(difference), 0.95) < 0.2
    assert at_discharge["risk"].std() > 0.2


def test_an_own_return_is_known_without_futures_and_a_booked_stay_is_none(world: World) -> None:
    returning = busy(world, "10-31", other_medical={"rate": 600, "readmission": 0.3})
    of = risks_of_stays(returning, SEED, 0, copies=10).filter(task="readmission")
    # Besides the return itself, another stay may begin (4.9 % a month), in time in about six of ten.
    assert of["risk"].min() == pytest.approx(0.3)
    assert of.filter(pl.col("risk") < 0.3001)["standard_error"].max() < 1e-9
    assert of["risk"].mean() == pytest.approx(0.3 + 0.7 * 0.029, abs=0.01)
    assert within_chance(of["drawn"].mean(), 0.32, of.height)
    booked = busy(world, "02-28", elective_surgery={"rate": 3_000, "planned_readmission": 0.5})
    of = risks_of_stays(booked, SEED, 0, copies=5).filter(task="readmission")
    assert of.height > 60
    assert (of["risk"] < 1e-6).all()
    assert not of["drawn"].any()


def test_an_unplanned_return_may_follow_a_booked_one(world: World) -> None:
    """After surgery 30 % come back unplanned; of the others half come back as booked, and from there again."""
    again = busy(world, "10-31", elective_surgery={"rate": 1_500, "readmission": 0.3, "planned_readmission": 0.5})
    of = risks_of_stays(again, SEED, 0, copies=10).filter(task="readmission")
    recorder = Recorder(again, SEED, 0)
    for month, people, happened, who in live(again, SEED, 0):
        recorder.write(month, people, happened, who)
    encounters = recorder.rows["Encounter"].done()
    found = of.join(outcomes(encounters), on=KEYS)
    assert found.height == of.height > 200
    assert found["risk"].mean() > 0.33
    assert_calibrated(found, "came")
    # Who comes back unplanned after an operation is no booked patient.
    stays = pl.DataFrame(encounters).filter(kind=INPATIENT).sort("patient", "start")
    hour = (stays["start"] // 60 % 24).to_numpy()
    is_booked = stays["priority"].to_numpy() == 1
    assert 0.2 < (~is_booked).mean() < 0.4
    assert set(hour[is_booked]) == set(range(7, 13))
    assert len(set(hour[~is_booked])) == 24
