"""Inception-v3 in FID's form and DINOv2 with weights made by a formula: what each layer and the whole make of two images. Read by
tests/vision/test_inception.c and test_dinov2.c.

Provenance: the networks are pytorch-fid 0.3.0's (its classes on torchvision 0.29.2), torch-fidelity 0.4.0's for logits, transformers
5.24.0's Dinov2Model, and for the names and positions of the original DINOv2 the code below, which maps them onto
Dinov2Model and scales the table as facebookresearch/dinov2 does (interpolate_pos_encoding, offset 0.1). Weights and images:
uniform.py. Everything is computed in double precision. Written with torch 2.15.0 (CPU).

  NAME.txt          the tensors: name low high n_dims dims...
  NAME.safetensors  layer.<layer> (n_checksums) of image 0, features, spatial, logits (2, ...)
Rerun: python3 tests/golden/vision/make_networks.py
"""
import os
import unittest.mock

import numpy as np
import pytorch_fid.inception
import torch
import torch.nn.functional as F
import torchvision
import transformers
from safetensors.numpy import save_file
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from uniform import checksums, uniform

os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.set_grad_enabled(False)


def fill(network, bounds, file_name=lambda name: name):
    """Gives every tensor its values, by the names that files have; returns the lines of the list."""
    lines, state = [], {}
    for name, tensor in sorted(network.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        shape, in_file = tuple(tensor.shape), file_name(name)
        low, high = bounds(in_file, shape)
        state[name] = torch.from_numpy(uniform(in_file, low, high, shape))
        lines.append(line(in_file, low, high, shape))
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    network.double().eval()
    return lines


def line(name, low, high, shape):
    return f"{name} {low:.17g} {high:.17g} {len(shape)} {' '.join(map(str, shape))}".strip()


def hook(layers, name):
    def keep(module, arguments, out):
        layers[name] = (out[0] if isinstance(out, tuple) else out)[0].numpy()

    return keep


def write(name, lines, layers, outputs):
    with open(f"{name}.txt", "w") as stream:
        stream.write("\n".join(lines) + "\n")
    tensors = {f"layer.{layer}": np.array(checksums(values), np.float64) for layer, values in layers.items()}
    tensors.update({key: np.ascontiguousarray(values, np.float32) for key, values in outputs.items()})
    save_file(tensors, f"{name}.safetensors")
    print(name, len(layers), {key: (values.shape, float(np.std(values))) for key, values in outputs.items()})


def images(size):
    return torch.from_numpy(uniform("images", -1, 1, (2, 3, size, size))).double()


# ---- Inception -------------------------------------------------------------------------------------------------------

def inception_bounds(name, shape):
    if name.endswith("conv.weight"):  # keeps the variance through ReLU
        bound = np.sqrt(6 / np.prod(shape[1:]))
        return -bound, bound
    if name == "fc.weight":
        return -0.1, 0.1
    return {"bn.weight": (0.6, 1.4), "bn.bias": (-0.2, 0.2), "bn.running_mean": (-0.2, 0.2), "bn.running_var": (0.5, 1.5),
            "fc.bias": (-1, 1)}[".".join(name.split(".")[-2:])]


def make_inception():
    with (unittest.mock.patch("pytorch_fid.inception.load_state_dict_from_url"),
          unittest.mock.patch("torchvision.models.inception.Inception3.load_state_dict")):  # nothing is downloaded
        network = pytorch_fid.inception.fid_inception_v3()
    lines = fill(network, inception_bounds)
    layers = {}
    for name, module in network.named_modules():
        if isinstance(module, torchvision.models.inception.BasicConv2d) or name.startswith("Mixed") and "." not in name:
            module.register_forward_hook(hook(layers, name))
    captured = {}
    network.Mixed_6d.branch1x1.register_forward_hook(lambda m, a, out: captured.update(spatial=out))
    network.avgpool.register_forward_hook(lambda m, a, out: captured.update(features=out))
    x = images(299)
    network.transform_input = False
    network(x)
    features = captured["features"].flatten(1)
    logits = features @ network.fc.weight.T
    layers = layers | {"fc": logits[0].numpy()}  # a copy: the hooks will see another image
    spatial = captured["spatial"][:, :7].permute(0, 2, 3, 1).reshape(2, -1)

    # torch-fidelity's own network on the same weights, from which logits_unbiased: both references agree.
    torch.save(network.float().state_dict(), "/tmp/inception-reference.pth")
    other = FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"],
                                        feature_extractor_weights_path="/tmp/inception-reference.pth",
                                        feature_extractor_internal_dtype="float64")
    pixels = torch.from_numpy(np.round(uniform("pixels", 0, 255, (1, 3, 299, 299))).astype(np.uint8))
    theirs = other(pixels)
    network.double()((pixels.double() - 128) / 128)
    ours = captured["features"].flatten(1)
    assert torch.allclose(theirs[0].double(), ours, rtol=1e-5, atol=1e-6), (theirs[0].double() - ours).abs().max()
    assert torch.allclose(theirs[1].double(), ours @ network.fc.weight.T, rtol=1e-4, atol=1e-5)
    os.remove("/tmp/inception-reference.pth")
    write("inception", lines, layers, {"features": features.numpy(), "spatial": spatial.numpy(), "logits": logits.numpy()})


