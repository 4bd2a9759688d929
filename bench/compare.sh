#!/usr/bin/env bash
# kindit beside PyTorch on this machine: the same loss first, then training steps, sampling, memory and start, in turns.
#   bench/compare.sh [small] [s] [b] [--only check,train,draw,memory,classes,start] [--precision fp32|bf16]
# Makes the peer's environment from PyPI (build/peer-venv, once; 6 GB), builds kindit, and writes bench/results/compare.md,
# compare.png and compare.json. All of it takes an hour or more, mostly the peer's; parts merge into one result.
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/venv.sh
make_venv build/peer-venv bench/requirements.txt
[ -n "${KINDIT:-}" ] || make --silent build
exec build/peer-venv/bin/python bench/compare.py "$@"
