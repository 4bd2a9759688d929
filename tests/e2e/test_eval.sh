# kindit eval from end to end, with a small network of random weights: samples, models and real images against a data set; kept
# features, statistics, records; and what it must refuse or say.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
train "$scratch/data" "$scratch/run"
"$BUILD/tool_make_network" "$scratch/net.safetensors"
net=(--network "$scratch/net.safetensors")
draw=(--sampler ddim --steps 3)
evaluate() { "$KINDIT" eval "$@" "${net[@]}"; }

# Images against themselves are at distance 0; samples written to a file are measured like pictures in a folder.
evaluate "$scratch/data" --data "$scratch/data" --json >"$scratch/self.json"
awk -v d="$(json_number fdd <"$scratch/self.json")" -v p="$(json_number precision <"$scratch/self.json")" \
    'BEGIN { exit !(d >= 0 && d < 1e-4 && p == 1) }' || fail "a set is not itself: $(cat "$scratch/self.json")"
"$KINDIT" sample "$scratch/run" --n 7 "${draw[@]}" -o "$scratch/samples.npz" --quiet >/dev/null
evaluate "$scratch/samples.npz" --data "$scratch/data" --per-class --json >"$scratch/npz.json"
for key in fdd precision recall; do
    [ -n "$(json_number $key <"$scratch/npz.json")" ] || fail "no $key: $(cat "$scratch/npz.json")"
done
[ "$(grep -c '"id"' "$scratch/npz.json")" = 3 ] || fail "three classes: $(cat "$scratch/npz.json")"
expect_in "$scratch/npz.json" "biased upwards"
expect_code 0 evaluate "$scratch/samples.npz" --data "$scratch/data" --per-class
expect_in "$scratch/out" "FDD  "
expect_in "$scratch/out" "biased upwards"

# The library says the same.
expect_code 0 "$BUILD/example_evaluate" "$scratch/samples.npz" "$scratch/data" "$scratch/net.safetensors" 0
expect_in "$scratch/out" "$(printf 'Frechet distance %.6g' "$(json_number fdd <"$scratch/npz.json")")"
expect_code 1 "$BUILD/example_evaluate" "$scratch/samples.npz" "$scratch/data" "$scratch/absent" 0

# A model in one go: the same figures at any number of threads, from kept features, and after an interruption.
model=(evaluate "$scratch/run" --data "$scratch/data" --n 60 "${draw[@]}" --csv "$scratch/rows.csv" --quiet)
"${model[@]}" --json >"$scratch/a.json"
"${model[@]}" --json --threads 1 --cache "$scratch/cache" >"$scratch/b.json"
cmp "$scratch/a.json" "$scratch/b.json" || fail "the number of threads changes a figure"
before=$(find "$scratch/cache" -name 'part-*' -printf '%p %T@\n' | sort)
"${model[@]}" --json --cache "$scratch/cache" >"$scratch/b.json"
cmp "$scratch/a.json" "$scratch/b.json" || fail "kept features give another figure"
[ "$before" = "$(find "$scratch/cache" -name 'part-*' -printf '%p %T@\n' | sort)" ] || fail "features were computed again"
"${model[@]}" --n 61 --cache "$scratch/cache" >/dev/null
[ "$(find "$scratch/cache" -name 'part-*' | wc -l)" = 3 ] || fail "another run has other features: $(find "$scratch/cache")"
[ "$(wc -l <"$scratch/rows.csv")" = 5 ] || fail "a header and four rows: $(cat "$scratch/rows.csv")"
awk -F, 'NR == 1 { n = NF } NF != n { exit 1 }' "$scratch/rows.csv" || fail "ragged rows: $(cat "$scratch/rows.csv")"
expect_in "$scratch/rows.csv" "samples_sha256"
echo other >"$scratch/other.csv"
expect_code 1 evaluate "$scratch/samples.npz" --data "$scratch/data" --csv "$scratch/other.csv"
expect_in "$scratch/err" "columns are others"

