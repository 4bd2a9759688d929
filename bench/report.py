"""The results of compare.py: kept as JSON, drawn as a table (compare.md) and a plot (compare.png)."""
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZE_NAMES = {
    "small": "width 192, depth 6, 64 tokens, batch 64", "s": "DiT-S/2, 256 tokens, batch 16",
    "b": "DiT-B/2, 256 tokens, batch 8", "letters": "models/letters.safetensors",
}
# how many times better kindit must be
TARGETS = {("training step", "kind"): 2.5, ("training step", "dense"): 1.5, "drawing 1": 2.5, "drawing 16": 2.5,
           "memory": 3.0, "first image": 20.0}
ORDER = ["training step", "drawing 1", "drawing 16", "memory", "memory, recomputing", "first image", "1000 classes"]
RATES = ("training step", "drawing 1", "drawing 16")


def machine(kindit):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        info = [line.split(":", 1)[1].strip() for line in file if line.startswith(("model name", "flags"))]
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in info[1].split()]
    version = subprocess.run([kindit, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return {"cpu": info[0], "cores": len(os.sched_getaffinity(0)), "instructions": flags, "kernel": platform.release(),
            "kindit": version, "python": platform.python_version(),
            "peer": {name: importlib.metadata.version(name) for name in ("torch", "diffusers", "peft")}}


class Results:
    """compare.json of a folder: what was measured before, and what is measured now."""

    def __init__(self, folder, kindit):
        self.folder, self.machine, self.entries = folder, machine(kindit), {}
        os.makedirs(folder, exist_ok=True)
        if os.path.exists(self.path("json")):
            with open(self.path("json"), encoding="utf-8") as file:
                self.entries = json.load(file)["entries"]

    def path(self, extension):
        return os.path.join(self.folder, "compare." + extension)

    def keep(self, what, kind, size, precision, **values):
        entry = {"what": what, "kind": kind, "size": size, "precision": precision,
                 "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")} | values
        self.entries["/".join((what, kind, size, precision))] = entry
        with open(self.path("tmp"), "w", encoding="utf-8") as file:
            json.dump({"machine": self.machine, "entries": self.entries}, file, indent=1)
        os.replace(self.path("tmp"), self.path("json"))
        print(json.dumps({key: value for key, value in entry.items() if not isinstance(value, (dict, list))}),
              flush=True)

    def ordered(self):
        rows = [entry for entry in self.entries.values() if entry["what"] in ORDER]
        sizes = list(SIZE_NAMES)
        return sorted(rows, key=lambda e: (ORDER.index(e["what"]), e["kind"] != "kind", sizes.index(e["size"]),
                                           e["precision"] == "bf16"))

    def draw(self):
        rows = self.ordered()
        with open(self.path("md"), "w", encoding="utf-8") as file:
            file.write(table(self.machine, rows, [e for e in self.entries.values() if e["what"] == "check"]))
        if any(row["what"] == "training step" for row in rows):
            plot(self.machine, rows, self.path("png"))


def value_of(entry, value):
    if value is None:
        return f"> {entry['peer_at_least']} s"
    if entry["what"].startswith("memory"):
        return f"{value / 1e6:.0f} MB"
    return f"{1e3 * value:.0f} ms" if value < 10 else f"{value:.1f} s"


def ratio_of(entry):
    """(how many times better kindit is, whether that is only a lower bound)."""
    return (entry["peer"] or entry["peer_at_least"]) / entry["kindit"], entry["peer"] is None


def target_of(entry):
    return TARGETS.get((entry["what"], entry["kind"]), TARGETS.get(entry["what"]))


def verdict(entry):
    """(ratio, target, met?)"""
    ratio, bound = ratio_of(entry)
    if entry["what"] == "1000 classes":
        return f"{1 / ratio:.3f}", "at most 1.05", "yes" if 1 / ratio <= 1.05 else "no"
    target = target_of(entry)
    shown = f"{'> ' if bound else ''}{ratio:.1f}" if ratio >= 10 else f"{'> ' if bound else ''}{ratio:.2f}"
    if target is None:
        return shown, "", ""
    return shown, f"{target:g}", "yes" if ratio >= target else "**no**"


def name_of(entry):
    what = entry["what"]
    if what == "training step" or what.startswith("memory"):
        what = ("KIND " if entry["kind"] == "kind" else "plain DiT ") + what
    if what.startswith("drawing"):
        what = f"{what.replace('drawing', 'sampling, batch')}, guidance 1.5, {entry['steps']} steps"
    return what


def against_fp32(entry, rows):
    """A bf16 row's ratio to PyTorch in fp32, which is the faster where there are no bf16 instructions."""
    single = [row for row in rows if row["precision"] == "fp32" and row["peer"]
              and all(row[key] == entry[key] for key in ("what", "kind", "size"))]
    if entry["precision"] != "bf16" or not single or entry["what"] not in RATES:
        return ""
    work = entry.get("steps", 1) / single[0].get("steps", 1)
    return f"{work * single[0]['peer'] / entry['kindit']:.2f}"


def share(entry, seconds):
    """GFLOP/s of the step's useful work."""
    return f"{entry['gflop'] / seconds:.0f}" if seconds and "gflop" in entry else ""


def table(host, rows, checks):
    lines = ["# kindit beside PyTorch", "",
             f"{host['cpu']}, {host['cores']} cores ({', '.join(host['instructions'])}), Linux {host['kernel']}; "
             f"{host['kindit']}; PyTorch {host['peer']['torch']}, diffusers {host['peer']['diffusers']}, "
             f"Python {host['python']}; as many threads as cores on both sides. Made by `bench/compare.sh`.", "",
             "Medians of turns taken one after the other; the peer is the fastest of its formulations, eager or compiled.",
             "", "| what | size | precision | kindit | PyTorch | its best | times | target | met | times PyTorch's "
             "fp32 | GFLOP/s, kindit | GFLOP/s, PyTorch | date |", "|" + "---|" * 13]
    for entry in rows:
        cells = [name_of(entry), SIZE_NAMES[entry["size"]], entry["precision"], value_of(entry, entry["kindit"]),
                 value_of(entry, entry["peer"]), entry["form"], *verdict(entry), against_fp32(entry, rows),
                 share(entry, entry["kindit"]), share(entry, entry["peer"]), entry["date"]]
        lines.append("| " + " | ".join(cells) + " |")
    if checks:
        lines += ["", "The same loss and gradient, relative errors against the peer in fp32:", "",
                  "| model | who | loss | gradient |", "|---|---|---|---|"]
    for entry in checks:
        lines += [f"| {entry['size']} {entry['kind']} | {who} | {e['loss']:.1e} | {e['gradient']:.1e} |"
                  for who, e in entry["errors"].items()]
    return "\n".join(lines) + "\n"


def plot(host, rows, path):
    """A bar for each ratio, with its target."""
    rows = [row for row in rows if target_of(row)]
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(rows) + 1.4), layout="constrained")
    for y, row in enumerate(rows):
        ratio, bound = ratio_of(row)
        met = ratio >= target_of(row)
        axes.barh(y, ratio, color="#3b7a57" if met else "#b5523b", height=0.7)
        axes.plot([target_of(row)] * 2, [y - 0.45, y + 0.45], color="black", linewidth=1.5)
        axes.text(ratio * 1.05, y, f"{'> ' if bound else ''}{ratio:.1f}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{name_of(r)}, {r['size']}, {r['precision']}" for r in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, axes.get_xlim()[0]), axes.get_xlim()[1] * 1.5)
    axes.set_xlabel("times as fast (memory: times less) as PyTorch; black: the target")
    axes.set_title(f"{host['cpu']}, {host['cores']} cores; PyTorch {host['peer']['torch']}; {rows[-1]['date']}",
                   fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
