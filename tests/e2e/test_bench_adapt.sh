# Methods side by side: a page, a table and curves from one command, which goes on where it was stopped.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
"$KINDIT" data idx "$scratch/images" "$scratch/labels" "$scratch/images" "$scratch/labels" --size 8 --classes 0,1 \
    -o "$scratch/task" --quiet >/dev/null
train "$scratch/data" "$scratch/kind"
train "$scratch/data" "$scratch/dense" --kind off
out=$scratch/bench
comparison=("$scratch/task" --base-kind "$scratch/kind" --base-dense "$scratch/dense" --quiet
    --batch 8 --steps 5 --points 2 --heldout 9 --n 2)
compare() { "$KINDIT" bench adapt "${comparison[@]}" -o "$out" "$@"; }

# The trial's last loss; its curve, before it, has others.
loss_of() { tail -n 4 "$out/trials/task/$1.json" | json_number loss; }

# Two methods; from the dense model and from the one with a learngene.
compare --methods kind,full --seeds 1 --json >"$scratch/one.json"
[ "$(grep -c '"method"' "$scratch/one.json")" = 2 ] || fail "not two rows: $(cat "$scratch/one.json")"
[ "$(head -1 "$out/curves/task.csv")" = "step,kind,full" ] || fail "the curve: $(cat "$out/curves/task.csv")"
[ "$(cut -d, -f1 "$out/curves/task.csv" | tail -2 | tr '\n' ' ')" = "3 5 " ] || fail "not steps 3 and 5"
grep -q '^task,kind,kind,0,2,[0-9]' "$out/results.csv" || fail "no line of kind: $(cat "$out/results.csv")"
grep -q '^task,full,dense,0,2,[0-9]' "$out/results.csv" || fail "no line of full: $(cat "$out/results.csv")"
[ "$(grep -c '<polyline' "$out/report.html")" = 4 ] || fail "not two lines in two charts"
[ "$(grep -c '<polygon' "$out/report.html")" = 0 ] || fail "a band of one seed"
[ "$(grep -c 'data:image/png' "$out/report.html")" = 1 ] || fail "not one picture of all samples"
[ "$(stat -c %s "$out/trials/task/kind-0.npy")" = $((256 + 2 * 2 * 8 * 8)) ] || fail "not two samples of two classes"

# Trial, table and curve say the same.
loss=$(loss_of kind-0)
awk -F, -v loss="$loss" '$2 == "kind" { d = $9 - loss; if (d < 0) d = -d; if (d > 1e-6 * loss) exit 1 }' "$out/results.csv" ||
    fail "the table says another loss than the trial: $loss"
awk -F, -v loss="$loss" 'NR > 1 { last = $2 } END { d = last - loss; if (d < 0) d = -d; exit d > 1e-5 * loss }' \
    "$out/curves/task.csv" || fail "the curve does not end at the loss"

# Started again it trains nothing anew, and takes more seeds; a trial that is gone is made again, to the same loss.
touch -d '2020-01-01' "$out/trials/task/full-0.json"
rm "$out/trials/task/kind-0.json"
compare --methods kind,full --seeds 2 >"$scratch/two.txt"
[ "$(stat -c %Y "$out/trials/task/full-0.json")" -lt 1600000000 ] || fail "a finished trial was made again"
[ "$(loss_of kind-0)" = "$loss" ] || fail "the same trial has another loss"
[ "$(loss_of kind-1)" != "$loss" ] || fail "another seed has the same loss"
[ "$(wc -l <"$out/results.csv")" = 5 ] || fail "not four trials: $(cat "$out/results.csv")"
expect_in "$scratch/two.txt" "±"
[ "$(head -1 "$out/curves/task.csv")" = "step,kind,full,kind_spread,full_spread" ] || fail "no spreads: $(cat "$out/curves/task.csv")"
[ "$(grep -c '<polygon' "$out/report.html")" = 4 ] || fail "not two bands in two charts"
awk -F, '$2 == "kind" { x[n++] = $9 } END { d = x[0] - x[1]; print d < 0 ? -d / sqrt(2) : d / sqrt(2) }' "$out/results.csv" >"$scratch/sd"
tail -1 "$out/curves/task.csv" | awk -F, -v sd="$(cat "$scratch/sd")" '{ d = $4 - sd; exit d * d > 1e-6 * sd * sd }' ||
    fail "the spread is not the seeds' standard deviation, $(cat "$scratch/sd"): $(cat "$out/curves/task.csv")"
[ "$(ls "$out/trials/task" | grep -vc '\.json$\|\.png$\|\.npy$')" = 0 ] || fail "runs were left: $(ls "$out/trials/task")"

# No time, no trial; then it goes on.
out=$scratch/timed
compare --methods kind --seeds 1 --time 1e-6 >"$scratch/timed.txt"
expect_in "$scratch/timed.txt" "goes on"
compare --methods kind --seeds 1 >/dev/null
[ "$(loss_of kind-0)" = "$loss" ] || fail "a trial that was put off has another loss"

# Interrupted it leaves a checkpoint, and goes on from it to where it would have been.
long=(--methods kind --seeds 1 --steps 1000)
out=$scratch/straight
compare "${long[@]}" >/dev/null
loss=$(loss_of kind-0)
out=$scratch/stopped
"$KINDIT" bench adapt "${comparison[@]}" -o "$out" "${long[@]}" >/dev/null 2>"$scratch/err" &
job=$!
while [ ! -e "$out/trials/task/kind-0/checkpoints/step-500" ] && kill -0 $job 2>/dev/null; do sleep 0.02; done
kill -INT $job 2>/dev/null || true
code=0
wait $job || code=$?
if [ $code -ne 0 ]; then # or it was faster
    [ $code -eq 130 ] || fail "expected exit code 130, found $code: $(cat "$scratch/err")"
    [ -e "$out/trials/task/kind-0/run.json" ] && [ ! -e "$out/trials/task/kind-0.json" ] || fail "no trial is half done"
fi
compare "${long[@]}" >/dev/null
[ "$(loss_of kind-0)" = "$loss" ] || fail "a trial that was interrupted has another loss"

# Wrong uses.
out=$scratch/timed
expect_code 2 "$KINDIT" bench adapt "$scratch/task"
expect_in "$scratch/err" "-o DIR"
expect_code 2 compare --methods kind --steps 6
expect_in "$scratch/err" "another steps"
expect_code 2 compare --methods kin
expect_in "$scratch/err" 'no method "kin"'
expect_code 2 compare "$scratch/task/" --methods kind
expect_in "$scratch/err" "two tasks of one name"
expect_code 2 "$KINDIT" bench adapt "$scratch/data" --base-kind "$scratch/kind" --methods kind --steps 1 -o "$scratch/none" --quiet
expect_in "$scratch/err" "held-out"
