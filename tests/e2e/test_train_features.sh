# A feature network of one's own: trained, stopped and resumed to the same bytes, looked into, and refused where it does not
# belong.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data" 0.25
features() { "$KINDIT" eval train-features --quiet --data "$scratch/data" --width 16 --depth 2 --heads 2 --steps 12 "$@"; }

features -o "$scratch/a.safetensors" --json >"$scratch/a.json"
[ "$(json_number heldout_images <"$scratch/a.json")" = 9 ] || fail "expected 9 held-out images: $(cat "$scratch/a.json")"
expect_in "$scratch/a.json" '"taken_for_each_other"'
awk -v a="$(json_number heldout_accuracy <"$scratch/a.json")" 'BEGIN { exit !(a >= 0 && a <= 1) }' || fail "no accuracy"
[ -d "$scratch/a/checkpoints/step-12" ] || fail "no checkpoint beside the network"

# Stopped at once, it leaves a checkpoint and no network; resumed, it gives the same bytes.
features -o "$scratch/b.safetensors" --time 1e-9 --threads 1 >"$scratch/out"
expect_in "$scratch/out" "go on with --resume"
[ ! -e "$scratch/b.safetensors" ] || fail "an unfinished run left a network"
features -o "$scratch/b.safetensors" --resume >"$scratch/out"
expect_in "$scratch/out" "held-out accuracy: "
cmp "$scratch/a.safetensors" "$scratch/b.safetensors" || fail "a resumed run gives another network"

"$KINDIT" info "$scratch/a.safetensors" >"$scratch/out"
expect_in "$scratch/out" "classifier"
expect_in "$scratch/out" "heldout"

# It draws nothing, comes apart into nothing, and is no model for other programs.
for command in "sample $scratch/a.safetensors -o $scratch/a.png" "decompose $scratch/a.safetensors -o $scratch/parts" \
    "factorize $scratch/a.safetensors -o $scratch/factored" "export $scratch/a.safetensors --to dit -o $scratch/a.dit.safetensors"; do
    expect_code 2 "$KINDIT" $command
    expect_in "$scratch/err" "it measures images, and draws none"
done

expect_code 2 features -o "$scratch/a.safetensors"
expect_in "$scratch/err" "exists"
expect_code 2 features -o "$scratch/network"
expect_in "$scratch/err" "expected a name ending in .safetensors"
expect_code 2 features
expect_in "$scratch/err" "-o FILE is missing"
expect_code 2 features -o "$scratch/c.safetensors" --patch 3
expect_in "$scratch/err" "not a multiple of patch 3"
expect_code 2 "$KINDIT" eval train-features -o "$scratch/c.safetensors"
expect_in "$scratch/err" "--data DIR is missing"
expect_code 0 "$KINDIT" help eval train-features
expect_in "$scratch/out" "Examples:"
