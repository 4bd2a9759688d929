"""Makes the golden files of this folder: models of other programs, and what those programs compute with them.

Provenance: random weights of a fixed seed, rounded to bfloat16 so that every file holds exactly what is computed with;
nothing comes from kindit's own C.
  dit/          a DiT of the original code (original_dit.py beside this file): model.safetensors, a training checkpoint
                ema.pt as train.py saves it (model, ema, opt, args), and the output in float64. Checked here against the
                independent ../model/kind_dit.py before anything is written.
  diffusers/    the folder that diffusers' own save_pretrained writes of a DiTTransformer2DModel and a DDIMScheduler, with
                the model_index.json of a DiTPipeline, the same weights once more as PyTorch's .bin in diffusers_bin/,
                and the output of that DiTTransformer2DModel in float64. Its time features are float32 in any case; the
                golden output takes them in float64 (checked here to be the same numbers within float32's rounding of
                the angle). norm_eps is 1e-2 and not its default 1e-5, so that ignoring it would show.
  types.pt      tensors of all types, an offset view, a Parameter, a scalar, an empty one, for the parser;
  types_old.pt  the same in the format that torch.save wrote before PyTorch 1.6.

Made with Python 3.11, torch 2.15.0, diffusers 0.42.1, safetensors 0.8.0.
Rerun:  pip install torch diffusers safetensors; python tests/golden/exchange/make.py
"""
import argparse
import copy
import json
import os
import sys

import torch
from diffusers import DDIMScheduler, DiTTransformer2DModel
from diffusers.models.embeddings import get_timestep_embedding
from safetensors.torch import save_file

import original_dit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "model"))
import kind_dit  # noqa: E402

SIZE, PATCH, CHANNELS, WIDTH, DEPTH, HEADS, CLASSES = 8, 2, 4, 16, 2, 2, 3
TIMES = [0, 999, 500, 17]
LABELS = [2, 0, 3, 1]  # 3 is the null label


def path(*parts):
    name = os.path.join(HERE, *parts)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    return name


def require_close(what, found, expected, tolerance):
    error = ((found - expected).norm() / expected.norm()).item()
    if not error <= tolerance:
        raise SystemExit(f"{what}: relative error {error:.3g}, allowed {tolerance:.3g}")
    print(f"  {what}: {error:.2g}")


def randomize(model, generator):
    """Random weights that keep activations near 1 in every layer; no layer stays at zero as DiT starts it."""
    for name, parameter in model.named_parameters():
        value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name.endswith("bias"):
            value *= 0.1
        elif "embedding_table" in name:
            value *= 0.5
        else:
            value /= parameter[0].numel() ** 0.5
        parameter.data = value.to(torch.bfloat16).double()


def inputs(generator):
    x = torch.randn(len(LABELS), CHANNELS, SIZE, SIZE, generator=generator).float().double()
    return x, torch.tensor(TIMES), torch.tensor(LABELS)


def save_io(name, x, t, y, out):
    save_file({"x": x.float().contiguous(), "t": t, "y": y, "out": out.detach().float().contiguous()},
              path(name, "io.safetensors"))


def make_dit(generator):
    print("dit")
    model = original_dit.DiT(SIZE, PATCH, CHANNELS, WIDTH, DEPTH, HEADS, 4.0, CLASSES, True).double().eval()
    randomize(model, generator)
    model.pos_embed.data = kind_dit.position_table(SIZE // PATCH, WIDTH, torch.float64)[None]
    x, t, y = inputs(generator)
    with torch.no_grad():
        out = model(x, t, y)
    config = {"kind": "dense", "image_size": SIZE, "channels": CHANNELS, "patch": PATCH, "width": WIDTH,
              "depth": DEPTH, "heads": HEADS, "mlp_ratio": 4, "learn_sigma": True, "classes": [0] * CLASSES,
              "fused_qkv": True, "factor_adaln": False}
    params = {name: p.detach() for name, p in model.named_parameters() if name != "pos_embed"}
    require_close("kind_dit.py agrees", kind_dit.forward(config, params, x, t, y), out, 1e-12)
    state = {name: p.detach().float() if name == "pos_embed" else p.detach().to(torch.bfloat16)
             for name, p in model.state_dict().items()}
    save_file({name: p.contiguous() for name, p in state.items()}, path("dit", "model.safetensors"))
    checkpoint = {
        "model": {"blocks.0.attn.proj.bias": torch.ones(WIDTH)},  # the weights not to be taken
        "ema": type(model.state_dict())(state),
        "opt": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}},
                "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "amsgrad": False, "params": [0, 1]}]},
        "args": argparse.Namespace(model="DiT-XL/2", image_size=256, results_dir="results", vae="ema", lr=None,
                                   global_batch_size=-5, big=1 << 40),
    }
    torch.save(checkpoint, path("dit", "ema.pt"))
    save_io("dit", x, t, y, out)


