# The two commands: `make run` and `make test`. Both need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8080

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench overload soak load million definitions profile-docs package audit-dependencies clean

help:
	@echo "make run    serve FHIR R4 on http://$(HOST):$(PORT)/fhir with a synthetic caseload"
	@echo "make test   run all tests"
	@echo "make bench  the hot paths as a share of a bare server"
	@echo "make overload  what comes of twice the work that the server can do"
	@echo "make soak   the server's memory in an hour's load"
	@echo "make load   a region's working day, with a report in build/load"
	@echo "make million  a large store against a small one"
	@echo "make package  the profiles as a FHIR package in build/"
	@echo "make lint   ruff, mypy --strict, import contracts"

# A marker for each set of packages: installing again is quick when nothing changed.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(VENV)/.installed-load: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[load]'
	@touch $@

run: $(VENV)/.installed
	$(BIN)/keyworking serve --auth none --host $(HOST) --port $(PORT) --synthetic-caseload

# A file's tests stay together: some share a server. At most four processes, however many cores.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 30

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Ratios against a bare ASGI server in the same run, and of access control; takes ten minutes.
# docs/performance.md has the options: make bench BENCH='--only search --quick' is one of them.
BENCH ?=
bench: $(VENV)/.installed
	$(BIN)/python -m loadtests.bench $(BENCH)

# What comes of twice the work that the server can do; and its memory in an hour's load.
overload: $(VENV)/.installed
	$(BIN)/python -m loadtests.overload

MINUTES ?= 60
soak: $(VENV)/.installed
	$(BIN)/python -m loadtests.soak --minutes $(MINUTES)

# A region's working day against a server of its own, four minutes; docs/load-testing.md has the
# options: make load LOAD='--register 50 --steps 5,20 --seconds 5 --workers 1' takes one.
LOAD ?=
load: $(VENV)/.installed-load
	$(BIN)/python -m loadtests.load run $(LOAD)

# 1,000,000 resources against 10,000; takes half an hour, RESOURCES=100000 a tenth of it.
RESOURCES ?= 1000000
million: $(VENV)/.installed
	$(BIN)/python -m loadtests.million --resources $(RESOURCES)

# Known vulnerabilities of what is installed; fails when there is one.
audit-dependencies: $(VENV)/.installed-dev
	$(BIN)/python -m tools.audit_dependencies

# Rebuilds the tables of FHIR definitions; PACKAGE is hl7.fhir.r4.core 4.0.1 as a .tgz.
definitions: $(VENV)/.installed-dev
	$(BIN)/python -m tools.build_definitions $(PACKAGE)

# Writes docs/profiles from profiles/.
profile-docs: $(VENV)/.installed-dev
	$(BIN)/python -m tools.profile_docs

# The profiles, terminology and examples as a FHIR package, in build/.
package: $(VENV)/.installed
	@mkdir -p build
	$(BIN)/keyworking package --output build/keyworking.fhir.r4.tgz

clean:
	rm -rf $(VENV) var build dist *.egg-info
