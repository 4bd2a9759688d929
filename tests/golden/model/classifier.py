"""Makes classifier/: a small classifier, what it says of a few images, and the gradient of every parameter.

Provenance: PyTorch (CPU, float64) and its own functions (conv2d, layer_norm, scaled_dot_product_attention,
cross_entropy), written from docs/formats.md and not from kindit's C; fixed seed. Weights and images are exactly
representable in the dtype they are stored in; results are rounded to float32 once.

Made with Python 3.11.7, torch 2.15.0, safetensors 0.8.0.
Rerun:  pip install torch safetensors numpy && python tests/golden/model/classifier.py
"""
import json
import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import kind_dit

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "classifier")
CONFIG = {
    "format": 3, "kind": "dense", "image_size": 12, "channels": 3, "patch": 4, "width": 24, "depth": 2, "heads": 3,
    "mlp_ratio": 2, "n_learngene": 0, "n_tailor": 0, "learn_sigma": False, "fused_qkv": True, "factor_adaln": False,
    "head": {"type": "classes", "pool": "mean"},
    "classes": [{"id": c, "name": "class " + c} for c in "abcde"],
}
LABELS = [4, 0, 0, 2]


def shapes():
    D, H, p = CONFIG["width"], CONFIG["width"] * CONFIG["mlp_ratio"], CONFIG["patch"]
    out = {"x_embedder.proj": (D, CONFIG["channels"], p, p), "y_embedder.embedding_table": (1, D)}
    for i in range(CONFIG["depth"]):
        out.update({f"blocks.{i}.adaLN_modulation.1": (6 * D, D), f"blocks.{i}.attn.qkv": (3 * D, D),
                    f"blocks.{i}.attn.proj": (D, D), f"blocks.{i}.mlp.fc1": (H, D), f"blocks.{i}.mlp.fc2": (D, H)})
    out.update({"final_layer.adaLN_modulation.1": (2 * D, D), "head": (len(CONFIG["classes"]), D)})
    return out


def weights_make(generator):
    params = {}
    for name, shape in shapes().items():
        weight = torch.randn(shape, generator=generator, dtype=torch.float64) / math.prod(shape[1:]) ** 0.5
        params[name + ".weight"] = weight
        if name != "y_embedder.embedding_table":
            params[name + ".bias"] = 0.2 * torch.randn(shape[0], generator=generator, dtype=torch.float64)
    return {name: tensor.bfloat16().double() for name, tensor in params.items()}


def forward(params, x):
    """x (B, C, S, S) -> features (B, D), logits (B, classes)."""
    D, heads, p = CONFIG["width"], CONFIG["heads"], CONFIG["patch"]

    def linear(name, z):
        return F.linear(z, params[name + ".weight"], params[name + ".bias"])

    def modulated(z, shift, scale):
        return F.layer_norm(z, (D,), eps=1e-6) * (1 + scale) + shift

    h = F.conv2d(x, params["x_embedder.proj.weight"], params["x_embedder.proj.bias"], stride=p)
    h = h.flatten(2).transpose(1, 2) + kind_dit.position_table(CONFIG["image_size"] // p, D, x.dtype)
    B, T, _ = h.shape
    c = F.silu(params["y_embedder.embedding_table.weight"][0])
    for i in range(CONFIG["depth"]):
        block = f"blocks.{i}."
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(block + "adaLN_modulation.1", c).chunk(6)
        q, k, v = linear(block + "attn.qkv", modulated(h, shift1, scale1)).reshape(B, T, 3, heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, D)
        h = h + gate1 * linear(block + "attn.proj", attended)
        inner = F.gelu(linear(block + "mlp.fc1", modulated(h, shift2, scale2)), approximate="tanh")
        h = h + gate2 * linear(block + "mlp.fc2", inner)
    shift, scale = linear("final_layer.adaLN_modulation.1", c).chunk(2)
    features = modulated(h, shift, scale).mean(dim=1)
    return features, linear("head", features)


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(400)
    params = {name: tensor.requires_grad_() for name, tensor in weights_make(generator).items()}
    size = CONFIG["image_size"]
    x = torch.randint(0, 256, (len(LABELS), CONFIG["channels"], size, size), generator=generator).double() / 127.5 - 1
    x = x.float().double()
    y = torch.tensor(LABELS)
    features, logits = forward(params, x)
    logits.retain_grad()
    loss = F.cross_entropy(logits, y, reduction="none")
    loss.mean().backward()

    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, "config.json"), "w", encoding="utf-8") as file:
        json.dump(CONFIG, file, indent=1)
        file.write("\n")
    save_file({name: tensor.detach().bfloat16().contiguous() for name, tensor in params.items()},
              os.path.join(FOLDER, "model.safetensors"))
    results = {"features": features, "out": logits, "loss": loss, "doutput": logits.grad}
    results.update({"grad." + name: tensor.grad for name, tensor in params.items()})
    save_file({**{name: tensor.detach().float().contiguous() for name, tensor in results.items()}, "x": x.float(), "y": y},
              os.path.join(FOLDER, "io.safetensors"))
    print("loss", " ".join(f"{value:.4f}" for value in loss.tolist()))


if __name__ == "__main__":
    main()
