# Everything a person types. `make run` is the shortest way to a result; `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help install run test ui bench lint format check meds-tools pyhealth-tools

# The newest Python that the project supports (pyproject.toml: >=3.11,<3.13).
PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3.12) $(shell command -v python3))
VENV := .venv
STAMP := $(VENV)/.installed

# make run FROM=source PATIENTS=number HOME_DIR=folder; all have defaults. (HOME itself is left alone: it is the
# person's.) OPTIONS="--seed 7 --state Maine" is handed on: whatever else `sequela run` understands.
FROM ?=
PATIENTS ?=
OPTIONS ?=
HOME_DIR ?=
PORT ?=
SEQUELA := $(VENV)/bin/sequela
HOME_OPTION := $(if $(HOME_DIR),--home "$(HOME_DIR)")

# Where pip finds torch; empty for the usual index. On Linux, PyTorch's own index of CPU-only wheels saves gigabytes.
TORCH_INDEX ?=

help: ## List what can be made.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

install: $(STAMP) ## Make .venv and install everything into it; does nothing when it is up to date.

# torch comes first and alone: asked for together with the rest, pip may pick its much larger CUDA build.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed and was not found." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "Python 3.11 or 3.12 is needed; set PYTHON=/path/to/python3.11." >&2; exit 1; }
	test -x $(VENV)/bin/python || "$(PYTHON)" -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "torch>=2.8,<2.14"
	$(VENV)/bin/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)

# The tools of the MEDS community cap polars below 2 and bring hydra, on which Dagster breaks: never into .venv.
meds-tools: ## Make .venv-meds with ACES, with which a test has the cohorts drawn again (docs/tasks.md).
	test -x .venv-meds/bin/python || "$(PYTHON)" -m venv .venv-meds
	.venv-meds/bin/python -m pip install --quiet --requirement requirements-meds.txt

# torch comes first and alone, as above; PyHealth brings the rest.
pyhealth-tools: ## Make .venv-pyhealth with PyHealth, beside which benchmarks.training measures (docs/performance.md).
	test -x .venv-pyhealth/bin/python || "$(PYTHON)" -m venv .venv-pyhealth
	.venv-pyhealth/bin/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "torch>=2.8,<2.14"
	.venv-pyhealth/bin/python -m pip install --quiet --requirement requirements-pyhealth.txt

run: install ## Run the main job; FROM=simulated (default, PATIENTS=3000), examples, synthea, https://server or a folder.
	$(SEQUELA) run $(if $(FROM),--from "$(FROM)") $(if $(PATIENTS),--patients "$(PATIENTS)") $(OPTIONS) $(HOME_OPTION)

test: install ## Run all tests.
	$(VENV)/bin/python -m pytest -n 2

ui: install ## Open Dagster on http://127.0.0.1:3000 (PORT=number) with the same assets, checks, jobs and schedule.
	$(SEQUELA) ui $(HOME_OPTION) $(if $(PORT),--port "$(PORT)")

bench: install ## Measure the main job step by step, and with FROM=folder the reading of its records.
	$(VENV)/bin/python -m benchmarks.main_job --json $(if $(FROM),--from "$(FROM)")
	$(if $(FROM),$(VENV)/bin/python -m benchmarks.ingest --json --from "$(FROM)")

lint: install ## Formatting, lint and types.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

format: install ## Put the code into its format.
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

check: install ## Load the Dagster definitions as its code server would.
	DAGSTER_DISABLE_TELEMETRY=1 VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(VENV)/bin/dg check defs
