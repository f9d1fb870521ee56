PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN = .venv/bin
PYTEST = $(BIN)/pytest --numprocesses=auto --dist=worksteal
FUZZ = 60s
SOAK = 10m
KILLS = 100
POWER_CUTS = 20
TIME = 10m

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv ## start the server on ports 9090 and 9099
	@$(BIN)/python -m maze.serve

simulator: .venv ## play ten million events against a running server
	@$(BIN)/python -m simulator

simulator-test: .venv ## play ten thousand events against a running server, with debug logs
	@logLevel=debug totalEvents=10000 concurrencyLevel=10 numberOfUsers=100 \
	maxEventSourceBatchSize=100 timeout=20000 $(BIN)/python -m simulator

demo: .venv ## start the server, play 100,000 events, check every byte
	@$(BIN)/python -m simulator --serve --total-events 100000

test: .venv ## lint, types and the quick tests, in a few minutes
	@$(MAKE) --no-print-directory quick

check: .venv ## all other checks: coverage, faults, browser, memory safety, blocked event loop
	@$(MAKE) --no-print-directory thorough

pythons: .venv ## the quick tests with Python 3.12 and 3.13, where these are installed
	@for version in 3.12 3.13; do \
		found=$$(python$$version -c 'import sys; print(sys.executable)' 2>/dev/null) \
			|| { echo "python$$version is not installed: its tests are skipped"; continue; }; \
		$(BIN)/tox --discover "$$found" -e py$$(echo $$version | tr -d .) || exit 1; done

# The targets that tox runs; each needs an environment with the packages and the compiled core.

quick: lint types tests

thorough: coverage browser faults sanitized watched

# PLW1514, which requires an encoding wherever a text file is opened, is a preview rule of ruff.
lint:
	$(BIN)/ruff check .
	$(BIN)/ruff check --preview --select PLW1514 maze simulator
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

# Property tests with few examples; `faults` runs all of them.
tests:
	HYPOTHESIS_PROFILE=$${HYPOTHESIS_PROFILE:-brief} $(PYTEST) $(foreach folder,browser chaos faults fuzz soak,--ignore=tests/$(folder))

# With the pure core, because coverage does not see the compiled one.
coverage:
	MAZE_PURE=1 $(PYTEST) --cov --cov-report=term-missing:skip-covered \
		$(foreach folder,browser chaos faults fuzz soak,--ignore=tests/$(folder))

browser:
	$(PYTEST) tests/browser

faults:
	$(PYTEST) tests/property tests/faults tests/fuzz tests/soak tests/chaos

# The core's tests, with a compiled core built with sanitizers that check each memory access.
sanitized:
	HYPOTHESIS_PROFILE=brief $(BIN)/python tests/sanitized.py build/sanitized --numprocesses=auto

watched:
	GEVENT_MONITOR_THREAD_ENABLE=1 GEVENT_MAX_BLOCKING_TIME=0.1 $(PYTEST) tests/end_to_end

fuzz: .venv ## fuzz each target for FUZZ (60s)
	@for target in decoder handshake proxy_header; do \
		PYTHONPATH=tests $(BIN)/python -m fuzz $$target --time $(FUZZ) || exit 1; done

soak: .venv ## inject faults for SOAK (10m); check every byte, and that nothing grows
	@PYTHONPATH=tests $(BIN)/python -m soak --time $(SOAK)

crashes: .venv ## kill servers with a journal in mid-run: KILLS (100) times, and POWER_CUTS (20)
	@$(BIN)/python -m tests.faults.crashes --kills $(KILLS) --power-cuts $(POWER_CUTS)

chaos: .venv ## break a part of a running service again and again for TIME (10m); check every byte
	@PYTHONPATH=tests $(BIN)/python -m chaos --time $(TIME)

clean: ## remove what the other targets made
	rm -rf .venv .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .fuzz .soak .crashes .chaos build
	rm -f maze/core/_compiled/*.so maze/core/_compiled/*.c

.venv: .venv/built

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, not $(PYTHON)")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/built: .venv/installed setup.py $(wildcard maze/core/_compiled/*.pyx maze/core/_compiled/*.pxd)
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@$(BIN)/python -c 'from maze.core import IMPLEMENTATION; print("the", IMPLEMENTATION, "core serves")'
	@touch $@

.PHONY: help run simulator simulator-test demo test check pythons fuzz soak crashes chaos clean .venv
.PHONY: quick thorough lint types tests coverage browser faults sanitized watched
