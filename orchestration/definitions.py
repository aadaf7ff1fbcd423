"""Everything Dagster runs: the assets with their checks in defs/, the jobs, and the resources they share.

Start here: an asset in defs/ names its inputs, makes one call into `features` or `models`, and hands the
result on.
"""

from pathlib import Path

import dagster as dg

from orchestration.launch import step_lines
from orchestration.resources import Study
from orchestration.tables_io import ParquetTablesFactory, SealedTablesFactory


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions of the project."""
    study = Study.configure_at_launch()
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
        dg.Definitions(
            resources={
                "study": study,
                "io_manager": ParquetTablesFactory(study=study),
                "sealed_tables": SealedTablesFactory(study=study),
            },
            loggers={"console": dg.colored_console_logger, "steps": step_lines},
        ),
    )
