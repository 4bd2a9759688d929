# A model's life: trained, taken apart, put together, drawn from; the parts draw what the whole drew, to the bit.
source "$(dirname "$0")/lib.sh"
draw() { "$KINDIT" sample "$1" --quiet --n 2 --sampler ddim --steps 4 -o "$scratch/$2.npy" "${@:3}" >/dev/null; }
same() { cmp -s "$scratch/$1.npy" "$scratch/$2.npy" || fail "$1 and $2 differ"; }
differ() { ! cmp -s "$scratch/$1.npy" "$scratch/$2.npy" || fail "$1 and $2 are the same"; }

make_dataset "$scratch/data"
train "$scratch/data" "$scratch/run"
[ "$(tail -n 1 "$scratch/run/metrics.csv" | cut -d, -f1)" = 6 ] || fail "the last step is not in metrics.csv"
draw "$scratch/run" whole
draw "$scratch/run" one_thread --threads 1 --batch 1
same whole one_thread

"$KINDIT" decompose "$scratch/run" -o "$scratch/parts" >/dev/null
draw "$scratch/parts" parts
same whole parts
"$KINDIT" assemble "$scratch/parts" -o "$scratch/all.safetensors" >/dev/null
draw "$scratch/all.safetensors" assembled
same whole assembled

# A folder with some of the tailors is a model; class 1 then draws as it always did.
cp -r "$scratch/parts" "$scratch/some"
rm "$scratch/some/tailors/0.safetensors"
draw "$scratch/some" some_1 --classes 1
draw "$scratch/run" whole_1 --classes 1
same some_1 whole_1
expect_code 2 "$KINDIT" sample "$scratch/some" --classes 0 -o "$scratch/x.png"
expect_in "$scratch/err" "there are: 1, 2"

draw "$scratch/run" no_tailors --no-tailors
draw "$scratch/run" label_rows --no-tailors --keep-label-rows
differ whole no_tailors
differ no_tailors label_rows

# The learngene alone, its file or its folder, draws what the whole draws with every tailor shut; it has no classes.
cp -r "$scratch/parts" "$scratch/bare"
rm "$scratch/bare"/tailors/*
draw "$scratch/bare" bare --no-tailors
draw "$scratch/parts/learngene.safetensors" learngene --no-tailors
same bare learngene
draw "$scratch/run" first_class --no-tailors --classes 0
same bare first_class
expect_code 0 "$KINDIT" sample "$scratch/bare" --no-tailors --n 1 --steps 2 -o "$scratch/bare.png"
expect_code 2 "$KINDIT" sample "$scratch/bare" --no-tailors -o "$scratch/bare.npz"
expect_in "$scratch/err" ".npy"
expect_code 2 "$KINDIT" sample "$scratch/bare" -o "$scratch/bare.png"
expect_in "$scratch/err" "draw it with no tailors"

# Refusals that say what would do.
expect_code 2 "$KINDIT" decompose "$scratch/run" -o "$scratch/parts"
expect_code 0 "$KINDIT" decompose "$scratch/run" -o "$scratch/parts" --force

# Pictures and sample batches.
"$KINDIT" sample "$scratch/parts" --n 2 --sampler ddim --steps 4 --grid "$scratch/grid.png" --npz "$scratch/s.npz" >/dev/null
head -c 8 "$scratch/grid.png" | cmp -s - <(printf '\211PNG\r\n\032\n') || fail "grid.png is no PNG"
"$KINDIT" eval nn "$scratch/s.npz" --data "$scratch/data" --json | grep -q '"accuracy"' || fail "eval nn has no accuracy"

# Places that cannot be written: said before anything is drawn, and nothing is left behind.
expect_code 1 timeout 20 "$KINDIT" sample "$scratch/parts" --n 100000 --steps 1000 -o "$scratch/absent/x.npy"
expect_in "$scratch/err" "absent/x.npy"
expect_code 2 timeout 20 "$KINDIT" sample "$scratch/parts" --n 100000 --steps 1000 -o "$scratch/huge.png"
expect_in "$scratch/err" "too large"
[ -z "$(find "$scratch" -name '*.tmp')" ] || fail "a temporary file is left"
expect_code 1 "$KINDIT" sample "$scratch/parts" --n 1 --sampler ddim --steps 1 -o /proc/grid.png
expect_in "$scratch/err" "/proc/grid.png"
expect_code 1 "$KINDIT" assemble "$scratch/parts" -o "$scratch/absent/folder/x.safetensors"
expect_code 1 "$KINDIT" decompose "$scratch/run" -o /proc/parts

# What info says of each.
for thing in data run parts parts/learngene.safetensors parts/tailors/1.safetensors all.safetensors; do
    expect_code 0 "$KINDIT" info "$scratch/$thing"
    expect_code 0 "$KINDIT" info "$scratch/$thing" --json
done
whole=$("$KINDIT" info "$scratch/run" --json | json_number total)
[ "$whole" = "$("$KINDIT" info "$scratch/all.safetensors" --json | json_number total)" ] || fail "the counts differ"
