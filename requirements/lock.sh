#!/usr/bin/env bash
# Resolves the dependencies and writes the lock files; `make lock` runs it, with ARGS for uv such as --upgrade.
# Decision 49 says why they are several.
set -euo pipefail
cd "$(dirname "$0")/.."

# The file, the file whose versions it repeats (- for none), and the parts of pyproject.toml that it holds.
table='
run        -    pyproject.toml --extra=server --group=build
dev        run  pyproject.toml --all-extras --group=build --group=dev
image      dev  pyproject.toml --all-extras
build      dev  --group=build
audit      -    --group=audit
hadolint   -    --group=image
synapse    -    --group=synapse
'

while read -r name base parts; do
  [ -n "$name" ] || continue
  [ "$base" = - ] || parts+=" --constraint=requirements/$base.lock"
  # shellcheck disable=SC2086 # several words on purpose
  "${PYTHON:-.venv/bin/python}" -m uv pip compile --quiet --universal --python-version=3.11 --generate-hashes \
    --no-emit-index-url --no-header --output-file="requirements/$name.lock" $parts "$@" </dev/null
done <<<"$table"
