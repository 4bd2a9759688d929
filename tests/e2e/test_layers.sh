# The house keeps its order: a layer includes itself and those below, the library neither exits nor prints, and every header
# compiles alone, the public one as C++ too.
source "$(dirname "$0")/lib.sh"
cd "$SOURCE"

layers=(base formats engine model kind diffusion data train adapt vision metrics api cli)
allowed=
for layer in "${layers[@]}"; do
    allowed="$allowed|$layer"
    upward=$(grep -rnE '#include "[a-z]+/' "src/$layer" | grep -vE "#include \"(kindit${allowed})/" || true)
    [ -z "$upward" ] || fail "src/$layer includes upwards: $upward"
done
for folder in src/*/; do
    [[ " ${layers[*]} " == *" $(basename "$folder") "* ]] || fail "$folder is no layer of the list in $0"
done

calls=$(grep -rnE '(^|[^A-Za-z0-9_.>])(exit|_exit|abort|assert|printf|puts|putchar|perror)\(' src --include='*.[ch]' |
    grep -vE '^src/cli/|^[^:]*:[0-9]*: *//|static_assert|__attribute__' || true)
[ -z "$calls" ] || fail "the library exits or prints: $calls"

flags=(-D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -Iinclude -Isrc)
read -ra packages <<<"$(pkg-config --cflags libxsmm openblas libcjson libpng libwebp freetype2 libprotobuf-c)"
for header in include/kindit/*.h src/*/*.h; do
    "$CC" -std=c17 -x c "${flags[@]}" "${packages[@]}" -include "$header" /dev/null || fail "$header does not compile alone"
done
c++ -std=c++17 -x c++ "${flags[@]}" include/kindit/kindit.h || fail "kindit.h does not compile as C++"
