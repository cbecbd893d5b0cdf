# Everything here sets itself up: a virtual environment in .venv with every dependency pinned by hash.
# PYTHON=python3.12 on the command line or in the environment chooses the interpreter.
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --quiet
PYTEST := $(BIN)/pytest -n 4 --dist worksteal
SCHEMA := $(BIN)/check-jsonschema --builtin-schema vendor.
IMAGE ?= nanobanana-gateway:local

.PHONY: help setup runtime development serve test test-all coverage simulate fuzz bench docs lint format lock hooks wheel image clean

help:  ## List all targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: development  ## Create the development environment

runtime development:
	@sh scripts/environment.sh $@

serve: runtime  ## Start the service (settings: environment or .env)
	@exec $(BIN)/python -m app serve

test: development  ## Run the fast tests (about two minutes on a quiet machine)
	$(PYTEST) -m "not (benchmark or browser or e2e or fuzz or simulation or slow)"

test-all: development  ## Run all tests
	$(PYTEST)

coverage: development  ## Run all tests and measure coverage of app/
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 4 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under 95

simulate: development  ## Run the long simulation (STEPS, SEED)
	$(BIN)/python -m tests.simulation --steps $(or $(STEPS),1000000) --seed $(or $(SEED),1)

fuzz: development  ## Run long fuzzing campaigns against a running gateway (CASES for each operation, SEED)
	$(BIN)/python -m tests.fuzz --examples $(or $(CASES),500) --seed $(or $(SEED),1)

bench: development  ## Benchmark the service against a no-op endpoint (ARGS, see docs/explanation/performance.md)
	$(BIN)/python -m benchmarks $(ARGS)

docs: development  ## Generate the reference from the code and build the documentation into site/
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

lint: development  ## Check style, types, imports, configuration, docs, lock files and (with npm) the OpenAPI document
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile .devcontainer/Dockerfile
	$(SCHEMA)compose-spec docker-compose.yml
	$(SCHEMA)github-workflows .github/workflows/*.yml
	$(SCHEMA)github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(SCHEMA)github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(SCHEMA)dependabot .github/dependabot.yml
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/python -m tests.openapi
	$(BIN)/python -m docs.generate --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir $(VENV)/site
	$(UV) pyproject.toml --output-file requirements.txt
	$(UV) pyproject.toml --group dev --group docs --output-file requirements-dev.txt
	git diff --exit-code -- requirements.txt requirements-dev.txt

format: development  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: development  ## Renew the lock files from pyproject.toml
	$(UV) --upgrade pyproject.toml --output-file requirements.txt
	$(UV) --upgrade pyproject.toml --group dev --group docs --output-file requirements-dev.txt

hooks: development  ## Check each commit and push with git hooks
	$(BIN)/pre-commit install

wheel: development  ## Build the wheel
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel

image:  ## Build the container image with docker, or buildah where no daemon runs (IMAGE)
	@sh scripts/image.sh $(IMAGE)

clean:  ## Remove build artifacts, not data
	rm -rf $(VENV) site tests/openapi/node_modules build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
