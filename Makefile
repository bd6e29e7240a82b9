# Needs Python >= 3.10 and make; everything else is installed into .venv.
#
#   make demo     install the runtime, segment a small real slide, say where the pictures are
#   make test     install everything and run the tests
#   make check    ruff, mypy, codespell
#   make fmt      let ruff rewrite what it can
#   make bench    measure what this machine can do: cellseg-bench/bench.html
#   make seeds    the five seeds' recipes from data to bundle to pictures: DATA=folder of the stand-ins
#   make bench-quick  ratios that guard against regressions, under three minutes
#   make bench-peers  the same network by others, SLIDE=made8k.tif: runs/peers/peers.html
#
# PYTHON=python3.12 make test   picks another interpreter (for a new .venv).

PYTHON ?= python3
VENV ?= .venv
DEMO_SLIDE := examples/cmu-1-small-region.svs
DEMO_OUT ?= cellseg-out

ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup fmt check test bench bench-quick bench-peers demo seeds clean

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo 'error: cellseg needs Python 3.10 or newer. hint: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo 'hint: on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

# A stamp holds the time of the last install, so that only a changed pyproject.toml installs again.
$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo 'installing the runtime into $(VENV) (once; about a minute)'
	@$(PIP) install --quiet -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo 'installing everything into $(VENV) (once; some minutes)'
	@$(PIP) install --quiet -e '.[dev,train,pretrained,export,wsi,tensorrt,tflite,zarr,parquet,live,dicom]'
	@touch $@ $(VENV)/.core

setup: $(VENV)/.dev

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/validate-pyproject pyproject.toml

test: $(VENV)/.dev
	$(BIN)/python -m pytest

bench: $(VENV)/.dev
	$(BIN)/cellseg-cli bench --slide $(DEMO_SLIDE)

bench-quick: $(VENV)/.dev
	$(BIN)/python bench/quick.py

seeds: $(VENV)/.dev
	@test -n "$(DATA)" || { echo 'error: DATA is the folder of the stand-ins. hint: make seeds DATA=../data' >&2; exit 1; }
	$(BIN)/python bench/seeds.py --data "$(DATA)"

# Environments that are there already are kept.
bench-peers: $(VENV)/.dev
	PYTHON=$(abspath $(BIN))/python bench/peers/make_env.sh all
	$(BIN)/python bench/peers.py $(or $(SLIDE),$(DEMO_SLIDE)) --envs runs/peers/env -o runs/peers/peers.json

demo: $(VENV)/.core
	$(BIN)/cellseg-cli infer $(DEMO_SLIDE) -o $(DEMO_OUT) --restart

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
