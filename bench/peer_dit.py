"""The peer of the comparison: DiT and KIND in PyTorch, written for speed on a CPU.

Fused q, k, v; scaled_dot_product_attention; sigma folded into V, which is smaller than any activation; the loss of
DiT's own training. A factored linear comes in three formulations, of which the comparison takes the fastest:

  masked    as in the paper: all K N_T + N_G components, those of other classes masked
  gathered  the learngene's product over the whole batch, plus each sample's own tailor by bmm
  merged    the learngene multiplied out to a dense matrix once a step, plus each sample's own tailor by bmm

Where tailors are gathered, a class's is one flat parameter. AdamW then leaves classes absent from a batch alone (their
gradient is None), and one indexing of a stack of rows serves all layers.
"""
import json
import math
import os

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

FREQUENCIES = 256


def model_load(path):
    """(config, {name: tensor}) of a model folder, or of one .safetensors file."""
    if os.path.isdir(path):
        with open(os.path.join(path, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        return config, load_file(os.path.join(path, "model.safetensors"))
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["kindit"]), load_file(path)


def position_table(grid, width):
    omega = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * omega
    one = torch.cat([angle.sin(), angle.cos()], 1)
    column, row = one[None].expand(grid, -1, -1), one[:, None].expand(-1, grid, -1)
    return torch.cat([column, row], 2).reshape(grid * grid, width).float()


class Factored(nn.Module):
    """One factored linear, or q, k and v side by side (three `names`) so that x is multiplied once."""

    def __init__(self, names, m1, m2, rank, n_tailor, form):
        super().__init__()
        self.names, self.m1, self.m2, self.n_tailor, self.form = names, m1, m2, n_tailor, form
        self.parts = len(names)
        self.U = nn.Parameter(torch.empty(self.parts, rank, m1))
        self.s = nn.Parameter(torch.empty(self.parts, rank, 1))
        self.V = nn.Parameter(torch.empty(self.parts, rank, m2))
        self.bias = nn.Parameter(torch.empty(self.parts, m2))
        self.merged = None

    def merge(self):
        """The learngene multiplied out, (parts * m2, m1)."""
        return torch.bmm((self.s * self.V).transpose(1, 2), self.U).flatten(0, 1)

    def keep_merged(self):
        """Once and for all, for it is frozen."""
        if self.form == "merged":
            self.merged = self.merge().detach()

    def tailor_shapes(self):
        n = self.parts * self.n_tailor
        return [(n, self.m1), (n, 1), (n, self.m2)]

    def forward(self, x, gate):
        """x (B, T, m1) -> a tuple of `parts` (B, T, m2). gate: the mask (B, r), or the samples' tailors."""
        if self.form == "masked":
            scale = self.s.squeeze(2)[:, None, None] * gate[:, None]  # (parts, B, 1, r)
            hidden = F.linear(x, self.U.flatten(0, 1)).chunk(self.parts, -1)
            return tuple(torch.matmul(h * s, v) + b for h, s, v, b in zip(hidden, scale, self.V, self.bias))
        U_c, s_c, V_c = (t.view(len(x), *shape) for t, shape in zip(gate, self.tailor_shapes()))
        V, V_c = self.s * self.V, (s_c * V_c).chunk(self.parts, 1)
        own = torch.bmm(x, U_c.transpose(1, 2)).chunk(self.parts, -1)
        if self.form == "merged":
            W = self.merge() if self.merged is None else self.merged
            y = F.linear(x, W, self.bias.flatten()).chunk(self.parts, -1)
            return tuple(torch.baddbmm(z, h, v) for z, h, v in zip(y, own, V_c))
        hidden = F.linear(x, self.U.flatten(0, 1)).chunk(self.parts, -1)
        y = [F.linear(h, v.T, b) for h, v, b in zip(hidden, V, self.bias)]
        return tuple(z.baddbmm_(h, v.to(z.dtype)) for z, h, v in zip(y, own, V_c))


class Dense(nn.Linear):
    """A plain linear with the same manners: q, k and v are one matrix."""

    def __init__(self, m1, m2, parts=1):
        super().__init__(m1, parts * m2)
        self.parts = parts

    def forward(self, x, _gate):
        return super().forward(x).chunk(self.parts, -1)


class Block(nn.Module):
    def __init__(self, config, index, form):
        super().__init__()
        D, hidden, self.heads = config["width"], config["mlp_ratio"] * config["width"], config["heads"]
        names = [f"blocks.{index}.attn.{part}" for part in ("q", "k", "v", "proj")]
        mlp = [f"blocks.{index}.mlp.{part}" for part in ("fc1", "fc2")]
        self.adaLN = nn.Linear(D, 6 * D)
        if form == "dense":
            self.qkv, self.proj = Dense(D, D, 3), Dense(D, D)
            self.fc1, self.fc2 = Dense(D, hidden), Dense(hidden, D)
            return
        nt, ng = config["n_tailor"], config["n_learngene"]
        rank = ng + nt * len(config["classes"]) if form == "masked" else ng
        self.qkv = Factored(names[:3], D, D, rank, nt, form)
        self.proj = Factored(names[3:], D, D, rank, nt, form)
        self.fc1 = Factored(mlp[:1], D, hidden, rank, nt, form)
        self.fc2 = Factored(mlp[1:], hidden, D, rank, nt, form)

    def attention(self, x, qkv_gate, proj_gate):
        B, T, D = x.shape
        q, k, v = (z.view(B, T, self.heads, -1).transpose(1, 2) for z in self.qkv(x, qkv_gate))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, T, D)
        return self.proj(y, proj_gate)[0]

    def forward(self, h, c, gates):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN(c)[:, None].chunk(6, 2)
        x = torch.addcmul(shift1, F.layer_norm(h, h.shape[-1:], eps=1e-6), 1 + scale1)
        h = torch.addcmul(h, gate1, self.attention(x, gates[0], gates[1]))
        x = torch.addcmul(shift2, F.layer_norm(h, h.shape[-1:], eps=1e-6), 1 + scale2)
        return torch.addcmul(h, gate2, self.fc2(F.gelu(self.fc1(x, gates[2])[0], approximate="tanh"), gates[3])[0])


