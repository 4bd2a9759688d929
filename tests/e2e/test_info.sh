# The counts of the paper's two models, in the accountings of its Tables 1 and 2 (and the ones it does not use); the machine.
source "$(dirname "$0")/lib.sh"

# check KEY SCALE EXPECTED OPTIONS...: `kindit info` counts EXPECTED units of SCALE, to the third decimal.
check() {
    local key=$1 scale=$2 expected=$3 found
    shift 3
    "$KINDIT" info --n-classes 150 "$@" --json >"$scratch/info.json"
    case $key in
    flops_linear) found=$(json_number linear <"$scratch/info.json") ;;
    flops_total) found=$(sed -n '/"flops"/,$p' "$scratch/info.json" | json_number total) ;;
    *) found=$(json_number "$key" <"$scratch/info.json") ;;
    esac
    found=$(awk -v n="$found" -v s="$scale" 'BEGIN { printf "%.3f", n / s }')
    [ "$found" = "$expected" ] || fail "$key of $*: expected $expected, found $found"
}

B=(--preset DiT-B/2 --n-learngene 318 --n-tailor 3)
L=(--preset DiT-L/2 --n-learngene 424 --n-tailor 4)
table1=(--fused-qkv --factor-adaln)
task=(--open-tailors 25.6111111) # 461 / 18 classes
M=1e6 G=1e9

check total_without_label $M 129.547 "${B[@]}" --kind off
check total_without_label $M 456.816 "${L[@]}" --kind off
check assembled_without_label $M 97.886 "${B[@]}"
check assembled_without_label $M 344.221 "${L[@]}"
check assembled_without_label $M 76.130 "${B[@]}" --factor-adaln
check assembled_without_label $M 266.866 "${L[@]}" --factor-adaln
check assembled_without_label $M 91.961 "${B[@]}" --fused-qkv
check assembled_without_label $M 323.163 "${L[@]}" --fused-qkv
check assembled_without_label $M 70.206 "${B[@]}" "${table1[@]}"
check assembled_without_label $M 245.808 "${L[@]}" "${table1[@]}"
check total_without_label $M 172.070 "${B[@]}"
check total_without_label $M 607.958 "${L[@]}"
check total_without_label $M 164.983 "${B[@]}" "${table1[@]}"
check total_without_label $M 582.768 "${L[@]}" "${table1[@]}"
check trainable_without_label $M 12.751 "${B[@]}" "${task[@]}"
check trainable_without_label $M 45.333 "${L[@]}" "${task[@]}"
check trainable $M 12.772 "${B[@]}" "${task[@]}"
check trainable $M 45.360 "${L[@]}" "${task[@]}"
check flops_linear $G 43.594 "${B[@]}" --kind off
check flops_linear $G 154.953 "${L[@]}" --kind off
check flops_total $G 46.010 "${B[@]}" --kind off
check flops_total $G 161.395 "${L[@]}" --kind off
check flops_linear $G 27.384 "${B[@]}"
check flops_linear $G 97.304 "${L[@]}"
check flops_linear $G 33.657 "${B[@]}" "${task[@]}"
check flops_linear $G 119.608 "${L[@]}" "${task[@]}"
check flops_linear $G 29.926 "${B[@]}" "${task[@]}" --fused-qkv
check flops_linear $G 106.347 "${L[@]}" "${task[@]}" --fused-qkv

# The machine: what computes on it, as text and as JSON, chosen by it or by the environment.
expect_code 0 "$KINDIT" info --machine
for key in processor cores vectors products "bf16 products" "int8 products" "peak flops per second" "bf16 peak flops per second"; do expect_in "$scratch/out" "$key "; done
expect_code 0 env KINDIT_GEMM=c OMP_NUM_THREADS=1 "$KINDIT" info --machine --json
expect_in "$scratch/out" '"plain C ('
[ "$(json_number threads <"$scratch/out")" = 1 ] || fail "threads: expected 1 in $(cat "$scratch/out")"
expect_code 2 env KINDIT_GEMM=abacus "$KINDIT" info --machine
expect_in "$scratch/err" "KINDIT_GEMM: expected one of "
expect_in "$scratch/err" "found 'abacus'"
