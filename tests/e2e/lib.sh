# For the scripts beside it: a scratch folder that goes away, and checks that say what they found.
# The environment names the command ($KINDIT), the sources ($SOURCE), the build ($BUILD) and the compiler ($CC).
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# expect_code CODE COMMAND...: runs it quietly; its output is in $scratch/out and $scratch/err.
expect_code() {
    local wanted=$1 code=0
    shift
    "$@" >"$scratch/out" 2>"$scratch/err" || code=$?
    [ "$code" -eq "$wanted" ] || fail "$* : expected exit code $wanted, found $code: $(cat "$scratch/err")"
}

# expect_in FILE TEXT: the fixed text is in the file.
expect_in() { grep -qF -- "$2" "$1" || fail "expected '$2' in $1, found: $(cat "$1")"; }

# json_number KEY <JSON: the first number under that key.
json_number() { sed -n "s/^[[:space:]]*\"$1\":[[:space:]]*\([-0-9.e+]*\),\{0,1\}$/\1/p" | head -n 1; }

# make_dataset DIR [HELDOUT]: 3 classes ("0", "1", "2") of 12 images, 8 x 8 grey, from an IDX pair; the pixels are bytes of the
# command itself, the same at every call. HELDOUT: the share held out (default 0).
make_dataset() {
    local i
    { printf '\0\0\010\003\0\0\0\044\0\0\0\010\0\0\0\010' && head -c 4400 "$KINDIT" | tail -c 2304; } >"$scratch/images"
    { printf '\0\0\010\001\0\0\0\044' && for i in $(seq 0 35); do printf "\\$((i % 3))"; done; } >"$scratch/labels"
    "$KINDIT" data idx "$scratch/images" "$scratch/labels" --size 8 --heldout "${2:-0}" -o "$1" --quiet >/dev/null
}

# The smallest model worth the name, trained for 6 steps unless told otherwise: train DATA RUN [OPTIONS...]
small=(--width 16 --depth 2 --heads 2 --patch 4 --n-learngene 6 --n-tailor 2 --batch 8 --lr 1e-2 --ema 0.9 --steps 6)
train() { "$KINDIT" pretrain --quiet --data "$1" -o "$2" "${small[@]}" "${@:3}" >/dev/null; }

# build_runtime: the program for small devices at $runtime, built once for all scripts. Where the ordinary build is not one
# whose numbers it has (sanitizers, clang: other vectors, other last bits), the script ends here.
build_runtime() {
    if grep -q '^KINDIT_SANITIZE:[A-Z]*=.' "$BUILD/CMakeCache.txt" || "$CC" --version | grep -q clang; then
        echo "left out: the runtime's numbers are those of an ordinary build by gcc"
        exit 0
    fi
    (
        flock 9
        cmake -S "$SOURCE" -B "$BUILD/runtime" -G Ninja -DKINDIT_RUNTIME_ONLY=ON -DCMAKE_BUILD_TYPE=Release \
            -DCMAKE_C_COMPILER="$CC" && cmake --build "$BUILD/runtime"
    ) 9>"$BUILD/runtime.lock" >"$scratch/log" 2>&1 || fail "the runtime does not build: $(tail -n 30 "$scratch/log")"
    runtime=$BUILD/runtime/kindit
}
