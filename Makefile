# Everything here sets itself up: a virtual environment in .venv with every dependency pinned by hash.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet

PYTEST := $(BIN)/pytest -n 4 --dist worksteal

.PHONY: help setup serve test test-all coverage simulate fuzz bench lint format lock clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## Create the virtual environment

$(READY): requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

serve: $(READY)  ## Start the service (settings: environment or .env)
	@exec $(BIN)/python -m app serve

test: $(READY)  ## Run the tests that take less than two minutes
	$(PYTEST) -m "not (benchmark or browser or e2e or fuzz or simulation or slow)"

test-all: $(READY)  ## Run all tests
	$(PYTEST)

coverage: $(READY)  ## Run all tests and measure what of app/ they reach (slower)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under 95

simulate: $(READY)  ## Run the long simulation (STEPS, SEED)
	$(BIN)/python -m tests.simulation --steps $(or $(STEPS),1000000) --seed $(or $(SEED),1)

fuzz: $(READY)  ## Run long fuzzing campaigns against a running gateway (CASES for each operation, SEED)
	$(BIN)/python -m tests.fuzz --examples $(or $(CASES),500) --seed $(or $(SEED),1)

bench: $(READY)  ## Measure the service beside an endpoint that does nothing (ARGS, see docs/performance.md)
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(READY)  ## Check style, types, import contracts, lock files and (with npm) the API's document
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.openapi
	$(UV) pyproject.toml --output-file requirements.txt
	$(UV) pyproject.toml --group dev --output-file requirements-dev.txt
	git diff --exit-code -- requirements.txt requirements-dev.txt

format: $(READY)  ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## Renew the lock files from pyproject.toml
	$(UV) --upgrade pyproject.toml --output-file requirements.txt
	$(UV) --upgrade pyproject.toml --group dev --output-file requirements-dev.txt

clean:  ## Remove what was built, but no data
	rm -rf $(VENV) tests/openapi/node_modules build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
