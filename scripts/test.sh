#!/usr/bin/env bash
# Everything that must hold, as CI runs it: builds by gcc and clang without a warning, all tests, the tests again under
# sanitizers and on 64-bit ARM, every parser fuzzed for a few seconds, the format of the code. Ends with the summary of
# the full test run.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/bootstrap.sh test
summary=$(mktemp)
scratch=$(mktemp -d)
trap 'rm -rf "$summary" "$scratch"' EXIT

say() { printf '\n== %s\n' "$*"; }

configure_and_build() {
    cmake --preset "$1" --log-level=WARNING
    cmake --build --preset "$1" -- --quiet
}

say "format: clang-format"
find src include tests examples -name '*.[ch]' -print0 | xargs -0 clang-format --dry-run --Werror

say "release: gcc, all tests"
configure_and_build release
ctest --preset release | tee "$summary"

say "aarch64: cross-built, tests and a sampling run under qemu"
scripts/test_aarch64.sh

# All tests but those that differ in kernels alone: of libraries, which no sanitizer sees, or in C, which have a test.
say "clang: no warnings; tests with address and undefined-behaviour sanitizers"
configure_and_build asan
ctest --preset asan

say "clang-tidy"
find src examples -name '*.c' -print0 | xargs -0 -n 8 -P "$(nproc)" clang-tidy -p build-asan --quiet 2>/dev/null

# Threads of the caller's that share one learngene. The engine itself is held to one thread here: OpenMP's own waiting
# is not known to the sanitizer, which would take every parallel loop for a race.
say "thread sanitizer: several threads, one model"
cmake --preset tsan --log-level=WARNING
cmake --build --preset tsan --target kindit example_swap kind_test_tailor_store -- --quiet
ctest --preset tsan

say "fuzzing, 5 seconds a parser"
configure_and_build fuzz
fuzz() {
    name=$(basename "$1" .c)
    mkdir "$scratch/$name"
    seeds=tests/fuzz/corpus/${name#fuzz_}
    [ -d "$seeds" ] || seeds=
    echo "$name"
    "build-fuzz/$name" -max_total_time=5 -rss_limit_mb=2048 "$scratch/$name" ${seeds:+"$seeds"} >"$scratch/$name.log" 2>&1 || {
        tail -n 50 "$scratch/$name.log"
        exit 1
    }
}
export -f fuzz
export scratch
printf '%s\0' tests/fuzz/fuzz_*.c | xargs -0 -n 1 -P "$(nproc)" bash -c 'fuzz "$1"' fuzz

say "all of it held; the full test run was:"
grep -E 'Total Test time' "$summary"
grep -E '% tests passed' "$summary"
