# Farthing. `make help` says what there is. All that is made lies in .venv/, build/ and .farthing/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
UV := VIRTUAL_ENV=$(VENV) UV_PYTHON_DOWNLOADS=never $(BIN)/uv
MEMBERS := $(patsubst %/pyproject.toml,%,$(wildcard $(addsuffix /pyproject.toml,protos libs/* services/* cli models)))
# Folders with something to check: mypy refuses one without.
SOURCES = $(foreach folder,libs services cli models tests bench deploy,$(if $(shell find $(folder) -name '*.py' -not -path '*/[0-9]*/model.py' -print -quit 2>/dev/null),$(folder)))
EXTRAS := local cpu train

# A stamp's name holds the hash of what it was made from: nothing is done twice, and a checkout's file times do not matter.
hash_of = $(shell cat $(1) 2>/dev/null | sha256sum | cut -c1-16)
DEPENDENCIES := $(STAMPS)/dependencies-$(call hash_of,requirements.lock)
EDITABLES := $(STAMPS)/members-$(call hash_of,requirements.lock $(MEMBERS:%=%/pyproject.toml))
CONTRACTS := $(STAMPS)/contracts-$(call hash_of,requirements.lock protos/hatch_build.py $(shell find protos/farthing -name '*.proto' | sort))

# Two set-ups at once (two terminals, an editor and a terminal) wait for each other.
ONE_AT_A_TIME := $(if $(shell command -v flock),flock Makefile,)

# ---------------------------------------------------------------------------------------------------- the two commands

.PHONY: run
run: setup ## Set up, start the mesh, replay a sample, report, keep serving (ONCE=1: stop after the report)
	@$(BIN)/farthing run $(if $(ONCE),--once)

.PHONY: test
test: setup ## Set up, then every test but slow, chaos and soak (ARGS="-k word" goes to pytest)
	@$(BIN)/pytest $(ARGS)

# --------------------------------------------------------------------------------------------------------- slow lanes

.PHONY: chaos
chaos: setup ## Kill every part under load, take PostgreSQL away for five minutes, fill the dead letters (15 minutes)
	@for part in kills postgres poison; do $(BIN)/python -m bench.chaos $$part; done

# -------------------------------------------------------------------------------------------------------------- set-up

.PHONY: setup
setup: ## Install all that the mesh needs: packages, members, models, the Triton runtime (fast when nothing changed)
	@$(ONE_AT_A_TIME) $(MAKE) .setup

.PHONY: venv
venv: ## Only .venv with the locked packages, the members and the generated contracts
	@$(ONE_AT_A_TIME) $(MAKE) .venv-ready

.PHONY: .setup .venv-ready
.setup: .venv-ready
	@$(MAKE) models
	@$(MAKE) triton
.venv-ready: $(DEPENDENCIES) $(EDITABLES) $(CONTRACTS) ; @:

.PHONY: models
models: ## Make the classifier's encoder in build/models/encoder
	@if [ -f models/src/farthing_models/export_encoder.py ]; then $(BIN)/python -m farthing_models.export_encoder; fi

.PHONY: triton
triton: ## Make the local Triton runtime (its own environment and language models) in build/
	@if [ -f deploy/config/triton/install.py ]; then $(BIN)/python deploy/config/triton/install.py; fi

# PYTHON=/path/to/python3.12 chooses another one.
PYTHON ?= $(firstword $(foreach python,python3 python3.12 python3.11,$(if $(filter ok,$(call version_of,$(python))),$(python))) python3)
version_of = $(shell $(1) -c 'import sys; print("ok" if (3, 11) <= sys.version_info[:2] <= (3, 12) else sys.version.split()[0])' 2>/dev/null || echo missing)

$(BIN)/python:
	@[ "$$(uname -s)" = Linux ] || { echo "setup: the servers are Linux programs; on $$(uname -s) use a Linux container" >&2; exit 1; }
	@[ "$(call version_of,$(PYTHON))" = ok ] || { echo "setup: Python 3.11 or 3.12 is needed (for later ones, numpy 1.26, which Triton needs, is not built), $(PYTHON) is $(call version_of,$(PYTHON)); choose one with: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "setup: $(PYTHON) cannot make environments; install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@echo "setup: making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)

# uv itself comes from the lock too, with its hash.
$(DEPENDENCIES): | $(BIN)/python
	@mkdir -p $(STAMPS) && rm -f $(STAMPS)/dependencies-*
	@echo "setup: installing the locked packages"
	@awk '/^uv==/ {found = 1} found {print; if (!/\\$$/) exit}' requirements.lock > $(STAMPS)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(STAMPS)/uv.txt
	@$(UV) pip install --quiet --require-hashes -r requirements.lock
	@touch $@

$(EDITABLES): $(DEPENDENCIES)
	@rm -f $(STAMPS)/members-*
	@echo "setup: installing the members: $(MEMBERS)"
	@$(UV) pip install --quiet --no-deps --no-build-isolation $(MEMBERS:%=-e %)
	@$(UV) pip check --quiet || { $(UV) pip check; echo "setup: a member needs what the lock does not hold: make lock" >&2; exit 1; }
	@touch $@

$(CONTRACTS): $(EDITABLES)
	@rm -f $(STAMPS)/contracts-*
	@$(BIN)/python protos/hatch_build.py
	@touch $@

.PHONY: protos
protos: $(DEPENDENCIES) ## Generate the contracts' Python code anew (needs no network)
	@$(BIN)/python protos/hatch_build.py

.PHONY: wheels
wheels: venv ## Build a wheel of each member into dist/ (needs no network: the build tools are in .venv)
	@rm -rf dist && mkdir dist
	@for member in $(MEMBERS); do $(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist $$member; done
	@ls dist

# What `uv pip compile` repeats on every line and set-up has made sure of before.
COMMON_MARKER := ; python_full_version < '3.14' and sys_platform == 'linux'

.PHONY: lock
lock: $(DEPENDENCIES) ## Resolve the members' needs into requirements.lock, keeping what it can (UPGRADE=1: newest; UPGRADE=name: of one)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links $(foreach member,$(MEMBERS),--no-emit-package farthing-$(notdir $(member))) \
	  $(EXTRAS:%=--extra %) --group dev $(if $(filter 1,$(UPGRADE)),--upgrade,$(if $(UPGRADE),--upgrade-package $(UPGRADE))) \
	  $(MEMBERS:%=%/pyproject.toml) --output-file requirements.lock
	@sed -i "s/ $(COMMON_MARKER)//" requirements.lock
	@$(UV) pip compile --quiet --python-platform x86_64-manylinux_2_28 --python-version 3.11 --generate-hashes --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links --constraint requirements.lock --extra gpu \
	  $(foreach member,protos kit classifier,--no-emit-package farthing-$(member)) \
	  protos/pyproject.toml libs/kit/pyproject.toml services/classifier/pyproject.toml | awk -F '==' \
	  'NR == FNR {if (/^[^ ]/) have[$$1]; next} /^[^ ]/ {keep = !($$1 in have)} keep' requirements.lock - > requirements-gpu.lock
	@$(MAKE) lock-check

.PHONY: lock-check
lock-check:
	@! grep -HnE '://|file:|^-|@ |^farthing' requirements.lock requirements-gpu.lock || { echo "lock: only versions and hashes belong in the locks" >&2; exit 1; }

# --------------------------------------------------------------------------------------------------------------- check

.PHONY: check
check: venv ## Style, types, layers, contracts, lock: all that can be said without running anything
	@$(MAKE) --jobs=2 --keep-going --output-sync=target lint types layers proto-check lock-check && echo "check: all good"

.PHONY: format
format: venv ## Mend style and imports, in Python and in protos
	@$(BIN)/ruff check --quiet --fix-only . && $(BIN)/ruff format --quiet . && $(BIN)/buf format --write

.PHONY: lint types layers proto-check
lint:
	@$(BIN)/ruff check --quiet --output-format concise . || { echo "lint: some of it is mended by: make format" >&2; exit 1; }
	@$(BIN)/ruff format --quiet --check . || { echo "lint: these files are mended by: make format" >&2; $(BIN)/ruff format --check . | grep '^Would' >&2; exit 1; }

types:
	@$(BIN)/mypy --no-error-summary protos/hatch_build.py $(SOURCES)

layers:
	@$(BIN)/lint-imports --no-logo > $(VENV)/layers.log || { cat $(VENV)/layers.log; exit 1; }

proto-check: protos-unbroken
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code || { echo "protos: mended by: make format" >&2; exit 1; }

# Compared is with what others have seen: origin's main, or, in a repository without one, the last commit.
AGAINST ?= $(shell git rev-parse --verify --quiet origin/main >/dev/null 2>&1 && echo origin/main || echo HEAD)
BASELINE := build/contracts-before

.PHONY: protos-unbroken
protos-unbroken:
	@if ! git cat-file -e "$(AGAINST):protos/farthing" 2>/dev/null || ! git cat-file -e "$(AGAINST):buf.yaml" 2>/dev/null; then \
	  echo "protos: $(AGAINST) has no contracts (or is not in this clone): nothing to compare with"; \
	else \
	  rm -rf $(BASELINE) && mkdir -p $(BASELINE) && git archive $(AGAINST) buf.yaml protos | tar -x -C $(BASELINE) && \
	  { $(BIN)/buf breaking --against $(BASELINE) || { echo "protos: this breaks callers of $(AGAINST); add, and mark the old as deprecated" >&2; exit 1; }; }; \
	fi

# --------------------------------------------------------------------------------------------------------------- other

.PHONY: clean
clean: ## Remove all that set-up, runs and checks made
	@if [ -x $(BIN)/farthing ] && [ -d .farthing ]; then $(BIN)/farthing down || true; fi
	@rm -rf $(VENV) build dist .farthing protos/gen .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis uv.lock
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
