#!/usr/bin/env bash
# Writes what `kindit report` makes the demo's page from: scripts/demo_report.sh FOLDER >report.json
set -euo pipefail
out=$1

# "a", "b": the commands of a section as JSON strings.
commands() {
    local name first=1
    for name in "$@"; do
        [ -f "$out/commands/$name" ] || continue
        [ $first = 1 ] || printf ', '
        first=0
        printf '"'
        sed -e 's/[\\"]/\\&/g' "$out/commands/$name" | awk 'NR > 1 { printf "\\n" } { printf "%s", $0 }'
        printf '"'
    done
}
picture() { printf '{"file": "%s", "caption": "%s"}' "$1" "$2"; }
row() { # NAME WORDS
    printf '{"name": "%s", "files": ["json/%s-info.json", "json/%s-sample.json", "json/%s-eval.json"]}' "$2" "$1" "$1" "$1"
}

cat <<END
{"title": "kindit: letters from a learngene and tailors",
 "text": "One diffusion transformer was trained on the glyphs A to Z and 0 to 9. What all classes share lies in its learngene; what is particular to a class lies in that class's tailor, one small file. Everything below was made by the commands shown.",
 "sections": [
  {"heading": "With all tailors", "text": "The learngene with the tailor of each class.",
   "images": [$(picture all.png "Six samples of each class.")], "commands": [$(commands data train decompose all)]},
  {"heading": "The learngene alone", "text": "Every tailor shut, and the null label: what no class in particular looks like.",
   "images": [$(picture none.png "The rows keep their names, but no row is told its class.")], "commands": [$(commands none)]},
  {"heading": "The learngene with label rows", "text": "Every tailor shut, but each class's row of the label table kept.",
   "images": [$(picture rows.png "How much of a class its label row alone carries.")], "commands": [$(commands rows)]},
  {"heading": "A few tailors, from a folder that has no others", "text": "A folder with the learngene and any of the tailor files is a model.",
   "images": [$(picture few.png "Drawn from five tailor files.")], "commands": [$(commands few)]},
  {"heading": "Training", "curve": {"file": "run/metrics.csv", "x": "step", "y": ["loss", "mse"]}},
  {"heading": "Assembled models", "text": "Accuracy: is a sample's nearest training glyph, by pixels, of the sample's class? The last row is the same question asked of real glyphs of font families that training never saw.",
   "table": {"columns": [
     {"label": "model", "key": "name"}, {"label": "classes", "key": "config.n_classes"},
     {"label": "size", "key": "tensor_bytes", "format": "bytes"},
     {"label": "parameters", "key": "parameters.total", "format": "count"},
     {"label": "FLOPs/image and step", "key": "flops.total", "format": "count"},
     {"label": "images/s", "key": "images_per_second"},
     {"label": "1-NN accuracy", "key": "accuracy", "format": "percent"}],
    "rows": [
     $(row all36 "all classes"),
     $(row all36-bf16 "all classes, bfloat16"),
     $(row digits "digits"),
     $(row kind "K, I, N, D"),
     $(row budget "the best that fits 3 MB"),
     $(row none "learngene alone, null label"),
     $(row rows "learngene alone, label rows"),
     {"name": "real held-out glyphs", "files": ["json/real-eval.json"]}]},
   "commands": [$(commands assemble all36-info.json all36-sample.json all36-eval.json real-eval.json)]}
 ]}
END
