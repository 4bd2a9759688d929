"""The two sides of the comparison, each a process, and the sizes that they are compared at."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
KINDIT = os.environ.get("KINDIT", os.path.join(ROOT, "build", "kindit"))
MODELS = os.path.join(ROOT, "build", "compare")
LETTERS = os.path.join(ROOT, "models", "letters.safetensors")

with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
    HAS_BF16 = bool(set(cpuinfo.read().split()) & {"avx512_bf16", "amx_bf16"})

# batch of a training step, pairs of turns (kindit, peer) and steps in a turn; DDIM steps of a drawing by its batch
SIZES = {
    "small": {"width": 192, "depth": 6, "heads": 6, "patch": 4, "channels": 1, "n_learngene": 80, "n_tailor": 2,
              "classes": 10, "batch": 64, "turns": 7, "steps": 5, "drawing": {1: 25, 16: 25}},
    "s": {"width": 384, "depth": 12, "heads": 6, "patch": 2, "channels": 4, "n_learngene": 159, "n_tailor": 2,
          "classes": 150, "batch": 16, "turns": 5, "steps": 2, "drawing": {1: 25, 16: 5}},
    "b": {"width": 768, "depth": 12, "heads": 12, "patch": 2, "channels": 4, "n_learngene": 318, "n_tailor": 3,
          "classes": 150, "batch": 8, "turns": 3, "steps": 1, "drawing": {1: 10, 16: 2}},
}
IMAGE_SIZE = 32

# As many threads as processors that may be used, on both sides: kindit would follow another wish, the peer would not.
os.environ["OMP_NUM_THREADS"] = str(len(os.sched_getaffinity(0)))
# And both wait for each other's threads as GNU's OpenMP does by itself: kindit would sleep sooner, for other programs' sake.
os.environ.setdefault("GOMP_SPINCOUNT", "300000")

# What a tuned PyTorch on a CPU runs with: huge pages, and memory kept instead of given back after every step.
TUNED = {"THP_MEM_ALLOC_ENABLE": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
LIMIT = 120     # seconds given to one run of the peer
COMPILING = 900  # and to the first one when it compiles


class TimeLimit(Exception):
    """The peer took longer than it was given."""


def precision_flag(precision):
    return ["--bf16"] if precision == "bf16" else []


def bench_arguments(size, kind, precision, classes=None):
    """Of `kindit bench`, apart from how long."""
    s = SIZES[size]
    arguments = [x for key in ("width", "depth", "heads", "patch", "channels", "batch") for x in ("--" + key, s[key])]
    arguments += ["--image-size", IMAGE_SIZE, "--n-classes", classes or s["classes"], *precision_flag(precision)]
    if kind == "dense":
        return arguments + ["--kind", "off"]
    return arguments + ["--n-learngene", s["n_learngene"], "--n-tailor", s["n_tailor"]]


def kindit_run(*arguments):
    subprocess.run([KINDIT, *map(str, arguments), "--quiet"], check=True, stdout=subprocess.DEVNULL)


def kindit_json(*arguments):
    done = subprocess.run([KINDIT, *map(str, arguments), "--json", "--quiet"], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


# A process counts as its own what was resident in the one that started it, and this one holds gradients: a small one
# starts it.
MEASURE = ("import os, subprocess, sys; process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); "
           "_pid, status, usage = os.wait4(process.pid, 0); print(1024 * usage.ru_maxrss); sys.exit(status != 0)")


def kindit_peak_memory(*arguments):
    """Bytes, the most that the process had resident."""
    command = [sys.executable, "-c", MEASURE, KINDIT, *map(str, arguments), "--quiet"]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def peer_command(task, model, *arguments):
    return [sys.executable, os.path.join(HERE, "peer.py"), task, model, *map(str, arguments)]


def peer_run(task, model, *arguments):
    """Its output. No tuning: what memory it takes is measured as anyone would start it."""
    return subprocess.run(peer_command(task, model, *arguments), check=True, stdout=subprocess.PIPE, text=True).stdout


class Peer:
    """A worker of peer.py that stays; run(n) gives the seconds of n runs. Sleeps in between."""

    def __init__(self, task, model, *arguments):
        self.errors = tempfile.TemporaryFile("w+")
        self.compiles = "--compile" in arguments
        self.process = subprocess.Popen(peer_command(task, model, *arguments), stdin=subprocess.PIPE, text=True,
                                        stdout=subprocess.PIPE, stderr=self.errors, env=os.environ | TUNED,
                                        start_new_session=True)

    def __enter__(self):
        try:
            self.first = self.read(COMPILING if self.compiles else LIMIT)["first"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            file.close()

    def kill(self):
        """With the compilers that it started, which would hold its pipes open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def read(self, limit):
        timer, begin = threading.Timer(limit, self.kill), time.monotonic()
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line and time.monotonic() - begin >= limit:
            raise TimeLimit
        if not line:
            self.errors.seek(0)
            raise RuntimeError("the peer failed:\n" + self.errors.read()[-2000:])
        return json.loads(line)

    def run(self, n):
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return self.read(n * LIMIT)


def model_path(size, kind):
    """A model of random weights that both sides read, made when it is not there."""
    path = os.path.join(MODELS, f"{size}-{kind}")
    if not os.path.exists(os.path.join(path, "config.json")):
        s, factored = SIZES[size], kind == "kind"
        config = {"format": 1, "kind": kind, "image_size": IMAGE_SIZE, "mlp_ratio": 4, "learn_sigma": True,
                  "fused_qkv": False, "factor_adaln": False}
        config |= {key: s[key] for key in ("channels", "patch", "width", "depth", "heads")}
        config |= {key: s[key] if factored else 0 for key in ("n_learngene", "n_tailor")}
        config["classes"] = [{"id": f"class-{i}", "name": f"class {i}"} for i in range(s["classes"])]
        os.makedirs(MODELS, exist_ok=True)
        with open(path + ".json", "w", encoding="utf-8") as file:
            json.dump(config, file)
        peer_run("make", path + ".json", "-o", path)
    return path
