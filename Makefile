# make demo   the whole pipeline on generated images, about four minutes on two cores
# make test   ruff and the test suite
# make test-matrix   the tests on imitated processors and other Pythons, an hour or more
# Each makes .venv first and installs what it needs into it.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-matrix clean

demo: $(INSTALLED)
	$(VENV)/bin/python -m resnet50 demo

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest

test-matrix: $(INSTALLED)
	$(VENV)/bin/python -m tests.matrix

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[tests]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-* demo
