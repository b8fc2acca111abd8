# Each target makes .venv itself and reuses it. PYTHON chooses the interpreter: make demo PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
MODEL ?= dates
# Test processes; each takes about 4 GiB, and keeps the tests of one file together.
JOBS ?= 2
# In the order of their names: pytest-xdist would otherwise keep files of one long test for the end.
PARALLEL = --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

.PHONY: help demo test test-slow test-backends lint serve bench clean

help:
	@echo "make demo    train on dates in many languages, look at the alignments, export, serve, ask over REST"
	@echo "make test    the tests, on TensorFlow"
	@echo "make test-slow    those that train, export and open sockets"
	@echo "make test-backends    what tests layers and ops, on JAX and on PyTorch"
	@echo "make lint    ruff and mypy"
	@echo "make serve   serve saved_models/$(MODEL) over REST on port 8501"
	@echo "make bench   the figures of benchmarks/"
	@echo "make clean   remove .venv and caches; runs and saved models stay"

demo: .venv/.demo
	$(BIN)/seqattn demo

test: .venv/.test
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-slow: .venv/.test
	$(BIN)/python -m pytest $(PARALLEL) -m slow

test-backends: .venv/.test
	KERAS_BACKEND=jax $(BIN)/python -m pytest $(PARALLEL) tests/conformance tests/ops tests/layers tests/test_losses.py
	KERAS_BACKEND=torch $(BIN)/python -m pytest $(PARALLEL) tests/conformance tests/ops tests/layers tests/test_losses.py

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .venv/layout/keras_seqattn
	ln -sfn $(CURDIR)/keras_seqattn/* $(CURDIR)/training $(CURDIR)/serving .venv/layout/keras_seqattn/
	$(BIN)/mypy

serve: .venv/.demo
	$(BIN)/seqattn serve --model_name=$(MODEL) --model_base_path=$(CURDIR)/saved_models/$(MODEL)

bench: .venv/.test
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache

.venv/bin/pip:
	$(PYTHON) -m venv .venv

# What a run needs; the tests bring the other backends and the references beside it.
.venv/.demo: pyproject.toml .venv/bin/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[all]'
	touch $@

.venv/.test: pyproject.toml .venv/.demo
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@
