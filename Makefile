# make setup | demo | test | lint | docs | clean. Everything is installed into .venv, nothing elsewhere.

VENV := .venv
BIN := $(VENV)/bin
# written last, so that an installation which was broken off is done again
STAMP := $(VENV)/installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint docs clean

help:
	@echo "make setup   make .venv and install there (Python 3.11 or newer; PYTHON=... names one)"
	@echo "make demo    find a dozen pictures on a world map, from nothing to a map page in ./out"
	@echo "make test    run all tests on a real PostgreSQL (ARGS='tests/test_grids.py -x' are passed to pytest)"
	@echo "make lint    check style and types"
	@echo "make docs    bring generated pages up to date, check the links and build the site into ./out/site"
	@echo "make clean   remove .venv, caches and ./out; the database (see RSLOC_HOME) stays"

setup: $(STAMP)
	@echo "ready: $(BIN)/rsloc-db"

$(STAMP): pyproject.toml
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3 python3.14; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found=$$python && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: no Python 3.11 or newer on PATH: install one (Debian 12 or newer: apt install python3 python3-venv)" >&2; \
	  exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "error: $$found cannot make virtual environments: install its venv package (Debian: apt install python3-venv)" >&2; \
	  exit 1; \
	fi; \
	$(BIN)/python -c 'import pip' 2>/dev/null || { \
	  echo "making $(VENV) with $$found"; "$$found" -m venv --clear $(VENV) || exit 1; \
	}; \
	echo "installing into $(VENV)"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,export,serve,test]' && touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/rsloc-db demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(STAMP)
	@$(BIN)/python -m ruff check
	@$(BIN)/python -m ruff format --check
	@$(BIN)/python -m mypy

docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@$(BIN)/python docs/code/sql_page.py
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "out/site/index.html"

clean:
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist out
	@find rsloc_db migrations tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
