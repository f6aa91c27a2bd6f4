# Forebay's verbs. Each does its own set-up; `make help` lists them.
#
#   PYTHON           the Python 3.11 or newer to make the environment with
#   VENV             where the environment goes
#   ARGS             passed on: make up ARGS="--port 9000", make test ARGS="-k gateway"
#   TORCH_CPU_INDEX  where torch without CUDA comes from on machines without a GPU; empty: take
#                    whatever the configured index has

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

SETUP = $(PYTHON) infra/bootstrap.py --venv $(VENV) --torch-cpu-index "$(TORCH_CPU_INDEX)"
WANTED = pyproject.toml constraints.txt infra/bootstrap.py

.DEFAULT_GOAL := help
.PHONY: help up test lint bench bench-quick bench-check chaos lock proto clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

up: $(VENV)/.stamp-local ## run everything on this machine, until Ctrl-C
	@$(VENV)/bin/forebay up $(ARGS)

test: $(VENV)/.stamp-dev ## run all tests, files side by side
	@$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

lint: $(VENV)/.stamp-dev ## check style, types, and which package imports which
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python
	$(VENV)/bin/lint-imports

bench: $(VENV)/.stamp-dev ## compare with other systems, and write docs/benchmarks.md
	@$(VENV)/bin/python -m tests.bench $(ARGS)

bench-quick: $(VENV)/.stamp-dev ## the main loads in two short rounds; writes no page
	@$(VENV)/bin/python -m tests.bench --quick $(ARGS)

bench-check: $(VENV)/.stamp-dev ## compare ratios with those in docs/benchmarks.json; 1 if worse
	@$(VENV)/bin/python -m tests.bench --check $(ARGS)

chaos: $(VENV)/.stamp-dev ## break real processes under load, and write docs/chaos.md
	@$(VENV)/bin/python -m tests.chaos $(ARGS)

lock: ## move constraints.txt to the newest versions
	$(PYTHON) infra/lock.py

proto: $(VENV)/.stamp-dev ## make the modules of gRPC's messages anew
	$(VENV)/bin/python infra/proto.py

clean: ## remove the environment and all caches; data in .forebay stay
	rm -rf $(VENV) .venv-* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-local: $(WANTED)
	@$(SETUP) --extra local

$(VENV)/.stamp-dev: $(WANTED)
	@$(SETUP) --extra dev
