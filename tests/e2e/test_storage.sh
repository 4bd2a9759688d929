# Storage types: the bytes that were promised, the same bytes by every way, pictures that are still the model's, and no
# reader that takes one type for another.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
train "$scratch/data" "$scratch/run"
draw() { "$KINDIT" sample "$1" --quiet --n 2 --sampler ddim --steps 4 -o "$scratch/$2.npy" >/dev/null; }
tensor_bytes() { "$KINDIT" info "$1" --json | json_number tensor_bytes; }

draw "$scratch/run" f32
last=999999999
for type in f32 bf16 int8 int4; do
    one=$scratch/$type.safetensors
    "$KINDIT" assemble "$scratch/run" --type $type -o "$one" --json >"$scratch/plan.json"
    expect_in "$scratch/plan.json" "\"$type\""
    bytes=$(tensor_bytes "$one")
    [ "$bytes" = "$(json_number bytes <"$scratch/plan.json")" ] || fail "$type: $bytes bytes written, not what was planned"
    [ "$bytes" -lt "$last" ] || fail "$type is no smaller than the type before it"
    last=$bytes
    "$KINDIT" info "$one" | grep -q "^storage  *$type$" || fail "info does not say $type"

    # Parts of that type are the rows of the whole of that type, and together are that whole again.
    "$KINDIT" decompose "$scratch/run" --type $type -o "$scratch/$type-parts" >/dev/null
    "$KINDIT" info "$scratch/$type-parts/tailors/1.safetensors" | grep -q "^storage  *$type$" || fail "a tailor is not $type"
    "$KINDIT" assemble "$scratch/$type-parts" --type $type -o "$scratch/again.safetensors" --force >/dev/null
    cmp "$one" "$scratch/again.safetensors" || fail "$type: taken apart and put together it is another file"
    draw "$one" $type-whole
    draw "$scratch/$type-parts" $type-parts
    cmp "$scratch/$type-whole.npy" "$scratch/$type-parts.npy" || fail "$type: the parts draw something else"
done
cmp "$scratch/f32.npy" "$scratch/f32-whole.npy" || fail "f32 draws something else than the run"
for type in bf16 int8 int4; do
    ! cmp -s "$scratch/f32.npy" "$scratch/$type-whole.npy" || fail "$type draws what f32 draws, to the bit"
done

# A budget is of bytes as stored: what a quarter of float32 holds is the whole in 8 bits, if nothing else is asked for.
all=$("$KINDIT" assemble "$scratch/run" --type f32 --dry-run --json | json_number bytes)
"$KINDIT" assemble "$scratch/run" --budget $((all * 3 / 10)) --dry-run --json >"$scratch/plan.json"
expect_in "$scratch/plan.json" '"int8"'
[ "$(json_number n_classes <"$scratch/plan.json")" = 3 ] || fail "30 % of float32's bytes do not hold all as int8"

expect_code 2 "$KINDIT" assemble "$scratch/run" --type int3 --dry-run
expect_in "$scratch/err" "best|f32|bf16|int8|int4"
sed -i 's/"format":\t2/"format":\t7/' "$scratch/int8-parts/config.json"
expect_code 1 "$KINDIT" info "$scratch/int8-parts"
expect_in "$scratch/err" "format 7 is newer than this program reads (3)"