"$KINDIT" eval "$scratch/run" "${net[@]}" --data "$scratch/data" --n 1100 --sampler ddim --steps 20 --batch 8 --quiet \
    --cache "$scratch/stopped" --json >"$scratch/out" 2>"$scratch/err" &
job=$!
for _ in $(seq 600); do
    [ "$(find "$scratch/stopped" -name 'part-*' 2>/dev/null | wc -l)" -ge 1 ] && break
    sleep 0.05
done
kill -INT $job
code=0
wait $job 2>/dev/null || code=$?
[ $code -eq 130 ] || fail "interrupted: expected exit code 130, found $code: $(cat "$scratch/err")"
kept=$(find "$scratch/stopped" -name 'part-*' | wc -l)
long=(evaluate "$scratch/run" --data "$scratch/data" --n 1100 --sampler ddim --steps 20 --quiet --json)
"${long[@]}" --cache "$scratch/stopped" >"$scratch/resumed.json"
[ "$(find "$scratch/stopped" -name 'part-*' | wc -l)" -gt "$kept" ] || fail "it was not interrupted"
"${long[@]}" >"$scratch/whole.json"
cmp "$scratch/resumed.json" "$scratch/whole.json" || fail "going on gives other figures"

# Statistics stand for their images.
"$KINDIT" eval stats "$scratch/data" "${net[@]}" -o "$scratch/stats.npz" >/dev/null
evaluate "$scratch/samples.npz" --reference "$scratch/stats.npz" --json >"$scratch/stats.json"
[ "$(json_number fdd <"$scratch/stats.json")" = "$(json_number fdd <"$scratch/npz.json")" ] || fail "statistics differ from images"
[ -z "$(json_number precision <"$scratch/stats.json")" ] || fail "precision without reference images"
expect_code 2 evaluate "$scratch/samples.npz" --reference "$scratch/stats.npz" --metrics pr
expect_in "$scratch/err" "which statistics cannot stand for"
expect_code 2 evaluate "$scratch/samples.npz" --reference "$SOURCE/tests/golden/metrics/pytorch_fid.npz"
expect_in "$scratch/err" "statistics of 5 features, where"

# Refused, or said.
expect_code 1 env KINDIT_SHARE="$scratch" "$KINDIT" eval "$scratch/samples.npz" --data "$scratch/data"
expect_in "$scratch/err" "KINDIT_SHARE says"
expect_code 2 evaluate "$scratch/samples.npz" --data "$scratch/data" --metrics fid,psnr
expect_in "$scratch/err" "'psnr'"
expect_code 2 evaluate "$scratch/samples.npz" --data "$scratch/data" --steps 3
expect_in "$scratch/err" "go with a model"
expect_code 2 evaluate "$scratch/samples.npz" --data "$scratch/data" --n 1000
expect_in "$scratch/err" "has 21 images"
expect_code 2 evaluate "$scratch/samples.npz" --reference heldout
expect_in "$scratch/err" "--data DIR"
expect_code 2 evaluate "$scratch/samples.npz" --data "$scratch/data" --n 2 --metrics pr
expect_in "$scratch/err" "2 samples cannot each have 5 neighbours"
expect_code 2 evaluate "$scratch/samples.npz" --data "$scratch/data" --profile inception
expect_code 2 evaluate "$scratch/samples.npz" --data "$scratch/data" --metrics sfid
expect_in "$scratch/err" "spatial features"
expect_code 2 evaluate "$scratch/samples.npz" --data "$scratch/data" --metrics is
expect_in "$scratch/err" "a network that classifies"
expect_code 2 evaluate "$scratch/samples.npz"
expect_in "$scratch/err" "without a reference"
expect_code 2 "$KINDIT" eval activations "$scratch/run" "${net[@]}" --data "$scratch/data" -o "$scratch/none"
expect_in "$scratch/err" "does not classify"
expect_code 1 evaluate "$scratch/absent.npz" --data "$scratch/data"
