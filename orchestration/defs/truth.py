"""Of a simulated population alone: the true risks, and how near the models come. For evaluation, never an input."""

import os

import dagster as dg
import polars as pl

from features.errors import SourceError
from features.sources.landed import read_manifest
from orchestration.resources import Study
from orchestration.tables_io import column_schema


class TruthConfig(dg.Config):
    """How precisely the truth is simulated."""

    visits_of_each: int = 2
    futures_of_each: int = 100
    treatments: str = "metformin sglt2 glp1 statin ace_inhibitor"  # drugs of treatments.toml, apart by spaces


@dg.asset(
    group_name="evaluation",
    kinds={"polars"},
    code_version="1",
    deps=["timelines"],
    metadata={"dagster/column_schema": column_schema("true_risks")},
)
def true_risks(study: Study, config: TruthConfig) -> pl.DataFrame:
    """The probability of each outcome given the whole hidden state, and what each treatment would change."""
    from features.sources.simulation import VERSION
    from features.true_risks import true_risks as simulate_true_risks

    manifest = read_manifest(study.records)
    if manifest is None or manifest.kind != "simulated":
        raise SourceError(
            "Nobody knows the true risks of these records: they are not simulated. Simulate some in another home: "
            "`sequela run --home HOME`, then `sequela truth --home HOME`."
        )
    if manifest.parameters.get("version") != VERSION:
        raise SourceError(
            "These records come of another version of the simulation, so their true risks cannot be found any more. "
            "Run `sequela run` again, then `sequela truth`."
        )
    return simulate_true_risks(
        patients=int(manifest.parameters["patients"]),
        seed=int(manifest.parameters["seed"]),
        key=study.key(),
        shifts=study.shifts(),
        each=config.visits_of_each,
        copies=config.futures_of_each,
        treatments=tuple(config.treatments.split()),
        processes=study.processes or os.cpu_count() or 1,
    )


@dg.asset(
    group_name="evaluation",
    kinds={"polars"},
    code_version="1",
    metadata={"dagster/column_schema": column_schema("oracle")},
)
def oracle(study: Study, predictions: pl.LazyFrame, true_risks: pl.LazyFrame) -> pl.DataFrame:
    """Each model's AUROC beside that of the true risk, on the same held-out rows."""
    from models.oracle import compare_with_oracle

    settings = study.settings
    return compare_with_oracle(predictions.collect(), true_risks.collect(), settings.bootstrap_resamples, settings.seed)
