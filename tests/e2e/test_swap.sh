# Threads that draw different classes of one open model at once, swapping tailors, draw what one thread draws alone.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
train "$scratch/data" "$scratch/run"
"$KINDIT" decompose "$scratch/run" -o "$scratch/parts" >/dev/null

for class in 0 1 2; do
    expect_code 0 "$BUILD/example_swap" "$scratch/parts" "$class"
    sed -n 's/^thread 0 //p' "$scratch/out"
done | sort -u >"$scratch/alone"
[ "$(wc -l <"$scratch/alone")" = 3 ] || fail "a class drawn alone differs from round to round: $(cat "$scratch/alone")"
[ "$(cut -d: -f2 "$scratch/alone" | sort -u | wc -l)" = 3 ] || fail "two classes look the same: $(cat "$scratch/alone")"

expect_code 0 "$BUILD/example_swap" "$scratch/parts" 0 1 2
[ "$(grep -c '^thread' "$scratch/out")" = 9 ] || fail "expected 3 threads of 3 rounds: $(cat "$scratch/out")"
sed -n 's/^thread [0-9] //p' "$scratch/out" | sort -u | cmp -s - "$scratch/alone" ||
    fail "together: $(cat "$scratch/out") alone: $(cat "$scratch/alone")"

# A thread whose tailor does not fit says so, and the others draw on.
train "$scratch/data" "$scratch/other" --seed 7
"$KINDIT" decompose "$scratch/other" -o "$scratch/others" >/dev/null
cp "$scratch/others/tailors/1.safetensors" "$scratch/parts/tailors/1.safetensors"
expect_code 1 "$BUILD/example_swap" "$scratch/parts" 0 1 2
expect_in "$scratch/err" "tailors/1.safetensors: belongs to the learngene with sha256"
