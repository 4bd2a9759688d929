"""A DiT with dense or KIND linears in PyTorch, for checking kindit; written from the papers, not from kindit's C.

  Peebles & Xie, "Scalable Diffusion Models with Transformers" (DiT, adaLN-Zero); parameter names are its state dict's.
  KIND: W_c = U_G diag(s_G) V_G^T + U_c diag(s_c) V_c^T (Eq. 5), the class gate of Eq. 8 as a mask over all components.

A model is a config (the dictionary of config.json) and a dictionary of tensors by name. A linear is factored when the
dictionary holds `name.U`, dense when it holds `name.weight`. Nothing here is fast: each sample is multiplied by every
tailor and the mask throws away what the gate shuts.
"""
import json
import math
import os

import torch
from safetensors import safe_open
from safetensors.torch import load_file

FREQUENCIES = 256


def n_classes(config):
    return len(config["classes"])


def parameter_shapes(config):
    """name -> shape of everything a model file holds."""
    D, p, C, K = config["width"], config["patch"], config["channels"], n_classes(config)
    rank = K * config.get("n_tailor", 0) + config.get("n_learngene", 0)
    shapes = {}

    def dense(name, m1, m2):
        shapes[name + ".weight"], shapes[name + ".bias"] = (m2, m1), (m2,)

    def inner(name, m1, m2):
        if config["kind"] == "dense":
            return dense(name, m1, m2)
        shapes.update({name + ".U": (rank, m1), name + ".s": (rank,), name + ".V": (rank, m2), name + ".bias": (m2,)})

    shapes["x_embedder.proj.weight"], shapes["x_embedder.proj.bias"] = (D, C, p, p), (D,)
    dense("t_embedder.mlp.0", FREQUENCIES, D)
    dense("t_embedder.mlp.2", D, D)
    shapes["y_embedder.embedding_table.weight"] = (K + 1, D)
    for i in range(config["depth"]):
        block = f"blocks.{i}."
        (inner if config["factor_adaln"] else dense)(block + "adaLN_modulation.1", D, 6 * D)
        if config["kind"] == "dense" or config["fused_qkv"]:
            inner(block + "attn.qkv", D, 3 * D)
        else:
            for part in "qkv":
                inner(block + "attn." + part, D, D)
        inner(block + "attn.proj", D, D)
        inner(block + "mlp.fc1", D, config["mlp_ratio"] * D)
        inner(block + "mlp.fc2", config["mlp_ratio"] * D, D)
    dense("final_layer.adaLN_modulation.1", D, 2 * D)
    dense("final_layer.linear", D, p * p * C * (2 if config["learn_sigma"] else 1))
    return shapes


def tailor_rows(config, name):
    """How many leading rows of tensor `name` each class owns (0: none)."""
    if config["kind"] != "kind":
        return 0
    if name == "y_embedder.embedding_table.weight":
        return 1
    return config["n_tailor"] if name.endswith((".U", ".s", ".V")) else 0


def gate_mask(config, y, dtype):
    """(B, r): 1 for the learngene's components and for those of the sample's class; a null label opens no tailor."""
    K, nt, ng = n_classes(config), config["n_tailor"], config["n_learngene"]
    owner = torch.cat([torch.arange(K).repeat_interleave(nt), torch.full((ng,), -1)])
    return ((owner[None, :] == y[:, None]) | (owner[None, :] == -1)).to(dtype)


def linear(params, name, x, mask):
    """x (B, ..., m1) -> (B, ..., m2). A layer may be a module of its own, under its name alone."""
    if name in params:
        return params[name](x)
    bias = params[name + ".bias"]
    if name + ".weight" in params:
        return x @ params[name + ".weight"].T + bias
    gate = mask.reshape(mask.shape[0], *[1] * (x.dim() - 2), mask.shape[1])
    return ((x @ params[name + ".U"].T) * params[name + ".s"] * gate) @ params[name + ".V"] + bias


def merge(config, params, y):
    """The dense parameters of the model that class y (K: null) sees; q, k, v stacked into qkv."""
    mask = None
    merged = {}
    for name, tensor in params.items():
        if name.endswith(".U"):
            mask = gate_mask(config, torch.tensor([y]), tensor.dtype)[0]
            base = name[:-2]
            merged[base + ".weight"] = (params[base + ".V"].T * (params[base + ".s"] * mask)) @ tensor
        elif not name.endswith((".s", ".V")):
            merged[name] = tensor
    for i in range(config["depth"]):
        attn = f"blocks.{i}.attn."
        if attn + "q.weight" in merged:
            for what in ("weight", "bias"):
                merged[attn + "qkv." + what] = torch.cat([merged.pop(attn + part + "." + what) for part in "qkv"])
    return merged