class DiT(nn.Module):
    """form: "dense", or a formulation above. Those that gather keep tailors in `tailors`, one flat parameter a class."""

    def __init__(self, config, form):
        super().__init__()
        self.config, self.form = config, form
        D, p, C, K = config["width"], config["patch"], config["channels"], len(config["classes"])
        self.grid = config["image_size"] // p
        self.patches = nn.Linear(C * p * p, D)
        self.time1, self.time2 = nn.Linear(FREQUENCIES, D), nn.Linear(D, D)
        self.blocks = nn.ModuleList(Block(config, i, form) for i in range(config["depth"]))
        self.adaLN, self.final = nn.Linear(D, 2 * D), nn.Linear(D, p * p * C * (2 if config["learn_sigma"] else 1))
        self.factored = [m for m in self.modules() if isinstance(m, Factored)]
        self.register_buffer("positions", position_table(self.grid, D))
        half = FREQUENCIES // 2
        self.register_buffer("frequency", torch.exp(-math.log(10000.0) * torch.arange(half) / half))
        if self.gathers():
            self.shapes = [shape for linear in self.factored for shape in linear.tailor_shapes()] + [(1, D)]
            size = sum(a * b for a, b in self.shapes)
            self.null_row = nn.Parameter(torch.empty(D))
            self.tailors = nn.ParameterList(nn.Parameter(torch.empty(size)) for _ in range(K))
        else:
            self.labels = nn.Parameter(torch.empty(K + 1, D))
            owner = torch.cat([torch.arange(K).repeat_interleave(config.get("n_tailor", 0)),
                               torch.full((config.get("n_learngene", 0),), -1)])
            self.register_buffer("owner", owner)

    def gathers(self):
        return self.form not in ("dense", "masked")

    def gate(self, y):
        """What `forward` needs to know of the samples' classes (K: null); not compiled, for its shapes vary."""
        if not self.gathers():
            return y
        null = F.pad(self.null_row, (self.tailors[0].numel() - self.null_row.numel(), 0))
        present, index = torch.unique(y, return_inverse=True)
        rows = [null if c == len(self.tailors) else self.tailors[c] for c in present.tolist()]
        return torch.stack(rows)[index]  # (B, all of a tailor)

    def open_gate(self, gate):
        """(gates of each factored linear, label rows (B, D))."""
        if self.form == "dense":
            return [None] * (4 * len(self.blocks)), self.labels[gate]
        if self.form == "masked":
            mask = ((self.owner == gate[:, None]) | (self.owner == -1)).to(self.labels.dtype)
            return [mask] * len(self.factored), self.labels[gate]
        *tailors, label = gate.split([a * b for a, b in self.shapes], 1)
        return [tailors[i : i + 3] for i in range(0, len(tailors), 3)], label

    def forward(self, x, t, gate):
        """x (B, C, S, S), t (B) float, gate from `gate` -> (B, C or 2C, S, S)."""
        B, C, S, _ = x.shape
        p, grid = self.config["patch"], self.grid
        gates, label = self.open_gate(gate)
        angle = t[:, None] * self.frequency
        time = self.time2(F.silu(self.time1(torch.cat([angle.cos(), angle.sin()], 1))))
        c = F.silu(time + label)
        h = x.view(B, C, grid, p, grid, p).permute(0, 2, 4, 1, 3, 5).reshape(B, grid * grid, C * p * p)
        h = self.patches(h) + self.positions
        for i, block in enumerate(self.blocks):
            h = block(h, c, gates[4 * i : 4 * i + 4])
        shift, scale = self.adaLN(c)[:, None].chunk(2, 2)
        h = torch.addcmul(shift, F.layer_norm(h, h.shape[-1:], eps=1e-6), 1 + scale)
        out = self.final(h).view(B, grid, grid, p, p, -1).permute(0, 5, 1, 3, 2, 4)
        return out.reshape(B, -1, S, S)


