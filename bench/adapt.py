"""Times a training step of each method of fine-tuning, kindit beside PyTorch with peft, in turns: see README.md.

First both compute the loss of the same fine-tuned model: kindit adapts a model for some steps, and PyTorch reads what it
trained. Results are merged into results/adapt.json, and results/adapt.md is written from all of them.
"""
import argparse
import json
import os
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import save_file

import compare
import report
import sides
from peer_adapt import FORMS

PRECISIONS = ["fp32", "bf16"]
TARGET = 2  # times as fast as PyTorch
MINUTES = {"small": 3, "s": 6, "b": 9}  # of one method in one precision, two thirds of them for compiling the peer
RIDES_ON_DENSE = ("lora", "pissa", "dora", "loha", "oft", "svdiff")
PARTS = ("check", "pair", "train")
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


def loss_of(model, batch, out, precision):
    sides.kindit_run("debug", "grad", model, "--input", batch, "-o", out, *sides.precision_flag(precision))
    return float(np.ravel(compare.load_file(out)["loss"])[0])


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
        losses = {precision: loss_of(trained, batch, out, precision) for precision in PRECISIONS}
        before = loss_of(model, batch, out, "fp32")
        theirs = float(sides.peer_run("adapted", model, "--form", FORMS[method][0], "--input", batch, "--adapter",
                                      os.path.join(trained, "model.safetensors"), *peer_arguments(size, method, blocks)))
    for precision, ours in losses.items():
        error, allowed = abs(ours - theirs) / theirs, compare.TOLERANCE[precision]["loss"]
        if error > allowed or abs(theirs - before) < 2 * allowed * before:
            raise RuntimeError(f"{size} {method} {precision}: loss {ours}, of the peer {theirs}, before adapting {before}")
        results.keep("check", method, size, precision, loss=ours, peer_loss=theirs, before=before, error=error)


# ---- times -----------------------------------------------------------------------------------------------------------

class Kindit:
    """Steps of one method; `last` is what `kindit bench` said of them."""

    def __init__(self, size, method, precision):
        self.arguments = [*sides.bench_arguments(size, base_of(method), precision), "--method", method]
        self.last = {}

    def __call__(self, n):
        self.last = sides.kindit_json("bench", *self.arguments, "--steps", n)
        return self.last["step_seconds"]


def train(results, size, method, precision, compiled):
    s, model, kindit = sides.SIZES[size], sides.model_path(size, base_of(method)), Kindit(size, method, precision)
    kindit(1)
    blocks = kindit.last["config"].get("adapter", {}).get("blocks", 1)
    arguments = ["--batch", s["batch"], *sides.precision_flag(precision), *peer_arguments(size, method, blocks)]
    forms = compare.forms_tried(FORMS[method], precision, size)
    chosen, best, tried = compare.choose("step", model, forms, arguments, compiled)
    ours, theirs = compare.in_turns(kindit, "step", model, chosen, tried[best], s["turns"], s["steps"])
    compare.keep_times(results, "fine-tuning step", method, size, precision, tried, best, ours, theirs,
                       trained=kindit.last["trainable_params"],
                       command="kindit bench " + " ".join(map(str, kindit.arguments)))


def pair(results, size, precision):
    """kindit alone: KIND, LoRA that trains as many numbers, and full fine-tuning, in turns."""
    s, sides_of = sides.SIZES[size], {method: Kindit(size, method, precision) for method in ("kind", "lora", "full")}
    turns = {method: [] for method in sides_of}
    for _ in range(s["turns"]):
        for method, kindit in sides_of.items():
            turns[method].append(kindit(s["steps"]))
    seconds = {method: compare.median(values) for method, values in turns.items()}
    trained = {method: kindit.last["trainable_params"] for method, kindit in sides_of.items()}
    results.keep("pair", "kind", size, precision, seconds=seconds, trained=trained, turns=turns)


# ---- the table -------------------------------------------------------------------------------------------------------

class Results(report.Results):
    """adapt.json and adapt.md."""

    def path(self, extension):
        return os.path.join(self.folder, "adapt." + extension)

    def draw(self):
        with open(self.path("md"), "w", encoding="utf-8") as file:
            file.write("\n".join(table(self.machine, list(self.entries.values()))) + "\n")


def size_name(entry):
    return report.SIZE_NAMES[entry["size"].removesuffix("-adapt")]


def milliseconds(seconds):
    return f"{1e3 * seconds:.0f} ms"


