# The only front door. Every target starts from python3, make and git alone: what is missing is installed into .venv first.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
WORK ?= pretraining/work/$(RECIPE)
RECIPE ?= cpu
TOKENS ?= $(if $(filter gpu,$(RECIPE)),96000000,25000000)
PACK ?= $(if $(filter gpu,$(RECIPE)),--shards 16,)
LENGTH ?= $(if $(filter gpu,$(RECIPE)),--seconds 420,)

.DEFAULT_GOAL := help
.PHONY: help demo serve test nightly fuzz test-loggers test-clients check conformance bench bench-training base-model web clean venv venv-dev client-envs docs
OPENAI_CLIENTS := openai-1 openai-2 openai-node
RUN := build/conformance

help:            ## print this list
	@echo "Luthier - make targets (options of the command behind a target: ARGS='...')"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18

demo: venv       ## fine-tune the embedded model on English to French, watch it, ask it
	@$(BIN)/luthier demo $(ARGS)

serve: venv      ## start the server on 127.0.0.1:8000 (ARGS='--port 9000 --data-dir DIR')
	@$(BIN)/luthier serve $(ARGS)

test: venv-dev   ## run all tests (ARGS='-k name' for some)
	@$(BIN)/python -m pytest $(ARGS)

nightly: venv-dev ## run what is too long for every change: 5,000 generated requests for each OpenAPI document
	@$(BIN)/python -m pytest -m nightly $(ARGS)

fuzz: venv-dev   ## look for files that break the check of data, with atheris (ARGS=600 for ten minutes; usual: 60 seconds)
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz.fuzz_data_check $(ARGS)

test-loggers: venv-dev ## run the tests of W&B, MLflow, TensorBoard and trackio with the real libraries, installed first
	@$(BIN)/python -c "import wandb, mlflow, tensorboard, trackio" 2>/dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[loggers]'
	@$(BIN)/python -m pytest tests/unit/worker/loggers tests/e2e/test_loggers.py $(ARGS)

test-clients: venv-dev ## run W&B, DSPy, LiteLLM, instructor and LangChain against a real server; write docs/reference/clients.md
	@$(BIN)/python -m scripts.run_client_examples $(ARGS)

check: venv-dev  ## format, lint, types, import floors, architecture tests; the dashboard's source and its built pages, where npm is there
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python -m pytest tests/architecture
	@$(BIN)/python -m scripts.check_web --check

conformance: venv-dev client-envs ## run the contract tests and the older clients, write docs/reference/conformance.md from what they saw
	@rm -rf $(RUN) && mkdir -p $(RUN)
	@CONFORMANCE_RUN=$(RUN) $(BIN)/python -m pytest tests/contract tests/clients/test_openai_clients.py --ignore tests/contract/test_conformance.py
	@$(BIN)/python -m scripts.make_conformance $(RUN)

bench: venv-dev  ## measure training, serving, start-up, memory and the check of data; write benchmarks/baselines/
	@$(BIN)/python -m benchmarks.bench_startup
	@$(BIN)/python -m benchmarks.bench_training
	@$(BIN)/python -m benchmarks.bench_serving
	@$(BIN)/python -m benchmarks.bench_data_check
	@$(BIN)/python -m benchmarks.bench_rows_by_model
	@$(BIN)/python -m benchmarks.bench_data_doctor

bench-training: venv-dev ## measure our training loop beside TRL's on this CPU (hours; ARGS=--quick for a look); write benchmarks/baselines/
	@$(BIN)/python -c "import trl, datasets" 2>/dev/null || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m benchmarks.bench_trl $(ARGS)

base-model: venv-dev ## make the embedded base model anew: CORPUS=DIR TASKS=DIR (about two hours on two cores; goes on after a stop)
	@test -n "$(CORPUS)" || { echo "make base-model needs CORPUS=DIR, the folder of the corpus (pretraining/README.md says what is in it)"; exit 2; }
	@$(BIN)/python -m pretraining.tokenizer --corpus "$(CORPUS)" --work "$(WORK)"
	@$(BIN)/python -m pretraining.pack --corpus "$(CORPUS)" --work "$(WORK)" --tokens $(TOKENS) --recipe $(RECIPE) $(PACK)
	@$(BIN)/python -m pretraining.train --work "$(WORK)" --recipe $(RECIPE) $(LENGTH)
	@test -d "$(WORK)/luthier-mini" || $(BIN)/python -m pretraining.export --work "$(WORK)" --out "$(WORK)/luthier-mini"
	@$(BIN)/python -m pretraining.evaluate --model "$(WORK)/luthier-mini" --corpus "$(CORPUS)" $(if $(TASKS),--tasks "$(TASKS)",--only base reference examples speed) --out "$(WORK)/results.json"
	@$(BIN)/python -m pretraining.card --run "$(WORK)/run.json" --results "$(WORK)/results.json" --corpus "$(CORPUS)" --out "$(WORK)/luthier-mini"
	@echo "To ship it: copy $(WORK)/luthier-mini over src/luthier/models/builtin/luthier-mini, $(WORK)/run.json and $(WORK)/results.json over those in pretraining/; make test"

web: venv-dev    ## build the dashboard from web/ into src/luthier/api/static (needs npm)
	@$(BIN)/python -m scripts.check_web

clean:           ## remove .venv, .client-envs, caches and build output (never the data directory)
	@rm -rf .venv .client-envs build dist web/node_modules web/dist .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/luthier.egg-info
	@find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# Helpers, not listed above: the environment, and the pages that are made from the code.
venv:
	@$(PYTHON) scripts/make_venv.py runtime

venv-dev:
	@$(PYTHON) scripts/make_venv.py dev

client-envs:
	@$(PYTHON) scripts/make_client_env.py $(OPENAI_CLIENTS)

docs: venv-dev
	@$(BIN)/python scripts/make_docs.py
	@$(BIN)/python -m scripts.make_web_types
	@$(BIN)/python -m scripts.make_conformance
