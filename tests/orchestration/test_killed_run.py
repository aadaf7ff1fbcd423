"""A run that was killed does not keep the next one waiting."""

import os
import signal
import subprocess
import sys
import time

import dagster as dg
import pytest

from features.home import Home
from orchestration.launch import _COMMAND_LINE_FILE
from tests.synthetic_records import write_records

pytestmark = pytest.mark.slow


def test_a_killed_run_frees_its_pool_for_the_next(tmp_path):
    """Killed while it holds the pool of reading; the next run reads, and Dagster knows that the first is dead."""
    write_records(tmp_path / "records", patients=60, seed=5)
    (tmp_path / "key").write_text("5e" * 32)
    (tmp_path / "key").chmod(0o600)
    environment = os.environ | {"SEQUELA_KEY_FILE": str(tmp_path / "key"), "DAGSTER_DISABLE_TELEMETRY": "1"}
    home = Home(tmp_path / "home")
    command = [sys.executable, "-m", "orchestration.cli", "run", "--home", str(home.path)]
    command += ["--from", str(tmp_path / "records")]
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (home.path / ".ingest").exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with dg.DagsterInstance.from_config(str(home.dagster), _COMMAND_LINE_FILE) as instance:
        assert instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert second.returncode == 0, second.stderr
    with dg.DagsterInstance.from_config(str(home.dagster), _COMMAND_LINE_FILE) as instance:
        assert not instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
