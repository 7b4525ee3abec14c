# make up      a working proxy on 127.0.0.1:6188, from nothing but Python 3.11+
# make quick   what to run while you work: lint, types, and every test that starts no process (two or three minutes)
# make test    what must pass before a change lands: installs what the checks need and runs all of them (under 20 minutes)
# make check   the same without installing
# make bench   what a request costs, stage by stage and end to end
#
# make fast    compiles what is on the way of a request, in place: a quarter less CPU (a C compiler, some minutes)
# make pure    takes that away again
#
# make docs         writes docs/builtin-plugins.md anew, from what the files of the plugins say
# make coverage     the tests of quick with coverage, which has a floor
# make constraints  writes down the newest versions of what we depend on (CONTRIBUTING.md)
#
# PYTHON=/path/to/python chooses the interpreter; without it tools/choose-python takes the fastest.
# CONSTRAINTS= installs whatever versions pyproject.toml allows.

VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS))
UP :=

.PHONY: up install fast pure sound quick test check lint types imports tests docs coverage constraints bench clean

up: $(VENV)/.installed sound
	$(BIN)/pingap up $(UP)

install: $(VENV)/.installed

$(BIN)/python:
	tools/choose-python venv $(VENV)

# Editable, so that `git pull` needs no second installation unless the dependencies changed.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-compile: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(PIP) --editable '.[compile]'
	@touch $@

fast: $(VENV)/.installed-compile
	$(BIN)/python tools/native.py

pure: $(BIN)/python
	@$(BIN)/python tools/native.py --clean

# What was compiled from other source than there is now goes: what runs is what one reads.
sound: | $(BIN)/python
	@$(BIN)/python tools/native.py --sound

quick: $(VENV)/.installed-dev sound lint types imports
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --quick $(ARGS)

test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory --keep-going check

check: sound lint types imports tests

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports --no-logo

# Two at a time, but for those that want the machine to themselves. With ARGS, just what they name.
tests:
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"; parallel=$$?; \
	$(BIN)/python -m pytest -m alone && exit $$parallel
endif

docs: $(VENV)/.installed
	$(BIN)/python tools/manual.py

coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --quick --cov $(ARGS)

constraints:
	rm -rf build/newest
	mkdir -p build
	tools/choose-python venv build/newest
	build/newest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	{ sed '/^[^#]/,$$d' constraints.txt; build/newest/bin/python -m pip freeze --exclude-editable; } >build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/newest

bench: $(VENV)/.installed
	$(BIN)/python -m bench.run $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
