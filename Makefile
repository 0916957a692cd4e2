# Needs python3 (3.11 or newer) with venv, and make. The environment in .venv is set up on the first call and again
# when pyproject.toml or the constraints change. The constraints are for this checkout alone: users of the package get
# the newest versions that pyproject.toml allows.

PYTHON ?= python3
READY := .venv/.ready
CONSTRAINTS := .ci/constraints.txt
BIN := .venv/bin

.PHONY: demo test test-slow lint types docs setup

demo: RUN := $(shell test -e runs/demo && date +runs/demo-%Y%m%d-%H%M%S || echo runs/demo)
demo: $(READY)  ## train, then adapt to tasks that were never trained on
	$(BIN)/python -m metarl train demo --run-dir $(RUN)
	$(BIN)/python -m metarl evaluate $(RUN)
	$(BIN)/python -m metarl report $(RUN)

test: $(READY)  ## the fast tests
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/ty check --python .venv

docs: $(READY)  ## the API reference, in build/docs; a warning is an error
	$(BIN)/python -W error::UserWarning -m pdoc --docformat google --output-directory build/docs metarl '!metarl.envs' envs

setup: $(READY)

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'error: $(PYTHON) is older than Python 3.11, or missing; name another: make PYTHON=python3.12'; exit 1; } >&2
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	@touch $@
