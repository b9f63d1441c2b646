# The verbs of this project; `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

ifeq ($(wildcard .venv/bin/python),)
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11 python3.14; do $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
endif
endif
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Every worker and every server that a test starts would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
# Thousands of tests have a store in a file; in memory, a sync takes no time. Only where there is plenty.
IN_MEMORY := $(shell test -w /dev/shm && df -kP /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 { print "TMPDIR=/dev/shm" }')
ARGS ?=
PACKS ?=
comma := ,
space := $(subst ,, )

# The tests with these markers, in two processes; then those that need the machine for themselves. With ARGS, a pass may have none.
define in_two_passes
@FLYTE_TEST_THOROUGH=1 $(PYTEST) -n 2 --dist loadfile -m "($(1)) and not alone" tests $(ARGS) $(if $(ARGS),|| test $$? -eq 5)
@FLYTE_TEST_THOROUGH=1 $(PYTEST) -m "($(1)) and alone" tests $(ARGS) $(if $(ARGS),|| test $$? -eq 5)
endef

.PHONY: help run packs test check e2e fuzz backends bench docs lock release docker-run clean

help: ## list the verbs
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: .venv/run packs ## start Flyte with its packs and examples, and chat with it
	@$(BIN)/flyte dev $(ARGS)

packs: .venv/run ## install what more packs need: make packs PACKS=slack (or email, matrix; "slack email" for several)
	@test -z "$(strip $(PACKS))" || $(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation -e ".[$(subst $(space),$(comma),$(strip $(PACKS)))]"

test: .venv/dev ## run the tests that need no other programs (ARGS="-k word" chooses)
	@$(IN_MEMORY) $(PYTEST) -n 2 --dist worksteal -m "not slow and not postgres and not mongodb and not servers" $(ARGS)

check: .venv/dev ## lint, types, layers: everything but the tests
	@failed=0; for tool in "ruff format --check ." "ruff check ." mypy lint-imports; do $(BIN)/$$tool || failed=1; done; exit $$failed

e2e: .venv/dev ## run the tests that take longer, most of them end to end with real processes
	$(call in_two_passes,(slow or property) and not postgres and not mongodb and not servers)

backends: .venv/dev ## run the tests that need other servers: FLYTE_TEST_POSTGRES, _MONGODB, _OIDC, _IMAP and _MATRIX name them
	$(call in_two_passes,postgres or mongodb or servers)

fuzz: .venv/dev ## give the server inputs that nobody thought of (ARGS="--inputs 100000 --seed 1 --target flow")
	@nice -n 19 $(BIN)/python -m fuzz $(ARGS)

bench: .venv/dev ## measure speed, memory and start time; prints a table and writes JSON to bench/results
	@$(BIN)/python -m bench $(ARGS)

docs: .venv/dev ## write the generated reference pages anew
	@$(BIN)/python docs/generate.py $(ARGS)

lock: .venv/dev ## resolve the dependencies anew and write the lock files
	@$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra server --group build pyproject.toml -o requirements/run.lock $(ARGS)
	@$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra server --extra postgres --extra mongodb --extra slack --extra email --extra matrix --group build --group dev -c requirements/run.lock pyproject.toml -o requirements/dev.lock $(ARGS)

	@$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras -c requirements/dev.lock pyproject.toml -o requirements/image.lock $(ARGS)
	@$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group build -c requirements/dev.lock -o requirements/build.lock $(ARGS)
	@$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group audit -o requirements/audit.lock $(ARGS)
	@$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group image -o requirements/hadolint.lock $(ARGS)
	@$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --group synapse -o requirements/synapse.lock $(ARGS)

release: .venv/dev ## build and check the wheel and the sdist in dist, and tag the version (ARGS="--check" tags nothing)
	@.ci/release $(ARGS)

docker-run: ## build the container image and run a server in it, with its data in the volume `flyte`
	docker build --tag flyte .
	docker run --rm --read-only --publish 127.0.0.1:8080:8080 --volume flyte:/data flyte $(ARGS)

clean: ## remove what was built or installed here; data in .flyte stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find src chaos tests bench fuzz examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Flyte needs Python 3.11 or later; none was found. Set PYTHON=/path/to/python3." >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "This Python cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }

.venv/run: requirements/run.lock pyproject.toml chaos/pyproject.toml | .venv/bin/python
	@echo "Installing what Flyte needs (once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . -e ./chaos
	@touch $@

.venv/dev: requirements/dev.lock .venv/run
	@echo "Installing what the tests need (once) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@
