#!/usr/bin/env bash
# Frozen networks beside PyTorch on this machine: the same features first, then throughput, in turns.
#   bench/vision.sh [--batch N] [--turns N] [--compile] [inception] [vits14] [vitb14] [vitl14]
# Makes the peer's environment from PyPI (build/vision-venv, once; 6 GB) and builds kindit; VISION_PYTHON and KINDIT name others.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${VISION_PYTHON:-build/vision-venv/bin/python}
if [ -z "${VISION_PYTHON:-}" ] && ! cmp -s bench/requirements-vision.txt build/vision-venv/requirements.txt; then
    python3 -m venv build/vision-venv
    build/vision-venv/bin/pip install --quiet -r bench/requirements-vision.txt
    cp bench/requirements-vision.txt build/vision-venv/
fi
[ -n "${KINDIT:-}" ] || { make --silent build && KINDIT=build/kindit; }
exec "$python" bench/vision.py "$KINDIT" "$@"
