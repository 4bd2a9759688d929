# The program for small devices (-DKINDIT_RUNTIME_ONLY=ON): static, under 2 MB, and to the bit what the full one is with
# products in plain C.
source "$(dirname "$0")/lib.sh"
build_runtime
small=$runtime
size=$(stat -c %s "$small")
echo "the runtime takes $size bytes"
[ "$size" -lt 2000000 ] || fail "the runtime takes $size bytes, expected less than 2 MB"
readelf -l "$small" | grep -q INTERP && fail "the runtime is not static"

letters=$SOURCE/models/letters.safetensors
export KINDIT_GEMM=c
both() { # both NAME COMMAND...: the file NAME that the full program writes under full/ and the small one under small/
    local name=$1 which
    shift
    for which in full small; do
        mkdir -p "$scratch/$which"
        (cd "$scratch/$which" && if [ $which = full ]; then "$KINDIT" "$@"; else "$small" "$@"; fi) >"$scratch/out" 2>&1 ||
            fail "$which: kindit $*: $(cat "$scratch/out")"
    done
    diff -r "$scratch/full/$name" "$scratch/small/$name" >&2 || fail "kindit $* differs"
}
both parts decompose "$letters" -o parts
both ab.safetensors assemble parts --classes A,7 -o ab.safetensors
both ddim.npy sample parts --classes A,7 --n 2 --sampler ddim --steps 4 --quiet -o ddim.npy
both ddpm.npy sample ab.safetensors --n 3 --batch 2 --steps 4 --seed 5 --quiet -o ddpm.npy
both bf16.npz sample ab.safetensors --bf16 --n 1 --steps 3 --quiet -o bf16.npz
both grid.png sample parts --no-tailors --n 2 --sampler ddim --steps 3 --quiet -o grid.png

expect_code 0 "$small" info "$letters" --json
"$KINDIT" info "$letters" --json | cmp -s - "$scratch/out" || fail "info differs"
expect_code 0 "$small" help
! grep -q pretrain "$scratch/out" || fail "help shows a command that is not there: $(cat "$scratch/out")"
expect_code 2 "$small" pretrain
expect_in "$scratch/err" "unknown command 'pretrain'"
