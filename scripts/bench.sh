#!/usr/bin/env bash
# A training step of several sizes, kernel by kernel, against this machine's own peak, learngene and tailors beside the plain
# DiT, in fp32 and bf16; and the same step with 10 and with 1000 classes. Date, machine and commands go with the figures,
# for docs/benchmarks.md. About six minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
date -u '+%Y-%m-%d %H:%M UTC'
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'

bench() {
    printf '\n$ kindit bench %s\n' "$*"
    build/kindit bench "$@"
}
small=(--width 192 --depth 6 --heads 6 --patch 4 --channels 1 --batch 64 --steps 10)
for classes in 10 1000; do bench "${small[@]}" --n-learngene 80 --n-tailor 2 --n-classes $classes; done
bench "${small[@]}" --n-learngene 80 --n-tailor 2 --n-classes 10 --recompute
for type in "" --bf16; do
    bench "${small[@]}" --n-learngene 80 --n-tailor 2 --n-classes 10 $type
    bench "${small[@]}" --kind off $type
    bench --preset DiT-S/2 --n-learngene 159 --n-tailor 2 --n-classes 150 --batch 16 --steps 3 $type
    bench --preset DiT-S/2 --kind off --n-classes 150 --batch 16 --steps 3 $type
    bench --preset DiT-B/2 --n-learngene 318 --n-tailor 3 --n-classes 150 --batch 8 --steps 2 $type
    bench --preset DiT-B/2 --kind off --n-classes 150 --batch 8 --steps 2 $type
done
