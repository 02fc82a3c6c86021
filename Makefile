# make test: everything that must hold before a change lands. The environment is made on the way.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := src tests benchmarks examples
# Much of a test's time is compilation on one core. The tests of a file stay together: they share models.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

# pytest comes last, so that its closing line is the last one printed.
.PHONY: test check lint fuzz demo bench clean

test: lint
	$(PYTEST)

check: lint
	$(BIN)/python -m pytest tests/test_layering.py

lint: $(INSTALLED)
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/pyright

# Damaged files for every reader, for hours: tests/fuzz/__init__.py says more.
fuzz: $(INSTALLED)
	cd tests && ../$(BIN)/python -m fuzz

# A small data set, a training, an error table, molecular dynamics and figures, in ./demo.
demo: $(INSTALLED)
	$(BIN)/python examples/demo/run.py demo

bench: $(INSTALLED)
	$(BIN)/python benchmarks/run.py --short

# Made again whenever the dependencies may have changed.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .fuzz build dist demo
