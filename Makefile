# One word per job; every job sets up what it needs. Needs python3 (>= 3.11, with venv and headers), gcc, make.
#
#   make run      the main job: measure the built-in guest       make test     build and pass the tests
#   make check    linters, warnings, stubs, generator, doctests  make checked  the same tests on the checked build
#   make gate     compare with pvfast-baseline.json, exactly     make build    set up the environment, and build
#   make fuzz     1,000,000 cases, recorded under docs/          make fuzz-bytes  hostile machines, under sanitizers
#   make bench    asv, on the last commit                        make bench-peers  docs/performance*.md
#   make wheel    build a wheel and try it elsewhere             make instructions  docs/instructions.md, from the rows
#   make operations  docs/operations.md, from the table
#   make clean    remove what was built                          make distclean  ... and the environments
#
# ARGS is passed on: `make run ARGS="--json run.json"`, `make test ARGS="-k segments"`. Safe with -j.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# The tools of one job call those of the same environment by name (cython-lint calls pycodestyle).
export PATH := $(CURDIR)/$(BIN):$(PATH)

MODULES := $(shell find pvfast -name '*.pyx')
GENERATED := pvfast/core/generated $(wildcard pvfast/paravirt/hypervisors/*_numbers.pxi)
CYTHON := $(MODULES) $(filter-out $(GENERATED:%=%%),$(shell find pvfast -name '*.px[di]'))
CORE := $(CYTHON) $(wildcard pvfast/core/*.h pvfast/isa/*.py) \
    $(addprefix pvfast/processor/,costs.py cpuid.py prediction.py) \
    $(wildcard pvfast/paravirt/hypervisors/*_interface.py)
BUILT := $(VENV)/built
EXTRAS = $(BIN)/python -c 'import sys, tomllib; project = tomllib.load(open("pyproject.toml", "rb")); \
    print(*(row for name in sys.argv[1:] for row in (project["build-system"]["requires"] if name == "build" else \
    project["project"]["dependencies"] if name == "run" else project["project"]["optional-dependencies"][name])), \
    sep="\n")'

.DEFAULT_GOAL := help
.PHONY: help setup build run test gate check lint warnings stubs generator doctests checked bench bench-peers fuzz \
    fuzz-bytes tables instructions operations wheel clean distclean

help:
	@sed -n '/^#   make/s/^# *//p' Makefile

# --- Setting up: the environment, then the package in it, editable, so that tests see what is installed -------------

$(VENV)/created:
	$(PYTHON) -c 'import sys; sys.exit("pvfast needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/dependencies: $(VENV)/created pyproject.toml
	@$(EXTRAS) build run test > $(VENV)/dependencies.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/dependencies.txt
	touch $@

$(VENV)/tools: $(VENV)/dependencies
	@$(EXTRAS) check bench > $(VENV)/tools.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/tools.txt
	touch $@

$(BUILT): $(VENV)/dependencies setup.py $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $@

setup build: $(BUILT)

# --- Jobs ------------------------------------------------------------------------------------------------------------

run: $(BUILT)
	$(BIN)/pvfast run $(ARGS)

test: $(BUILT)
	$(BIN)/python -m pytest -q $(ARGS)

gate: $(BUILT)
	$(BIN)/pvfast gate check $(ARGS)

check: lint warnings stubs generator doctests

lint: $(VENV)/tools
	$(BIN)/ruff check .
	$(BIN)/cython-lint $(CYTHON)

# Cython's warnings about unused and uninitialised variables stay off: they do not see a C output argument (&page).
warnings: $(BUILT)
	mkdir -p build/warnings
	set -e; for module in $(MODULES); do \
	    $(BIN)/cython -3 -Werror -X warn.unreachable=True -I pvfast/core -o build/warnings/module.c $$module; done

stubs: $(BUILT) $(VENV)/tools
	$(BIN)/python -m mypy.stubtest $(subst /,.,$(MODULES:.pyx=)) \
	    --allowlist tests/core/stubtest.allow --mypy-config-file pyproject.toml

# The same rows give the same bytes: twice, whatever the order of sets.
generator: $(VENV)/created
	rm -rf build/generator
	PYTHONHASHSEED=1 $(BIN)/python -m pvfast.isa.generate build/generator/first
	PYTHONHASHSEED=2 $(BIN)/python -m pvfast.isa.generate build/generator/second
	diff -r build/generator/first build/generator/second

doctests: $(BUILT)
	$(BIN)/python -m pytest -q --doctest-modules pvfast
	$(BIN)/python -c 'import doctest, sys, pvfast.core.engine as core; sys.exit(doctest.testmod(core).failed)'

# A copy of the tracked files, for another build beside the normal one.
COPY = rm -rf build/$@ && mkdir -p build/$@ && \
    git ls-files -z --cached --others --exclude-standard | xargs -0 -r cp --parents -t build/$@

# The counts of the checked build have to be the same, and so has what becomes of random machines.
checked: $(BUILT)
	$(COPY)
	cd build/checked && PVFAST_CHECKED=1 $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace
	cd build/checked && $(CURDIR)/$(BIN)/python -m pytest -q $(ARGS)
	cd build/checked && $(CURDIR)/$(BIN)/python -m benchmarks.counts counts.json
	cd build/checked && $(CURDIR)/$(BIN)/python -m tests.robustness.digest machines.json
	$(BIN)/python -m benchmarks.counts build/counts.json build/checked/counts.json
	$(BIN)/python -m tests.robustness.digest build/machines.json build/checked/machines.json

bench: $(VENV)/tools
	$(BIN)/asv machine --yes
	$(BIN)/asv run $(ARGS)

bench-peers: $(BUILT) $(VENV)/tools
	$(BIN)/python -m benchmarks.report docs/performance-table.md $(ARGS)
	$(BIN)/python -m benchmarks.speed

fuzz: $(BUILT)
	$(BIN)/python -m tests.differential.fuzz --report docs/differential.md $(ARGS)
	$(BIN)/python -m pvfast.isa.document docs/differential.json docs/instructions.md

instructions: $(VENV)/created
	$(BIN)/python -m pvfast.isa.document docs/differential.json docs/instructions.md

tables: $(BUILT)
	$(BIN)/python -m benchmarks.document

operations: $(BUILT)
	$(BIN)/python -m pvfast.paravirt.document docs/operations.md

fuzz-bytes: $(BUILT)
	$(COPY)
	cd build/$@ && PVFAST_CHECKED=1 PVFAST_SANITIZE=1 $(CURDIR)/$(BIN)/python setup.py -q build_ext --inplace
	cd build/$@ && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 $(CURDIR)/$(BIN)/python -m tests.robustness.fuzz $(ARGS)

# A wheel that lacks a file works in the source tree and nowhere else: install it into an environment of its own.
wheel: $(VENV)/dependencies
	rm -rf build/wheel build/lib build/bdist.* && mkdir -p build/wheel
	$(BIN)/python -m pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	$(BIN)/python -m venv --system-site-packages build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --disable-pip-version-check dist/pvfast-*.whl
	cd build/wheel && venv/bin/python -c 'import pvfast.report.html; from pvfast.guest import build; from pvfast import Machine; \
	    machine = Machine(); build().load(machine); print(machine.run(max_instructions=1000))'

clean:
	rm -rf build dist *.egg-info $(GENERATED) $(MODULES:.pyx=.c) $(BUILT)
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
	find pvfast tests benchmarks -name '*.so' -delete -o -name '__pycache__' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .asv
