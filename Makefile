# Everything runs inside .venv, which the first command makes. Only Python 3.11 or newer and make are needed.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup train train-birdnet phases test test-slow test-all lint audit bench tensorboard clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv and install the package with the exact versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "birdclf needs Python 3.11 or newer, this is " + sys.version.split()[0] + ". Choose another by make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

train: $(STAMP)  ## train phase 2B on the embedded default at a small scale (about 3 minutes on 2 cores)
	$(BIN)/birdclf train experiment=phase2b data.num_species=30 data.scale=0.05 trainer.max_epochs=20 $(ARGS)

train-birdnet: $(STAMP)  ## train a probe on the frozen vectors of BirdNET (about 2 minutes; its weights: CC BY-NC-SA 4.0)
	$(BIN)/birdclf train experiment=birdnet_best data.scale=0.1 split=grouped $(ARGS)

phases: $(STAMP)  ## train the five published phases on the embedded default, side by side (ARGS="data.scale=0.2")
	$(BIN)/birdclf train -m sweep=phases $(ARGS)

test: $(STAMP)  ## run the fast tests
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m 'not slow' $(ARGS)

test-slow: $(STAMP)  ## run the tests that take longer
	$(BIN)/python -m pytest -n auto --dist load -m slow $(ARGS)

test-all: test test-slow  ## run all tests

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(STAMP)  ## look for known vulnerabilities in what is installed; fails too where the data base cannot be reached
	$(BIN)/python tests/checks/vulnerabilities.py

bench: $(STAMP)  ## print speed ratios, measured against a plain PyTorch loop in one run
	$(BIN)/python benchmarks/bench.py $(ARGS)

tensorboard: $(STAMP)  ## show the curves of all runs below outputs/
	$(BIN)/tensorboard --logdir outputs $(ARGS)

clean:  ## delete caches and build products; results in outputs/ and the environment stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find birdclf tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
