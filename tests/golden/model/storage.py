"""Makes storage/: the model kind_p4 in 8 and 4 bits as docs/formats.md says, and what readers must make of each file.

Provenance: the scheme is written here once more, in numpy, from docs/formats.md alone; weights are kind_p4's; files are
written by the safetensors library. Nothing comes from kindit's own C, and all arithmetic is float32, so that bytes and
numbers must agree exactly.

Made with Python 3.11.7, torch 2.15.0 (for bfloat16), numpy 2.4.6, safetensors 0.8.0.
Rerun:  python tests/golden/model/storage.py
The other direction, any file that kindit wrote against the float model it was made from:
        python tests/golden/model/storage.py --check int8.safetensors float.safetensors
"""
import json
import os
import sys

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
GROUP = {8: None, 4: 32}  # None: the whole row
MOST = {8: 127, 4: 7}
KEPT_WIDE = ("x_embedder.", "final_layer.linear.", "y_embedder.")


def is_quantised(name, tensor):
    return tensor.ndim == 2 and not name.startswith(KEPT_WIDE)


def to_bf16(x):
    """float32 numbers -> nearest bfloat16, as torch rounds."""
    return torch.from_numpy(np.ascontiguousarray(x, np.float32)).bfloat16()


def encode(w, bits):
    """(rows, n) float32 -> q as stored, scales (rows, groups) bfloat16."""
    rows, n = w.shape
    group = GROUP[bits] or n
    starts = list(range(0, n, group))
    q, scales = np.zeros((rows, n), np.int32), torch.zeros(rows, len(starts), dtype=torch.bfloat16)
    for g, start in enumerate(starts):
        part = w[:, start:start + group]
        scale = to_bf16(np.abs(part).max(1) / np.float32(MOST[bits]))
        scales[:, g] = scale
        step = scale.float().numpy()[:, None]
        q[:, start:start + group] = np.where(step > 0, np.rint(part / np.where(step > 0, step, 1)), 0)
    assert np.abs(q).max() <= MOST[bits]
    if bits == 8:
        return torch.from_numpy(q.astype(np.int8)), scales
    if n % 2:
        q = np.pad(q, ((0, 0), (0, 1)))
    low, high = q[:, 0::2] + 8, q[:, 1::2] + 8
    return torch.from_numpy((low | high << 4).astype(np.uint8)), scales


def decode(q, scales, bits, n):
    """What a reader makes of it: (rows, n) float32."""
    values = q.numpy()
    if bits == 4:
        values = np.stack([values & 15, values >> 4], -1).reshape(len(values), -1)[:, :n].astype(np.int32) - 8
    step = np.repeat(scales.float().numpy(), GROUP[bits] or n, 1)[:, :n]
    return values.astype(np.float32) * step


def read(path):
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def make():
    folder = os.path.join(HERE, "storage")
    os.makedirs(folder, exist_ok=True)
    weights, _ = read(os.path.join(HERE, "kind_p4", "model.safetensors"))
    with open(os.path.join(HERE, "kind_p4", "config.json")) as file:
        config = json.load(file)
    for bits in (8, 4):
        stored, floats = {}, {}
        for name, tensor in weights.items():
            if is_quantised(name, tensor):
                w = tensor.float().numpy()
                q, scales = encode(w, bits)
                stored[name], stored[name + ".scale"] = q, scales
                floats[name] = torch.from_numpy(decode(q, scales, bits, w.shape[1]))
            else:
                stored[name] = tensor.bfloat16()
                floats[name] = stored[name].float()
        few = json.dumps({**config, "format": 2, "storage": f"int{bits}"})
        save_file(stored, os.path.join(folder, f"int{bits}.safetensors"), metadata={"kindit": few})
        save_file(floats, os.path.join(folder, f"int{bits}_read.safetensors"), metadata={"kindit": json.dumps(config)})


def check(few, float_model):
    """Every number of a file in few bits is within half a step of the float model's, the rest within bfloat16."""
    stored, _ = read(few)
    weights, _ = read(float_model)
    worst = 0.0
    for name, tensor in weights.items():
        w = tensor.float().numpy()
        if name + ".scale" not in stored:
            assert not is_quantised(name, tensor) and torch.equal(stored.pop(name), tensor.bfloat16()), name
            continue
        q, scales = stored.pop(name), stored.pop(name + ".scale")
        bits = 8 if q.dtype == torch.int8 else 4
        step = np.repeat(scales.float().numpy(), GROUP[bits] or w.shape[1], 1)[:, :w.shape[1]]
        error = np.abs(decode(q, scales, bits, w.shape[1]) - w)
        assert (error <= step * np.float32(0.50001)).all(), name
        worst = max(worst, float((error / np.where(step > 0, step, 1)).max()))
        expected_q, expected_scales = encode(w, bits)
        assert torch.equal(q, expected_q) and torch.equal(scales, expected_scales), name
    assert not stored, list(stored)
    print(f"{few}: {len(weights)} tensors agree to the byte; worst error {worst:.4f} of a step")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        check(*sys.argv[2:])
    else:
        make()
