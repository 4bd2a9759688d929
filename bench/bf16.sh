#!/usr/bin/env bash
# bf16 beside fp32: the demo's model trained twice from the same seed on the same letters and digits, both losses and what
# their samples score. Writes out/bf16/bf16.png (docs/images/bf16.png) and prints the figures. Ten minutes or more;
# STEPS (default 3000) makes it shorter. Needs the peer's environment (bench/compare.sh makes it) for the picture.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${KINDIT:-}" ] || { make --silent build && KINDIT=$PWD/build/kindit; }
out=out/bf16
mkdir -p $out
[ -f $out/data/dataset.json ] || "$KINDIT" data glyphs --charset A-Z0-9 --size 16 -o $out/data
for type in fp32 bf16; do
    [ -f $out/$type.npz ] && continue
    option=()
    [ $type = fp32 ] || option=(--bf16)
    rm -rf $out/$type
    "$KINDIT" pretrain --data $out/data --width 128 --depth 5 --heads 4 --patch 4 --n-learngene 56 --n-tailor 2 --batch 64 \
        --lr 1e-3 --decay 1000 --ema 0.998 --steps "${STEPS:-3000}" --log-every 50 "${option[@]}" -o $out/$type
    "$KINDIT" sample $out/$type --n 40 --sampler ddim --steps 50 --cfg 1.5 --seed 1 -o $out/$type.npz
done
"$KINDIT" info --machine | grep -E 'processor |products'
for type in fp32 bf16; do
    printf "%s: " $type
    "$KINDIT" eval nn $out/$type.npz --data $out/data --json | grep -E "\"(n_queries|correct|accuracy)\"" | tr -d "\n\t"
    echo
done
build/peer-venv/bin/python bench/bf16.py $out
