# One command for each thing a contributor does. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test check coverage audit format simulate bench image clean

help:            ## list the commands
	@sed -n 's/^\([a-z]*\): .*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 10

$(VENV)/.run: pyproject.toml constraints.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)" all && touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)" dev && touch $@ $(VENV)/.run

# Without SINKS: postgres where a database is named, else the embedded sqlite.
run: $(VENV)/.run            ## make the environment and start Hermes on :8080, events kept in ./hermes-data
	@database="$${DB_DSN:-}$${DB_DSN_FILE:-}"; default="$${database:+postgres}"; \
	SINKS="$${SINKS:-$${default:-sqlite}}" LOG_FORMAT="$${LOG_FORMAT:-console}" exec $(BIN)/hermes serve

# Every process of the tests reads what the first has compiled; without that, each compiles it anew.
test: export PYTHONDONTWRITEBYTECODE =
test: export PYTHONPYCACHEPREFIX = $(abspath $(VENV)/pycache)
test: $(VENV)/.dev           ## make the environment and run every test, real Postgres included
	@scripts/find-postgres >/dev/null || scripts/install-postgres
	@scripts/install-clickhouse $(BIN)/python $(VENV)/clickhouse
	$(BIN)/pytest $(or $(ARGS),--numprocesses=3 --dist=loadgroup --no-loadscope-reorder)

check: $(VENV)/.dev          ## ruff, mypy strict, import-linter, the subjects of commits
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check-subjects

coverage: $(VENV)/.dev       ## which lines the quick tests run: make coverage ARGS=--html
	@VENV="$(VENV)" scripts/coverage $(ARGS)

# A tool of its own, in an environment of its own: what it needs is none of ours.
$(VENV)-audit/.made:
	@$(PYTHON) -m venv --clear $(VENV)-audit && $(VENV)-audit/bin/python -m pip install --quiet "pip-audit>=2.9,<3" && touch $@

audit: $(VENV)-audit/.made   ## look up every dependency in the advisories of PyPI
	@$(VENV)-audit/bin/python scripts/audit

format: $(VENV)/.dev         ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

simulate: $(VENV)/.dev       ## the whole service under seeded faults: make simulate SEEDS=10000
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),300) $(ARGS)

bench: $(VENV)/.dev          ## measure side by side; table, JSON and chart under bench-results/
	@command -v wrk >/dev/null || echo "wrk is not installed: hermes load is the client, and may be the limit." >&2
	$(BIN)/python -m tests.perf $(ARGS)

image: $(VENV)/.dev          ## build the container image and try it, by compose and as the chart's pod (needs docker)
	scripts/check-image
	$(BIN)/pytest tests/integration/check_image_pod.py

clean:           ## remove the environment and what the tools left
	rm -rf $(VENV) .venv-checkov htmlcov .mypy_cache .pytest_cache .ruff_cache .hypothesis bench-results/latest.*
