# Three commands matter: `make demo` shows what this is for, `make test` checks it, `make lab` opens it.
# Each sets up what it needs in .venv on first use. Any other virtual environment: make test VENV=...

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help demo lab test lint bench clean

help:
	@echo "make demo   the whole loop, headless, on real digits; writes artifacts/demo.html"
	@echo "make lab    JupyterLab on the quick start"
	@echo "make test   lint, types and all tests, the browser's too"
	@echo "make bench  the tables of the README (slow)"

# One stamp per set of extras, renewed when the metadata changes.
$(VENV)/.base: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --editable ".[textures]"
	@touch $@

$(VENV)/.lab: $(VENV)/.base
	$(PIP) install --editable ".[lab]"
	@touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) install --editable ".[test]"
	@touch $@

$(VENV)/.bench: $(VENV)/.test
	$(PIP) install --editable ".[bench]"
	@touch $@

demo: $(VENV)/.base
	$(BIN)/xfeedback demo

lab: $(VENV)/.lab
	$(BIN)/jupyter lab notebooks/01_quickstart.ipynb

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	tests/browser/install_chromium
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

bench: $(VENV)/.bench
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) artifacts build dist .mypy_cache .pytest_cache .ruff_cache
