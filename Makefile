# make demo   the whole pipeline on generated images, about four minutes on two cores
# make test   ruff, mypy and the test suite
# make site   the documentation as a site, in the folder site
# make release   checks and builds a version, and says what is left to do
# make test-matrix   the tests on imitated processors and other Pythons, an hour or more
# Each makes .venv first and installs what it needs into it.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: demo test site test-matrix release clean

demo: $(INSTALLED)
	$(VENV)/bin/python -m resnet50 demo

test: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest --numprocesses=2 --dist=loadfile

site: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

test-matrix: $(INSTALLED)
	$(VENV)/bin/python -m tests.matrix

release: $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet --editable '.[release]'
	$(VENV)/bin/python -m tests.release

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[tests]'
	touch $@

$(VENV)/.installed-docs: $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-* demo notebook-demo site dist
