"""Holds what `kindit export` writes to the programs that it is written for: the original DiT's structure (original_dit.py,
strict names) and diffusers' own DiTPipeline load it and must compute what the model itself computes.

    pip install torch diffusers safetensors
    python tests/golden/exchange/check_export.py [--kindit build/kindit] [MODEL]

For each class asked for, and the learngene:
  dit         original DiT, float64, against kind_dit.py (float64) of the whole model: 1e-7, the rounding of merged weights
  diffusers   DiTTransformer2DModel, float64, against the same: 5e-2, what the time fit leaves; and against kindit's own forward of
              the exported folder, imported again, 2e-5: diffusers rounds its time features to float32
  pipeline    DiTPipeline(guidance 1, DDIM 10 steps) against the same steps by hand with kindit's own numbers
Then, for the first class, what the time fit leaves and what copied weights would: the largest relative error of an
embedding over the timesteps 0 .. 999, and the outputs' error at some of them. The output of the last run is
check_export.txt, as it was printed.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

import torch
from diffusers import DiTPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import original_dit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "model"))
import kind_dit  # noqa: E402

failed = []


def report(what, found, expected, tolerance):
    error = ((found.double() - expected.double()).norm() / expected.double().norm()).item()
    print(f"{what:<44} {error:.2e}   allowed {tolerance:.0e}")
    if not error <= tolerance:
        failed.append(what)


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def load_dit(path):
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["kindit_source"])
    model = original_dit.DiT(config["image_size"], config["patch"], config["channels"], config["width"],
                             config["depth"], config["heads"], config["mlp_ratio"], len(config["classes"]),
                             config["learn_sigma"])
    model.load_state_dict(load_file(path), strict=True)
    return model.double().eval()


class Pixels(torch.nn.Module):
    """What stands in for the vae of a model that draws pixels."""

    device, dtype = torch.device("cpu"), torch.float32

    class config:
        scaling_factor = 1

    def decode(self, x):
        return argparse.Namespace(sample=x)


def kindit_forward(kindit, folder, model, x, t, y):
    source, result = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
    save_file({"x": x.float(), "t": t, "y": y}, source)
    run(kindit, "debug", "forward", model, "--input", source, "-o", result)
    return load_file(result)["out"]


def ddim(scheduler, model, x, steps):
    """The pipeline's loop with another model: epsilon is the first half of what it gives."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t)[:, :x.shape[1]], t, x).prev_sample
    return x


def check(kindit, model, config, params, which, folder):
    dit, pipe = os.path.join(folder, f"{which}.safetensors"), os.path.join(folder, which)
    again = os.path.join(folder, f"{which}-again.safetensors")
    choice = ["--learngene"] if which == "learngene" else ["--class", which]
    run(kindit, "export", model, *choice, "--to", "dit", "-o", dit)
    run(kindit, "export", model, *choice, "--to", "diffusers", "-o", pipe)
    run(kindit, "import", pipe, "-o", again)

    ids = [c["id"] for c in config["classes"]]
    label = len(ids) if which == "learngene" else ids.index(which)
    generator = torch.Generator().manual_seed(1)
    size, n = config["image_size"], 4
    x = torch.randn(n, config["channels"], size, size, generator=generator).double()
    t = torch.tensor([0, 999, 500, 17])
    expected = kind_dit.forward(config, params, x, t, torch.full((n,), label))
    zero = torch.zeros(n, dtype=torch.long)  # the class of a merged one; the null label of a learngene
    with torch.no_grad():
        report(f"{which}: original DiT", load_dit(dit)(x, t, zero), expected, 1e-7)
        pipeline = DiTPipeline.from_pretrained(pipe, vae=None)
        pipeline.register_modules(vae=Pixels())
        pipeline.set_progress_bar_config(disable=True)
        theirs = pipeline.transformer.double()(x, timestep=t, class_labels=zero).sample
        report(f"{which}: diffusers, after the time fit", theirs, expected, 5e-2)
        report(f"{which}: diffusers, kindit import of it", kindit_forward(kindit, folder, again, x, t, zero), theirs, 2e-5)
        pipeline.transformer.float()
        start = torch.randn(1, config["channels"], size, size, generator=torch.Generator().manual_seed(2))
        images = pipeline(class_labels=[0], guidance_scale=1.0, num_inference_steps=10, output_type="pt",
                          generator=torch.Generator().manual_seed(2)).images
        ours = ddim(pipeline.scheduler, lambda z, time: kindit_forward(kindit, folder, again, z, time[None], zero[:1]),
                    start, 10)
        report(f"{which}: DiTPipeline, 10 DDIM steps", images, (ours / 2 + 0.5).clamp(0, 1), 1e-4)
        if which != "learngene" and pipeline.labels != {config["classes"][label]["name"]: 0}:
            failed.append(f"{which}: labels {pipeline.labels}")


def diffusers_features(t, dtype):
    angle = t.to(dtype)[:, None] * torch.exp(-math.log(10000) * torch.arange(128, dtype=dtype) / 127)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def embed(params, features):
    hidden = kind_dit.silu(kind_dit.linear(params, "t_embedder.mlp.0", features, None))
    return kind_dit.linear(params, "t_embedder.mlp.2", hidden, None)


def fitted_params(params, pipe):
    """The whole model with the time MLP of an exported folder."""
    theirs = load_file(os.path.join(pipe, "transformer", "diffusion_pytorch_model.safetensors"))
    prefix = "transformer_blocks.0.norm1.emb.timestep_embedder."
    return params | {f"t_embedder.mlp.{ours}.{what}": theirs[f"{prefix}{layer}.{what}"].double()
                     for ours, layer in ((0, "linear_1"), (2, "linear_2")) for what in ("weight", "bias")}


def compare_time(config, params, pipe, label):
    times = torch.tensor([0, 5, 17, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999])
    every = torch.arange(1000)
    size = config["image_size"]
    x = torch.randn(len(times), config["channels"], size, size, generator=torch.Generator().manual_seed(1)).double()
    y = torch.full((len(times),), label)
    ours = kind_dit.timestep_features
    wanted, expected = embed(params, ours(every, torch.float64)), kind_dit.forward(config, params, x, times, y)
    print("timesteps           " + " ".join(f"{t:5d}" for t in times.tolist()))
    for what, tried in (("copied", params), ("fitted", fitted_params(params, pipe))):
        found = embed(tried, diffusers_features(every, torch.float64))
        kind_dit.timestep_features = diffusers_features
        outputs = kind_dit.forward(config, tried, x, times, y)
        kind_dit.timestep_features = ours
        worst = ((found - wanted).norm(dim=1) / wanted.norm(dim=1)).max().item()
        errors = ((outputs - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).tolist()
        print(f"{what}: outputs, in %  " + " ".join(f"{100 * e:5.2f}" for e in errors) +
              f"   embedding, largest: {100 * worst:.2f} %")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?", default="models/letters.safetensors")
    parser.add_argument("--kindit", default="build/kindit")
    parser.add_argument("--classes", default="A,K")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config, params = kind_dit.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        for which in options.classes.split(",") + ["learngene"]:
            check(options.kindit, options.model, config, params, which, folder)
        first = options.classes.split(",")[0]
        compare_time(config, params, os.path.join(folder, first), [c["id"] for c in config["classes"]].index(first))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
