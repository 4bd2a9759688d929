#!/usr/bin/env bash
# Fine-tuning beside PyTorch and peft on this machine: the same loss first, then a training step of each method, in turns.
#   bench/adapt.sh [small] [s] [b] [--methods kind,full,lora,...] [--only check,pair,train] [--precision fp32|bf16]
#       [--eager] [--minutes N] [--results DIR]
# Uses the peer's environment (build/peer-venv, from PyPI, as bench/compare.sh), builds kindit, and writes
# bench/results/adapt.md and adapt.json; parts merge into one result.
set -euo pipefail
cd "$(dirname "$0")/.."
source bench/venv.sh
make_venv build/peer-venv bench/requirements.txt
[ -n "${KINDIT:-}" ] || make --silent build
exec build/peer-venv/bin/python bench/adapt.py "$@"
