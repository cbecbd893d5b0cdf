# Everything here sets itself up: a virtual environment in .venv with every dependency pinned by hash.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
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

$(DOCS_READY): $(READY) requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.txt
	touch $(DOCS_READY)

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

bench: $(READY)  ## Measure the service beside an endpoint that does nothing (ARGS, see docs/explanation/performance.md)
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DOCS_READY)  ## Generate the reference from the code and build the documentation into site/
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

lint: $(READY) $(DOCS_READY)  ## Check style, types, imports, docs, lock files and (with npm) the OpenAPI document
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.openapi
	$(BIN)/python -m docs.generate --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir $(VENV)/site
	$(UV) pyproject.toml --output-file requirements.txt
	$(UV) pyproject.toml --group dev --output-file requirements-dev.txt
	$(UV) --group docs --constraint requirements-dev.txt --output-file requirements-docs.txt
	git diff --exit-code -- requirements.txt requirements-dev.txt requirements-docs.txt

format: $(READY)  ## Bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## Renew the lock files from pyproject.toml
	$(UV) --upgrade pyproject.toml --output-file requirements.txt
	$(UV) --upgrade pyproject.toml --group dev --output-file requirements-dev.txt
	$(UV) --upgrade --group docs --constraint requirements-dev.txt --output-file requirements-docs.txt

clean:  ## Remove what was built, but no data
	rm -rf $(VENV) site tests/openapi/node_modules build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
