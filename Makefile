# One command for each thing a contributor does. `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SEEDS  ?= 1

.DEFAULT_GOAL := help
.PHONY: help run test check format bench clean

help:            ## list the commands
	@sed -n 's/^\([a-z]*\): .*##/\1\t/p' $(MAKEFILE_LIST) | expand -t 10

$(VENV)/.run: pyproject.toml constraints.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)" all && touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@scripts/make-venv "$(PYTHON)" "$(VENV)" dev && touch $@ $(VENV)/.run

run: $(VENV)/.run            ## make the environment and start Hermes on :8080, events kept in ./hermes-data
	@SINKS="$${SINKS:-$${DB_DSN:+postgres}}"; SINKS="$${SINKS:-sqlite}" exec $(BIN)/hermes serve

test: $(VENV)/.dev           ## make the environment and run every test, real Postgres included
	@scripts/find-postgres >/dev/null || scripts/install-postgres
	$(BIN)/pytest $(ARGS)

check: $(VENV)/.dev          ## ruff, mypy strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev         ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev          ## measure side by side; table, JSON and chart under bench-results/
	$(BIN)/python -m tests.perf $(ARGS)

clean:           ## remove the environment and what the tools left
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis bench-results
