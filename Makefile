# Everything here needs only Python 3.11 or later, and make. `make` alone tells what there is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
STAMP := $(VENV)/.installed
COMPAT := $(wildcard compat/http-parser/*.cfg compat/http-parser/*.toml compat/http-parser/src/*/*.py compat/http-parser/http_parser/*.py)
SOURCES := polly_mesos drivers examples bench chaos tests compat/http-parser

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench chaos setup tools test-tools clean

help: ## tell what can be made
	@echo "usage: make TARGET [PYTHON=python3.12] [ARGS='...']"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: tools $(STAMP) ## a real Mesos, Polly, and a task that finds its data again (ARGS=--keep leaves it running)
	@$(BIN)/polly demo $(ARGS)

test: test-tools $(STAMP) ## all tests; what needs root is skipped for other users (ARGS='-k name' chooses)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: tools $(STAMP) ## measure, and print a table (ARGS=--json for programs)
	@$(BIN)/python -m bench $(ARGS)

docs: $(STAMP) ## make the pages in docs/ that come out of the code
	@$(BIN)/python -m polly_mesos.ledger.transitions docs/transitions.md

chaos: test-tools $(STAMP) ## faults on a real Mesos; does anything get lost? (SEED=1 FAULTS=500 or ROUNDS=10)
	@$(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(FAULTS),--faults $(FAULTS)) $(ARGS)

setup: $(STAMP) ## only install what the other targets need, into .venv

clean: ## remove what was built and installed here
	@rm -rf $(VENV) build dist *.egg-info compat/http-parser/build compat/http-parser/*.egg-info \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

tools:
	@.ci/host-tools $(PYTHON) demo

test-tools:
	@.ci/host-tools $(PYTHON) test

$(STAMP): setup.cfg pyproject.toml requirements.lock $(COMPAT)
	@.ci/host-tools $(PYTHON) setup
	@echo "== $(VENV): $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "== installing http-parser, our stand-in for the one that pymesos asks for"
	@$(PIP) install --quiet --constraint requirements.lock ./compat/http-parser
	@echo "== installing polly-mesos and $$(grep -c == requirements.lock) packages that it and its tests need"
	@$(PIP) install --quiet --constraint requirements.lock --editable '.[dev]'
	@touch $@
