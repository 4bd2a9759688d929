# Sourced: a Python environment of PyPI's packages, made once, and again when its list of them changes.
#   make_venv build/NAME-venv bench/REQUIREMENTS.txt
make_venv() {
    cmp -s "$2" "$1/requirements.txt" && return
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet -r "$2"
    cp "$2" "$1/requirements.txt"
}
