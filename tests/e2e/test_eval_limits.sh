# Few images, one class, images all alike, features that are no numbers, images and statistics that the network is not for: kindit
# eval refuses them with a message that says what to do, or says beside the figures what they are worth.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data" 0.25
train "$scratch/data" "$scratch/run"
"$KINDIT" eval train-features --quiet --data "$scratch/data" --width 16 --depth 2 --heads 2 --steps 12 \
    -o "$scratch/net.safetensors" >/dev/null
evaluate() { "$KINDIT" eval "$@" --network "$scratch/net.safetensors"; }
measure() { evaluate "$1" --data "$scratch/data" "${@:2}"; }

# draw NAME N [CLASSES]: N samples of each class, as a batch.
draw() { "$KINDIT" sample "$scratch/run" --n "$2" ${3:+--classes "$3"} --sampler ddim --steps 2 -o "$scratch/$1.npz" --quiet >/dev/null; }

# alike NAME SIDE CHANNELS: a data set of 20 black images of one class.
alike() {
    { printf '\0\0\010\003\0\0\0\024\0\0\0\010\0\0\0\010' && head -c 1280 /dev/zero; } >"$scratch/images"
    { printf '\0\0\010\001\0\0\0\024' && head -c 20 /dev/zero; } >"$scratch/labels"
    "$KINDIT" data idx "$scratch/images" "$scratch/labels" --size "$2" --channels "$3" --heldout 0 -o "$scratch/$1" --quiet
}

# More images than features on both sides: their number alone is spoken of, though the features of a last norm depend on each other.
draw many 10
expect_code 0 evaluate "$scratch/many.npz" --reference "$scratch/many.npz" --json
expect_in "$scratch/out" '"limits":	["distances: 30 samples are fewer than 2048'
expect_code 0 "$BUILD/example_evaluate" "$scratch/many.npz" "$scratch/many.npz" "$scratch/net.safetensors" 0
! grep -q biased "$scratch/out" || fail "nothing is biased: $(cat "$scratch/out")"
expect_code 0 "$BUILD/example_evaluate" "$scratch/many.npz" "$scratch/many.npz" "$scratch/net.safetensors" 16
expect_in "$scratch/out" "biased"

# Few images; of those there are, --n takes some of every class.
draw one 1 0
expect_code 2 measure "$scratch/one.npz"
expect_in "$scratch/err" "samples: a covariance needs at least 2 images, found 1"
expect_code 2 measure "$scratch/many.npz" --n 2
expect_in "$scratch/err" "2 samples cannot each have 3 neighbours: at least 4 are needed"
expect_code 0 measure "$scratch/many.npz" --n 9 --per-class
expect_in "$scratch/out" "9 samples for 16 features: the covariance has rank 8"
expect_in "$scratch/out" "too few samples or reference images for the figure"
[ "$(grep -cE '^[012] +3 ' "$scratch/out")" = 3 ] || fail "three of each class: $(cat "$scratch/out")"

# One class; images all alike.
draw single 20 1
expect_code 0 measure "$scratch/single.npz" --json
expect_in "$scratch/out" "classes: 1 among the samples, 3 among the reference images"
expect_in "$scratch/out" "Inception Score: all samples are of one class"
alike black 8 1
expect_code 0 measure "$scratch/black" --json
expect_in "$scratch/out" "all samples are alike to the network: their covariance is 0"

# Another size, colour: said before anything is drawn or looked at.
alike large 16 1
expect_code 2 measure "$scratch/large"
expect_in "$scratch/err" "16 x 16 pixels, grey, but the network native reads 8 x 8, grey"
expect_in "$scratch/err" "--profile pytorch-fid"
expect_code 0 measure "$scratch/large" --profile pytorch-fid
alike coloured 8 3
expect_code 2 measure "$scratch/coloured"
expect_in "$scratch/err" "in colour, but the network native reads 8 x 8, grey: name another (--network)"
train "$scratch/large" "$scratch/large-run"
expect_code 2 measure "$scratch/large-run" --n 100000000
expect_in "$scratch/err" "large-run: 16 x 16 pixels"
expect_code 2 evaluate activations "$scratch/run" --plain "$scratch/large-run" --data "$scratch/data" -o "$scratch/none" --n 1000000
expect_in "$scratch/err" "large-run: 16 x 16 pixels"
[ ! -e "$scratch/none" ] || fail "a folder is left of a table that cannot be"
mkdir "$scratch/mixed"
"$KINDIT" sample "$scratch/run" --n 1 --sampler ddim --steps 2 -o "$scratch/mixed/b.png" --quiet
expect_code 2 measure "$scratch/mixed"
expect_in "$scratch/err" "pixels, grey, but the network"

# The network that is taken when none is named is for glyphs.
expect_code 2 env KINDIT_SHARE="$SOURCE/models" "$KINDIT" eval "$scratch/data" --data "$scratch/data"
expect_in "$scratch/err" "8 x 8 pixels, grey, but the network native reads 32 x 32, grey: name another (--network)"

# Features that are no numbers: a NaN in the weights, which begin after the header and its length.
{ size=$(od -An -tu8 -N8 "$scratch/net.safetensors") && cp "$scratch/net.safetensors" "$scratch/nan.safetensors"; }
printf '\300\177\300\177' | dd of="$scratch/nan.safetensors" bs=1 seek=$((8 + size)) conv=notrunc status=none
expect_code 1 "$KINDIT" eval "$scratch/many.npz" --data "$scratch/data" --network "$scratch/nan.safetensors"
expect_in "$scratch/err" "of image 0 are not finite numbers"

# Statistics: of another network, of few images, where images are wanted, of none.
expect_code 2 evaluate "$scratch/many.npz" --reference "$SOURCE/tests/golden/metrics/pytorch_fid.npz"
expect_in "$scratch/err" "statistics of 5 features, where native has 16: they are of another network"
evaluate stats "$scratch/many.npz" --n 9 -o "$scratch/few.npz" >/dev/null
expect_code 0 evaluate "$scratch/many.npz" --reference "$scratch/few.npz"
expect_in "$scratch/out" "statistics of 9 images"
expect_in "$scratch/out" "9 reference images for 16 features"
expect_code 1 measure "$scratch/few.npz"
expect_in "$scratch/err" "holds statistics where images (arr_0) are wanted"
expect_code 2 evaluate stats "$scratch/one.npz" -o "$scratch/none.npz"
expect_in "$scratch/err" "at least 2 images, found 1"
expect_code 1 evaluate "$scratch/many.npz" --reference "$scratch/images"
expect_in "$scratch/err" "not a sound zip archive"
