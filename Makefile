# make demo   set-up, then the main job: examples/digits for a Raspberry Pi 4
# make test   set-up, then lint, types, import layers and tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.edgec-setup

EDGEC = $(BIN)/edgec
PROJECT ?= examples/digits
include edgec/edgec.mk

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint test-data test-slow clean

help:
	@sed -n 's/^# //p' Makefile
	@echo "make test-data  the real models of \$$EDGEC_DATA and every family of models, all backends (minutes)"
	@echo "make test-slow  tests that take minutes each and are no part of CI"
	@echo "make dist       bundles of PROJECT=$(PROJECT) for TARGETS=\"$(TARGETS)\"; use -j2"

setup: $(STAMP)

# onnx2torch is there to compare edgec's own conversion with. It asks for torchvision, whose PyPI wheel needs a CUDA build
# of torch, and which nothing here uses: hence --no-deps.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt onnx2torch
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

test-slow: setup
	$(BIN)/pytest -m slow

clean:
	rm -rf $(DIST) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
