"""A stand-in for `java -jar synthea.jar`, since Synthea itself cannot be downloaded where the tests run.

It is no Synthea: it takes the same arguments, answers `-version`, and writes the little population of
tests/synthetic_records.py where Synthea would write its own, under the names that Synthea gives its files. STAND_IN
says how it fails: old, silent, exit, memory, nothing (ends well without a patient) or hangs. STAND_IN_LOG is a file to
which it adds its process number and arguments.
"""

import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

from tests.synthetic_records import write_records


def main(arguments: list[str]) -> int:
    how = os.environ.get("STAND_IN", "")
    if arguments == ["-version"]:
        version = {"old": '"1.8.0_392"', "silent": "none"}.get(how, '"17.0.15" 2025-04-15')
        print(f"openjdk version {version}", file=sys.stderr)
        return 0
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(json.dumps([os.getpid(), *arguments]) + "\n")
    settings = dict(argument[2:].split("=", 1) for argument in arguments if argument.startswith("--"))
    asked = dict(pairwise(arguments))
    patients, seed = int(asked["-p"]), int(asked["-s"])
    print("Loading module modules/asthma.json", flush=True)
    written = Path(settings["exporter.baseDirectory"], "fhir")
    written.mkdir(parents=True)
    if how == "nothing":
        return 0
    write_records(written, patients, seed, as_synthea=True)
    (written / "Organization.ndjson").rename(written / "Organization.1721218811633.ndjson")
    (written / "parameters.json").write_text('{"resourceType": "Parameters"}')
    if settings["generate.log_patients.detail"] == "simple" or how:
        print("1 -- Abe604 Frami345 (34 y/o M) Boston, Massachusetts (99)", flush=True)
    if how == "hangs":
        time.sleep(600)
    if how == "memory":
        print('Exception in thread "main" java.lang.OutOfMemoryError: Java heap space', file=sys.stderr)
    if how == "exit":
        print('Exception in thread "main" java.lang.RuntimeException: no such place', file=sys.stderr)
    return 1 if how in ("memory", "exit") else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
