# Everything a fresh clone needs: `make demo` and `make test` set themselves up.

PYTHON ?= $(shell for p in python3.11 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Distributions that live beside the core; a folder without pyproject.toml is not one yet.
WHEELS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml kernels/pyproject.toml))
TESTS  := $(wildcard tests plugins kernels)

.PHONY: setup demo test lint docs gpu mini try-author clean

setup: $(STAMP)

# One pip call, so that the plugins' requirement on anyany is met by the checkout itself.
$(STAMP): pyproject.toml constraints.txt requirements-dev.txt $(WHEELS:%=%/pyproject.toml)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt \
		-e '.[media,train]' $(WHEELS:%=-e ./%)
	touch $@

demo: setup
	$(BIN)/anyany demo $(ARGS)

test: setup
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

# The strict contract first; the rest of the code follows the ordinary rules of pyproject.toml.
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy anyany/parts anyany/plugin anyany/testing anyany/errors.py

docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# On a machine with a GPU, without a network: the kernels are right, then how fast they are.
gpu: setup
	$(BIN)/python -m pytest kernels -q
	$(BIN)/anyany bench --gpu --out docs/benchmarks

# Trains the default model from the data sets (about two hours on two cores) and puts it into the package.
mini: setup
	$(BIN)/anyany train anyany/mini/recipes/codecs.toml --out runs/mini-codecs
	$(BIN)/anyany train anyany/mini/recipes/codecs-fine.toml --out runs/mini-codecs-fine
	$(BIN)/anyany train anyany/mini/recipes/continuations.toml --out runs/mini-continuations
	$(BIN)/anyany train anyany/mini/recipes/bind.toml --out runs/mini-bind
	$(BIN)/anyany train anyany/mini/recipes/mini.toml --out runs/mini
	$(BIN)/anyany train anyany/mini/recipes/mini-fine.toml --out runs/mini-fine
	$(BIN)/anyany train anyany/mini/recipes/forecasts.toml --out runs/mini-forecasts
	rm -rf anyany/mini/weights
	cp -r runs/mini-forecasts/model anyany/mini/weights

# What an author of a plugin does, in a fresh environment; needs a package index, and minutes to install torch.
try-author:
	PYTHON=$(PYTHON) .ci/try-author

clean:
	rm -rf $(VENV) docs/_build build dist
