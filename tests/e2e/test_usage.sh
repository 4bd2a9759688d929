# How the command answers: exit codes, messages that say what to do next, help and man page from one table.
source "$(dirname "$0")/lib.sh"

expect_code 2 "$KINDIT"
expect_code 0 "$KINDIT" --help
expect_code 0 "$KINDIT" --version
expect_in "$scratch/out" "kindit "
expect_code 2 "$KINDIT" smaple
expect_in "$scratch/err" "did you mean 'sample'?"
expect_code 2 "$KINDIT" sample x --stpes 3
expect_in "$scratch/err" "did you mean '--steps'?"
expect_code 2 "$KINDIT" sample x --steps 1001 -o a.png
expect_in "$scratch/err" "--steps expects a whole number from 1 to 1000, found '1001'"
expect_code 2 "$KINDIT" sample x --steps=abc -o a.png
expect_code 2 "$KINDIT" sample x --steps
expect_in "$scratch/err" "--steps expects a value"
expect_code 2 "$KINDIT" sample x -o ''
expect_in "$scratch/err" "--output expects a value (FILE), found ''"
expect_code 2 "$KINDIT" sample x -o a.png --grid b.png
expect_in "$scratch/err" "one kind of output"
expect_code 2 "$KINDIT" data folder x --charset A-Z -o y
expect_in "$scratch/err" "--charset is for glyphs"
expect_code 2 "$KINDIT" data glyphs --names a,b -o y
expect_in "$scratch/err" "--names is for idx"
expect_code 2 "$KINDIT" sample x --sampler euler -o a.png
expect_in "$scratch/err" "one of ddpm|ddim"
expect_code 2 "$KINDIT" sample x -o a.gif
expect_in "$scratch/err" ".png, .npy or .npz"
expect_code 2 "$KINDIT" sample -o a.png
expect_in "$scratch/err" "expected: kindit sample MODEL"
expect_code 2 "$KINDIT" sample a b -o a.png
expect_in "$scratch/err" "one argument too many"
expect_code 2 "$KINDIT" sample x --json=yes -o a.png
expect_in "$scratch/err" "takes no value"
expect_code 2 "$KINDIT" assemble x --dry-run --budget 4Q
expect_in "$scratch/err" "expected a size of at least 1 byte such as 4MB"
expect_code 2 "$KINDIT" info
expect_code 2 "$KINDIT" info --depth 3
expect_in "$scratch/err" "--width"
expect_code 2 "$KINDIT" pretrain --data x
expect_in "$scratch/err" "-o RUN is missing"
expect_code 1 "$KINDIT" sample "$scratch/absent" -o a.png
expect_in "$scratch/err" "absent"
expect_code 1 bash -c '"$KINDIT" info --preset DiT-S/2 --json >/dev/full'

# Global options stand anywhere; a value may be joined by '='; '--' ends the options.
expect_code 0 "$KINDIT" --threads 1 info --preset=DiT-S/2 --quiet
expect_code 0 "$KINDIT" info --preset DiT-S/2 --threads=1
expect_code 1 "$KINDIT" info -- --preset

# A form of a command has options and help of its own.
expect_code 0 "$KINDIT" help eval
expect_in "$scratch/out" "kindit help eval nn"
expect_code 0 "$KINDIT" help eval nn
expect_in "$scratch/out" "Usage: kindit eval nn"
expect_in "$scratch/out" "--queries"
cp "$scratch/out" "$scratch/help"
expect_code 0 "$KINDIT" eval nn --help
cmp -s "$scratch/out" "$scratch/help" || fail "help eval nn and eval nn --help differ"
expect_code 2 "$KINDIT" eval nn --querys heldout
expect_in "$scratch/err" "did you mean '--queries'?"
grep -qF ".SS kindit eval nn" "$BUILD/kindit.1" || fail "the man page lacks eval nn"

for command in $("$KINDIT" help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p'); do
    expect_code 0 "$KINDIT" help "$command"
    expect_in "$scratch/out" "Examples:"
    expect_in "$scratch/out" "Usage: kindit $command"
    cp "$scratch/out" "$scratch/help"
    expect_code 0 "$KINDIT" "$command" --help
    cmp -s "$scratch/out" "$scratch/help" || fail "help $command and $command --help differ"
    # Every example parses: none names an option that is not there.
    while read -r -a words; do
        for word in "${words[@]}"; do
            [[ $word != --* ]] || grep -qE -- "^  ${word%%=*}[, ]|^  ${word%%=*}\$" "$scratch/help" ||
                fail "an example of $command uses $word, which its options do not have"
        done
    done < <(sed -n '/^Examples:/,/^$/p' "$scratch/help")
    grep -qF ".SS kindit $command" "$BUILD/kindit.1" || fail "the man page lacks $command"
done