def row_of(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def met(times, target):
    return "yes" if times >= target else "**no**"


def peer_rows(entries):
    yield row_of("method", "size", "precision", "trained", "kindit", "PyTorch", "its best", "times", "target", "met", "date")
    yield "|" + "---|" * 11
    for e in entries:
        theirs, bound = (e["peer"], "") if e["peer"] else (e["peer_at_least"], "> ")
        times = theirs / e["kindit"]
        yield row_of(e["kind"], size_name(e), e["precision"], f"{e['trained']:,}", milliseconds(e["kindit"]),
                     bound + milliseconds(theirs), e["form"], f"{bound}{times:.2f}", TARGET, met(times, TARGET), e["date"])


def pair_rows(entries):
    yield row_of("KIND beside", "size", "precision", "KIND trains", "it trains", "KIND", "it", "times", "target", "met", "date")
    yield "|" + "---|" * 11
    for e in entries:
        for other in ("lora", "full"):
            times = e["seconds"][other] / e["seconds"]["kind"]
            yield row_of(other, size_name(e), e["precision"], f"{e['trained']['kind']:,}", f"{e['trained'][other]:,}",
                         milliseconds(e["seconds"]["kind"]), milliseconds(e["seconds"][other]), f"{times:.2f}", "more than 1",
                         met(times, 1.001), e["date"])


def check_rows(entries):
    yield row_of("method", "size", "precision", "kindit", "PyTorch, fp32", "before", "relative error")
    yield "|" + "---|" * 7
    for e in entries:
        yield row_of(e["kind"], size_name(e), e["precision"], f"{e['loss']:.6f}", f"{e['peer_loss']:.6f}",
                     f"{e['before']:.6f}", f"{e['error']:.1e}")


def table(machine, entries):
    def of(what):
        return [entry for entry in entries if entry["what"] == what]

    yield "# Fine-tuning beside PyTorch and peft\n"
    yield (f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instructions'])}); {machine['kindit']}; PyTorch "
           f"{machine['peer']['torch']}, peft {machine['peer']['peft']}; as many threads as cores on both sides. Made by "
           "`bench/adapt.sh`.\n")
    yield "Medians of turns taken one after the other; the peer is the fastest of its formulations that were tried.\n"
    yield from peer_rows(of("fine-tuning step"))
    yield "\nkindit alone, KIND and two others in turns:\n"
    yield from pair_rows(of("pair"))
    yield "\nThe loss of a model that kindit has adapted, by kindit and by PyTorch:\n"
    yield from check_rows([entry for entry in of("check") if "peer_loss" in entry])


# ---- all of it -------------------------------------------------------------------------------------------------------

def check_method(results, size, method):
    if method in RIDES_ON_DENSE:
        check(results, size, method)
    elif method in ("kind", "full"):
        compare.check(results, size, base_of(method))


def tasks_of(options):
    """(name, minutes, what to call with the results), one after the other."""
    compiled = 0 if options.eager else 2
    for size in options.sizes:
        own, minutes = sizes_of(size), MINUTES[size] / (3 if options.eager else 1)
        for method in options.methods if "check" in options.only else []:
            yield f"{size}: check {method}", 0.5, lambda r, s=own, m=method: check_method(r, s, m)
        for precision in options.precisions:
            if "pair" in options.only:
                yield f"{size}: pair, {precision}", minutes / 4, lambda r, s=own, p=precision: pair(r, s, p)
            for method in options.methods if "train" in options.only else []:
                yield (f"{size}: train {method}, {precision}", minutes,
                       lambda r, s=own, m=method, p=precision: train(r, s, m, p, compiled))


def options_parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("sizes", nargs="*", default=["small"], help="small, s, b (default: small)")
    parser.add_argument("--methods", default=",".join(FORMS), help="default: " + ",".join(FORMS))
    parser.add_argument("--only", default=",".join(PARTS), help="parts: " + ",".join(PARTS))
    parser.add_argument("--precision", choices=PRECISIONS, help="this one alone")
    parser.add_argument("--eager", action="store_true", help="the peer's compiled formulations are not tried")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="nothing is begun that would take longer")
    parser.add_argument("--results", default=os.path.join(sides.HERE, "results"))
    options = parser.parse_args()
    options.methods, options.only = options.methods.split(","), options.only.split(",")
    options.precisions = [options.precision] if options.precision else PRECISIONS
    for given, known, name in ((options.sizes, MINUTES, "sizes"), (options.methods, FORMS, "methods"),
                               (options.only, PARTS, "parts")):
        if not set(given) <= set(known):
            parser.error(f"{name} are {', '.join(known)}")
    return options


def main():
    options = options_parse()
    tasks, begin = list(tasks_of(options)), time.monotonic()
    print(f"about {sum(minutes for _, minutes, _ in tasks):.0f} minutes", flush=True)
    results = Results(options.results, sides.KINDIT)
    for name, minutes, run in tasks:
        spent = (time.monotonic() - begin) / 60
        if spent + minutes > options.minutes:
            print(f"left out, {options.minutes:g} minutes would not do: {name}", flush=True)
            continue
        print(f"{name} (after {spent:.0f} minutes)", flush=True)
        run(results)
        results.draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
