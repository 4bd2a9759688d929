"""The original DiT as a PyTorch module: the structure, names and settings of facebookresearch/DiT (models.py) and of the
timm blocks it uses, written anew, so that `load_state_dict(strict=True)` decides whether a file is one of its own."""
import math

import torch
from torch import nn

FREQUENCIES = 256


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        x = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(B, T, D))


class Mlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.act, self.fc2 = nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(self.act(self.fc1(x)))


def norm(width):
    return nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)


def modulate(x, shift, scale):
    return x * (1 + scale[:, None]) + shift[:, None]


class Block(nn.Module):
    def __init__(self, width, heads, mlp_ratio):
        super().__init__()
        self.norm1, self.attn = norm(width), Attention(width, heads)
        self.norm2, self.mlp = norm(width), Mlp(width, int(width * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = x + gate1[:, None] * self.attn(modulate(self.norm1(x), shift1, scale1))
        return x + gate2[:, None] * self.mlp(modulate(self.norm2(x), shift2, scale2))


class FinalLayer(nn.Module):
    def __init__(self, width, outputs):
        super().__init__()
        self.norm_final, self.linear = norm(width), nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x, c):
        return self.linear(modulate(self.norm_final(x), *self.adaLN_modulation(c).chunk(2, dim=1)))


class TimestepEmbedder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t):
        half = FREQUENCIES // 2
        dtype = self.mlp[0].weight.dtype  # float64 in this folder's checks: the original rounds its angles to float32
        angle = t.to(dtype)[:, None] * torch.exp(-math.log(10000) * torch.arange(half, dtype=dtype) / half)
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=1))


class Embedder(nn.Module):
    """x_embedder (proj) or y_embedder (embedding_table)."""

    def __init__(self, name, module):
        super().__init__()
        self.add_module(name, module)


class DiT(nn.Module):
    def __init__(self, input_size, patch, channels, width, depth, heads, mlp_ratio, n_classes, learn_sigma):
        super().__init__()
        self.patch, self.outputs = patch, channels * (2 if learn_sigma else 1)
        self.x_embedder = Embedder("proj", nn.Conv2d(channels, width, patch, stride=patch))
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = Embedder("embedding_table", nn.Embedding(n_classes + 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (input_size // patch) ** 2, width), requires_grad=False)
        self.blocks = nn.ModuleList([Block(width, heads, mlp_ratio) for _ in range(depth)])
        self.final_layer = FinalLayer(width, patch * patch * self.outputs)

    def forward(self, x, t, y):
        h = self.x_embedder.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
        c = self.t_embedder(t) + self.y_embedder.embedding_table(y)
        for block in self.blocks:
            h = block(h, c)
        h = self.final_layer(h, c)
        side, p = x.shape[2] // self.patch, self.patch
        h = h.reshape(len(x), side, side, p, p, self.outputs).permute(0, 5, 1, 3, 2, 4)
        return h.reshape(len(x), self.outputs, side * p, side * p)
