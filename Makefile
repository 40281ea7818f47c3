# make train              environment, data, then the recipe `seed`
# make train BACKEND=torch ARGS="--seed 1"
# make check              environment, then format, lint, types, layers and every test that trains nothing
# make test               that, and then what trains, on all three backends
# make nightly            long and networked tests; then trains and exports with the oldest versions that are declared
PYTHON ?= python3
BACKEND ?= jax
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

# As pyproject.toml names them. For another Python some of the pinned packages have no wheel, and pip would build them.
TESTED := $(shell sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)
VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])'

# An environment without pip, without its base Python, or of a Python that was not tested is stale: it is made anew when
# needed.
FRESH := $(shell $(BIN)/python -c 'import pip' 2>/dev/null && $(BIN)/python $(VERSION))
ifeq ($(filter $(TESTED),$(FRESH)),)
.PHONY: $(BIN)/python
endif

.DEFAULT_GOAL := help
help:
	@echo "make train [BACKEND=torch|tensorflow]   CIFAR-10, then the recipe seed: about 15 minutes on two cores"
	@echo "make check                              lint and tests without training: about three minutes"
	@echo "make test                               the whole suite; what depends on the backend, on all three: about twelve minutes"
	@echo "make nightly                            long tests, and the oldest versions that are declared"
	@echo "make consumers                          what the apps under export/ need for their tests"
	@echo "make bench [RUN=runs/latest]            all benchmarks: about 30 minutes on an idle machine"

.PHONY: help train check test data lint nightly consumers bench results clean

train: $(VENV)/.has-$(BACKEND)
	$(BIN)/cifarnet train --backend $(BACKEND) $(ARGS)

# Tests run side by side, one on each core: free ones take what is left of the others' (worksteal), but where tests of a
# file share what was trained for them, which stay in one process (loadfile).
PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 4
TRAINING := tests/comparison tests/export tests/training tests/command_line/test_own_folder.py tests/test_python_api.py

check: lint
	KERAS_BACKEND=torch $(PYTEST) --dist worksteal $(patsubst %,--ignore=%,tests/every_backend $(TRAINING))

test: consumers data check
	KERAS_BACKEND=torch $(PYTEST) --dist loadfile $(TRAINING)
	KERAS_BACKEND=jax $(PYTEST) --dist worksteal tests/every_backend
	KERAS_BACKEND=torch $(PYTEST) --dist worksteal tests/every_backend
	KERAS_BACKEND=tensorflow $(PYTEST) --dist worksteal tests/every_backend

data: $(VENV)/.has-dev
	-$(BIN)/cifarnet data fetch

lint: $(VENV)/.has-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What takes long or the network, one at a time: much of it measures. Then the oldest versions that pyproject.toml
# declares, in an environment of their own.
nightly: $(VENV)/.has-dev $(VENV)/.has-ray
	$(BIN)/pytest -m nightly --ignore=tests/every_backend
	KERAS_BACKEND=torch $(BIN)/pytest -m nightly tests/every_backend/test_workers.py
	KERAS_BACKEND=jax $(BIN)/pytest -m nightly tests/every_backend/test_workers.py
	$(BIN)/pytest --hypothesis-profile nightly tests/runtime/test_fuzz.py
	$(BIN)/python tests/minimums.py build/minimums

# What the apps under export/ need, but for Chromium, which is the system's. Where Node or Chromium cannot be had, their tests say so and are skipped.
consumers: $(if $(shell command -v npm),export/node/node_modules/.done export/browser/node_modules/.done)
	@command -v npm >/dev/null || echo "npm is missing: the apps for Node and the browser are not tested"
	@command -v chromium >/dev/null || \
		echo "Chromium is missing: the page for the browser is not tested; on Debian: apt-get install chromium"

export/%/node_modules/.done: export/%/package.json export/%/package-lock.json
	-cd export/$* && npm ci --no-audit --no-fund && touch node_modules/.done

# About 30 minutes, on an idle machine; RUN is a finished and exported run of the recipe `seed`, refused
# first if it is another. The tables in docs/ follow with `make results`. What cannot be installed here is a row that says so.
RUN ?= runs/latest
bench: data $(VENV)/.has-bench
	$(BIN)/python -m benchmarks.inference --run $(RUN)
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.training --to-accuracy 0.7

# The tables of the README and of docs/, from the stored results.
results: $(VENV)/.has-dev
	$(BIN)/python -m benchmarks.documents

$(VENV)/.has-%: pyproject.toml constraints.txt $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	touch $@

$(BIN)/python:
	@found=$$($(PYTHON) $(VERSION)) || found=missing; case " $(TESTED) " in *" $$found "*) ;; *) \
		echo "error: $(PYTHON) is $$found; expected a Python that was tested ($(TESTED)): make PYTHON=/path/to/python$(lastword $(TESTED))"; \
		exit 1;; esac
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "error: $(PYTHON) cannot make environments; expected the venv module: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

clean:
	rm -rf $(VENV) dist
