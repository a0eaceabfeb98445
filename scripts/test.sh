#!/usr/bin/env bash
# Lint, format, types and tests. --all adds the slow tests; other arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

export JAX_PLATFORMS=cpu
which="not slow"
for argument; do
    shift
    if [ "$argument" = --all ]; then which=""; else set -- "$@" "$argument"; fi
done

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Workers share no compiled function: a file stays with one of them.
.venv/bin/python -m pytest -n "${PYTEST_WORKERS:-auto}" --dist=loadfile -m "$which" "$@"
echo "PASS: lint, format, types and tests"
