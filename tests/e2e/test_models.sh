#!/usr/bin/env bash
# The committed model: small, quick to draw from, and it comes apart and together like any other.
. "$(dirname "$0")/lib.sh"
model=$SOURCE/models/letters.safetensors
[ "$(stat -c %s "$model")" -lt 4000000 ] || fail "the model takes 4 MB or more"

draw=(--classes K,i,n,d --n 2 --sampler ddim --steps 4)
"$KINDIT" sample "$model" "${draw[@]}" -o "$scratch/whole.npy" >/dev/null
"$KINDIT" decompose "$model" --type bf16 -o "$scratch/parts" >/dev/null
[ "$(find "$scratch/parts/tailors" -name '*.safetensors' | wc -l)" -eq 62 ] || fail "not 62 tailors"
"$KINDIT" sample "$scratch/parts" "${draw[@]}" -o "$scratch/parts.npy" >/dev/null
cmp "$scratch/whole.npy" "$scratch/parts.npy" || fail "the parts draw something else"
"$KINDIT" assemble "$scratch/parts" --classes K,i,n,d --type bf16 -o "$scratch/four.safetensors" >/dev/null
"$KINDIT" sample "$scratch/four.safetensors" "${draw[@]}" -o "$scratch/four.npy" >/dev/null
cmp "$scratch/whole.npy" "$scratch/four.npy" || fail "four classes of it draw something else"
