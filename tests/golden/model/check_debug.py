"""Checks `kindit debug forward` and `kindit debug grad` against kind_dit.py, for any model file.

    python tests/golden/model/check_debug.py MODEL [--kindit build/kindit] [--samples 6] [--seed 0]

MODEL is a folder with config.json and model.safetensors, or one .safetensors file. Draws random inputs with mixed labels
(the null label among them), runs both programs and prints the worst relative L2 error of the output, the losses and each
gradient. Exit code 1 when one is above its tolerance. Needs torch and safetensors (versions: see make.py).
"""
import argparse
import os
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import diffusion
import kind_dit

# Single precision against double; the errors of a deep model add up.
TOLERANCE = {"out": 1e-4, "loss": 1e-4, "mse": 1e-4, "vlb": 1e-4, "gradients": 1e-3}


def kindit_run(arguments, tensors):
    """What `kindit debug ...` writes for these tensors, as float64."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, source)
        subprocess.run([*arguments, "--input", source, "-o", target], check=True, stdout=subprocess.DEVNULL)
        return {name: tensor.double() for name, tensor in load_file(target).items()}


def inputs_make(config, n, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (n, config["channels"], config["image_size"], config["image_size"])
    x, noise = (torch.randn(shape, generator=generator) for _ in range(2))
    x0 = torch.randint(0, 256, shape, generator=generator) / 127.5 - 1
    t = torch.randint(0, steps, (n,), generator=generator)
    t[0] = 0  # the decoder's term
    y = torch.randint(0, kind_dit.n_classes(config) + 1, (n,), generator=generator)
    y[-1] = kind_dit.n_classes(config)
    return x, x0, noise, t, y


def oracle_run(config, params, schedule, x, x0, noise, t, y):
    """The same results by name, and the gradients apart."""
    with torch.no_grad():
        results = {"out": kind_dit.forward(config, params, x.double(), t, y)}
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    results["mse"], vlb = diffusion.loss_terms(
        schedule, lambda z, s: kind_dit.forward(config, leaves, z, s, y), x0.double(), noise.double(), t,
        config["learn_sigma"])
    if vlb is not None:
        results["vlb"] = vlb
    results["loss"] = (results["mse"] + (vlb if vlb is not None else 0)).mean()
    results["loss"].backward()
    return {name: tensor.detach() for name, tensor in results.items()}, {n: leaf.grad for n, leaf in leaves.items()}


def gradient_errors(found, expected):
    """Relative error of each tensor; where the oracle has zero (key biases), relative to the whole gradient."""
    whole = torch.sqrt(sum((g**2).sum() for g in expected.values()))
    errors = {}
    for name, gradient in expected.items():
        scale = gradient.norm() if gradient.norm() > 1e-12 * whole else whole
        errors[name] = ((found[name] - gradient).norm() / scale).item()
    return errors


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--kindit", default="build/kindit")
    parser.add_argument("--samples", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    config, params = kind_dit.load(options.model)
    training = config.get("training", {})
    schedule = diffusion.Schedule(diffusion.betas_linear(
        training.get("diffusion_steps", 1000), training.get("beta_first", 1e-4), training.get("beta_last", 0.02)))
    x, x0, noise, t, y = inputs_make(config, options.samples, len(schedule.beta), options.seed)
    results, gradients = oracle_run(config, params, schedule, x, x0, noise, t, y)
    found = kindit_run([options.kindit, "debug", "forward", options.model], {"x": x, "t": t, "y": y})
    found |= kindit_run([options.kindit, "debug", "grad", options.model], {"x0": x0, "noise": noise, "t": t, "y": y})
    if found.keys() != results.keys() | gradients.keys():
        sys.exit(f"other tensors than expected: {sorted(found.keys() ^ (results.keys() | gradients.keys()))}")

    errors = {name: ((found[name] - value).norm() / value.norm()).item() for name, value in results.items()}
    by_tensor = gradient_errors(found, gradients)
    worst = max(by_tensor, key=by_tensor.get)
    errors["gradients"] = by_tensor[worst]
    for name, error in errors.items():
        note = f"   worst of {len(by_tensor)}: {worst}" if name == "gradients" else ""
        print(f"{name:<10} {error:.2e}   allowed {TOLERANCE[name]:.0e}{note}")
    return 0 if all(error <= TOLERANCE[name] for name, error in errors.items()) else 1  # NaN fails


if __name__ == "__main__":
    sys.exit(main())
