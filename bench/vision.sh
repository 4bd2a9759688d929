#!/usr/bin/env bash
# Frozen networks beside PyTorch on this machine: the same features first, then throughput, in turns.
#   bench/vision.sh [--batch N] [--turns N] [--compile] [inception] [vits14] [vitb14] [vitl14]
# Makes the peer's environment from PyPI (build/vision-venv, once; 6 GB) and builds kindit; VISION_PYTHON and KINDIT name others.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${VISION_PYTHON:-build/vision-venv/bin/python}
source bench/venv.sh
[ -n "${VISION_PYTHON:-}" ] || make_venv build/vision-venv bench/requirements-vision.txt
[ -n "${KINDIT:-}" ] || { make --silent build && KINDIT=build/kindit; }
exec "$python" bench/vision.py "$KINDIT" "$@"
