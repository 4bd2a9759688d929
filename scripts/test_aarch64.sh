#!/usr/bin/env bash
# The program on 64-bit ARM: cross-built against Debian's arm64 libraries (fetched and unpacked under build-aarch64, the
# system is left as it is), tests and one sampling run under qemu. Compares with build/kindit: run `make build` first.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x build/kindit ] || {
    echo "build/kindit, to compare with, is missing: run \`make build\`" >&2
    exit 1
}

build=build-aarch64
root=$PWD/$build/sysroot
libraries=/usr/lib/aarch64-linux-gnu
mapfile -t packages < <(scripts/bootstrap.sh libraries)
packages+=(libc6-dev)

# The packages and all that they depend on, through the system's own sources but into folders of our own.
fetch_packages() {
    local state=$PWD/$build/apt
    rm -rf "$state"
    mkdir -p "$state"/{lists,archives}/partial
    : >"$state/status"
    local apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
        -o Dir::State="$state" -o Dir::State::status="$state/status" -o Dir::State::lists="$state/lists"
        -o Dir::Cache="$state" -o Acquire::Languages=none -o Acquire::Retries=3)
    "${apt[@]}" update || true # a source of somebody else's may have nothing for ARM: the next line tells
    "${apt[@]}" install -y --download-only --no-install-recommends "${packages[@]}"
}

unpack_packages() {
    rm -rf "$root"
    mkdir -p "$root"
    for file in "$build"/apt/archives/*.deb; do dpkg -x "$file" "$root"; done
    find "$root" -type l -lname '/*' | while read -r link; do
        ln -sfn "$(realpath -m -s --relative-to="$(dirname "$link")" "$root$(readlink "$link")")" "$link"
    done
    # What the packages' alternatives would link to.
    ln -sf openblas-openmp/libopenblas.so.0 "$root$libraries/"
    ln -sf ../openblas-openmp/pkgconfig/openblas.pc "$root$libraries/pkgconfig/"
    echo "${packages[*]}" >"$root/packages"
}

if [ "$(cat "$root/packages" 2>/dev/null)" != "${packages[*]}" ]; then
    fetch_packages
    unpack_packages
fi
cmake --preset aarch64 --log-level=WARNING
cmake --build --preset aarch64 -- --quiet
# The tests of numbers and files, with products by CBLAS, and those of the products also in plain C. Two are left out:
# train_test_trainer starts itself anew, which takes more than qemu-user, and diffusion_test_sampler is slow there.
ctest --preset aarch64 -j "$(nproc)"
ctest --test-dir "$build" --output-on-failure -R '^engine_test_gemm_on_c$'

on_arm() { OMP_WAIT_POLICY=passive qemu-aarch64 -L "$root" "$build/kindit" "$@"; }
machine=$(on_arm info --machine)
echo "$machine"
grep -q 'vectors  *NEON' <<<"$machine"
grep -q 'products  *OpenBLAS' <<<"$machine"

echo "the same picture here and there"
draw=(sample models/letters.safetensors --classes A,7 --n 1 --sampler ddim --steps 10 --quiet)
build/kindit "${draw[@]}" -o "$build/here.npy" >/dev/null
on_arm "${draw[@]}" -o "$build/there.npy" >/dev/null
values() { tail -c $((2 * 32 * 32 * 4)) "$1" | od -An -v -w4 -t f4; } # pixels from -1 to 1
paste <(values "$build/here.npy") <(values "$build/there.npy") | awk '
    { d = ($1 < $2) ? $2 - $1 : $1 - $2; if (!(d <= most)) most = d; bright += ($1 > 0.5) }
    END {
        printf "%d pixels, %d of them bright; largest difference %g\n", NR, bright, most
        exit !(NR == 2048 && bright > 20 && most < 1e-3)
    }'

echo "the program for small devices: static, assembles and samples, with a limit of memory; the full one's bits"
cmake --preset aarch64-runtime --log-level=WARNING
cmake --build --preset aarch64-runtime -- --quiet
small=$PWD/$build-runtime/kindit
size=$(stat -c %s "$small")
echo "$size bytes"
[ "$size" -lt 2000000 ]
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
on_small() { OMP_WAIT_POLICY=passive qemu-aarch64 "$small" "$@"; } # no -L: it needs no library
on_small decompose models/letters.safetensors -o "$scratch/parts"
on_small assemble "$scratch/parts" --classes A,7 -o "$scratch/a7.safetensors"
draw=(--n 1 --sampler ddim --steps 5 --quiet)
on_small sample "$scratch/a7.safetensors" "${draw[@]}" -o "$scratch/small.npy"
KINDIT_GEMM=c on_arm sample models/letters.safetensors --classes A,7 "${draw[@]}" -o "$scratch/full.npy"
cmp "$scratch/small.npy" "$scratch/full.npy"
# What qemu itself has resident counts: a limit far above it, kept with tailors that come and go.
on_small sample "$scratch/parts" --classes A,7 --memory 500MB "${draw[@]}" -o "$scratch/limited.npy"
cmp "$scratch/small.npy" "$scratch/limited.npy"