class Diffusion:
    """1000 linear betas; a row of `table` for each quantity that depends on t alone."""

    def __init__(self, n=1000, first=1e-4, last=0.02):
        beta = torch.linspace(first, last, n, dtype=torch.float64)
        bar = torch.cumprod(1 - beta, 0)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
        variance = beta * (1 - previous) / (1 - bar)
        low = torch.log(torch.cat([variance[1:2], variance[1:]]))
        rows = [bar.sqrt(), (1 - bar).sqrt(), (1 / bar).sqrt(), (1 / bar - 1).sqrt(),
                beta * previous.sqrt() / (1 - bar), (1 - previous) * (1 - beta).sqrt() / (1 - bar),
                low, beta.log() - low]
        self.alpha_bar, self.table = bar, torch.stack(rows).float()


def loss_of(model, table, x0, noise, t, gate):
    """DiT's loss: the mean of mse + vlb (bits; epsilon detached)."""
    C = x0.shape[1]
    a, b, recip, recipm1, mean_x0, mean_xt, low, span = table[:, t].view(8, -1, 1, 1, 1)
    xt = a * x0 + b * noise
    out = model(xt, t.float(), gate).float()
    epsilon = out[:, :C]
    loss = F.mse_loss(epsilon, noise)
    if out.shape[1] == C:
        return loss
    excess = 0.5 * (out[:, C:] + 1) * span
    found = recip * xt - recipm1 * epsilon.detach()
    gap = mean_x0 * (x0 - found)
    kl = 0.5 * (excess - 1 + torch.exp(-excess) + gap**2 * torch.exp(-low - excess))
    nll = decoder_nll(x0, mean_x0 * found + mean_xt * xt, 0.5 * (low + excess))
    return loss + torch.where((t == 0).view(-1, 1, 1, 1), nll, kl).mean() / math.log(2)


