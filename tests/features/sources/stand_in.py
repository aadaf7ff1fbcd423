"""Puts the stand-in for Java on the PATH of a test."""

import json
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


def put_java_in_place(folder: Path, environment: pytest.MonkeyPatch) -> Path:
    """An executable `java` and a jar of one's own below `folder`; returns the log of what was run."""
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        f"#!/bin/sh\nPYTHONPATH='{PROJECT}' exec '{sys.executable}' -m tests.features.sources.java_stand_in \"$@\"\n"
    )
    java.chmod(0o755)
    (folder / "own.jar").write_bytes(b"a jar")
    environment.setenv("PATH", f"{java.parent}:/usr/bin:/bin")
    environment.delenv("JAVA_HOME", raising=False)
    environment.setenv("SEQUELA_SYNTHEA_JAR", str(folder / "own.jar"))
    environment.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    environment.setenv("STAND_IN_LOG", str(folder / "log"))
    return folder / "log"


def runs(log: Path) -> list[list[str]]:
    """The arguments of each run, after the process number."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