# ---- DINOv2 ----------------------------------------------------------------------------------------------------------

def dinov2_bounds(name, shape):
    if "norm" in name and name.endswith("weight"):
        return 0.5, 1.5
    if name.endswith("lambda1") or name.endswith("gamma"):
        return 0.1, 0.9
    if len(shape) == 4:
        return -0.08, 0.08
    if len(shape) == 2 and "mask_token" not in name:
        return -3 / np.sqrt(shape[1]), 3 / np.sqrt(shape[1])
    return -0.5, 0.5


# From the names of modules to those of files: save_pretrained writes the latter.
TRANSFORMERS = [("attention.q_proj", "attention.attention.query"), ("attention.k_proj", "attention.attention.key"),
                ("attention.v_proj", "attention.attention.value"), ("attention.o_proj", "attention.output.dense")]
ORIGINAL = [("attention.q_proj", "attn.qkv"), ("attention.k_proj", "attn.qkv"), ("attention.v_proj", "attn.qkv"),
            ("attention.o_proj", "attn.proj"), ("embeddings.cls_token", "cls_token"), ("embeddings.mask_token", "mask_token"),
            ("embeddings.position_embeddings", "pos_embed"), ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("encoder.layer.", "blocks."), ("layer_scale1.lambda1", "ls1.gamma"), ("layer_scale2.lambda1", "ls2.gamma"),
            ("layernorm.", "norm.")]


def rename(name, table):
    for old, new in table:
        name = name.replace(old, new)
    return name


def fill_original(network):
    """As `fill`, by the original's names, where q, k and v are one tensor."""
    shapes, state = {}, {}
    for name, tensor in network.state_dict().items():
        rows = 3 if ".attn.qkv." in rename(name, ORIGINAL) else 1
        shapes[rename(name, ORIGINAL)] = (rows * tensor.shape[0], *tensor.shape[1:])
    values = {name: uniform(name, *dinov2_bounds(name, shape), shape) for name, shape in shapes.items()}
    for name in network.state_dict():
        value, part = torch.from_numpy(values[rename(name, ORIGINAL)]), name.split(".")[-2]
        state[name] = value.chunk(3)["qkv".index(part[0])] if part in ("q_proj", "k_proj", "v_proj") else value
    network.load_state_dict(state)
    network.double().eval()
    return [line(name, *dinov2_bounds(name, shape), shape) for name, shape in sorted(shapes.items())]


class OriginalPositions:
    """interpolate_pos_encoding of facebookresearch/dinov2 in place of transformers'."""

    def __init__(self, embeddings):
        self.embeddings = embeddings

    def __call__(self, tokens, height, width):
        table = self.embeddings.position_embeddings
        side, patch = int((table.shape[1] - 1) ** 0.5), self.embeddings.patch_size
        if tokens.shape[1] == table.shape[1]:
            return table
        grid = F.interpolate(table[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2),
                             scale_factor=((height // patch + 0.1) / side, (width // patch + 0.1) / side), mode="bicubic")
        assert grid.shape[-2:] == (height // patch, width // patch)
        return torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def make_dinov2(name, original, **sizes):
    config = transformers.Dinov2Config(attn_implementation="eager", **sizes)
    network = transformers.Dinov2Model(config)
    lines = fill_original(network) if original else fill(network, dinov2_bounds, lambda n: rename(n, TRANSFORMERS))
    if original:
        network.embeddings.interpolate_pos_encoding = OriginalPositions(network.embeddings)
    layers = {}
    network.embeddings.register_forward_hook(hook(layers, "embeddings"))
    for i, layer in enumerate(network.encoder.layer):
        layer.register_forward_hook(hook(layers, f"block.{i}"))
    features = network(images(224)).pooler_output
    write(name, lines, layers, {"features": features.numpy()})


make_inception()
# Positions that shrink (as 37 x 37 do for ViT-L/14), grow, and fit.
make_dinov2("dinov2_shrink", False, hidden_size=128, num_hidden_layers=3, num_attention_heads=2, patch_size=28, image_size=308)
make_dinov2("dinov2_fit", False, hidden_size=64, num_hidden_layers=1, num_attention_heads=1, patch_size=32, image_size=224)
make_dinov2("dinov2_original", True, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, patch_size=16, image_size=112)
