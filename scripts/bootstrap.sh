#!/usr/bin/env bash
# Installs the Debian packages that are needed and missing: as root, or through sudo.
#   scripts/bootstrap.sh build|test|demo|libraries
# build: to compile. test: build, and what the tests need. demo: build, and the fonts that the demo draws with.
# libraries: installs nothing, names the packages of libraries that exist for every processor.
set -euo pipefail
cd "$(dirname "$0")"

libraries=(libopenblas-openmp-dev libcjson-dev libpng-dev libjpeg62-turbo-dev libwebp-dev zlib1g-dev libfreetype-dev
    librandom123-dev libprotobuf-c-dev libcmocka-dev)
packages=(gcc cmake ninja-build pkg-config protobuf-c-compiler libxsmm-dev libdnnl-dev "${libraries[@]}")
case "${1:-}" in
build) ;;
test)
    packages+=(clang clang-format clang-tidy libclang-rt-14-dev libomp-dev g++ fonts-aenigma gcc-aarch64-linux-gnu
        qemu-user)
    ;;
demo) mapfile -t -O "${#packages[@]}" packages <fonts.txt ;;
libraries)
    printf '%s\n' "${libraries[@]}"
    exit 0
    ;;
*)
    echo "usage: scripts/bootstrap.sh build|test|demo|libraries" >&2
    exit 2
    ;;
esac

missing=()
for package in "${packages[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "missing packages: ${missing[*]}" >&2
        echo "install them as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
echo "installing: ${missing[*]}" >&2
lock=(-o DPkg::Lock::Timeout=300)
install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${lock[@]}")
if ! "${install[@]}" "${missing[@]}" >&2; then # the lists may be old, or absent
    "${as_root[@]}" apt-get update -qq "${lock[@]}" >&2
    "${install[@]}" "${missing[@]}" >&2
fi
