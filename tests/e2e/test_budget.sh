# Budgets: what is planned is what is written, within what was allowed; and refusals that say what would do.
source "$(dirname "$0")/lib.sh"
model=$SOURCE/models/letters.safetensors
plan() { "$KINDIT" assemble "$model" --quiet --json "$@"; }
number() { json_number "$1" <"$scratch/plan.json"; }

# Without a budget: all there is.
plan --dry-run >"$scratch/plan.json"
[ "$(number n_classes)" = 62 ] && [ "$(number n_learngene)" = 56 ] && [ "$(number n_tailor)" = 1 ] ||
    fail "all of the model was to be planned: $(cat "$scratch/plan.json")"
all=$(number bytes)

# Each kind of limit, met and told; the dry run writes nothing.
for limit in bytes=3MB params=1.6M flops=21M memory=14MB bytes=3MB,params=1.3M; do
    plan --dry-run --budget "$limit" -o "$scratch/absent.safetensors" >"$scratch/plan.json"
    [ ! -e "$scratch/absent.safetensors" ] || fail "a dry run wrote a model"
    sed -n '/"budget"/,/}/p' "$scratch/plan.json" | grep -o '[a-z]*":[[:space:]]*[0-9][0-9]*' | tr -d '":' >"$scratch/allowed"
    [ -s "$scratch/allowed" ] || fail "no limit in $(cat "$scratch/plan.json")"
    while read -r name allowed; do
        [ "$(number "$name")" -le "$allowed" ] || fail "$limit: $(cat "$scratch/plan.json")"
    done <"$scratch/allowed"
done

# The file is as long as planned, draws, and is the plan's: 3 classes of lower quality in fewer bytes.
"$KINDIT" assemble "$model" --classes K,i,n --budget bytes=1.25MB --json -o "$scratch/kin.safetensors" >"$scratch/plan.json"
info=$("$KINDIT" info "$scratch/kin.safetensors" --json)
[ "$(json_number tensor_bytes <<<"$info")" = "$(number bytes)" ] || fail "the file has other bytes than planned"
[ "$(json_number n_learngene <<<"$info")" = "$(number n_learngene)" ] || fail "the learngene is not as planned"
[ "$(number n_learngene)" -lt 56 ] && [ "$(number bytes)" -le 1250000 ] && [ "$(number bytes)" -lt "$all" ] ||
    fail "1.25 MB need a part of the learngene: $(cat "$scratch/plan.json")"
expect_code 0 "$KINDIT" sample "$scratch/kin.safetensors" --quiet --n 1 --sampler ddim --steps 2 -o "$scratch/kin.png"

# For people: a table before the work.
expect_code 0 "$KINDIT" assemble "$model" --classes A,B,C --budget 2.5MB --dry-run
expect_in "$scratch/out" "of 56 components"
expect_in "$scratch/out" "of 2.50 MB allowed"

# Refusals.
expect_code 2 "$KINDIT" assemble "$model" --budget 100kB --dry-run
expect_in "$scratch/err" "the smallest model that still draws"
least=$(sed -n 's/.* takes \([0-9]*\) bytes of 100000.*/\1/p' "$scratch/err")
expect_code 0 "$KINDIT" assemble "$model" --budget "$least" --dry-run
expect_code 2 "$KINDIT" assemble "$model" --budget "$((least - 1))" --dry-run
expect_code 2 "$KINDIT" assemble "$model" --budget flop=3G --dry-run
expect_in "$scratch/err" "flops=3G"
expect_code 2 "$KINDIT" assemble "$model" --budget 3MB
expect_in "$scratch/err" "--dry-run"
