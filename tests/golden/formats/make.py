"""Files written by the reference libraries, which the tests of src/formats read; beside each picture what PIL sees in it.

Provenance: synthetic arrays made here from a fixed seed, no other source. Written with numpy 2.4.6, safetensors 0.8.0
(with torch for bf16), Pillow 13.0.0, tensorboard 2.21.0. Rerun: python3 tests/golden/formats/make.py
"""
import gzip
import os
import struct
import zlib

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

os.chdir(os.path.dirname(os.path.abspath(__file__)))

# safetensors: value i * 0.5 - 1 in each float type, i in each integer type.
ramp = torch.arange(6).reshape(2, 3)
save_file(
    {
        "f32": ramp.float() * 0.5 - 1, "bf16": (ramp * 0.5 - 1).bfloat16(), "f16": (ramp * 0.5 - 1).half(),
        "f64": ramp.double() * 0.5 - 1, "i64": ramp.long(), "i32": ramp.int(), "u8": ramp.byte(),
        "scalar": torch.tensor(3.25), "empty": torch.zeros(0, 4), "naïve \"name\"\n": torch.ones(1),
    },
    "python.safetensors", metadata={"config": '{"a": [1, 2]}', "Ключ": "значение"})
f16_bits = np.array([0, 0x8000, 1, 0x3ff, 0x400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00, 0x3555], np.uint16)
save_file({"half": torch.from_numpy(f16_bits.view(np.float16)),
           "float": torch.from_numpy(f16_bits.view(np.float16).astype(np.float32))}, "f16.safetensors")

# npy and npz: value i * 0.5 for floats, i for integers.
for name in ("u1", "i4", "i8", "f2", "f4", "f8"):
    np.save(f"{name}.npy", (np.arange(6).reshape(2, 3) * (0.5 if name[0] == "f" else 1)).astype(name))
np.save("scalar.npy", np.float32(3.25))
np.save("vector.npy", np.arange(3, dtype=np.int32))
np.save("empty.npy", np.zeros((0, 4), np.float32))
np.save("fortran.npy", np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)))
np.save("big_endian.npy", np.arange(6, dtype=">f4"))
for version in (2, 3):
    with open(f"version{version}.npy", "wb") as file:
        np.lib.format.write_array(file, np.arange(6, dtype=np.float32).reshape(2, 3), version=(version, 0))
arrays = (np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3), np.array([7], np.int64))
np.savez("stored.npz", *arrays)
np.savez_compressed("deflated.npz", *arrays)

# IDX
idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 3, 4) + bytes(range(24))
open("plain.idx", "wb").write(idx)
open("packed.idx.gz", "wb").write(gzip.compress(idx, mtime=0))


# Pictures
def keep(name, mode):
    """The pixels PIL reads, as npy beside the picture."""
    np.save(name + ".npy", np.asarray(Image.open(name).convert(mode)))


def interlaced_png(pixels):
    """Adam7, which PIL does not write."""
    height, width, _ = pixels.shape
    raw = b""
    for x, y, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        block = pixels[y::dy, x::dx]
        if block.size:
            raw += b"".join(b"\0" + row.tobytes() for row in block)
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


rng = np.random.default_rng(1)
y, x = np.mgrid[0:13, 0:17]
smooth = np.stack([x * 15, y * 19, (x + y) * 8], -1).astype(np.uint8)
rgba = np.dstack([smooth, (255 - x * 15).astype(np.uint8)])
rgb_image = Image.fromarray(smooth)
rgb_image.save("rgb.png"), keep("rgb.png", "RGB")
rgb_image.convert("L").save("grey.png"), keep("grey.png", "L")
rgb_image.convert("1").save("one_bit.png"), keep("one_bit.png", "L")
rgb_image.quantize(7).save("palette.png"), keep("palette.png", "RGB")
rgb_image.quantize(7).save("palette_alpha.png", transparency=2), keep("palette_alpha.png", "RGBA")
Image.fromarray(rgba).save("rgba.png"), keep("rgba.png", "RGBA")
Image.fromarray(rgba).convert("LA").save("grey_alpha.png"), keep("grey_alpha.png", "RGBA")
open("interlaced.png", "wb").write(interlaced_png(smooth)), keep("interlaced.png", "RGB")
grey16 = (smooth[..., 0].astype(np.uint16) * 257)
Image.fromarray(grey16).save("grey16.png"), np.save("grey16.png.npy", smooth[..., 0])
rgb_image.save("rgb.jpg", quality=90), keep("rgb.jpg", "RGB")
rgb_image.save("progressive.jpg", quality=90, progressive=True), keep("progressive.jpg", "RGB")
rgb_image.convert("L").save("grey.jpg"), keep("grey.jpg", "L")
rgb_image.convert("CMYK").save("cmyk.jpg")
rgb_image.save("lossless.webp", lossless=True), keep("lossless.webp", "RGB")
rgb_image.save("lossy.webp", quality=80), keep("lossy.webp", "RGB")
Image.fromarray(rgba).save("alpha.webp", lossless=True, exact=True), keep("alpha.webp", "RGBA")
rgb_image.save("animated.webp", save_all=True, append_images=[rgb_image.rotate(90)])
np.save("luma.npy", np.asarray(rgb_image.convert("L")))

# TensorBoard: the version record and one scalar, wall time 0.
with open("scalar.tfevents", "wb") as file:
    writer = RecordWriter(file)
    writer.write(Event(file_version="brain.Event:2").SerializeToString())
    value = Summary.Value(tag="loss", simple_value=0.5)
    writer.write(Event(step=300, summary=Summary(value=[value])).SerializeToString())
    writer.flush()
