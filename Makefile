# make demo   set-up, then the main job: examples/digits for a Raspberry Pi 4
# make test   set-up, then lint, types, import layers and tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.edgec-setup
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTHONS ?= python3.12 python3.13

EDGEC = $(BIN)/edgec
PROJECT ?= examples/digits
include edgec/edgec.mk

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint test-data test-zoo test-slow test-pythons clean

help:
	@sed -n 's/^# //p' Makefile
	@echo "make test-data  the real models of \$$EDGEC_DATA and every family of models, all backends (minutes)"
	@echo "make test-zoo   real models from PyPI wheels, all backends and precisions; MODELS='wakeword-head or dnsmos' for some"
	@echo "make test-slow  tests that take minutes each and are no part of CI"
	@echo "make dist       bundles of PROJECT=$(PROJECT) for TARGETS=\"$(TARGETS)\"; use -j2"

setup: $(STAMP)

# onnx2torch is there to compare edgec's own conversion with. It asks for torchvision, whose PyPI wheel needs a CUDA build of
# torch, and onnx2tf for a later Python and versions that tflite-runtime cannot be used with; nothing here uses these: hence
# --no-deps and --ignore-requires-python.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) -c constraints.txt --no-deps --ignore-requires-python onnx2torch onnx2tf
	$(BIN)/python -m compileall -q -j 2 -x py312 $(VENV)/lib  # where pip leaves that out, each process compiles torch anew
	touch $@

# Examples are trained where their bundles are built from; nothing is downloaded for digits.
examples/digits/model.pt: examples/digits/train.py examples/digits/model.py $(STAMP)
	$(BIN)/python examples/digits/train.py

$(EDGEC_MANIFESTS): | $(STAMP) $(if $(filter examples/digits,$(PROJECT)),examples/digits/model.pt)

demo: setup examples/digits/model.pt
	cd examples/digits && PATH="$(abspath $(BIN)):$$PATH" edgec build --target rpi4-int8

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n 2 --dist worksteal

test-data: setup
	$(BIN)/pytest -m 'data or families' -n 2 --dist worksteal tests/data tests/families

test-zoo: setup
	$(BIN)/pytest -m zoo -n 2 tests/zoo $(if $(MODELS),-k '$(MODELS)')

test-slow: setup
	$(BIN)/pytest -m slow

# The later Pythons that are found here build the digits; what has no wheel for them is told.
test-pythons: examples/digits/model.pt
	@for python in $(PYTHONS); do \
	  $$python -c '' 2>/dev/null || { echo "$$python: not found, not tried"; continue; }; \
	  venv=$(abspath build)/python-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  test -x $$venv/bin/edgec || { $$python -m venv $$venv && $$venv/bin/python -m pip install -q -e '.[all]'; } || exit 1; \
	  (cd examples/digits && $$venv/bin/edgec build --target rpi4-int8 --out $$venv/dist) || exit 1; \
	done

clean:
	rm -rf $(DIST) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
