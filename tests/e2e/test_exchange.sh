# Models to other programs and back: what was exported comes back bit for bit, and the refusals say what would do.
source "$(dirname "$0")/lib.sh"
golden=$SOURCE/tests/golden/exchange

make_dataset "$scratch/data"
train "$scratch/data" "$scratch/run"
"$KINDIT" export "$scratch/run" --class 1 --to dit -o "$scratch/one.safetensors" >"$scratch/said"
expect_in "$scratch/said" "guidance"
"$KINDIT" import "$scratch/one.safetensors" -o "$scratch/one" >/dev/null
"$KINDIT" info "$scratch/one" >"$scratch/info"
"$KINDIT" export "$scratch/one" --to dit -o "$scratch/again.safetensors" >/dev/null
cmp "$scratch/one.safetensors" "$scratch/again.safetensors" || fail "an imported class is exported as something else"
"$KINDIT" sample "$scratch/one" --cfg 1 --n 1 --sampler ddim --steps 2 -o "$scratch/one.npy" >/dev/null

# diffusers: the fit happens once, and what was fitted has diffusers' frequencies.
"$KINDIT" export "$scratch/run" --learngene --to diffusers -o "$scratch/pipe" --json >"$scratch/report"
[ "$(json_number time_error <"$scratch/report")" != 0 ] || fail "no error of the time fit: $(cat "$scratch/report")"
"$KINDIT" import "$scratch/pipe" -o "$scratch/learngene.safetensors" >/dev/null
"$KINDIT" export "$scratch/learngene.safetensors" --to diffusers -o "$scratch/pipe2" --json >"$scratch/report"
[ "$(json_number time_error <"$scratch/report")" = 0 ] || fail "fitted twice: $(cat "$scratch/report")"
diff -r "$scratch/pipe" "$scratch/pipe2" || fail "an imported pipeline is exported as something else"

# A checkpoint of the original code, and one that means harm.
expect_code 0 "$KINDIT" import "$golden/dit/ema.pt" --heads 2 -o "$scratch/pt.safetensors"
expect_code 0 "$KINDIT" import "$golden/dit/model.safetensors" --heads 2 -o "$scratch/st.safetensors"
cmp "$scratch/pt.safetensors" "$scratch/st.safetensors" || fail "two files of one DiT are imported as two models"
expect_code 0 "$KINDIT" import "$golden/diffusers" -o "$scratch/d"
expect_code 2 "$KINDIT" import "$golden/dit/ema.pt" -o "$scratch/x"
expect_in "$scratch/err" "--heads N"
expect_code 1 "$KINDIT" import "$golden/complex.pt" -o "$scratch/x"
expect_in "$scratch/err" "torch ComplexFloatStorage"
expect_code 1 "$KINDIT" import "$KINDIT" -o "$scratch/x"
expect_code 1 "$KINDIT" import "$golden" -o "$scratch/x"
expect_in "$scratch/err" "config.json"
[ ! -e "$scratch/x" ] || fail "a refused import left something"

expect_code 2 "$KINDIT" export "$scratch/run" --class 1 -o "$scratch/x"
expect_in "$scratch/err" "--to dit, --to diffusers or --to peft"
expect_code 2 "$KINDIT" export "$scratch/run" --to dit -o "$scratch/x"
expect_in "$scratch/err" "choose one class"
expect_code 2 "$KINDIT" export "$scratch/run" --class 0,1 --to dit -o "$scratch/x"
expect_in "$scratch/err" "expected one class"
expect_code 2 "$KINDIT" export "$scratch/run" --class absent --to dit -o "$scratch/x"
expect_in "$scratch/err" "there are: 0, 1, 2"
expect_code 2 "$KINDIT" export "$scratch/one" --class 1 --to dit -o "$scratch/x"
expect_in "$scratch/err" "dense"
expect_code 2 "$KINDIT" export "$scratch/run" --class 1 --to dit -o "$scratch/one.safetensors"
expect_in "$scratch/err" "exists"
expect_code 2 "$KINDIT" export "$scratch/run" --class 1 --to diffusers -o "$scratch/pipe"
expect_in "$scratch/err" "exists"
[ -z "$(find "$scratch" -name '*.tmp')" ] || fail "a temporary file is left"
