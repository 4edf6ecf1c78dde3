# SPDX-License-Identifier: Apache-2.0
# Every target creates .venv on first use and installs again only when a lock file or pyproject.toml changed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core-installed
TEST := $(VENV)/.test-installed
FULL := $(VENV)/.full-installed
TRAIN_RUN := runs/ppo-CartPole-v1-$(shell date +%Y%m%d-%H%M%S)

.PHONY: help train test test-all test-alone test-long test-cluster lint bench bench-peers docs dist lock clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shoal needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(CORE): requirements/lock.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(TEST): requirements/test.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/test.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(CORE) $@

$(FULL): requirements/full.txt $(TEST)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/full.txt
	touch $@

train: $(CORE) ## solve CartPole-v1 with PPO, then evaluate 100 episodes
	$(BIN)/shoal train ppo --env CartPole-v1 --seed 0 --run-dir $(TRAIN_RUN)
	$(BIN)/shoal evaluate $(TRAIN_RUN) --episodes 100 --at-least 475
	@echo "run folder: $(TRAIN_RUN)"
	@echo "report:     $(TRAIN_RUN)/report.html"

test: lint ## lint and every fast test, with a time budget per folder
	$(BIN)/python -m pytest -m "alone and not slow" tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow and not alone" tests

test-all: lint test-alone test-long test-cluster ## the same and the long checks, an hour at most for each of the three

test-alone: $(FULL) ## what measures this machine, so that nothing else may run beside it
	$(BIN)/python -m pytest -m alone --evidence docs/evidence.json tests

test-long: $(FULL) ## learning, failures and all else; records what is proved for the table of systems
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not alone" --evidence docs/evidence.json \
		--ignore tests/cluster tests

test-cluster: $(FULL) ## nodes of a cluster, with Ray and without, lost ones and bad networks among them
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not alone" tests/cluster

lint: $(TEST) ## ruff, pyright, the import ladder and its walls
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/repository

bench: $(CORE) ## every benchmark with tiny sizes; full ones: benchmarks/README.md
	$(BIN)/python -m benchmarks

bench-peers: $(TEST) ## beside other libraries, installed into .peers/
	$(BIN)/python -m benchmarks.peers.install
	$(BIN)/python -m benchmarks.peers.cartpole_ppo
	$(BIN)/python -m benchmarks.peers.on_device_ppo

docs: $(CORE) ## pages generated from the code
	$(BIN)/python docs/generate.py

dist: $(TEST) ## wheel and source archive, tried in an empty environment
	rm -rf dist build/empty
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --require-hashes -r requirements/lock.txt
	build/empty/bin/python -m pip install --quiet --no-deps dist/shoal-*.whl
	cd build && empty/bin/shoal --help >/dev/null
	cd build && empty/bin/shoal list architectures
	cd build && empty/bin/shoal list engines
	@ls -l dist

lock: $(BIN)/python ## exact versions and hashes again, from pyproject.toml
	$(BIN)/python -m pip install --quiet 'uv>=0.5'
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" --group build pyproject.toml -o requirements/lock.txt
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" --group build --group test -c requirements/lock.txt \
		pyproject.toml -o requirements/test.txt
	$(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-annotate --python-version 3.11 \
		--custom-compile-command "make lock" --group build --group test --group full -c requirements/test.txt \
		pyproject.toml -o requirements/full.txt

clean: ## everything that can be made again, but not runs/
	rm -rf $(VENV) build dist .cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
