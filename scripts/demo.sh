#!/usr/bin/env bash
# A first search, on the digits that scikit-learn ships. Arguments go to `jnas search`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh
exec .venv/bin/python -m jnas search --config=experiments/configs/digits_evolution.py \
    --workdir=runs/demo "$@"