def decoder_nll(x0, mean, log_scale):
    """Minus the log-likelihood of x0 in bins of 1/127.5, the normal's CDF by tanh; (1 + tanh u) / 2 is sigmoid(2u), and
    by symmetry both ends of a bin are taken in the lower tail, where single precision does not cancel."""
    def cdf(z):
        return torch.sigmoid(math.sqrt(8 / math.pi) * (z + 0.044715 * z**3))

    inverse, d, half = torch.exp(-log_scale), x0 - mean, 1 / 255
    middle = cdf(inverse * (half - d.abs())) - cdf(-inverse * (half + d.abs()))
    p = torch.where(x0 < -0.999, cdf(inverse * (half + d)), torch.where(x0 > 0.999, cdf(inverse * (half - d)), middle))
    return -torch.log(p.clamp(min=1e-12))


def parameter_pieces(model, of):
    """{kindit's name: tensors that, joined along dimension 0, are that tensor}, taking of(parameter) for each."""
    pieces = {"x_embedder.proj": model.patches, "t_embedder.mlp.0": model.time1, "t_embedder.mlp.2": model.time2,
              "final_layer.adaLN_modulation.1": model.adaLN, "final_layer.linear": model.final}
    for i, block in enumerate(model.blocks):
        pieces[f"blocks.{i}.adaLN_modulation.1"] = block.adaLN
        if model.form == "dense":
            pieces |= {f"blocks.{i}.attn.qkv": block.qkv, f"blocks.{i}.attn.proj": block.proj,
                       f"blocks.{i}.mlp.fc1": block.fc1, f"blocks.{i}.mlp.fc2": block.fc2}
    out = {f"{name}.{what}": [of(getattr(linear, what))]
           for name, linear in pieces.items() for what in ("weight", "bias")}
    labels, tailors = "y_embedder.embedding_table.weight", [[] for _ in model.factored]
    if model.gathers():
        rows = [of(flat).split([a * b for a, b in model.shapes]) for flat in model.tailors]
        rows = [[piece.view(shape) for piece, shape in zip(row, model.shapes)] for row in rows]
        out[labels] = [row[-1] for row in rows] + [of(model.null_row)[None]]
        tailors = [[row[3 * j : 3 * j + 3] for row in rows] for j in range(len(model.factored))]
    else:
        out[labels] = [of(model.labels)]
    for linear, own in zip(model.factored, tailors):
        for i, name in enumerate(linear.names):
            part = slice(i * linear.n_tailor, (i + 1) * linear.n_tailor)
            for k, what in enumerate("UsV"):
                out[f"{name}.{what}"] = [t[k][part] for t in own] + [of(getattr(linear, what))[i]]
            out[f"{name}.bias"] = [of(linear.bias)[i]]
    return out


@torch.no_grad()
def model_fill(model, params):
    for name, pieces in parameter_pieces(model, lambda parameter: parameter.data).items():
        rows = params[name].split([len(piece) for piece in pieces])
        for piece, values in zip(pieces, rows):
            piece.copy_(values.reshape(piece.shape))
    return model


def model_gradients(model, params):
    """The gradient of every parameter under kindit's name and shape; zero where there is none."""
    pieces = parameter_pieces(model, lambda p: torch.zeros_like(p) if p.grad is None else p.grad)
    return {name: torch.cat(list(parts)).reshape(params[name].shape) for name, parts in pieces.items()}


def merge(config, params, y):
    """The dense parameters that class y sees (K: null); q, k and v stacked."""
    K, nt = len(config["classes"]), config["n_tailor"]
    open_ = torch.zeros(K * nt + config["n_learngene"])
    open_[K * nt :] = 1
    if y < K:
        open_[y * nt : (y + 1) * nt] = 1
    out = {name: tensor for name, tensor in params.items() if not name.endswith((".U", ".s", ".V"))}
    for name in [name[:-2] for name in params if name.endswith(".U")]:
        scale = (params[name + ".s"] * open_)[:, None]
        out[name + ".weight"] = (scale * params[name + ".V"]).T @ params[name + ".U"]
    for i in range(config["depth"]):
        for what in ("weight", "bias"):
            out[f"blocks.{i}.attn.qkv.{what}"] = torch.cat([out[f"blocks.{i}.attn.{p}.{what}"] for p in "qkv"])
    return out
