# The verbs of this project; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The environment: .venv; with PYTHON=..., one of its own (.venv-3.13) if .venv is of another version.
VENV := .venv
version = $(shell $(1) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ifeq ($(wildcard .venv/bin/python),)
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11 python3.14; do $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
endif
else ifdef PYTHON
ifeq ($(call version,$(PYTHON)),)
$(error $(PYTHON) cannot be run; set PYTHON=/path/to/python3)
endif
ifneq ($(call version,$(PYTHON)),$(call version,.venv/bin/python))
VENV := .venv-$(call version,$(PYTHON))
endif
endif
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# The lint of the English in docstrings, comments, messages and pages.
PROSE := python -m pytest -q -p no:cacheprovider tests/arch/test_prose.py
QUICK := -n 2 --dist worksteal -m "not slow and not postgres and not mongodb and not servers"
# Every worker and every server that a test starts would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
# Thousands of tests have a store in a file; in memory, a sync takes no time. Only where there is plenty.
IN_MEMORY := $(shell test -w /dev/shm && df -kP /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 { print "TMPDIR=/dev/shm" }')
ARGS ?=
PACKS ?=
comma := ,
space := $(subst ,, )
# The extras for packs and stores; the other packs need nothing.
EXTRAS := $(filter-out server,$(shell sed -n '/^.project.optional-dependencies/,/^.project.scripts/s/^\([a-z]*\) = .*/\1/p' pyproject.toml))
WANTED := $(shell echo '$(subst $(comma),$(space),$(PACKS))' | tr '[:upper:]' '[:lower:]')
UNKNOWN := $(filter-out $(EXTRAS) chat http shell ticker,$(WANTED))

# The tests with these markers, in two processes; then those that need the machine for themselves. With ARGS, a pass may have none.
define in_two_passes
@FLYTE_TEST_THOROUGH=1 $(PYTEST) -n 2 --dist loadfile -m "($(1)) and not alone" tests $(ARGS) $(if $(ARGS),|| test $$? -eq 5)
@FLYTE_TEST_THOROUGH=1 $(PYTEST) -m "($(1)) and alone" tests $(ARGS) $(if $(ARGS),|| test $$? -eq 5)
endef

.PHONY: help run packs test coverage check e2e fuzz backends bench docs lock release docker-run clean

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(VENV)/run packs ## start Flyte with its packs and examples, and chat with it (ARGS="--port 9000" sets the port)
	@$(BIN)/flyte dev $(ARGS)

packs: $(VENV)/run ## install what more packs need: make packs PACKS=slack (or email, matrix; "slack email" for several)
	@test -z "$(UNKNOWN)" || { echo "Nothing is called $(UNKNOWN) here; PACKS may be: $(EXTRAS)" >&2; exit 1; }
	@test -z "$(filter $(EXTRAS),$(WANTED))" || $(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -e ".[$(subst $(space),$(comma),$(filter $(EXTRAS),$(WANTED)))]"

test: $(VENV)/dev ## run the tests that need no other programs (ARGS="-k word" chooses; PYTHON=python3.13 is another version)
	@$(IN_MEMORY) $(PYTEST) $(QUICK) $(ARGS)

coverage: $(VENV)/dev ## run the tests of `make test`, measure their branches, and hold the measure to its floors
	@$(IN_MEMORY) $(PYTEST) $(QUICK) --cov --cov-report= $(ARGS)
	@$(BIN)/python .ci/coverage

check: $(VENV)/dev ## lint, types, layers, prose: everything but the tests
	@failed=0; for tool in "ruff format --check ." "ruff check ." mypy "mypy tests/typing" lint-imports "$(PROSE)"; do $(BIN)/$$tool || failed=1; done; exit $$failed

e2e: $(VENV)/dev ## run the tests that take longer, most of them end to end with real processes
	$(call in_two_passes,(slow or property) and not postgres and not mongodb and not servers)

backends: $(VENV)/dev ## run the tests that need other servers: FLYTE_TEST_POSTGRES, _MONGODB, _OIDC, _IMAP and _MATRIX name them
	$(call in_two_passes,postgres or mongodb or servers)

fuzz: $(VENV)/dev ## give the server inputs that nobody thought of (ARGS="--inputs 100000 --seed 1 --target flow")
	@nice -n 19 $(BIN)/python -m fuzz $(ARGS)

bench: $(VENV)/dev ## measure speed, memory and start time; prints a table and writes JSON to bench/results
	@$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/dev ## write the generated reference pages anew
	@$(BIN)/python docs/generate.py $(ARGS)

lock: $(VENV)/dev ## resolve the dependencies anew and write the lock files (ARGS=--upgrade takes newer versions)
	@PYTHON=$(BIN)/python requirements/lock.sh $(ARGS)

release: $(VENV)/dev ## build and check the wheel and the sdist in dist, and tag the version (ARGS="--check" tags nothing)
	@.ci/release $(ARGS)

docker-run: ## build the container image and run a server in it, with its data in the volume `flyte`
	docker build --tag flyte .
	docker run --rm --read-only --publish 127.0.0.1:8080:8080 --volume flyte:/data flyte $(ARGS)

clean: ## remove what was built or installed here; data in .flyte stays
	rm -rf .venv .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage dist build
	find src chaos tests bench fuzz examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Flyte needs Python 3.11 or later; none was found. Set PYTHON=/path/to/python3." >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "This Python cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/run: requirements/run.lock pyproject.toml chaos/pyproject.toml | $(VENV)/bin/python
	@echo "Installing what Flyte needs (once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . -e ./chaos
	@touch $@

$(VENV)/dev: requirements/dev.lock $(VENV)/run
	@echo "Installing what the tests need (once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@
