"""Holds what `kindit export --to peft` writes to the programs that it is written for: diffusers loads base/transformer,
peft the adapter, and both together must compute what the model itself computes.

    pip install torch diffusers peft safetensors
    python tests/golden/adapt/check_peft.py [--kindit build/kindit]

For each golden model with an adapter that peft has: PeftModel in float64 against `kindit debug forward` (float32), 1e-5.
The models are given diffusers' time frequencies first (time_shift 1), which an export would otherwise have to fit.
"""
import argparse
import json
import os
import shutil
import subprocess
import tempfile

import torch
from diffusers import DiTTransformer2DModel
from peft import PeftModel
from safetensors.torch import load_file

from make_peft import DoubleTimesteps

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = ["lora", "pissa", "dora", "loha", "oft_exact", "oft_neumann"]


def check(kindit, name, scratch):
    model, exported, out = (os.path.join(scratch, name + end) for end in ("", "-peft", "-out.safetensors"))
    shutil.copytree(os.path.join(HERE, name), model)
    with open(os.path.join(model, "config.json"), encoding="utf-8") as file:
        config = dict(json.load(file), time_shift=1)
    with open(os.path.join(model, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file)
    io = os.path.join(model, "io.safetensors")
    for command in (["export", model, "--to", "peft", "-o", exported], ["debug", "forward", model, "--input", io, "-o", out]):
        subprocess.run([kindit, *command], check=True, stdout=subprocess.DEVNULL)
    base = DiTTransformer2DModel.from_pretrained(os.path.join(exported, "base", "transformer"))
    peft = PeftModel.from_pretrained(base, exported).double().eval()
    for block in peft.base_model.model.transformer_blocks:
        block.norm1.emb.time_proj = DoubleTimesteps()
    io = load_file(io)
    y = torch.where(io["y"] == len(config["classes"]), 1000, io["y"])
    with torch.no_grad():
        theirs = peft(io["x"].double(), timestep=io["t"], class_labels=y).sample
    ours = load_file(out)["out"].double()
    error = ((theirs - ours).norm() / ours.norm()).item()
    print(f"{name:<12} {error:.2e}   allowed 1e-05")
    return error <= 1e-5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kindit", default="build/kindit")
    kindit = os.path.abspath(parser.parse_args().kindit)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if not all([check(kindit, name, scratch) for name in CASES]):
            raise SystemExit("an export computes something else")


if __name__ == "__main__":
    main()