class DoubleTimesteps(torch.nn.Module):
    """diffusers' sinusoidal features (frequencies i/127) without their rounding to float32."""

    def forward(self, t):
        theirs = get_timestep_embedding(t, 256, flip_sin_to_cos=True, downscale_freq_shift=1)
        angle = t.double()[:, None] * torch.exp(-torch.arange(128).double() * torch.log(torch.tensor(1e4).double()) / 127)
        ours = torch.cat([angle.cos(), angle.sin()], dim=1)
        require_close("diffusers' time features (float32) agree", ours, theirs.double(), 1e-4)
        return ours


def make_diffusers(generator):
    print("diffusers")
    model = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=CHANNELS, out_channels=2 * CHANNELS,
        num_layers=DEPTH, sample_size=SIZE, patch_size=PATCH, num_embeds_ada_norm=CLASSES, norm_eps=1e-2).double().eval()
    randomize(model, generator)
    first = model.transformer_blocks[0].norm1.emb
    for block in model.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(first.state_dict())
    stored = copy.deepcopy(model).to(torch.bfloat16)
    stored.save_pretrained(path("diffusers", "transformer"))
    stored.save_pretrained(path("diffusers_bin", "transformer"), safe_serialization=False)
    DDIMScheduler(clip_sample=False).save_pretrained(path("diffusers", "scheduler"))
    with open(path("diffusers", "model_index.json"), "w", encoding="utf-8") as file:
        json.dump({"_class_name": "DiTPipeline", "_diffusers_version": "0.42.1", "scheduler": ["diffusers", "DDIMScheduler"],
                   "transformer": ["diffusers", "DiTTransformer2DModel"], "vae": ["diffusers", "AutoencoderKL"],
                   "id2label": {"0": "tench, Tinca tinca", "1": "goldfish", "2": "great white shark, man-eater"}},
                  file, indent=1)
    x, t, y = inputs(generator)
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj = DoubleTimesteps()
    # The table of positions is a float32 buffer made from float64 numbers.
    table = kind_dit.position_table(SIZE // PATCH, WIDTH, torch.float64)[None]
    require_close("diffusers' positions agree", model.pos_embed.pos_embed.double(), table, 1e-7)
    model.pos_embed.pos_embed = table
    with torch.no_grad():
        out = model(x, timestep=t, class_labels=y).sample
    save_io("diffusers", x, t, y, out)


def make_types():
    base = torch.arange(12, dtype=torch.float32)
    tensors = {
        "f32": base.reshape(3, 4), "f16": base.half(), "bf16": base.bfloat16(), "f64": base.double(), "i64": base.long(),
        "i32": base.int(), "u8": base.to(torch.uint8), "view": base.reshape(3, 4)[1:], "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(base[:2].clone()), "ones": base.reshape(12, 1, 1),
    }
    torch.save(tensors, path("types.pt"))
    torch.save(tensors, path("types_old.pt"), _use_new_zipfile_serialization=False)  # as before PyTorch 1.6
    torch.save({"transposed": base.reshape(3, 4).T}, path("transposed.pt"))
    torch.save({"buffer": torch.zeros(2, dtype=torch.complex64)}, path("complex.pt"))


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(17)
    make_dit(generator)
    make_diffusers(generator)
    make_types()
    total = 0
    for folder, _, files in os.walk(HERE):
        total += sum(os.path.getsize(os.path.join(folder, file)) for file in files)
    print(f"{total / 1e3:.0f} kB in all")


if __name__ == "__main__":
    main()
