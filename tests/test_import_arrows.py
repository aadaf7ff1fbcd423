"""The arrows of the design: who may import whom, and what Dagster's definitions may not load."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
OURS = {"features", "models", "orchestration", "serving", "benchmarks", "tests"}
FORBIDDEN = {
    "features": (OURS - {"features"}) | {"torch", "dagster", "lightgbm", "sklearn", "lightning"},
    "models": (OURS - {"features", "models"}) | {"dagster"},
    "orchestration": OURS - {"features", "models", "orchestration"},
}
HEAVY = {"torch", "lightgbm", "sklearn", "captum", "pytorch_forecasting", "lightning", "matplotlib"}


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Top-level names imported anywhere in a module, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}: write the full name"
            yield str(node.module).partition(".")[0], node.lineno


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_what_it_may(package):
    for path in sorted((PROJECT / package).rglob("*.py")):
        wrong = [(name, line) for name, line in imported(ast.parse(path.read_text())) if name in FORBIDDEN[package]]
        assert not wrong, f"{path.relative_to(PROJECT)} may not import {wrong}"


def test_every_package_is_looked_at():
    assert all((PROJECT / package / "__init__.py").exists() for package in FORBIDDEN)


def test_definitions_load_nothing_heavy_at_module_level():
    """Dagster imports these files again in every process."""
    for path in sorted((PROJECT / "orchestration").rglob("*.py")):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {name for node in top for name, _ in imported(node)}
        assert not names & (HEAVY | {"models"}), path.relative_to(PROJECT)


def test_the_check_sees_an_import_inside_a_function():
    hidden = ast.parse("def f():\n    from dagster.core import x\n    import torch.nn as nn\n")
    assert list(imported(hidden)) == [("dagster", 2), ("torch", 3)]


def naming(words: str) -> set[str]:
    """The modules outside the simulation in which `words` stand."""
    texts = {
        path.relative_to(PROJECT).as_posix(): path.read_text()
        for package in FORBIDDEN
        for path in (PROJECT / package).rglob("*.py")
        if not path.is_relative_to(PROJECT / "features" / "sources" / "simulation")
    }
    return {name for name, text in texts.items() if words in text}


def test_nobody_but_the_evaluation_knows_the_hidden_truth():
    """Whatever else names the true risks, in an import or as a table, could make features or models of them."""
    shown = {f"orchestration/{name}.py" for name in ("warehouse", "tables_io", "defs/jobs", "defs/scoring")}
    made = {"features/true_risks.py", "features/result_tables.py", "models/oracle.py", "orchestration/defs/truth.py"}
    assert naming("true_risks") | naming("TrueRisks") == shown | made
    drawn = {"features/true_risks.py", "features/sources/land.py", "orchestration/defs/truth.py"}
    assert naming("sources.simulation") == drawn
