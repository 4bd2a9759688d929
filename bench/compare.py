"""Times kindit and PyTorch on the same work, in turns, and keeps the medians: see compare.sh.

Every formulation of the peer is tried first, eagerly; the fastest two are compiled too. The fastest of all is then timed
in turns with kindit, each side in its own process while the other sleeps. What is measured is merged into
results/compare.json, so that a comparison can be made in parts, and the table and the plot are drawn from all of it.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import load_file, save_file

import report
import sides
from sides import LETTERS, SIZES, TimeLimit, kindit_json, kindit_run, model_path, precision_flag

TRAINING_FORMS = {"kind": ("gathered", "masked", "merged"), "dense": ("dense",)}
DRAWING_FORMS = ("gathered", "pair", "diffusers")
PRECISIONS = ["fp32", "bf16"]
SLOW = 20  # seconds of a run: compiling mends nothing, and a first run that slow counts as it is
TOLERANCE = {"fp32": {"loss": 1e-4, "gradient": 1e-3}, "bf16": {"loss": 5e-3, "gradient": 2e-2}}


# ---- the same numbers ------------------------------------------------------------------------------------------------

def relative(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def errors_of(found, expected):
    """Of the loss, and of all gradients as one vector."""
    names = sorted(set(expected) - {"loss"})
    whole = [np.concatenate([side[name].ravel().astype(np.float64) for name in names]) for side in (found, expected)]
    return {"loss": relative(found["loss"], expected["loss"].reshape(found["loss"].shape)), "gradient": relative(*whole)}


def check(results, size, kind):
    """Both compute the same loss and the same gradient from the same file. Raises where they do not."""
    model, n, s = model_path(size, kind), 4, SIZES[size]
    random = np.random.default_rng(0)
    shape = (n, s["channels"], sides.IMAGE_SIZE, sides.IMAGE_SIZE)
    given = {"x0": (random.integers(0, 256, shape) / 127.5 - 1).astype(np.float32),
             "noise": random.standard_normal(shape).astype(np.float32),
             "t": np.array([0, 999, 500, 17]), "y": np.array([1, s["classes"], 0, 1])}
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
        save_file(given, source)

        def peer(form):
            sides.peer_run("grad", model, "--form", form, "--input", source, "-o", target)
            return load_file(target)

        expected, *others = [peer(form) for form in TRAINING_FORMS[kind]]
        errors = {f"peer, {form}": errors_of(found, expected) for form, found in zip(TRAINING_FORMS[kind][1:], others)}
        for precision in PRECISIONS:
            kindit_run("debug", "grad", model, "--input", source, "-o", target, *precision_flag(precision))
            errors[f"kindit, {precision}"] = errors_of(load_file(target), expected)
    for who, error in errors.items():
        allowed = TOLERANCE["bf16" if "bf16" in who else "fp32"]
        if not all(error[what] <= allowed[what] for what in allowed):
            raise RuntimeError(f"{size} {kind}: {who} differs from the peer: {error}, allowed {allowed}")
    results.keep("check", kind, size, "", errors=errors)


# ---- times -----------------------------------------------------------------------------------------------------------

def median(values):
    return statistics.median(values) if values else None


def try_out(task, model, arguments, name, found):
    """The seconds of one formulation into found[name]; one that takes too long, or does not compile, is left out."""
    try:
        with sides.Peer(task, model, *arguments) as peer:
            found[name] = peer.first if peer.first > SLOW and not peer.compiles else min(peer.run(3))
    except TimeLimit:
        found[name] = float("inf")
    except RuntimeError as error:
        if "--compile" not in arguments:
            raise
        print(f"    {name}: {error}", flush=True)
        found[name] = float("inf")
    print(f"    {name}: {1e3 * found[name]:.0f} ms", flush=True)


def choose(task, model, forms, arguments, compiled=2):
    """(the fastest formulation's arguments, its name, the seconds of all). `compiled`: so many are compiled as well."""
    found, options = {}, {}
    for form in forms:
        options[form] = ["--form", form, *arguments]
        try_out(task, model, options[form], form, found)
    for form in sorted(found, key=found.get)[: 0 if min(found.values()) > SLOW else compiled]:
        if form != "diffusers":
            name = form + ", compiled"
            options[name] = options[form] + ["--compile"]
            try_out(task, model, options[name], name, found)
    best = min(found, key=found.get)
    return options[best], best, found


def in_turns(kindit, task, model, chosen, seconds, turns, n):
    """The seconds that each side takes. kindit(n) and the peer's worker run one after the other, `turns` times."""
    if seconds == float("inf"):
        return [kindit(n) for _ in range(3)], []
    if seconds > SLOW / n:
        turns, n = 3, 1
    ours, theirs = [], []
    with sides.Peer(task, model, *chosen) as peer:
        for _ in range(turns):
            ours.append(kindit(n))
            theirs.append(median(peer.run(n)))
    return ours, theirs


def keep_times(results, what, kind, size, precision, tried, best, ours, theirs, **values):
    finite = {name: seconds for name, seconds in tried.items() if seconds != float("inf")}
    results.keep(what, kind, size, precision, kindit=median(ours), peer=median(theirs), form=best,
                 peer_at_least=None if theirs else sides.LIMIT, tried=finite, kindit_turns=ours, peer_turns=theirs,
                 **values)


def forms_tried(forms, precision, size):
    """bf16 without bf16 instructions takes the peer minutes a step: beyond the small size one formulation must do."""
    return forms[:1] if precision == "bf16" and size != "small" and not sides.HAS_BF16 else forms


def train(results, size, kind, precision):
    s, model = SIZES[size], model_path(size, kind)
    arguments = ["--batch", s["batch"], *precision_flag(precision)]
    chosen, best, tried = choose("step", model, forms_tried(TRAINING_FORMS[kind], precision, size), arguments)
    bench, last = sides.bench_arguments(size, kind, precision), {}

    def kindit(n):
        last.update(kindit_json("bench", *bench, "--steps", n))
        return last["step_seconds"]

    ours, theirs = in_turns(kindit, "step", model, chosen, tried[best], s["turns"], s["steps"])
    flops = last["gflops"] * last["step_seconds"]
    keep_times(results, "training step", kind, size, precision, tried, best, ours, theirs, gflop=flops,
               peak_gflops=last["peak_gflops"], command="kindit bench " + " ".join(map(str, bench)))


def draw(results, size, precision, batch):
    s, model = SIZES[size], model_path(size, "kind")
    steps = s["drawing"][batch] if precision == "fp32" or sides.HAS_BF16 else 2
    arguments = ["--batch", batch, "--steps", steps, *precision_flag(precision)]
    chosen, best, tried = choose("sample", model, forms_tried(DRAWING_FORMS, precision, size), arguments)
    batches = max(1, min(8, round(1 / tried[best])))  # in a second or less, the first of which meets new memory
    with tempfile.TemporaryDirectory() as folder:
        command = ["sample", model, "--classes", "class-0", "--n", batch * batches, "--batch", batch, "--sampler", "ddim",
                   "--steps", steps, "--cfg", 1.5, *precision_flag(precision), "-o", os.path.join(folder, "x.npy")]

        def kindit(n):
            return median([kindit_json(*command)["seconds"] / batches for _ in range(n)])

        ours, theirs = in_turns(kindit, "sample", model, chosen, tried[best], s["turns"], 1)
    keep_times(results, f"drawing {batch}", "kind", size, precision, tried, best, ours, theirs, steps=steps)


def memory(results, size, kind, precision):
    """Of one training step: a whole process's, on either side; then with blocks computed again in backward."""
    s, model = SIZES[size], model_path(size, kind)
    for what, ours, theirs in (("memory", [], []), ("memory, recomputing", ["--recompute"], ["--checkpoint"])):
        found = {}
        for form in TRAINING_FORMS[kind]:
            out = sides.peer_run("memory", model, "--form", form, "--batch", s["batch"], *theirs,
                                 *precision_flag(precision))
            found[form] = json.loads(out)
        best = min(found, key=lambda form: found[form]["peak"])
        bench = sides.bench_arguments(size, kind, precision)
        results.keep(what, kind, size, precision, form=best, peer=found[best]["peak"], tried=found,
                     kindit=sides.kindit_peak_memory("bench", *bench, *ours, "--steps", 1))


def classes(results, size, precision):
    """kindit alone: a step with 10 classes in the model, and with 1000."""
    turns = {10: [], 1000: []}
    for _ in range(SIZES[size]["turns"]):
        for n, seconds in turns.items():
            bench = sides.bench_arguments(size, "kind", precision, n)
            seconds.append(kindit_json("bench", *bench, "--steps", SIZES[size]["steps"])["step_seconds"])
    results.keep("1000 classes", "kind", size, precision, kindit=median(turns[1000]), peer=median(turns[10]),
                 form="kindit, 10 classes", turns=turns)


def first_image(results):
    """From a cold start: kindit's whole command; Python's until the weights are loaded, and whole."""
    ours, loaded, theirs = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "image.png")
        for _ in range(7):
            begin = time.perf_counter()
            kindit_run("sample", LETTERS, "--classes", "A", "--n", 1, "--sampler", "ddim", "--steps", 25, "-o", image)
            ours.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            with subprocess.Popen(sides.peer_command("first", LETTERS, "--steps", 25, "-o", image),
                                  stdout=subprocess.PIPE) as process:
                process.stdout.readline()
                loaded.append(time.perf_counter() - begin)
            theirs.append(time.perf_counter() - begin)
    results.keep("first image", "kind", "letters", "fp32", kindit=median(ours), peer=median(loaded),
                 form="import and load alone", peer_whole=median(theirs), kindit_turns=ours, peer_turns=loaded)


