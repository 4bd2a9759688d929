# Adapting: tailors trained beside a frozen learngene join the old ones in one folder; runs go on; wrong uses say so.
source "$(dirname "$0")/lib.sh"
draw() { "$KINDIT" sample "$1" --quiet --n 2 --sampler ddim --steps 4 -o "$scratch/$2.npy" "${@:3}" >/dev/null; }
same() { cmp -s "$scratch/$1.npy" "$scratch/$2.npy" || fail "$1 and $2 differ"; }
adapt() { "$KINDIT" adapt "$1" --method "$2" --quiet --data "$scratch/new" -o "$3" --batch 8 --ema 0.9 "${@:4}" >/dev/null; }

make_dataset "$scratch/data"
printf 'superclass\tmember\nx\t0\ny\t1\n' >"$scratch/merge.tsv"
"$KINDIT" data idx "$scratch/images" "$scratch/labels" --size 8 --heldout 0 --merge "$scratch/merge.tsv" --classes x,y \
    -o "$scratch/new" --quiet >/dev/null
train "$scratch/data" "$scratch/base"
adapt "$scratch/base" kind "$scratch/run" --steps 6
"$KINDIT" decompose "$scratch/base" -o "$scratch/parts" >/dev/null

# The learngene is the base's, to the byte of its file, and so a new tailor fits wherever an old one does.
"$KINDIT" decompose "$scratch/run" -o "$scratch/adapted" >/dev/null
cmp "$scratch/parts/learngene.safetensors" "$scratch/adapted/learngene.safetensors" || fail "the learngene has changed"
cp -r "$scratch/parts" "$scratch/dropped"
cp "$scratch/adapted/tailors/x.safetensors" "$scratch/dropped/tailors"
draw "$scratch/run" x --classes x
draw "$scratch/dropped" dropped_x --classes x
same x dropped_x

"$KINDIT" info "$scratch/run" --json >"$scratch/out"
expect_in "$scratch/out" '"method":	"kind"'

# Both in one folder, which draws what each drew; its config lists them, and every hash holds.
cp -r "$scratch/parts" "$scratch/mixed"
"$KINDIT" decompose "$scratch/run" --into "$scratch/mixed" >/dev/null
draw "$scratch/base" old
draw "$scratch/run" new
draw "$scratch/mixed" mixed_old --classes 0,1,2
draw "$scratch/mixed" mixed_new --classes x,y
same old mixed_old
same new mixed_new
expect_in "$scratch/mixed/config.json" tailors/y.safetensors
"$KINDIT" assemble "$scratch/mixed" --classes y,0,x -o "$scratch/three.safetensors" >/dev/null
draw "$scratch/three.safetensors" three_new --classes x,y
same new three_new
[ "$("$KINDIT" info "$scratch/mixed" --json | json_number n_classes)" = 5 ] || fail "the mixed folder has not five classes"
"$KINDIT" decompose "$scratch/mixed" -o "$scratch/again" >/dev/null
cmp "$scratch/mixed/learngene.safetensors" "$scratch/again/learngene.safetensors" || fail "the learngene has changed"

# In the type of the folder, if the tailors were trained beside just those weights.
"$KINDIT" decompose "$scratch/base" --type bf16 -o "$scratch/small" >/dev/null
expect_code 2 "$KINDIT" decompose "$scratch/run" --into "$scratch/small"
expect_in "$scratch/err" "another learngene"
adapt "$scratch/small" kind "$scratch/run16" --steps 2
"$KINDIT" decompose "$scratch/run16" --into "$scratch/small" >/dev/null
"$KINDIT" info "$scratch/small/tailors/x.safetensors" | grep -q bf16 || fail "the new tailor is not bf16"

# What does not fit is refused, and nothing is left.
expect_code 2 "$KINDIT" decompose "$scratch/run" --into "$scratch/mixed"
expect_in "$scratch/err" 'has a class "x" already'
train "$scratch/data" "$scratch/other" --seed 5
"$KINDIT" decompose "$scratch/other" -o "$scratch/foreign" >/dev/null
expect_code 2 "$KINDIT" decompose "$scratch/run" --into "$scratch/foreign"
expect_in "$scratch/err" "another learngene"
[ "$(ls "$scratch/foreign/tailors" | wc -l)" = 3 ] || fail "a tailor was left in a folder that refused it"
expect_code 2 "$KINDIT" decompose "$scratch/run" --into "$scratch/run"
expect_code 2 "$KINDIT" decompose "$scratch/run"

# A run goes on by its record alone, even without its base, and only as what it is.
adapt "$scratch/base" kind "$scratch/whole" --steps 9
mv "$scratch/base" "$scratch/moved"
"$KINDIT" adapt --resume --steps 9 -o "$scratch/run" --quiet >/dev/null
for file in weights m v ema state model; do
    cmp "$scratch/whole/checkpoints/step-9/$file.safetensors" "$scratch/run/checkpoints/step-9/$file.safetensors" ||
        fail "a resumed run has another $file"
