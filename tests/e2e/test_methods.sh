# Every method with an adapter, from a dense model or from a learngene: it trains, goes on, draws, merges and is exported.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
train "$scratch/data" "$scratch/base"
train "$scratch/data" "$scratch/dense" --kind off
adapt() { "$KINDIT" adapt "$1" --method "$2" --quiet --data "$scratch/data" -o "$3" --batch 8 --ema 0.9 "${@:4}" >/dev/null; }
draw() { "$KINDIT" sample "$1" --quiet --n 1 --sampler ddim --steps 3 -o "$scratch/$2.npy" >/dev/null; }
has_svd=yes
"$KINDIT" factorize "$scratch/dense" -o "$scratch/probe" >/dev/null 2>&1 || has_svd=no

run_method() { # BASE METHOD OPTIONS...
    local base=$1 method=$2 name=$scratch/run-$2
    shift 2
    adapt "$scratch/$base" "$method" "$name" --steps 2 "$@"
    adapt "$scratch/$base" "$method" "$name-whole" --steps 4 "$@"
    "$KINDIT" adapt --resume --steps 4 -o "$name" --quiet >/dev/null
    for file in weights m ema model; do
        cmp "$name/checkpoints/step-4/$file.safetensors" "$name-whole/checkpoints/step-4/$file.safetensors" ||
            fail "$method: a resumed run has another $file"
    done
    draw "$name" adapted
    "$KINDIT" merge "$name" -o "$name-merged" >/dev/null
    draw "$name-merged" merged
    [ "$(stat -c %s "$scratch/adapted.npy")" = "$(stat -c %s "$scratch/merged.npy")" ] || fail "$method: other images"
    "$KINDIT" info "$name-merged" --json | grep -q '"kind":[[:space:]]*"dense"' || fail "$method: not merged"
}

run_method dense lora --rank 3 --alpha 6
run_method dense dora --rank 3
run_method dense loha --rank 2
run_method dense oft --blocks 4
run_method base kind-nogate
run_method base learngene-lora --rank 3
if [ $has_svd = yes ]; then
    run_method dense pissa --rank 3
    run_method dense svdiff
    run_method dense svd-lora --rank 2 --n-learngene 7
fi
"$KINDIT" info "$scratch/run-lora/checkpoints/step-4" --json >"$scratch/info"
grep -A4 '"adapter"' "$scratch/info" | grep -q '"rank":[[:space:]]*3' || fail "info does not show the adapter"

# What is exported is the merged model.
"$KINDIT" export "$scratch/run-lora" --to dit -o "$scratch/adapted-dit.safetensors" >/dev/null
"$KINDIT" export "$scratch/run-lora-merged" --to dit -o "$scratch/merged-dit.safetensors" >/dev/null
size() { stat -c %s "$scratch/$1-dit.safetensors"; }
[ "$(size adapted)" = "$(size merged)" ] || fail "the export of an adapted model is not that of the merged one"

# Refusals say what would do.
expect_code 2 adapt "$scratch/dense" lora "$scratch/x" --rank 17
expect_in "$scratch/err" "at most 16"
expect_code 2 adapt "$scratch/dense" oft "$scratch/x" --blocks 5
expect_in "$scratch/err" "4 or 8 would do"
expect_code 2 adapt "$scratch/base" lora "$scratch/x"
expect_in "$scratch/err" "needs a dense model"
expect_code 2 "$KINDIT" adapt --resume --rank 4 --steps 9 -o "$scratch/run-lora"
expect_in "$scratch/err" adapter
expect_code 2 "$KINDIT" merge "$scratch/dense" -o "$scratch/x"
expect_in "$scratch/err" "no adapter"
expect_code 2 "$KINDIT" factorize "$scratch/run-lora" -o "$scratch/x"
expect_in "$scratch/err" "merge it first"
[ ! -e "$scratch/x" ] || fail "a refused command left something"
