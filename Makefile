# `make demo` and `make test` need python3 (3.11 or newer) and make; they build .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-all check clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	$(BIN)/python -m lit_vdistill fit --config configs/rmsd.yaml --run_dir runs/demo

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not matrix"

test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m matrix

check: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell lit_vdistill callbacks configs experiments tests *.md
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) runs build *.egg-info

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python3 is older than 3.11; name a newer one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
