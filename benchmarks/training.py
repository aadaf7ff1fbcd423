"""How fast do the sequence models learn and predict, beside those of PyHealth on the same sequences?

python -m benchmarks.training --home HOME [--patients N] [--tools .venv-pyhealth] [--rounds R] [--million] [--json]
python -m benchmarks.training --home HOME --device cuda --width 1024 --layers 8 --peak-tflops 989

One sequence for each of the first N train patients by id: its newest 32 prediction times and every visit that any of
them looks back on. The same visits and codes go to both sides. PyHealth (benchmarks.pyhealth_peer says what its figures
mean) learns one label a patient; this project learns every task at each of the prediction times. The network of ours
beside each of theirs has the width at which the number of parameters comes closest. Each figure is the best of R
rounds, in which all models take turns; events are those of the visits, so that what only we read counts for nobody.

events_per_s and labels_per_s are of training, patients_per_s of prediction at one prediction time a patient from
sequences that stand in memory; `cpu_` the same by seconds of processor, which others on a busy machine disturb less.
--million: two processes score each patient of the home at its last prediction time, from the files of events to the
risks of all tasks, with the network's usual size; minutes_for_a_million is that pace kept up.
On a GPU bf16 is used, and share_of_peak is the matrix work counted, by time, by the peak that is stated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.training_ours import (
    Pace,
    Prepared,
    closest_width,
    network,
    paced,
    prepare,
    score_files,
    shard_groups,
    whole_network,
)

PEERS = {"timeline_transformer": "Transformer", "gru_d": "RNN", "retain": "RETAIN"}
PEER_PROGRAM = Path(__file__).with_name("pyhealth_peer.py")
PEER_BATCHES = (32, 128)  # the better one counts, figure by figure
EXTENTS = ("whole", "truncated")
PROCESSES = 2

Figures = dict[str, float | int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=800, help="train patients that both learn from (default: 800)")
    parser.add_argument(
        "--tools", type=Path, help="the peer's environment (make pyhealth-tools); without it, ours alone"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of torch (default: 1 2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--width", type=int, help="of our transformer; without it, that of equal parameters")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--peak-tflops", type=float, help="the device's dense bf16 peak, as its maker states it")
    parser.add_argument("--million", action="store_true", help="also score every patient of the home")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on the last line")
    options = parser.parse_args()
    prepared = prepare(options.home, options.patients)
    found: dict[str, object] = {"patients": prepared.patients, "events": prepared.events, "visits": prepared.visits}
    found |= {"labels": prepared.labelled, "prediction_times": len(prepared.stretches.rows), "device": options.device}
    if options.device != "cpu":
        found["timeline_transformer"] = on_device(
            prepared, options.device, options.width, options.layers, options.peak_tflops
        )
    else:
        found["models"] = beside_peers(prepared, options.tools, options.threads, options.rounds)
    if options.million:
        found["million"] = million(options.home)
    for name, value in found.items():
        print(f"{name:22} {value}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(found))


def beside_peers(prepared: Prepared, tools: Path | None, threads: list[int], rounds: int) -> dict[str, Figures]:
    """Figures by model and threads, ours and the peer's; the best of the rounds."""
    best: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="sequela-benchmark-") as folder:
        samples = Path(folder) / "samples.json"
        samples.write_text(json.dumps(prepared.samples))
        for cores in [cores for _ in range(rounds) for cores in threads]:
            for ours, theirs in PEERS.items():
                parameters = None
                for extent, batch in product(EXTENTS, PEER_BATCHES) if tools else ():
                    figures = peer(tools, samples, theirs, cores, extent, batch)
                    parameters = int(figures["parameters"])
                    # What it was given and threw away counts here, and here alone.
                    passed = figures["patients_trained_per_s"] * prepared.events / prepared.patients
                    figures["given_events_per_s"] = round(passed)
                    _keep(best, f"pyhealth_{theirs.lower()}/{extent}/{cores}", figures)
                width = closest_width(prepared, ours, parameters) if parameters else 64
                _keep(best, f"{ours}/{cores}", measured(prepared, ours, width, cores))
    return dict(sorted(best.items()))


