# What is installed is enough: the examples, which know the public header alone, build against it and run.
source "$(dirname "$0")/lib.sh"
cmake --install "$BUILD" --prefix "$scratch/usr" >/dev/null
export PKG_CONFIG_PATH
PKG_CONFIG_PATH=$(dirname "$(find "$scratch/usr" -name kindit.pc)")
sanitize=$(sed -n 's/^KINDIT_SANITIZE:[A-Z]*=\(..*\)/-fsanitize=\1/p' "$BUILD/CMakeCache.txt")
for example in train sample adapt evaluate; do
    [ "$(wc -l <"$SOURCE/examples/$example.c")" -lt 60 ] || fail "$example.c has 60 lines or more"
    # shellcheck disable=SC2046
    "$CC" -std=c17 $sanitize "$SOURCE/examples/$example.c" -o "$scratch/$example" $(pkg-config --cflags --libs kindit)
done
[ -s "$scratch/usr/share/man/man1/kindit.1" ] || fail "no man page"

make_dataset "$scratch/data"
expect_code 0 "$scratch/train" "$scratch/data" "$scratch/made" 3 1
expect_in "$scratch/out" "step 3: loss"
expect_code 0 "$scratch/sample" "$scratch/made/one.safetensors" 1 "$scratch/grid.png"
expect_in "$scratch/out" "1 classes"
expect_code 0 "$KINDIT" decompose "$scratch/made/one.safetensors" -o "$scratch/parts"
printf 'superclass\tmember\nx\t0\n' >"$scratch/merge.tsv"
expect_code 0 "$KINDIT" data idx "$scratch/images" "$scratch/labels" --size 8 --heldout 0 --merge "$scratch/merge.tsv" \
    --classes x -o "$scratch/more"
expect_code 0 "$scratch/adapt" "$scratch/parts" "$scratch/more" "$scratch/adapted" 2
[ -s "$scratch/adapted/grid.png" ] || fail "no picture of the new class"
expect_code 1 "$scratch/sample" "$scratch/made/one.safetensors" 2 "$scratch/grid.png"
expect_in "$scratch/err" "2"
