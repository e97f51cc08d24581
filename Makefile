# `make help` lists what there is. Everything runs in .venv, which the first target makes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TEST_READY := $(VENV)/.test-ready
DOCS_READY := $(VENV)/.docs-ready
# One thread a process: more would be in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint docs notebooks dist bench bench-auc clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "halometry needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(READY): pyproject.toml | $(BIN)/python
	@echo "installing halometry and PyTorch into $(VENV): 6 GB, a few minutes the first time"
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(TEST_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	@touch $@

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

setup: $(READY)  ## make the virtual environment and install the package

demo: $(READY)  ## trained weights at work, then eight networks trained and compared: minutes
	$(BIN)/halometry demo --out demo

test: lint  ## lint, types and the quick tests
	$(PYTEST)

test-all: lint  ## all tests, the slow ones too
	$(PYTEST) -m ''

lint: $(TEST_READY)  ## style, types, and words of the documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python research/check_words.py

docs: $(DOCS_READY)  ## build the site into site/
	$(BIN)/mkdocs build --strict

notebooks: $(TEST_READY)  ## execute the notebooks of the tutorials again: five minutes
	$(BIN)/python research/run_notebooks.py

dist: $(TEST_READY)  ## build the wheel and the source archive into dist/, and check them
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	HALOMETRY_DIST=dist $(BIN)/python -m pytest tests/test_distribution.py

bench: $(READY)  ## time rendering, simulation and training on this machine: an hour
	$(BIN)/python benchmarks/rendering.py --out results/rendering.json
	$(BIN)/python benchmarks/simulate.py --out results/simulate.json
	$(BIN)/python benchmarks/training.py --out results/training_speed.json
	$(BIN)/python benchmarks/training_loop.py --out results/training_loop.json

bench-auc: $(READY)  ## time the published recipe and ours to the same AUC: hours, can be stopped
	$(BIN)/python benchmarks/time_to_auc.py --out results/time_to_auc.json

clean:  ## remove what was built; the environment stays
	rm -rf demo site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
