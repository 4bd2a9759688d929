"""Frozen networks beside PyTorch on the same images: throughput of kindit and of the program that people run otherwise.

  vision.py KINDIT [--batch N] [--turns N] [--compile] [NETWORK...]     networks: inception vits14 vitb14 vitl14

Random weights; first both sides' features are compared (the run stops where they differ by 1e-4), then each runs the batch in
turns and medians are printed. PyTorch is tried in both memory layouts, with --compile also compiled; the fastest counts.
Inception-v3 is pytorch-fid's, DINOv2 is transformers' Dinov2Model with its fastest attention.
"""
import argparse
import os
import statistics
import subprocess
import tempfile
import time
import unittest.mock

import numpy as np
import pytorch_fid.inception
import torch
import transformers
from safetensors.numpy import load_file
from safetensors.torch import save_file

torch.set_grad_enabled(False)
VITS = {"vits14": (384, 12), "vitb14": (768, 12), "vitl14": (1024, 24)}


def spread(network):
    """Weights that keep activations near 1, statistics of norms too."""
    for name, tensor in network.state_dict().items():
        if tensor.dtype != torch.float32:
            continue
        if name.endswith(("running_var", "norm1.weight", "norm2.weight", "bn.weight", "layernorm.weight")):
            tensor.uniform_(0.6, 1.4)
        elif "lambda1" in name:
            tensor.uniform_(0.05, 0.3)
        elif tensor.dim() in (2, 4) and "token" not in name:
            bound = (6 / tensor[0].numel()) ** 0.5
            tensor.uniform_(-bound, bound)
        else:
            tensor.uniform_(-0.2, 0.2)
    return network.eval()


def make_inception(folder):
    with (unittest.mock.patch("pytorch_fid.inception.load_state_dict_from_url"),
          unittest.mock.patch("torchvision.models.inception.Inception3.load_state_dict")):  # nothing is downloaded
        full = spread(pytorch_fid.inception.fid_inception_v3())
    full.transform_input = False
    save_file(full.state_dict(), os.path.join(folder, "weights.safetensors"))
    full.fc = torch.nn.Identity()  # the features
    return full, 299


def make_vit(folder, name):
    width, depth = VITS[name]
    config = transformers.Dinov2Config(hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 64,
                                       patch_size=14, image_size=518, attn_implementation="sdpa")
    network = spread(transformers.Dinov2Model(config))
    network.save_pretrained(folder)
    os.rename(os.path.join(folder, "model.safetensors"), os.path.join(folder, "weights.safetensors"))
    return (lambda x: network(x).pooler_output), 224


class Peer:
    """PyTorch in its formulations, of which the fastest is timed."""

    def __init__(self, run, images, options):
        self.images = images
        layouts = [images, images.to(memory_format=torch.channels_last)]
        forms = [(run, x) for x in layouts]
        if options.compile:
            forms += [(torch.compile(run), x) for x in layouts]
        self.forms = sorted(forms, key=lambda form: (self.seconds(form), self.seconds(form))[1])[:1]

    def seconds(self, form):
        run, x = form
        begin = time.perf_counter()
        with torch.inference_mode():
            self.features = run(x)
        return time.perf_counter() - begin

    def rate(self):
        return len(self.images) / self.seconds(self.forms[0])


def run_kindit(options, folder, times):
    command = [options.kindit, "debug", "features", f"{folder}/weights.safetensors", "--input", f"{folder}/images.safetensors",
               "-o", f"{folder}/features.safetensors", "--times", str(times), "--threads", str(options.threads)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    return [float(line.split()[0]) for line in lines if line.endswith("images/s")]


def compare(options, name):
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        run, size = make_inception(folder) if name == "inception" else make_vit(folder, name)
        images = torch.rand(options.batch, 3, size, size) * 2 - 1
        save_file({"images": images}, f"{folder}/images.safetensors")
        peer = Peer(run, images, options)
        rates = {"kindit": [], "PyTorch": []}
        for _ in range(options.turns):
            rates["kindit"] += run_kindit(options, folder, 1)
            rates["PyTorch"].append(peer.rate())
        ours = load_file(f"{folder}/features.safetensors")["features"]
    theirs = peer.features.numpy()
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    if not error < 1e-4:
        raise SystemExit(f"{name}: features differ by {error:.2g} of the largest")
    mine, other = (statistics.median(rates[side]) for side in ("kindit", "PyTorch"))
    print(f"{name:10} batch {options.batch}: kindit {mine:7.2f} images/s, PyTorch {other:7.2f} images/s, {mine / other:.2f} times; "
          f"features agree to {error:.1g}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kindit")
    parser.add_argument("networks", nargs="*", default=["inception", "vits14", "vitb14", "vitl14"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    print(f"PyTorch {torch.__version__}, {options.threads} threads")
    for name in options.networks:
        compare(options, name)


if __name__ == "__main__":
    main()
