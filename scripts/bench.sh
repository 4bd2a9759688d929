#!/usr/bin/env bash
# A training step of several sizes, kernel by kernel, against this machine's own peak. Date, machine and commands go with the
# figures, for docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."
date -u '+%Y-%m-%d %H:%M UTC'
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'
for width in 128 192 384 768; do
    for kind in kind off; do
        command=(build/kindit bench --kind $kind --width $width --depth 4 --heads $((width / 64)) --patch 4 --channels 1
            --batch 64 --steps 10)
        printf '\n$ %s\n' "${command[*]}"
        "${command[@]}"
    done
done