def timestep_features(t, dtype):
    """cos, sin of t * 10000^(-i/128): the original DiT's, cosines first."""
    half = FREQUENCIES // 2
    frequency = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=dtype) / half)
    angle = t.to(dtype)[:, None] * frequency[None, :]
    return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)


def position_table(grid, width, dtype):
    """(grid * grid, D): the first half encodes the column, the second the row; sines before cosines in each."""
    omega = 10000.0 ** (-torch.arange(width // 4, dtype=dtype) / (width // 4))
    angle = torch.arange(grid, dtype=dtype)[:, None] * omega[None, :]
    one = torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)
    column = one[None, :, :].expand(grid, grid, -1)
    row = one[:, None, :].expand(grid, grid, -1)
    return torch.cat([column, row], dim=2).reshape(grid * grid, width)


def norm(x):
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + 1e-6)


def modulate(x, shift, scale):
    return norm(x) * (1 + scale[:, None]) + shift[:, None]


def silu(x):
    return x * torch.sigmoid(x)


def gelu(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(config, params, name, x, mask):
    B, T, D = x.shape
    heads = config["heads"]
    if name + ".q.U" in params or name + ".q" in params:
        q, k, v = (linear(params, f"{name}.{part}", x, mask) for part in "qkv")
    else:
        q, k, v = linear(params, name + ".qkv", x, mask).chunk(3, dim=-1)
    q, k, v = (z.reshape(B, T, heads, D // heads).transpose(1, 2) for z in (q, k, v))
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(D // heads), dim=-1)
    return linear(params, name + ".proj", (weights @ v).transpose(1, 2).reshape(B, T, D), mask)


def forward(config, params, x, t, y, streams=None):
    """x (B, C, S, S), t (B), y (B) with K = null -> (B, C or 2C, S, S); the list `streams` gets the stream after each block."""
    B, C, S, _ = x.shape
    D, p = config["width"], config["patch"]
    grid = S // p
    mask = gate_mask(config, y, x.dtype) if config["kind"] == "kind" else None

    # Patches by hand: a stride-p convolution is a product with the flattened (c, py, px) kernel.
    patches = x.reshape(B, C, grid, p, grid, p).permute(0, 2, 4, 1, 3, 5).reshape(B, grid * grid, C * p * p)
    h = patches @ params["x_embedder.proj.weight"].reshape(D, -1).T + params["x_embedder.proj.bias"]
    h = h + position_table(grid, D, x.dtype)

    time = linear(params, "t_embedder.mlp.0", timestep_features(t, x.dtype), mask)
    time = linear(params, "t_embedder.mlp.2", silu(time), mask)
    c = silu(time + params["y_embedder.embedding_table.weight"][y])

    for i in range(config["depth"]):
        block = f"blocks.{i}."
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(
            params, block + "adaLN_modulation.1", c, mask).chunk(6, dim=1)
        h = h + gate1[:, None] * attention(config, params, block + "attn", modulate(h, shift1, scale1), mask)
        inner = gelu(linear(params, block + "mlp.fc1", modulate(h, shift2, scale2), mask))
        h = h + gate2[:, None] * linear(params, block + "mlp.fc2", inner, mask)
        if streams is not None:
            streams.append(h)

    shift, scale = linear(params, "final_layer.adaLN_modulation.1", c, mask).chunk(2, dim=1)
    out = linear(params, "final_layer.linear", modulate(h, shift, scale), mask)
    out = out.reshape(B, grid, grid, p, p, -1).permute(0, 5, 1, 3, 2, 4)  # (B, c, row, py, column, px)
    return out.reshape(B, -1, S, S)


def load(path):
    """(config, {name: float64 tensor}) of a model folder or of a single .safetensors file."""
    if os.path.isdir(path):
        with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        params = load_file(os.path.join(path, "model.safetensors"))
    else:
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["kindit"])
        params = load_file(path)
    params = {name: tensor.double() for name, tensor in params.items()}
    expected = parameter_shapes(config)
    found = {name: tuple(tensor.shape) for name, tensor in params.items()}
    if found != expected:
        raise ValueError(f"{path}: tensors do not fit the config: {sorted(set(found.items()) ^ set(expected.items()))}")
    return config, params
