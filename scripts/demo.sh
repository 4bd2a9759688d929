#!/usr/bin/env bash
# The whole story on letters, from nothing to out/demo/report.html, in about 12 minutes on two cores: render glyphs, train a
# decomposable DiT, take it apart, draw with all tailors, with none, and with a few files of them, assemble models of
# several sizes and measure them. Interrupted, it goes on where it was. DEMO_SECONDS bounds the training time (default 540,
# where 7000 steps take about 400).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/bootstrap.sh build
scripts/bootstrap.sh demo
cmake --preset release --log-level=WARNING
cmake --build --preset release --target kindit -- --quiet

out=out/demo
mkdir -p $out/commands $out/json
PATH=$PWD/build:$PATH
seconds=${DEMO_SECONDS:-540}

# run SECTION COMMAND...: shows the command, keeps it for the report, runs it.
run() {
    local section=$1
    shift
    echo "\$ $*" >&2
    echo "$*" >>$out/commands/"$section"
    "$@"
}
# keep FILE COMMAND...: the same for one that prints JSON, into $out/json/FILE.
keep() { run "$1" "${@:2}" --json >"$out/json/$1"; }

find $out/commands -type f ! -name data ! -name train -delete # those two are not run again
[ -f $out/data/dataset.json ] || run data kindit data glyphs --charset A-Z0-9 --size 16 -o $out/data

if [ ! -f $out/trained ]; then
    resume=()
    [ ! -f $out/run/run.json ] || resume=(--resume)
    run train kindit pretrain --data $out/data --width 128 --depth 5 --heads 4 --patch 4 --n-learngene 56 --n-tailor 2 \
        --batch 64 --lr 1e-3 --decay 2500 --ema 0.998 --steps 7000 --time "$seconds" --log-every 50 \
        --sample-every 1000 --checkpoint-every 1000 -o $out/run "${resume[@]}"
    touch $out/trained
fi

ddim=(--sampler ddim --steps 50 --cfg 1.5)
grid=(--n 6 --seed 1 "${ddim[@]}")
run decompose kindit decompose $out/run -o $out/parts --force
run all kindit sample $out/parts "${grid[@]}" -o $out/all.png
run none kindit sample $out/parts "${grid[@]}" --no-tailors -o $out/none.png
run rows kindit sample $out/parts "${grid[@]}" --no-tailors --keep-label-rows -o $out/rows.png

# A few of the files, in another folder: nothing else is needed.
rm -rf $out/few
run few mkdir -p $out/few/tailors
run few cp $out/parts/config.json $out/parts/learngene.safetensors $out/few
run few cp $out/parts/tailors/{K,I,N,D,T}.safetensors $out/few/tailors
run few kindit sample $out/few "${grid[@]}" --classes K,I,N,D,T -o $out/few.png

# measure NAME MODEL [OPTIONS...]: what info, the clock and the nearest real glyph say of it.
measure() {
    local name=$1 model=$2
    keep "$name-info.json" kindit info "$model"
    keep "$name-sample.json" kindit sample "${3:-$model}" --n 20 "${ddim[@]}" "${@:4}" -o $out/"$name".npz
    keep "$name-eval.json" kindit eval nn $out/"$name".npz --data $out/data
}
assemble() { run assemble kindit assemble $out/parts --force -o $out/"$@"; }
keep real-eval.json kindit eval nn --queries heldout --data $out/data
assemble all36.safetensors
assemble all36-bf16.safetensors --type bf16
assemble digits.safetensors --classes 0,1,2,3,4,5,6,7,8,9
assemble kind.safetensors --classes K,I,N,D
assemble budget.safetensors --budget 3MB
for name in all36 all36-bf16 digits kind budget; do measure $name $out/$name.safetensors; done
measure none $out/parts/learngene.safetensors $out/parts --no-tailors
measure rows $out/parts/learngene.safetensors $out/parts --no-tailors --keep-label-rows

scripts/demo_report.sh $out >$out/report.json
run report kindit report $out/report.json -o $out/report.html
echo
echo "done: look at $out/report.html"
