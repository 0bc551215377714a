# Everything that a fresh machine needs: Python 3.11+ with venv, an OpenSSH client, and this file.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench clean

# A recovery of a loopback lab with injected faults, and a picture of it in demo/run/report.html.
demo: $(VENV)/.demo
	$(BIN)/bootorch lab demo

test: $(VENV)/.dev
	$(BIN)/pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/ansible-lint --offline --strict playbooks

# What is measured, one after the other; see benchmarks/README.md.
bench: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/power_fleet.py speed
	$(BIN)/python benchmarks/power_fleet.py loss
	$(BIN)/python benchmarks/ipmi_fuzz.py
	$(BIN)/python benchmarks/redfish_draw.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/makespan.py
	$(BIN)/python benchmarks/swarm.py --runs 2000
	$(BIN)/python benchmarks/power_schedule.py
	$(BIN)/python benchmarks/forecast_lab.py
	$(BIN)/python benchmarks/lab_recovery.py
	$(BIN)/python benchmarks/kill_matrix.py random
	$(BIN)/python benchmarks/kill_matrix.py boundaries

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bootorch needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[ansible]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