# ---- all of it -------------------------------------------------------------------------------------------------------

def drawings(results, size):
    for precision in PRECISIONS:
        for batch in SIZES[size]["drawing"]:
            draw(results, size, precision, batch)


def each(measure):
    return lambda results, size: [measure(results, size, kind, precision) for kind in TRAINING_FORMS
                                  for precision in PRECISIONS]


PARTS = {
    "check": lambda results, size: [check(results, size, kind) for kind in TRAINING_FORMS],
    "train": each(train),
    "draw": drawings,
    "memory": each(memory),
    "classes": lambda results, size: size == "small" and [classes(results, size, p) for p in PRECISIONS],
    "start": lambda results, size: size == "small" and first_image(results),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("sizes", nargs="*", default=list(SIZES), help="small, s, b (default: all)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts: " + ",".join(PARTS))
    parser.add_argument("--precision", choices=PRECISIONS, help="this one alone")
    parser.add_argument("--results", default=os.path.join(sides.HERE, "results"))
    options = parser.parse_args()
    parts = options.only.split(",")
    if not set(options.sizes) <= set(SIZES) or not set(parts) <= set(PARTS):
        parser.error(f"sizes are {', '.join(SIZES)}; parts are {', '.join(PARTS)}")
    if options.precision:
        PRECISIONS[:] = [options.precision]
    results = report.Results(options.results, sides.KINDIT)
    for size in options.sizes:
        for part in PARTS:
            if part in parts:
                PARTS[part](results, size)
                results.draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