def measured(prepared: Prepared, name: str, width: int, threads: int) -> Figures:
    """Our figures for one model."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        model = network(prepared, name, width)
        learning, predicting = paced(prepared, model)
    finally:
        torch.set_num_threads(before)
    parameters = sum(weights.numel() for weights in model.parameters())
    return {"parameters": parameters, "width": width} | _rates(
        prepared.events, prepared.labelled, prepared.patients, learning, predicting
    )


def peer(tools: Path, samples: Path, model: str, threads: int, extent: str, batch: int) -> Figures:
    """The peer's figures for one model, from a process of its own environment."""
    told = subprocess.run(
        [tools / "bin" / "python", PEER_PROGRAM, samples, model, str(threads), str(batch), "1", extent, "cpu"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ).stdout
    figures = json.loads(told.strip().rpartition("\n")[2])
    learning = Pace(figures["train_seconds"], figures["train_cpu_seconds"])
    predicting = Pace(figures["predict_seconds"], figures["predict_cpu_seconds"])
    patients = figures["patients"]
    return {"parameters": figures["parameters"], "width": 128} | _rates(
        figures["events"], patients, patients, learning, predicting
    )


def on_device(prepared: Prepared, device: str, width: int | None, layers: int, peak_tflops: float | None) -> Figures:
    """Our transformer's figures on an accelerator in bf16, with its share of the peak."""
    model = network(prepared, "timeline_transformer", width or 1024, layers).to(device)
    learning, predicting = paced(prepared, model, device, places_per_batch=65_536)
    figures: Figures = {"parameters": sum(weights.numel() for weights in model.parameters())} | _rates(
        prepared.events, prepared.labelled, prepared.patients, learning, predicting
    )
    tflops = learning.flops / learning.seconds / 1e12
    share = {"share_of_peak": round(tflops / peak_tflops, 3)} if peak_tflops else {}
    return figures | {"tflops": round(tflops, 1)} | share


def million(home: Path) -> Figures:
    """Score everybody in the home by two processes: patients a second together, and minutes for a million.

    cpu_minutes_for_a_million: the same if both processes had a core for themselves all the time.
    """
    os.environ["POLARS_MAX_THREADS"] = "1"  # of the new processes: one core each
    groups, model = shard_groups(home), whole_network(home)
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as workers:
        everywhere = ([home] * len(groups), [model] * len(groups))
        list(workers.map(score_files, *everywhere, groups[: 2 * PROCESSES]))  # imports and first calls
        began = time.perf_counter()
        scored = list(workers.map(score_files, *everywhere, groups))
        seconds = time.perf_counter() - began
    patients, cpu_seconds = sum(one[0] for one in scored), sum(one[1] for one in scored) / PROCESSES
    return {
        "patients": patients,
        "seconds": round(seconds, 1),
        "patients_per_s": round(patients / seconds),
        "minutes_for_a_million": round(1e6 * seconds / patients / 60, 1),
        "cpu_minutes_for_a_million": round(1e6 * cpu_seconds / patients / 60, 1),
    }


def _rates(events: int, labels: int, patients: int, learning: Pace, predicting: Pace) -> Figures:
    return {
        "events_per_s": round(events / learning.seconds),
        "labels_per_s": round(labels / learning.seconds),
        "patients_trained_per_s": round(patients / learning.seconds, 1),
        "patients_per_s": round(patients / predicting.seconds),
        "cpu_events_per_s": round(events / learning.cpu_seconds),
        "cpu_patients_per_s": round(patients / predicting.cpu_seconds),
    }


def _keep(best: dict[str, Figures], name: str, figures: Figures) -> None:
    """Keep the better of each figure, and tell how it goes."""
    print(name, figures, file=sys.stderr, flush=True)
    before = best.get(name, figures)
    best[name] = {key: max(value, before[key]) for key, value in figures.items()}


if __name__ == "__main__":
    main()
