# One command a chore. `make demo` and `make test` need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
OUTPUT ?= studies

unexport PYTHONDONTWRITEBYTECODE   # every start of a process would compile everything anew

.PHONY: demo test test-slow test-cluster lint format types docs chaos bench bench-cluster up down wheel constraints clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml requirements/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c requirements/constraints.txt -e '.[dev]'
	touch $@

demo: $(READY)          ## the coating study: create the environment, run it, say where to look
	$(BIN)/python examples/demo.py

test: $(READY)          ## everything that is not slow and needs no cluster
	$(BIN)/python tests/run.py 'not slow and not cluster' $(ARGS)

test-slow: $(READY)     ## what takes minutes: real kills, a failing S3 server, 10,000 broken specs; CI runs it too
	$(BIN)/python tests/run.py 'slow and not cluster' --timeout 1800 $(ARGS)

test-cluster: $(READY)  ## on a real Kubernetes, which it starts: half an hour; CI runs the half that is not slow; CLUSTER_SCRIPTS names its scripts
	tests/cluster/run $(BIN)/python -m pytest tests/cluster -m cluster $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)         ## the installed layout, by links, for a checker that cannot follow the mapping of folders
	rm -rf build/types && mkdir -p build/types/prefect_simopt
	for part in src/prefect_simopt/* flows tasks blocks deployments; do ln -s "$(CURDIR)/$$part" build/types/prefect_simopt/; done
	MYPYPATH=build/types $(BIN)/mypy -p prefect_simopt

chaos: $(READY)         ## kills 200 studies at random moments and counts what was lost: about half an hour
	$(BIN)/python tests/faults/chaos.py --studies 200 $(ARGS)

bench: $(READY)         ## the figures of docs/benchmarks.md
	for each in startup runtime store optimizers_cost prefect_overhead; do $(BIN)/python benchmarks/$$each.py || exit 1; done

bench-cluster: $(READY) ## what pods cost, on the same Kubernetes
	tests/cluster/run $(BIN)/python benchmarks/cluster.py $(ARGS)

docs: $(READY)          ## the pages' examples run and their links lead somewhere
	$(BIN)/python -m pytest tests/test_pages.py tests/simulators/test_docs.py

up: $(READY)            ## a Prefect server, a work pool, a worker and our deployments, on loopback
	$(BIN)/python -m prefect_simopt.deployments.local up

down:
	$(BIN)/python -m prefect_simopt.deployments.local down

wheel: $(READY)         ## sdist, the wheel built from it, and a clean environment that imports every module
	$(BIN)/python tests/packaging/check_wheel.py

constraints: $(READY)   ## pins everything that the environment installs
	$(BIN)/uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --no-emit-index-url --no-annotate --no-header -o requirements/constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