done
expect_code 2 "$KINDIT" adapt --resume --method full --steps 12 -o "$scratch/run"
expect_in "$scratch/err" 'the run has "kind", asked for "full"'
expect_code 2 "$KINDIT" pretrain --resume --steps 12 -o "$scratch/run"
expect_in "$scratch/err" 'a run of `kindit adapt`'
expect_code 2 "$KINDIT" adapt --resume --steps 12 -o "$scratch/other"
expect_in "$scratch/err" 'a run of `kindit pretrain`'

# New tailors as copies of old ones; the whole model; a dense one.
adapt "$scratch/moved" kind "$scratch/copies" --tailors-from 2,0 --steps 1 --lr 0
draw "$scratch/moved" old_2 --classes 2
draw "$scratch/copies" copy_x --classes x
same old_2 copy_x
adapt "$scratch/moved" full "$scratch/full" --steps 2
train "$scratch/data" "$scratch/dense" --kind off
adapt "$scratch/dense" full "$scratch/dense_full" --steps 2
expect_code 2 adapt "$scratch/dense" kind "$scratch/nothing" --steps 2
expect_in "$scratch/err" "needs a model with a learngene"
[ ! -e "$scratch/nothing" ] || fail "a refused run left a folder"

# Some of a dense model's blocks: all of its depth, or a smaller model. What a method does not have is refused.
"$KINDIT" pretrain --data "$scratch/data" --quiet --kind off --width 24 --depth 3 --heads 2 --patch 2 --batch 8 --steps 2 \
    -o "$scratch/deep" >/dev/null
adapt "$scratch/deep" heur-lg "$scratch/last" --keep-blocks 1 --steps 2
adapt "$scratch/deep" auto-lg "$scratch/similar" --pseudo-steps 2 --steps 2
adapt "$scratch/deep" laptop "$scratch/small" --keep-blocks 2 --steps 2
[ "$("$KINDIT" info "$scratch/last" --json | json_number depth)" = 3 ] || fail "heur-lg changed the depth"
[ "$("$KINDIT" info "$scratch/small" --json | json_number depth)" = 2 ] || fail "laptop kept another number of blocks"
grep -A4 '"blocks"' "$scratch/last/run.json" | tr -d ' \t\n' | grep -q '\[-1,-1,2\]' || fail "not the last block"
draw "$scratch/small" small --classes x
"$KINDIT" adapt --resume --steps 4 -o "$scratch/small" --quiet >/dev/null
expect_code 2 "$KINDIT" adapt --resume --keep-blocks 1 --steps 6 -o "$scratch/small"
expect_in "$scratch/err" "another keep_blocks"
expect_code 2 adapt "$scratch/deep" full "$scratch/nothing" --keep-blocks 1
expect_in "$scratch/err" "belongs to heur-lg"
expect_code 2 adapt "$scratch/moved" laptop "$scratch/nothing"
expect_in "$scratch/err" "needs a dense model"
expect_code 2 adapt "$scratch/deep" laptop "$scratch/nothing" --budget 10
expect_in "$scratch/err" "a model of one block has"
[ ! -e "$scratch/nothing" ] || fail "a refused run left a folder"

# Usage.
expect_code 2 "$KINDIT" adapt "$scratch/moved" --data "$scratch/new" -o "$scratch/x"
expect_in "$scratch/err" "--method"
expect_code 2 "$KINDIT" adapt --method kind --data "$scratch/new" -o "$scratch/x"
expect_in "$scratch/err" "MODEL"
expect_code 2 "$KINDIT" adapt "$scratch/moved" --method kind -o "$scratch/x"
expect_in "$scratch/err" "--data"

# Counting: the paper's mean, and a model's own.
tasks=$SOURCE/tests/golden/adapt/tasks.tsv
count() { "$KINDIT" adapt --dry-run --tasks "$tasks" --json "$@" >"$scratch/count.json"; }
count --preset DiT-B/2 --method kind
[ "$(grep -c '"task"' "$scratch/count.json")" = 18 ] || fail "not 18 tasks"
mean=$(sed -n '/"mean"/,$p' "$scratch/count.json" | json_number trainable_params)
[ "${mean%.*}" = 12770929 ] || fail "mean of trainable parameters: $mean"
count "$scratch/moved" --method full
"$KINDIT" adapt --dry-run --tasks "$tasks" --preset DiT-L/2 --method kind | grep -q '^mean' || fail "no table"
expect_code 2 "$KINDIT" adapt --dry-run --method kind --tasks "$tasks"
printf 'task\twnid\n1\n' >"$scratch/bad.tsv"
expect_code 1 "$KINDIT" adapt --dry-run --method kind --preset DiT-B/2 --tasks "$scratch/bad.tsv"
expect_in "$scratch/err" "bad.tsv:2"
