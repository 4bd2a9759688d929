#!/usr/bin/env bash
# kindit beside PyTorch on this machine: the same loss first, then training steps, sampling, memory and start, in turns.
#   bench/compare.sh [small] [s] [b] [--only check,train,draw,memory,classes,start] [--precision fp32|bf16]
# Makes the peer's environment from PyPI (build/peer-venv, once; 6 GB), builds kindit, and writes bench/results/compare.md,
# compare.png and compare.json. All of it takes an hour or more, mostly the peer's; parts merge into one result.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cmp -s bench/requirements.txt build/peer-venv/requirements.txt; then
    python3 -m venv build/peer-venv
    build/peer-venv/bin/pip install --quiet -r bench/requirements.txt
    cp bench/requirements.txt build/peer-venv/
fi
[ -n "${KINDIT:-}" ] || make --silent build
exec build/peer-venv/bin/python bench/compare.py "$@"
