# The only front door. Every target starts from python3, make and git alone: what is missing is installed into .venv first.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo serve test check bench clean venv venv-dev docs

help:            ## print this list
	@echo "Luthier - make targets (options of the command behind a target: ARGS='...')"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: venv       ## fine-tune the embedded model on English to French, watch it, ask it
	@$(BIN)/luthier demo $(ARGS)

serve: venv      ## start the server on 127.0.0.1:8000 (ARGS='--port 9000 --data-dir DIR')
	@$(BIN)/luthier serve $(ARGS)

test: venv-dev   ## run all tests (ARGS='-k name' for some)
	@$(BIN)/python -m pytest $(ARGS)

check: venv-dev  ## format, lint, types, import floors, architecture tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -m pytest tests/architecture

bench: venv-dev  ## measure training, serving, start-up and memory; write benchmarks/baselines/
	@$(BIN)/python -m benchmarks.bench_startup
	@$(BIN)/python -m benchmarks.bench_training
	@$(BIN)/python -m benchmarks.bench_serving

clean:           ## remove .venv, caches and build output (never the data directory)
	@rm -rf .venv build dist .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/luthier.egg-info
	@find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# Helpers, not listed above: the environment, and the pages that are made from the code.
venv:
	@$(PYTHON) scripts/make_venv.py runtime

venv-dev:
	@$(PYTHON) scripts/make_venv.py dev

docs: venv-dev
	@$(BIN)/python scripts/make_docs.py
