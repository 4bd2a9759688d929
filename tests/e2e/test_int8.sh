# Drawing by products of 8-bit integers: the same bytes whatever the threads and the batch, close to what float32 draws, and
# float32 itself where the processor has none. And that bf16 reaches the drawing.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
train "$scratch/data" "$scratch/run"
"$KINDIT" assemble "$scratch/run" --type int8 -o "$scratch/model.safetensors" >/dev/null
draw() { "$KINDIT" sample "$scratch/model.safetensors" --quiet --n 3 --sampler ddim --steps 4 "${@:2}" -o "$scratch/$1.npy" >/dev/null; }
same() { cmp "$scratch/$1.npy" "$scratch/$2.npy" || fail "$3"; }

draw float
draw one --int8 --threads 1
draw two --int8 --threads 2 --batch 2
same one two "threads or the batch change what integers draw"
draw bf16 --bf16
! cmp -s "$scratch/bf16.npy" "$scratch/float.npy" || fail "--bf16 changes no bit: it does not reach the drawing"
KINDIT_INT8=none draw none --int8
same float none "without products of integers it is not float32 that draws"
KINDIT_INT8=abacus expect_code 2 "$KINDIT" sample "$scratch/model.safetensors" --int8 --n 1 --steps 1 -o "$scratch/x.npy"
expect_in "$scratch/err" "expected amx, vnni, dotprod or none, found 'abacus'"

"$KINDIT" info --machine >"$scratch/out"
expect_in "$scratch/out" "int8 products "
if grep -q '^int8 products *none$' "$scratch/out"; then
    same float one "a processor without products of integers draws something else with --int8"
else
    # Values are -1 to 1; each rounding is off by 1/254 of the largest number of a row, and a few steps leave most of that.
    values() { tail -c $((9 * 64 * 4)) "$1" | od -An -v -w4 -t f4; }
    paste <(values "$scratch/float.npy") <(values "$scratch/one.npy") | awk '
        { d = $1 - $2; sum += d * d; power += $1 * $1 }
        END { exit !(NR == 576 && sum > 0 && sum < 0.0025 * power) }' || fail "integers draw other pictures than float32"
fi
