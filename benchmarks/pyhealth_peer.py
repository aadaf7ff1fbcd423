"""Training and prediction by PyHealth 1.1.6, in an environment of its own (`make pyhealth-tools`).

A program, not a module: it is run by that environment's Python, imports nothing of this project, and is told
<samples.json> <model> <threads> <batch size> <epochs> <truncated|whole> <device>. Each sample is one patient: `visits`,
a list of lists of codes, and `label`, "0" or "1". The last line is one JSON object.

What must be known to read its figures:
- Its tokenizer keeps the newest 10 visits, without a word. `truncated` leaves that as it is, `whole` lifts it; only
  events that it reads are counted (`events`).
- Its loop is used as it is (Trainer.train, Trainer.inference), with its defaults: 128 dimensions, one label a patient.
  Codes are looked up in a dictionary and padded to the longest visit of a batch each time, which is part of its time.
- torchvision, which only its image models need, must be of the very build of torch; an empty module stands in for it.
"""

import json
import logging
import sys
import time
import types
import warnings
from functools import partial
from pathlib import Path

MOST_VISITS, MOST_CODES = 10, 512  # the defaults of its batch_encode_3d


def measure(
    samples: list[dict[str, object]],
    model_name: str,
    threads: int,
    batch: int,
    epochs: int,
    is_whole: bool,
    device: str,
) -> dict[str, float]:
    """Train for some epochs after one that is not counted, then predict; seconds on the clock and of processor."""
    for name in ("torchvision", "torchvision.transforms", "torchvision.models"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    warnings.simplefilter("ignore")
    import torch
    from pyhealth import models
    from pyhealth.datasets import SampleEHRDataset, get_dataloader
    from pyhealth.trainer import Trainer

    logging.disable(logging.CRITICAL)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    rows = [
        {"patient_id": f"p{place}", "visit_id": f"v{place}", "codes": one["visits"], "label": one["label"]}
        for place, one in enumerate(samples)
    ]
    dataset = SampleEHRDataset(rows, dataset_name="same_sequences")
    model = getattr(models, model_name)(dataset=dataset, feature_keys=["codes"], label_key="label", mode="binary")
    if is_whole:
        tokenizer = model.feat_tokenizers["codes"]
        tokenizer.batch_encode_3d = partial(tokenizer.batch_encode_3d, truncation=(False, False))
    trainer = Trainer(model=model, device=device, enable_logging=False)
    trainer.train(get_dataloader(dataset, batch, shuffle=True), epochs=1)
    moments = [(time.perf_counter(), time.process_time())]
    trainer.train(get_dataloader(dataset, batch, shuffle=True), epochs=epochs)
    moments.append((time.perf_counter(), time.process_time()))
    trainer.inference(get_dataloader(dataset, batch))
    moments.append((time.perf_counter(), time.process_time()))
    (began, cpu_began), (trained, cpu_trained), (predicted, cpu_predicted) = moments
    kept = [one["codes"] if is_whole else [v[-MOST_CODES:] for v in one["codes"][-MOST_VISITS:]] for one in rows]
    return {
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "events": sum(len(visit) for visits in kept for visit in visits),
        "patients": len(rows),
        "train_seconds": (trained - began) / epochs,
        "train_cpu_seconds": (cpu_trained - cpu_began) / epochs,
        "predict_seconds": predicted - trained,
        "predict_cpu_seconds": cpu_predicted - cpu_trained,
    }


if __name__ == "__main__":
    path, chosen, cores, size, passes, extent, where = sys.argv[1:]
    told = json.loads(Path(path).read_text())
    print(json.dumps(measure(told, chosen, int(cores), int(size), int(passes), extent == "whole", where)))
