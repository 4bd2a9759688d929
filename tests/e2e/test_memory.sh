# A limit of memory is kept, as planned within 5 %, whatever the number of tailors; one that cannot be kept says what would
# do. What was planned is held against what the kernel counted, and against limits that the kernel sets.
[ -w /dev/shm ] && export TMPDIR=/dev/shm # a thousand files, each synced
source "$(dirname "$0")/lib.sh"
build_runtime
"$BUILD/tool_make_tailors" "$scratch/one" 1
"$BUILD/tool_make_tailors" "$scratch/many" 1000
draw=(--sampler ddim --steps 2 --threads 1 --quiet)

# within NAME PERCENT A B: A and B differ by no more.
within() {
    echo "$1: $3 and $4"
    awk -v p="$2" -v a="$3" -v b="$4" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a > 0 && d <= b * p / 100) }' ||
        fail "$1: $3 and $4 differ by more than $2 %"
}
# kept NAME LIMIT ARGUMENTS...: draws under the limit; the peak is below it and as planned.
kept() {
    local name=$1 limit=$2 planned
    shift 2
    "$BUILD/tool_peak" "$scratch/$name.peak" "$runtime" sample "$@" --memory "$limit" "${draw[@]}" --json \
        -o "$scratch/$name.npy" >"$scratch/$name.json" 2>"$scratch/err" || fail "$name: $(cat "$scratch/err")"
    planned=$(json_number memory_planned <"$scratch/$name.json")
    within "$name: bytes taken and planned" 5 "$(cat "$scratch/$name.peak")" "$planned"
    [ "$(cat "$scratch/$name.peak")" -le "$limit" ] || fail "$name: the limit of $limit is not kept"
}

# The same images of one class and of each of a thousand, with one tailor in memory at a time.
kept one 14000000 "$scratch/one" --n 1000 --batch 1
kept many 14000000 "$scratch/many" --n 1 --batch 1
[ "$(json_number tailors_held <"$scratch/many.json")" = 1 ] || fail "$(cat "$scratch/many.json")"
[ "$(json_number n <"$scratch/many.json")" = 1000 ] || fail "$(cat "$scratch/many.json")"
within "a thousand tailors and one" 10 "$(cat "$scratch/many.peak")" "$(cat "$scratch/one.peak")"
[ "$(tail -c 1024000 "$scratch/many.npy" | head -c 1024 | sha256sum)" = \
    "$(tail -c 1024000 "$scratch/one.npy" | head -c 1024 | sha256sum)" ] || fail "class c0 is drawn differently"
[ "$(tail -c 1024000 "$scratch/many.npy" | tail -c 1024 | sha256sum)" != \
    "$(tail -c 1024000 "$scratch/one.npy" | tail -c 1024 | sha256sum)" ] || fail "class c999 is drawn as c0"

# More memory, more images at once; the images stay the same, and are those of the full program without a limit.
some=(--classes c5,c17,c900 --n 8)
kept less 13000000 "$scratch/many" "${some[@]}"
kept more 40000000 "$scratch/many" "${some[@]}"
[ "$(json_number batch <"$scratch/less.json")" -lt "$(json_number batch <"$scratch/more.json")" ] ||
    fail "more memory should draw more at once: $(cat "$scratch/less.json" "$scratch/more.json")"
KINDIT_GEMM=c "$KINDIT" sample "$scratch/many" "${some[@]}" "${draw[@]}" -o "$scratch/full.npy" >/dev/null
cmp "$scratch/less.npy" "$scratch/more.npy" || fail "a limit changes the images"
cmp "$scratch/less.npy" "$scratch/full.npy" || fail "the full program draws others"
kept threads 16000000 "$scratch/many" "${some[@]}" --threads 3

# Too little: said before anything is drawn, with a limit that does.
expect_code 1 "$runtime" sample "$scratch/many" "${some[@]}" "${draw[@]}" --memory 11MB -o "$scratch/x.npy"
expect_in "$scratch/err" "a limit of 11.0 MB of memory cannot be kept"
[ ! -e "$scratch/x.npy" ] || fail "something was drawn"
enough=$(sed -n 's/.*; allow \([0-9.]*\) MB.*/\1/p' "$scratch/err")
[ -n "$enough" ] || fail "no limit is named: $(cat "$scratch/err")"
kept enough "$(awk -v m="$enough" 'BEGIN { printf "%d", m * 1e6 }')" "$scratch/many" "${some[@]}"
expect_code 1 "$runtime" sample "$scratch/many" "${draw[@]}" --memory 5MB -o "$scratch/x.npy"
expect_in "$scratch/err" "learngene.safetensors: a limit of 5.0 MB of memory cannot be kept: opening it takes"

# Limits of the kernel's. Address space counts mapped files as well, hence more of it.
plain=("$runtime" sample "$scratch/many" "${some[@]}" "${draw[@]}" -o "$scratch/limited.npy")
(ulimit -v 26000 && "${plain[@]}" --memory 13MB >/dev/null) || fail "13 MB do not fit into 26 MB of addresses"
cmp "$scratch/less.npy" "$scratch/limited.npy" || fail "a kernel's limit changes the images"
expect_code 1 bash -c 'ulimit -v 26000 && "$@"' _ "${plain[@]}"
expect_in "$scratch/err" "out of memory"

group=/sys/fs/cgroup/memory/kindit-test-$$
if mkdir "$group" 2>/dev/null; then
    trap 'rm -rf "$scratch"; rmdir "$group"' EXIT
    echo 13500000 >"$group/memory.limit_in_bytes"
    inside() { bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@"; }
    expect_code 0 inside "${plain[@]}" --memory 13MB
    expect_code 137 inside "${plain[@]}"
    echo "a control group of 13.5 MB: kept with --memory 13MB, killed without"
else
    echo "left out: no control group can be made here"
fi
