"""What the reference programs make of pictures before Inception-v3 and DINOv2 see them; read by tests/vision/test_profile.c.

Provenance: synthetic pictures made here from a fixed seed, no other source.
  adm          interpolate_bilinear_2d_like_tensorflow1x of torch-fidelity 0.4.0 (its own check against TensorFlow 1 is in its
               tests), then (x - 128) / 128 as in its feature extractor and in ADM's graph
  pytorch-fid  torchvision's ToTensor, then the first lines of InceptionV3.forward of pytorch-fid 0.3.0
  dgm-eval     the transform of dgm_eval/models/dinov2.py: torchvision's Resize((224, 224), BICUBIC) of a PIL picture,
               ToTensor, Normalize
Outputs are cut to every 11th row and column, to keep the file
small. No picture is tall: Pillow 13 resizes some tall ones vertically first, Pillow 10 never (see tests/golden/data/make.py).
Written with torch 2.15.0 (CPU), torchvision 0.29.2, Pillow 13.0.0, numpy 2.4.6.
Rerun: python3 tests/golden/vision/make_profiles.py
"""
import os

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms as TF
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

os.chdir(os.path.dirname(os.path.abspath(__file__)))
STEP = 11


def adm(pixels, size):
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    x = interpolate_bilinear_2d_like_tensorflow1x(x, size=(size, size), align_corners=False)
    return (x - 128) / 128


def pytorch_fid(pixels, size):
    x = TF.ToTensor()(Image.fromarray(pixels))[None]
    return 2 * F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False) - 1


def dgm_eval(pixels, size):
    x = TF.Compose([TF.Resize((size, size), TF.InterpolationMode.BICUBIC), TF.ToTensor()])(Image.fromarray(pixels))
    return TF.Normalize(np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))(x)[None]


rng = np.random.default_rng(11)
arrays = {}
# height, width: enlarged, shrunk, both at once, no change of one side, one pixel
for i, (h, w) in enumerate([(32, 32), (75, 90), (150, 340), (60, 299), (224, 224), (1, 1)]):
    y, x = np.mgrid[0:h, 0:w]
    smooth = 128 + 100 * np.sin(x / 5.0)[..., None] * np.cos((y / 7.0)[..., None] + np.arange(3))
    noisy = np.where(((x + y) // 16 % 2 == 0)[..., None], smooth, rng.integers(0, 256, (h, w, 3)))
    # only as many levels as keep the file small; 0 and 255 are among them
    pixels = (np.clip(noisy, 0, 255) // 51 * 51).astype(np.uint8)
    arrays[f"in_{i}"] = pixels
    for name, profile, size in (("adm", adm, 299), ("pytorch-fid", pytorch_fid, 299), ("dgm-eval", dgm_eval, 224)):
        out = profile(pixels, size)[0].float().numpy()
        assert out.shape == (3, size, size)
        arrays[f"{name}_{i}"] = np.ascontiguousarray(out[:, ::STEP, ::STEP])
np.savez_compressed("profiles.npz", **arrays)
