"""Makes peft/: adapters as the peft package writes them, around diffusers' DiT of ../exchange/diffusers.

A case is a folder that PeftModel.save_pretrained wrote, its random adapter rounded to float32, and io.safetensors: what
the model computes with it (`out`, float64 rounded once) of the x, t and y of ../exchange/diffusers/io.safetensors.

Made with Python 3.11, torch 2.15, diffusers, peft 0.21.
Rerun:  python tests/golden/adapt/make_peft.py
"""
import os

import torch
from diffusers import DiTTransformer2DModel
from peft import LoHaConfig, LoraConfig, OFTConfig, get_peft_model
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
BASE = os.path.join(HERE, "..", "exchange", "diffusers")
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]
CASES = {
    "lora": LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS),
    "dora": LoraConfig(r=2, lora_alpha=3, use_dora=True, target_modules=TARGETS),
    "loha": LoHaConfig(r=2, alpha=3, target_modules=TARGETS),
    "oft": OFTConfig(r=4, oft_block_size=0, use_cayley_neumann=False, target_modules=TARGETS),
    "oft_neumann": OFTConfig(r=2, oft_block_size=0, use_cayley_neumann=True, target_modules=TARGETS),
}


class DoubleTimesteps(torch.nn.Module):
    """diffusers' time features in float64."""

    def forward(self, t):
        i = torch.arange(128, dtype=torch.float64)
        angle = t.double()[:, None] * torch.exp(-torch.log(torch.tensor(10000.0, dtype=torch.float64)) * i / 127)
        return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)


def main():
    torch.set_num_threads(1)
    io = load_file(os.path.join(BASE, "io.safetensors"))
    for seed, (name, config) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(900 + seed)
        model = get_peft_model(DiTTransformer2DModel.from_pretrained(os.path.join(BASE, "transformer")), config)
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                scale = 0.1 if "oft_R" in key else 0.3
                noise = scale * torch.randn(parameter.shape, generator=generator)
                parameter.data = parameter.data * (1 + noise) if "magnitude" in key else noise
        folder = os.path.join(HERE, "peft", name)
        model.save_pretrained(folder)
        readme = os.path.join(folder, "README.md")
        if os.path.exists(readme):
            os.remove(readme)
        model = model.double().eval()
        inner = model.base_model.model
        for block in inner.transformer_blocks:
            block.norm1.emb.time_proj = DoubleTimesteps()
        with torch.no_grad():
            out = model(io["x"].double(), timestep=io["t"], class_labels=io["y"]).sample
        save_file({"out": out.float().contiguous()}, os.path.join(folder, "io.safetensors"))
        print(name, tuple(out.shape), out.std().item())


if __name__ == "__main__":
    main()
