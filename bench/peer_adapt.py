"""Fine-tuning in PyTorch: peft's adapters on the DiT of peer_dit.py, SVDiff, KIND beside a frozen learngene.

As in the paper and in kindit, an adapter rides on each block's q, k, v, o, in and out, apart, and the label rows train
with it; all else is frozen. KIND trains tailors, their label rows among them, and nothing else.
"""
import re

import peft
import torch
import torch.nn.functional as F
from torch import nn

import peer_dit as dit

TARGETS = r"blocks\.\d+\.(qkv|proj|fc1|fc2)\.parts\.\d+"
NAMES = {"qkv": ("attn.q", "attn.k", "attn.v"), "proj": ("attn.proj",), "fc1": ("mlp.fc1",), "fc2": ("mlp.fc2",)}
# The formulations of each method; the comparison takes the fastest.
FORMS = {"kind": ("gathered", "merged"), "full": ("dense",), "lora": ("lora",), "pissa": ("pissa",),
         "dora": ("dora",), "loha": ("loha",), "oft": ("oft", "oft, neumann"), "svdiff": ("svdiff", "svdiff, apart")}


class Apart(nn.Module):
    """q, k and v, or one linear, each a plain nn.Linear, which is what peft wraps."""

    def __init__(self, linear):
        super().__init__()
        m2 = linear.out_features // linear.parts
        self.parts = nn.ModuleList(nn.Linear(linear.in_features, m2) for _ in range(linear.parts))
        for i, part in enumerate(self.parts):
            part.weight.data.copy_(linear.weight.data[i * m2 : (i + 1) * m2])
            part.bias.data.copy_(linear.bias.data[i * m2 : (i + 1) * m2])

    def forward(self, x, _gate):
        return tuple(part(x) for part in self.parts)


class SVDiff(nn.Module):
    """W = U diag(relu(s + d)) V^T, multiplied out once a step, or `apart` on the way of x."""

    def __init__(self, linear, apart):
        super().__init__()
        U, s, Vt = torch.linalg.svd(linear.weight.data, full_matrices=False)
        self.U, self.s, self.Vt, self.bias = (nn.Parameter(x.contiguous(), requires_grad=False)
                                              for x in (U, s, Vt, linear.bias.data))
        self.d, self.apart = nn.Parameter(torch.zeros_like(s)), apart

    def forward(self, x):
        s = F.relu(self.s + self.d)
        if self.apart:
            return F.linear(F.linear(x, self.Vt) * s, self.U, self.bias)
        return F.linear(x, (self.U * s) @ self.Vt, self.bias)


def adapter_config(form, rank, blocks):
    if form in ("lora", "pissa", "dora"):
        start = "pissa" if form == "pissa" else True
        return peft.LoraConfig(r=rank, lora_alpha=rank, use_dora=form == "dora", init_lora_weights=start,
                               target_modules=TARGETS)
    if form == "loha":
        return peft.LoHaConfig(r=max(1, rank // 2), alpha=max(1, rank // 2), target_modules=TARGETS)
    return peft.OFTConfig(r=blocks, oft_block_size=0, use_cayley_neumann="neumann" in form, target_modules=TARGETS)


def adapt_svdiff(model, apart):
    for name, module in list(model.named_modules()):
        if re.fullmatch(TARGETS, name):
            parent, _, index = name.rpartition(".")
            model.get_submodule(parent)[int(index)] = SVDiff(module, apart)


def freeze(model, trains):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(trains(name)))
    return model


def adapt(model, form, rank, blocks):
    """Puts the adapter of `form` on a dense model."""
    for block in model.blocks:
        for name in NAMES:
            setattr(block, name, Apart(getattr(block, name)))
    if form.startswith("svdiff"):
        adapt_svdiff(model, "apart" in form)
    else:
        peft.inject_adapter_in_model(adapter_config(form, rank, blocks), model)
    return freeze(model, lambda name: name == "labels" or re.search(r"lora_|hada_|oft_|\.d$", name))


def model_open(path, form, rank, blocks):
    """(model, config): the base at `path`, ready to be fine-tuned."""
    config, params = dit.model_load(path)
    factored = config["kind"] == "kind"
    model = dit.model_fill(dit.DiT(config, form if factored else "dense"), params)
    if factored:
        freeze(model, lambda name: name.startswith("tailors"))
        for linear in model.factored:
            linear.keep_merged()
        return model, config
    return (model if form == "dense" else adapt(model, form, rank, blocks)), config


OWN_NAMES = {"lora_A.default.weight": "lora_A", "lora_B.default.weight": "lora_B", "oft_R.default.weight": "oft_R",
             "lora_magnitude_vector.default.weight": "lora_m", "d": "shift", "base_layer.weight": "weight",
             "base_layer.bias": "bias"}


def adapter_fill(model, params):
    """Gives the adapter, and the base below it, which PiSSA changes, kindit's: {"blocks.0.attn.q.lora_A": ..., ...}."""
    with torch.no_grad():
        model.labels.copy_(params["y_embedder.embedding_table.weight"])
        for name, parameter in model.named_parameters():
            found = re.match(r"blocks\.(\d+)\.(\w+)\.parts\.(\d+)\.(.*)", name)
            if not found or not (parameter.requires_grad or "base_layer" in name):
                continue
            block, part, index, what = found.groups()
            own = OWN_NAMES.get(what, what.removesuffix(".default"))
            value = params[f"blocks.{block}.{NAMES[part][int(index)]}.{own}"]
            parameter.copy_((value if value.shape == parameter.shape else value.T).reshape(parameter.shape))
    return model
