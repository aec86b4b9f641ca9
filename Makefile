# The two commands of the README are `make demo` and `make test`; each does its whole set-up.
# Needs: python3 (3.11 or newer) with venv, and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test coverage check slow bench interop venv lock clean format

# -- set-up ---------------------------------------------------------------------------------------

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fleetward needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV) || { echo "python3 lacks venv: apt-get install python3-venv"; exit 1; }
	touch $@

# The programs alone: enough for the demo.
$(VENV)/.runtime: $(VENV)/.made requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

# With everything that tests and checks need.
$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	touch $@

venv: $(VENV)/.dev

# -- what people run --------------------------------------------------------------------------------

demo: $(VENV)/.runtime
	$(BIN)/fleetward demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" $(ARGS)

# The same tests, measured; that costs half as much time again.
coverage: $(VENV)/.dev
	rm -f .coverage .coverage.*
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" --cov --cov-report= $(ARGS)
	$(BIN)/python -m coverage report --fail-under=95 --skip-covered
	$(BIN)/python -m coverage report --fail-under=100 --include='*/fleetward/core/*,*/fleetward/wire/*,*/fleetward/trust/*'

check: $(VENV)/.dev
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry src

# An independent TUF client for tests/interop; needs node and npm.
interop: tests/interop/node_modules/.made
tests/interop/node_modules/.made: tests/interop/package.json
	npm install --prefix tests/interop --no-package-lock --no-audit --no-fund --silent
	touch $@

slow: $(VENV)/.dev
	FLEETWARD_HYPOTHESIS=slow $(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

# The peers come from Debian's packages; their absence leaves a column empty. `ARGS="herd push"` runs
# some parts alone; the whole site needs root and FLEETWARD_LAB=folder of wanlink.py.
PEERS := xdelta3 zstd wrk nginx varnishd squid ip ss
PEER_PACKAGES := xdelta3 zstd wrk nginx-light varnish squid iproute2
bench: $(VENV)/.dev
	@(for peer in $(PEERS); do command -v $$peer >/dev/null || exit 1; done) || { echo "bench installs its peers: apt-get install $(PEER_PACKAGES)"; apt-get install -y --no-install-recommends $(PEER_PACKAGES); }
	$(BIN)/python -m bench $(ARGS)

# -- housekeeping -----------------------------------------------------------------------------------

format: $(VENV)/.dev
	$(BIN)/ruff format src tests bench
	$(BIN)/ruff check --fix src tests bench

# Needs uv; the locks hold hashes and no addresses.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra yara --extra fast --extra console pyproject.toml requirements-build.in -o requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra yara --extra fast --extra console --group dev pyproject.toml requirements-build.in -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
