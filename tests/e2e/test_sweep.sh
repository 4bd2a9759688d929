# The size-quality curve: a row for each point with the bytes that are planned, a plot with a line for each type.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
train "$scratch/data" "$scratch/run"
expect_code 0 "$KINDIT" assemble "$scratch/run" --quiet --sweep "$scratch/curve" --data "$scratch/data" --n 2
table=$scratch/curve/sweep.csv
expect_in "$table" "learngene,tailor,bytes,samples,f32"
awk -F, 'NR > 1 { filled = 0; for (i = 5; i <= NF; i++) filled += $i != ""; if (filled != 1 || $4 != 6) exit 1 }' "$table" ||
    fail "each point is one accuracy of 3 classes x 2 samples: $(cat "$table")"
[ "$(cut -d, -f1 "$table" | sort -u | grep -c '^[0-9]')" = 4 ] || fail "6, 5, 4 and 3 components: $(cat "$table")"
bytes=$("$KINDIT" assemble "$scratch/run" --dry-run --json | json_number bytes)
expect_in "$table" "6,2,$bytes,6,"
[ "$(grep -c '<polyline' "$scratch/curve/sweep.svg")" = "$(head -1 "$table" | tr ',' '\n' | tail -n +5 | wc -l)" ] ||
    fail "a line for each type"
! grep -q 'nan\|inf' "$scratch/curve/sweep.svg" || fail "the plot has numbers that are none"
[ "$(ls "$scratch/curve" | wc -l)" = 2 ] || fail "left behind: $(ls "$scratch/curve")"

expect_code 2 "$KINDIT" assemble "$scratch/run" --sweep "$scratch/other"
expect_in "$scratch/err" "--data"
expect_code 2 "$KINDIT" assemble "$SOURCE/models/letters.safetensors" --sweep "$scratch/other" --data "$scratch/data"
expect_in "$scratch/err" "32 x 32"
