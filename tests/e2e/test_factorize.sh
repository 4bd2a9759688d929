# A dense model made decomposable, and a trained learngene ranked anew: both live on like any factored model.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
"$KINDIT" pretrain --quiet --data "$scratch/data" -o "$scratch/run" --width 16 --depth 2 --heads 2 --patch 4 --kind off \
    --batch 8 --lr 1e-2 --steps 6 >/dev/null
probe=$(mktemp -p "$scratch")
if ! "$KINDIT" factorize "$scratch/run" -o "$scratch/whole" --json >"$probe" 2>"$scratch/err"; then
    expect_in "$scratch/err" "no OpenBLAS" # a build without LAPACK says so
    exit 0
fi
[ "$(json_number n_learngene <"$probe")" = 16 ] || fail "all components: $(cat "$probe")"

# Fewer keep less; tailors take what follows; the result comes apart, is put together within a budget and draws.
"$KINDIT" factorize "$scratch/run" -o "$scratch/part.safetensors" --n-learngene 9 --n-tailor 2 --json >"$probe"
grep -q '"kept":[[:space:]]*0\.' "$probe" || fail "9 of 16 components keep a part: $(cat "$probe")"
"$KINDIT" decompose "$scratch/part.safetensors" -o "$scratch/parts" >/dev/null
"$KINDIT" assemble "$scratch/parts" --classes 2,0 -o "$scratch/two.safetensors" >/dev/null
expect_code 0 "$KINDIT" sample "$scratch/two.safetensors" --quiet --n 1 --sampler ddim --steps 2 -o "$scratch/two.png"

# A trained learngene: the ranked one loses less in the same bytes.
model=$SOURCE/models/letters.safetensors
expect_code 0 "$KINDIT" factorize "$model" --quiet -o "$scratch/ranked.safetensors"
loss() { "$KINDIT" assemble "$1" --classes A --type bf16 --budget 2.4MB --dry-run --json | json_number loss; }
plain=$(loss "$model") ranked=$(loss "$scratch/ranked.safetensors")
awk -v a="$plain" -v b="$ranked" 'BEGIN { exit !(b < a / 3) }' || fail "ranked loses $ranked, unranked $plain"

# Refusals.
expect_code 2 "$KINDIT" factorize "$scratch/run" -o "$scratch/x" --n-learngene 11 --n-tailor 2
expect_in "$scratch/err" "width 16"
expect_code 2 "$KINDIT" factorize "$model" -o "$scratch/x" --n-learngene 57
expect_in "$scratch/err" "56 components"
expect_code 2 "$KINDIT" factorize "$scratch/run"
expect_code 2 "$KINDIT" factorize "$scratch/run" -o "$scratch/whole"
[ ! -e "$scratch/x" ] || fail "a refused command wrote a model"
