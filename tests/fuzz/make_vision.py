"""Seeds of fuzz_vision: tests/fuzz/corpus/vision, from the networks of tests/golden and a file of torch.save's older format.

  dinov2.txt, dinov2_original.txt   the golden DINOv2s, the smaller of them, by both programs' names
  inception.txt                     Inception-v3 as far as a few MB go, with the tensor that it is recognised by
  classifier.txt                    the golden classifier with its config
  dinov2.pt                         dinov2.txt with all tensors in one storage of zeros: small, and without an archive's checksums
Rerun (torch 2.15.0): python3 tests/fuzz/make_vision.py
"""
import json
import os
import struct

import torch

os.chdir(os.path.dirname(os.path.abspath(__file__)))
OUT = "corpus/vision"


def golden(name):
    """The tensors of tests/golden/vision/NAME.txt (lines "name low high n_dims dims...") as (name, shape)."""
    lines = [line.split() for line in open(f"../golden/vision/{name}.txt")]
    return [(words[0], [int(dim) for dim in words[4:]]) for words in lines]


def write(name, tensors, lines=()):
    lines = [*lines, *(" ".join([tensor, "F32", *map(str, shape)]) for tensor, shape in tensors)]
    with open(f"{OUT}/{name}.txt", "w") as stream:
        stream.write("\n".join(lines) + "\n")


def shrink(tensors, patch):
    """With patches so small: they are the larger part of the smallest networks."""
    return [(name, [*shape[:2], patch, patch] if len(shape) == 4 else shape) for name, shape in tensors]


def write_inception():
    stem = [(name, shape) for name, shape in golden("inception") if name.startswith(("Conv2d", "Mixed_5b.branch1x1"))]
    write("inception", stem + [("Mixed_7c.branch1x1.conv.weight", [1])])


def write_classifier():
    with open("../golden/model/classifier/model.safetensors", "rb") as stream:
        size = struct.unpack("<Q", stream.read(8))[0]
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    config = json.dumps(json.load(open("../golden/model/classifier/config.json")))
    write("classifier", [(name, tensor["shape"]) for name, tensor in header.items()], [f"kindit {config}"])


def write_torch(tensors):
    sizes = {name: torch.Size(shape).numel() for name, shape in tensors}
    storage = torch.zeros(max(sizes.values()), dtype=torch.float16)
    state = {name: storage[:sizes[name]].view(shape) for name, shape in tensors}
    torch.save(state, f"{OUT}/dinov2.pt", _use_new_zipfile_serialization=False)


os.makedirs(OUT, exist_ok=True)
write("dinov2", shrink(golden("dinov2_fit"), 7))
write("dinov2_original", shrink(golden("dinov2_original"), 7))
write_torch(shrink(golden("dinov2_fit"), 7))
write_inception()
write_classifier()
