# Everything a fresh machine needs: git, make and Python >= 3.11 with venv.
# `make` alone lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter that is new enough and can make a virtual environment.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	>/dev/null 2>&1; then echo "$$p"; break; fi; done)

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# How many seeded simulations `make test` runs, and how many processes the tests get.
SEEDS ?= 200
JOBS ?= 2

.PHONY: help
help:
	@echo "make demo    chat with your own agent over a real encrypted link, on this machine"
	@echo "make test    style, types, import rules, PROTOCOL.md, all tests, $(SEEDS) simulations"
	@echo "make lint    style, types and import rules alone"
	@echo "make spec    write what is generated: PROTOCOL.md's tables, spec/machines, spec/vectors"
	@echo "make bench   throughput, round trip, handshakes and memory, beside aioquic"
	@echo "make fuzz    throw random bytes at every decoder (FUZZ_ARGS=... is passed on)"
	@echo "make explore every order of events that an adversary can afford, on the real core"
	@echo "make mutants make the machines and the cryptography wrong in every small way (half an hour)"
	@echo "make clean   remove $(VENV) and caches"

.PHONY: demo
demo: $(VENV)/.product
	@$(BIN)/clawchat demo

.PHONY: test
test: lint
	@echo "== PROTOCOL.md, spec/machines and spec/vectors are up to date"
	$(BIN)/python -m spec --check
	@echo "== tests"
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadgroup --cov=clawchat/core --cov-report= $(PYTEST_ARGS)
	@echo "== every branch of clawchat/core is covered"
	$(BIN)/python -m coverage report --include='clawchat/core/*' --fail-under=100
	@echo "== $(SEEDS) seeded simulations"
	$(BIN)/python -m fuzz.campaign --seeds $(SEEDS) --jobs $(JOBS)
	@echo "== all well"

.PHONY: lint
lint: $(VENV)/.dev
	@echo "== style"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@echo "== types"
	$(BIN)/mypy
	@echo "== who may import whom"
	$(BIN)/lint-imports

.PHONY: spec
spec: $(VENV)/.dev
	$(BIN)/python -m spec

.PHONY: bench
bench: $(VENV)/.bench
	$(BIN)/python -m bench $(BENCH_ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m fuzz $(FUZZ_ARGS)

.PHONY: explore
explore: $(VENV)/.dev
	$(BIN)/python -m spec.explore $(EXPLORE_ARGS)

.PHONY: mutants
mutants: $(VENV)/.mutation
	$(BIN)/python -m tests.mutants $(MUTANTS_ARGS)

.PHONY: clean
clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

# --- set-up: one stamp per set of extras, renewed when pyproject.toml changes ---------------------

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "ClawChat needs Python 3.11 or newer with its venv module, and none was found." >&2; \
		echo "Install it (Debian, Ubuntu: apt install python3 python3-venv; Fedora: dnf install" >&2; \
		echo "python3; macOS: brew install python), or name one: make PYTHON=/path/to/python3" >&2; \
		exit 1; fi
	@echo "== making $(VENV) with $(PYTHON) ($$($(PYTHON) --version 2>&1))"
	@"$(PYTHON)" -m venv $(VENV)

$(VENV)/.product: pyproject.toml | $(BIN)/python
	@echo "== installing ClawChat into $(VENV) (needed once; about a minute)"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "== installing ClawChat and its test tools into $(VENV) (needed once; about a minute)"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.product

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@echo "== installing what the measurements compare with"
	@$(PIP) install -e '.[bench]'
	@touch $@

$(VENV)/.fuzz: pyproject.toml | $(BIN)/python
	@echo "== installing the fuzzer"
	@$(PIP) install -e '.[dev,fuzz]'
	@touch $@ $(VENV)/.dev $(VENV)/.product

$(VENV)/.mutation: pyproject.toml | $(BIN)/python
	@echo "== installing what makes mutants"
	@$(PIP) install -e '.[dev,mutation]'
	@touch $@ $(VENV)/.dev $(VENV)/.product
