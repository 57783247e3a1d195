# Every target sets itself up from a bare Python 3.11: `make test` on a clean clone is enough.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.8
INSTALLED := $(VENV)/.installed
BROWSER := $(VENV)/.browser
# A breaking change of a contract fails `make check`; one that is meant passes with CONTRACTS_AGAINST=HEAD.
CONTRACTS_AGAINST ?= HEAD~1
# Tools find the environment as if it were activated; `dg` insists on it.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help install demo dev test check bench clean lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Set up .venv and nothing else

demo: $(INSTALLED) ## Watch the flights example build itself up to a live endpoint; EXIT=1 stops by itself
	@ml-assets demo $(if $(filter-out 0 no false,$(EXIT)),--exit)

dev: $(INSTALLED) ## Run the Dagster UI and daemon with all sensors on, until Ctrl-C
	@ml-assets dev

test: $(INSTALLED) $(BROWSER) ## Run all tests
	python -m pytest -p ml_assets_tests.no_skips -n 2 --dist worksteal

check: $(INSTALLED) ## Check style, types, import contracts, definitions and contracts of tables
	ruff check
	ruff format --check
	pyright
	lint-imports
	dg check defs
	dagster definitions validate -w workspace.yaml
	@if git rev-parse --quiet --verify $(CONTRACTS_AGAINST)^{commit} >/dev/null 2>&1; then \
		ml-assets contract check --against $(CONTRACTS_AGAINST); \
	else echo "contracts not compared: there is no commit $(CONTRACTS_AGAINST) here"; fi

bench: $(INSTALLED) ## Run the benchmarks
	python -W ignore -m benchmarks

clean: ## Remove what was computed, built and cached; the environment stays
	@if [ -x $(BIN)/ml-assets ] && [ -d var ]; then $(BIN)/ml-assets endpoint stop; fi
	rm -rf var build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache .tmp* .logs_queue \
		.coverage htmlcov
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

lock: $(INSTALLED) ## Choose the newest allowed versions of all dependencies again
	$(UV) pip compile --quiet --python-version 3.11 --generate-hashes --upgrade --group dev pyproject.toml \
		--output-file requirements.lock --custom-compile-command "make lock"

# Bytecode once, at installation: else each of many processes may compile all that it imports, half of its CPU.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("ml_assets needs Python 3.11 or newer: make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	$(UV) pip install --quiet --no-deps -e .
	$(BIN)/python -m compileall -q ml_assets
	@touch $@

# The browser tests drive a Chromium of the system; without one they are skipped with a reason, in CI they fail.
$(BROWSER): | $(INSTALLED)
	@if ! (command -v chromium || command -v google-chrome) > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		(apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) > /dev/null || echo "Chromium could not be installed."; \
	fi
	@touch $@
