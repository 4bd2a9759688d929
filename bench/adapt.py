"""Times a training step of each method of fine-tuning, kindit beside PyTorch with peft, in turns: see README.md.

First both compute the loss of the same fine-tuned model: kindit adapts a model for some steps, and PyTorch reads what it
trained. Results are merged into results/adapt.json, and results/adapt.md is written from all of them.
"""
import argparse
import json
import os
import sys
import tempfile

import numpy as np
from safetensors.numpy import save_file

import compare
import report
import sides
from peer_adapt import FORMS

TOLERANCE = 1e-4  # of the loss, as in compare.py
TARGET = 2
RIDES_ON_DENSE = ("lora", "pissa", "dora", "loha", "oft", "svdiff")
STEPS, CHECKED = 3, 4  # of the run that is checked; samples that the loss is taken of


def sizes_of(size):
    """As in compare.py, with N_T in the paper's proportion, width / 256: then KIND trains what LoRA of the default rank does."""
    name = size + "-adapt"
    sides.SIZES[name] = sides.SIZES[size] | {"n_tailor": max(1, sides.SIZES[size]["width"] // 256)}
    return name


def base_of(method):
    return "kind" if method == "kind" else "dense"


def peer_arguments(size, method, blocks):
    s = sides.SIZES[size]
    return ["--method", "--rank", min(s["n_tailor"] * s["classes"], s["width"]), "--blocks", blocks]


# ---- the same numbers ------------------------------------------------------------------------------------------------

def make_dataset(folder, s):
    """Random images, two of each class."""
    random, n = np.random.default_rng(1), 2 * s["classes"]
    os.makedirs(folder)
    shape = (n, sides.IMAGE_SIZE, sides.IMAGE_SIZE, s["channels"])
    if s["channels"] in (1, 3):
        np.save(os.path.join(folder, "images.npy"), random.integers(0, 256, shape, dtype=np.uint8))
    else:
        np.save(os.path.join(folder, "latents.npy"), random.standard_normal(
            (n, s["channels"], sides.IMAGE_SIZE, sides.IMAGE_SIZE), dtype=np.float32))
    np.save(os.path.join(folder, "labels.npy"), (np.arange(n) % s["classes"]).astype(np.int32))
    with open(os.path.join(folder, "dataset.json"), "w", encoding="utf-8") as file:
        json.dump({"format": 1, "name": "random", "image_size": sides.IMAGE_SIZE, "channels": s["channels"],
                   "classes": [{"id": f"class-{i}", "name": f"class {i}"} for i in range(s["classes"])],
                   "splits": {"train": [0, n]}, "preprocessing": {}, "source_sha256": "", "counts": {}}, file)


def make_batch(path, s):
    random = np.random.default_rng(0)
    shape = (CHECKED, s["channels"], sides.IMAGE_SIZE, sides.IMAGE_SIZE)
    save_file({"x0": (random.integers(0, 256, shape) / 127.5 - 1).astype(np.float32),
               "noise": random.standard_normal(shape).astype(np.float32),
               "t": np.array([0, 999, 500, 17]), "y": np.array([1, s["classes"], 0, 1])}, path)


def check(results, size, method):
    """kindit's loss of a model that it adapted, and the peer's with the same adapter. Raises where they differ."""
    s, model = sides.SIZES[size], sides.model_path(size, "dense")
    with tempfile.TemporaryDirectory() as folder:
        data, run, batch, out = (os.path.join(folder, name) for name in ("data", "run", "in.safetensors", "out.safetensors"))
        make_dataset(data, s)
        make_batch(batch, s)
        sides.kindit_run("adapt", model, "--method", method, "--data", data, "--batch", 4, "--steps", STEPS, "--lr", 1e-2,
                         "--ema", 0, "-o", run)
        trained = os.path.join(run, "checkpoints", f"step-{STEPS}")
        with open(os.path.join(trained, "config.json"), encoding="utf-8") as file:
            blocks = json.load(file).get("adapter", {}).get("blocks", 1)
        sides.kindit_run("debug", "grad", trained, "--input", batch, "-o", out)
        ours = float(np.ravel(compare.load_file(out)["loss"])[0])
        before = os.path.join(folder, "before.safetensors")
        sides.kindit_run("debug", "grad", model, "--input", batch, "-o", before)
        base = float(np.ravel(compare.load_file(before)["loss"])[0])
        theirs = float(sides.peer_run("adapted", model, "--form", FORMS[method][0], "--input", batch, "--adapter",
                                      os.path.join(trained, "model.safetensors"), *peer_arguments(size, method, blocks)))
    error = abs(ours - theirs) / theirs
    if error > TOLERANCE or abs(ours - base) < 10 * TOLERANCE * base:
        raise RuntimeError(f"{size} {method}: loss {ours}, of the peer {theirs}, before adapting {base}")
    results.keep("check", method, size, "fp32", loss=ours, peer_loss=theirs, before=base, error=error)


# ---- times -----------------------------------------------------------------------------------------------------------

def bench_arguments(size, method):
    return [*sides.bench_arguments(size, base_of(method), "fp32"), "--method", method]


def train(results, size, method):
    s, model, last = sides.SIZES[size], sides.model_path(size, base_of(method)), {}
    bench = bench_arguments(size, method)

    def kindit(n):
        last.update(sides.kindit_json("bench", *bench, "--steps", n))
        return last["step_seconds"]

    kindit(1)
    blocks = last["config"].get("adapter", {}).get("blocks", 1)
    arguments = ["--batch", s["batch"], *peer_arguments(size, method, blocks)]
    chosen, best, tried = compare.choose("step", model, FORMS[method], arguments)
    ours, theirs = compare.in_turns(kindit, "step", model, chosen, tried[best], s["turns"], s["steps"])
    compare.keep_times(results, "fine-tuning step", method, size, "fp32", tried, best, ours, theirs,
                       trained=last["trainable_params"], command="kindit bench " + " ".join(map(str, bench)))


# ---- the table -------------------------------------------------------------------------------------------------------

class Results(report.Results):
    """adapt.json and adapt.md."""

    def path(self, extension):
        return os.path.join(self.folder, "adapt." + extension)

    def draw(self):
        with open(self.path("md"), "w", encoding="utf-8") as file:
            file.write("\n".join(table(self.machine, list(self.entries.values()))) + "\n")


def table(machine, entries):
    rows = [entry for entry in entries if entry["what"] == "fine-tuning step" and entry["peer"]]
    yield "# Fine-tuning beside PyTorch and peft\n"
    yield (f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instructions'])}); {machine['kindit']}; PyTorch "
           f"{machine['peer']['torch']}, peft {machine['peer']['peft']}; as many threads as cores on both sides, fp32. Made by "
           "`bench/adapt.sh`.\n")
    yield "Medians of turns taken one after the other; the peer is the fastest of its formulations, eager or compiled.\n"
    yield "| method | size | trained | kindit | PyTorch | its best | times | target | met | of kindit's full | date |"
    yield "|" + "---|" * 11
    for row in rows:
        full = [other["kindit"] for other in rows if (other["kind"], other["size"]) == ("full", row["size"])]
        times = row["peer"] / row["kindit"]
        cells = [row["kind"], report.SIZE_NAMES[row["size"].removesuffix("-adapt")], f"{row['trained']:,}",
                 f"{1e3 * row['kindit']:.0f} ms", f"{1e3 * row['peer']:.0f} ms", row["form"], f"{times:.2f}", str(TARGET),
                 "yes" if times >= TARGET else "**no**", f"{row['kindit'] / full[0]:.2f}" if full else "", row["date"]]
        yield "| " + " | ".join(cells) + " |"
    yield "\nThe loss of a model that kindit has adapted, by kindit and by PyTorch:\n"
    yield "| method | kindit | PyTorch | before | relative error |\n|---|---|---|---|---|"
    for entry in entries:
        if entry["what"] == "check" and "peer_loss" in entry:
            yield (f"| {entry['kind']} | {entry['loss']:.6f} | {entry['peer_loss']:.6f} | {entry['before']:.6f} | "
                   f"{entry['error']:.1e} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("sizes", nargs="*", default=["small"], help="small, s, b (default: small)")
    parser.add_argument("--methods", default=",".join(FORMS), help="default: " + ",".join(FORMS))
    parser.add_argument("--only", choices=["check", "train"])
    parser.add_argument("--results", default=os.path.join(sides.HERE, "results"))
    options = parser.parse_args()
    methods = options.methods.split(",")
    if not set(options.sizes) <= set(sides.SIZES) or not set(methods) <= set(FORMS):
        parser.error(f"sizes are {', '.join(sides.SIZES)}; methods are {', '.join(FORMS)}")
    results = Results(options.results, sides.KINDIT)
    for size in [sizes_of(size) for size in options.sizes]:
        for method in methods:
            if options.only != "train":
                if method in RIDES_ON_DENSE:
                    check(results, size, method)
                elif method in ("kind", "full"):
                    compare.check(results, size, base_of(method))
            if options.only != "check":
                train(results, size, method)
            results.draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
