"""A whole run, from records to warehouse, report and Dagster's own files, gives no person away."""

import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple

import duckdb
import pytest

from features.home import Home
from features.privacy.keys import load_key
from features.privacy.vault import read_shifts
from tests.features.privacy.canaries import Planted, leaks
from tests.features.privacy.planted_folder import write_planted
from tests.features.privacy.written_files import contents_of
from tests.synthetic_records import write_records

# Small enough to be quick, and willing to fit and judge on few: only with scores is there something to give away.
STUDY = """
bootstrap_resamples = 20
fewest_subjects_with_event = 2
fewest_judging_subjects_with_event = 1
[records]
quarantine_share_limit = 1.0
"""
DAY_US = 86_400_000_000

pytestmark = pytest.mark.slow


class Run(NamedTuple):
    planted: Planted
    home: Home
    said: bytes


class Listener(logging.Handler):
    """Keeps what is logged, whoever logs it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    from orchestration.cli import main

    folder = tmp_path_factory.mktemp("whole")
    (folder / "key").write_text("5e" * 32)
    (folder / "key").chmod(0o600)
    (folder / "study.toml").write_text(STUDY)
    planted = write_planted(folder / "source")
    write_records(folder / "source" / "others", patients=60, seed=3)
    listener, printed = Listener(), io.StringIO()
    logger = logging.getLogger()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    with pytest.MonkeyPatch.context() as environment, redirect_stdout(printed), redirect_stderr(printed):
        environment.setenv("SEQUELA_KEY_FILE", str(folder / "key"))
        arguments = ["--from", folder / "source", "--home", folder / "home", "--study", folder / "study.toml"]
        exit_code = main(["run", *map(str, arguments)])
        assert exit_code == 0, printed.getvalue()
        said = "\n".join([printed.getvalue(), *listener.heard]).encode()
        yield Run(planted, Home(folder / "home"), said)
    logger.removeHandler(listener)
    logger.setLevel(level)
    shutil.rmtree(folder)


def test_nothing_planted_passes(run: Run) -> None:
    contents = [*contents_of(run.home.path), ("what was printed and logged", run.said)]
    assert leaks(run.planted, contents) == []


def test_scores_of_a_real_day_do_not_give_the_shift_away(run: Run) -> None:
    """Whoever knows how many real days before a score an event happened knows by how much the event was moved.

    The attack: a reason such as "days since the latest value: 325 days" beside the record it points to.
    """
    shifts = dict(read_shifts(run.home.vault, load_key()).iter_rows())
    with duckdb.connect(str(run.home.warehouse), read_only=True) as warehouse:
        guesses = warehouse.execute(
            r"""
            WITH reasons AS (SELECT subject_id, as_of, unnest(reasons) AS reason FROM risk_scores),
            records AS (
                SELECT subject_id, as_of, reason.label, unnest(reason.record_ids) AS record_id
                FROM reasons
                WHERE reason.label ILIKE '%days since%'
            ),
            told AS (SELECT *, unnest(regexp_extract_all(label, '\d+(?:\.\d+)?'))::DOUBLE AS number FROM records)
            SELECT DISTINCT told.subject_id, date_diff('day', events.time, as_of) - number
            FROM told JOIN events USING (record_id)
            WHERE events.time IS NOT NULL
            """
        ).fetchall()
        scores = warehouse.execute("SELECT count(*) FROM risk_scores").fetchone()
    assert scores is not None
    assert scores[0] > 0
    betrayed = {subject for subject, days in guesses if abs(days + shifts[subject] / DAY_US) < 1.5}
    assert not betrayed
