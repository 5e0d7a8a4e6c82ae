# make setup · test · test-vm · unit · lint · format · bench · demo · clean. Nothing asks; everything may be run twice.

SHELL := /bin/sh
.SUFFIXES:
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

# Tests at a time: most of them wait as long as they compute.
JOBS ?= $(shell echo $$((2 * $$(nproc))))
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
PIP := $(RUN) -m pip --disable-pip-version-check --no-input
export PATH := $(PATH):/usr/sbin:/sbin
# Network namespaces need root. Without it (and without sudo) those tests are skipped and say so.
AS_ROOT := $(shell [ "$$(id -u)" -eq 0 ] || ! sudo -n true 2>/dev/null || echo sudo -n -E)

.PHONY: help setup system test vm test-vm unit lint format bench demo clean

help:
	@sed -n '1s/^# //p' Makefile

setup: system $(READY)

system:
	@tools/system.sh

# An environment that was copied or half made is made anew. Before pip 25.1 the start script it writes imports `re`: 4 ms of each command.
$(READY): pyproject.toml tools/python.sh
	@python=$$(tools/python.sh) && { $(PIP) --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV); }
	$(PIP) install -q 'pip>=25.1'
	$(PIP) install -q -e '.[dev]'
	$(RUN) -m compileall -q reconciler
	@touch $@

# Format, lint, types and imports are tests too: tests/house.
test: setup
	$(AS_ROOT) $(RUN) -m pytest -n $(JOBS) --dist loadgroup $(PYTEST_ARGS)

# A Debian with systemd, in build/vm: what is up to date is kept.
vm: $(READY)
	@$(AS_ROOT) env PYTHON=$(RUN) tools/vm_image.sh

# On that machine, in qemu without acceleration: what needs a boot, a power cut, or WireGuard in the kernel. WHOLE=1: all tests
# that need that kernel, which takes half an hour.
test-vm: vm
	$(AS_ROOT) env WHOLE=$(WHOLE) $(RUN) -m pytest -x -v tests/vm $(PYTEST_ARGS)

unit: $(READY)
	$(RUN) -m pytest tests/unit $(PYTEST_ARGS)

lint: $(READY)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

format: $(READY)
	$(RUN) -m reconciler.states
	$(RUN) -m reconciler.store.statements
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

# The tools that others would use instead: wg-quick came with the setup, ifstate gets an environment of its own.
build/ifstate/bin/ifstatecli:
	@$(RUN) -m venv --clear build/ifstate
	build/ifstate/bin/python -m pip --disable-pip-version-check --no-input install -q ifstate

bench: setup build/ifstate/bin/ifstatecli
	$(AS_ROOT) $(RUN) -m benchmarks $(BENCH_ARGS)

demo: setup
	@$(AS_ROOT) $(RUN) demo/demo.py

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
