# The paper's Table 5 with a classifier of one's own, and the other figures that a classifier gives.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data" 0.25
train "$scratch/data" "$scratch/run"
"$KINDIT" eval train-features --quiet --data "$scratch/data" --width 16 --depth 2 --heads 2 --steps 12 \
    -o "$scratch/net.safetensors" >/dev/null
net=(--network "$scratch/net.safetensors")
draw=(--sampler ddim --steps 3)

"$KINDIT" eval "$scratch/run" "${net[@]}" --data "$scratch/data" --n 40 "${draw[@]}" --quiet --json >"$scratch/all.json"
for key in fd is precision recall entropy variance kurtosis; do
    [ -n "$(json_number $key <"$scratch/all.json")" ] || fail "no $key: $(cat "$scratch/all.json")"
done
awk -v is="$(json_number is <"$scratch/all.json")" 'BEGIN { exit !(is >= 1 && is <= 3) }' || fail "a score beyond the classes"

# Table 5: a page, a table, a plot, a grid of each row.
train "$scratch/data" "$scratch/plain" --kind off
"$KINDIT" eval activations "$scratch/run" --plain "$scratch/plain" --data "$scratch/data" "${net[@]}" --n 30 "${draw[@]}" \
    --quiet -o "$scratch/table5" >"$scratch/out"
for name in "raw images" "plain model" "learngene and tailors" "learngene alone"; do
    expect_in "$scratch/out" "$name"
    expect_in "$scratch/table5/activations.csv" "$name,"
done
for file in report.html activations.svg images.png plain.png whole.png learngene.png; do
    [ -s "$scratch/table5/$file" ] || fail "no $file"
done
! grep -q 'nan\|inf' "$scratch/table5/activations.svg" "$scratch/table5/activations.csv" || fail "numbers that are none"

# The options of drawing shut the tailors of the last row alone; one that has label rows is another.
"$KINDIT" eval activations "$scratch/run" --data "$scratch/data" "${net[@]}" --n 30 "${draw[@]}" --no-tailors --keep-label-rows \
    --quiet -o "$scratch/rows" >/dev/null
row() { grep "^$2," "$scratch/$1/activations.csv"; }
[ "$(row rows "learngene and tailors")" = "$(row table5 "learngene and tailors")" ] || fail "the whole model was drawn without tailors"
[ "$(row rows "learngene alone")" != "$(row table5 "learngene alone")" ] || fail "label rows change nothing"

# Of images without a class among the first, and of fewer than fill a grid, there is a grid all the same.
"$KINDIT" sample "$scratch/run" --classes 2 --n 3 "${draw[@]}" -o "$scratch/three.npz" --quiet >/dev/null
expect_code 0 "$KINDIT" eval activations "$scratch/run" --data "$scratch/three.npz" "${net[@]}" --n 2 "${draw[@]}" --quiet \
    -o "$scratch/few"
expect_in "$scratch/few/activations.csv" "raw images,3,"
expect_in "$scratch/few/activations.csv" "learngene alone,2,"
