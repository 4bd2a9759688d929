# Stopping a run: by Ctrl-C it finishes its step, keeps it and says so; by kill -9 it loses only what came after the last
# checkpoint. Either way going on gives the weights of a run that was never stopped.
source "$(dirname "$0")/lib.sh"
make_dataset "$scratch/data"
steps=(--steps 400 --checkpoint-every 40 --keep 0)

train "$scratch/data" "$scratch/whole" "${steps[@]}"

wait_for_step() { # RUN STEP: until that checkpoint is there
    for _ in $(seq 600); do
        [ -d "$1/checkpoints/step-$2" ] && return
        sleep 0.05
    done
    fail "$1 did not reach step $2"
}
same_weights() {
    cmp -s "$scratch/whole/checkpoints/step-400/$2" "$1/checkpoints/step-400/$2" || fail "$1: $2 differs"
}

for signal in INT TERM KILL; do
    run=$scratch/$signal
    "$KINDIT" pretrain --quiet --data "$scratch/data" -o "$run" "${small[@]}" "${steps[@]}" 2>"$scratch/err" &
    job=$!
    wait_for_step "$run" 40
    kill -s $signal $job
    code=0
    wait $job 2>/dev/null || code=$?
    if [ $signal != KILL ]; then
        [ $code -eq 130 ] || fail "SIG$signal: expected exit code 130, found $code"
        grep -q "resume" "$scratch/err" || fail "SIG$signal: no word on how to go on: $(cat "$scratch/err")"
    fi
    [ ! -d "$run/checkpoints/step-400" ] || fail "SIG$signal came too late to test anything"
    "$KINDIT" pretrain --quiet --resume -o "$run" >/dev/null
    same_weights "$run" model.safetensors
    same_weights "$run" weights.safetensors
done

mv "$scratch/data" "$scratch/moved"
expect_code 1 "$KINDIT" pretrain --resume -o "$scratch/whole"
expect_in "$scratch/err" "--data"
expect_code 0 "$KINDIT" pretrain --resume -o "$scratch/whole" --data "$scratch/moved" --quiet

expect_code 2 "$KINDIT" pretrain --resume -o "$scratch/whole" --lr 1 --data "$scratch/moved"
expect_in "$scratch/err" "lr"
expect_code 1 "$KINDIT" pretrain --resume -o "$scratch/absent"
