# Everything here runs on a fresh machine with python3 and make: the first target makes its own
# virtual environment in .venv, and installs system packages where it may (as root, through apt).

VENV := .venv
INTERPRETER := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SUPERVISOR := src/casemate/bin/casemate-supervisor
SETUP := $(INSTALLED) $(SUPERVISOR)
# Further arguments of pytest, as in: make test ARGS="-k diff"
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test lint fuzz soak bench dist packages clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo "make demo   let a stand-in agent loose in a sandbox, and see what held"
	@echo "make test   every test; as root, the system and security tests again as an ordinary user"
	@echo "make lint   formatting, lint and types      make fuzz   property tests, many examples"
	@echo "make bench  start-up and run time           make soak   the tests that run for minutes"
	@echo "make dist   source package and wheels       make clean  remove all of it, .venv too"

demo: $(SETUP)
	$(VENV)/bin/casemate demo

test: $(SETUP) packages
	.ci/test $(ARGS)

lint: $(SETUP)
	$(INTERPRETER) -m ruff check
	$(INTERPRETER) -m ruff format --check
	$(INTERPRETER) -m mypy
	$(INTERPRETER) -m ziglang fmt --check native

fuzz: $(SETUP) packages
	HYPOTHESIS_PROFILE=fuzz $(INTERPRETER) -m pytest -m "fuzz or not (soak or network)" tests/unit $(ARGS)

soak: $(SETUP) packages
	$(INTERPRETER) -m pytest -m soak $(ARGS)

bench: $(SETUP)
	$(VENV)/bin/casemate bench

dist: $(INSTALLED)
	CASEMATE_TARGET=x86_64-linux $(INTERPRETER) -m hatchling build -d dist -t sdist -t wheel
	CASEMATE_TARGET=aarch64-linux $(INTERPRETER) -m hatchling build -d dist -t wheel

# Programs the tests work with. What stays missing skips the tests that need it, with the reason.
packages: | $(INSTALLED)
	@.ci/packages $(VENV)/.packages
	@.ci/agents $(VENV)/agents

$(INTERPRETER):
	interpreter=$$(.ci/interpreter) && "$$interpreter" -m venv --clear $(VENV)

$(INSTALLED): $(INTERPRETER) pyproject.toml data/scripts/casemate
	$(INTERPRETER) -m pip install --quiet --upgrade "pip>=25.1"
	$(INTERPRETER) -m pip install --quiet --group dev
	$(INTERPRETER) -m pip install --quiet --no-build-isolation --editable .
	touch $@

$(SUPERVISOR): hatch_build.py $(shell find native -name '*.zig') | $(INSTALLED)
	$(INTERPRETER) hatch_build.py
	touch $@

clean:
	rm -rf $(VENV) .zig-cache .hypothesis .mypy_cache .ruff_cache .pytest_cache build dist
	rm -rf src/casemate/bin
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
