"""PyTorch's side of the comparison: a process that does what a line of its standard input says, and sleeps between.

  peer.py make CONFIG.json -o DIR            a model of random weights, in kindit's format
  peer.py grad MODEL --input FILE -o FILE    loss and gradients, as `kindit debug grad`
  peer.py adapted MODEL --method --form FORM --adapter FILE --input FILE    the loss of a fine-tuned model
  peer.py step MODEL --batch N [--method]    then for each line "N": N training steps, seconds of each as JSON
  peer.py sample MODEL --batch N --steps N   then for each line "N": N drawings, seconds of each as JSON
  peer.py memory MODEL --batch N             peak memory of one training step as JSON
  peer.py first MODEL --steps N -o FILE.png  one image, from a cold start
"""
import argparse
import json
import math
import os
import sys
import time

import torch
from safetensors.torch import load_file, save_file

import peer_dit as dit

CLASS = 0
GUIDANCE = 1.5


def autocast(options):
    return torch.autocast("cpu", torch.bfloat16, enabled=options.bf16)


def model_make(options):
    """Random weights that keep activations near 1; adaLN and the final layer are random too, not zero."""
    with open(options.model, encoding="utf-8") as file:
        config = json.load(file)
    torch.manual_seed(0)
    form = "masked" if config["kind"] == "kind" else "dense"
    with torch.no_grad():
        model = dit.DiT(config, form)
        params = {name: torch.cat(list(p)) for name, p in dit.parameter_pieces(model, torch.randn_like).items()}
        gated = config.get("n_tailor", 0) + config.get("n_learngene", 0)
        for name, value in params.items():
            if name.endswith(".s"):
                m1, m2 = params[name[:-1] + "U"].shape[1], params[name[:-1] + "V"].shape[1]
                params[name] = math.sqrt(2 * m1 * m2 / ((m1 + m2) * gated)) * (1 + 0.1 * value.flatten())
            elif name.endswith((".U", ".V")) or value.dim() == 2 and "embedding_table" not in name:
                value /= math.sqrt(value.shape[1])
            else:
                value *= 0.02
    C, p = config["channels"], config["patch"]
    params["x_embedder.proj.weight"] = params["x_embedder.proj.weight"].view(-1, C, p, p)
    os.makedirs(options.output, exist_ok=True)
    save_file(params, os.path.join(options.output, "model.safetensors"))
    with open(os.path.join(options.output, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)


def model_open(options):
    config, params = dit.model_load(options.model)
    return dit.model_fill(dit.DiT(config, options.form), params), config, params


def run_adapted(options):
    """The loss of a model that kindit has adapted, by peft."""
    import peer_adapt

    model, _config = peer_adapt.model_open(options.model, options.form, options.rank, options.blocks)
    model = peer_adapt.adapter_fill(model, load_file(options.adapter))
    given = load_file(options.input)
    with torch.no_grad():
        print(dit.loss_of(model, dit.Diffusion().table, given["x0"], given["noise"], given["t"],
                          model.gate(given["y"])).item())


def run_grad(options):
    model, _config, params = model_open(options)
    given = load_file(options.input)
    with autocast(options):
        loss = dit.loss_of(model, dit.Diffusion().table, given["x0"], given["noise"], given["t"],
                           model.gate(given["y"]))
    loss.backward()
    save_file({"loss": loss.detach()[None]} | dit.model_gradients(model, params), options.output)


class Training:
    """kindit's step, on the samples that `kindit bench` makes up: as many classes as fit, the null label among them."""

    def __init__(self, options):
        if options.method:
            import peer_adapt

            self.model, config = peer_adapt.model_open(options.model, options.form, options.rank, options.blocks)
        else:
            self.model, config, _params = model_open(options)
        n, size, K = options.batch, config["image_size"], len(config["classes"])
        self.options = options
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0, fused=True)
        self.ema = [parameter.detach().clone() for parameter in self.parameters]
        self.x0, self.noise = torch.randn(2, n, config["channels"], size, size)
        self.t = torch.arange(n) * 997 % 1000
        self.y = torch.arange(n) % (K + 1)
        self.table = dit.Diffusion().table
        self.loss = torch.compile(dit.loss_of) if options.compile else dit.loss_of

    def run(self):
        with autocast(self.options):
            loss = self.loss(self.model, self.table, self.x0, self.noise, self.t, self.model.gate(self.y))
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():  # absent tailors did not move, nor does their average here: less work than kindit's
            moved = [(e, p) for e, p in zip(self.ema, self.parameters) if p.grad is not None]
            torch._foreach_lerp_([e for e, _ in moved], [p for _, p in moved], 1e-4)
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()


class Drawing:
    """DDIM (eta 0) of one class with guidance. Forms: a KIND formulation, both halves of guidance in one batch; "pair",
    a dense model merged for the class and one for the null label; "diffusers", its DiTTransformer2DModel likewise."""

    def __init__(self, options):
        self.config, params = dit.model_load(options.model)
        self.options, self.null = options, len(self.config["classes"])
        alpha_bar = dit.Diffusion().alpha_bar
        self.steps = list(range(0, 1000, 1000 // options.steps))[::-1]
        self.bar = alpha_bar[self.steps].float()
        self.previous = torch.cat([self.bar[1:], torch.ones(1)])
        freeze = {"freezing": True} if options.compile else None
        prepare = (lambda m: torch.compile(m.eval(), options=freeze)) if options.compile else (lambda m: m.eval())
        n, labels = options.batch, (CLASS, self.null)
        if options.form == "diffusers":
            self.models = [prepare(diffusers_make(self.config)) for _ in labels]
            self.gates = [torch.full((n,), y) for y in labels]
        elif options.form == "pair":
            dense = self.config | {"kind": "dense"}
            self.models = [prepare(dit.model_fill(dit.DiT(dense, "dense"), dit.merge(self.config, params, y)))
                           for y in labels]
            self.gates = [torch.full((n,), y) for y in labels]
        else:
            model = dit.model_fill(dit.DiT(self.config, options.form), params)
            self.gates = [model.gate(torch.tensor([y for y in labels for _ in range(n)])).detach()]
            self.models = [prepare(model)]

    def predict(self, x, t):
        """Both halves of guidance, (2n, C, S, S)."""
        C = x.shape[1]
        if self.options.form == "diffusers":
            out = [model(x, timestep=t, class_labels=y).sample for model, y in zip(self.models, self.gates)]
        elif self.options.form == "pair":
            out = [model(x, t.float(), y) for model, y in zip(self.models, self.gates)]
        else:
            out = [self.models[0](torch.cat([x, x]), t.float().repeat(2), self.gates[0])]
        return torch.cat(out)[:, :C].float()

    @torch.inference_mode()
    def run(self):
        size, n = self.config["image_size"], self.options.batch
        x = torch.randn(n, self.config["channels"], size, size)
        for step, bar, previous in zip(self.steps, self.bar, self.previous):
            with autocast(self.options):
                cond, uncond = self.predict(x, torch.full((n,), step)).chunk(2)
            epsilon = uncond + GUIDANCE * (cond - uncond)
            x0 = ((x - (1 - bar).sqrt() * epsilon) / bar.sqrt()).clamp(-1, 1)
            epsilon = (x - bar.sqrt() * x0) / (1 - bar).sqrt()
            x = previous.sqrt() * x0 + (1 - previous).sqrt() * epsilon
        return x


def diffusers_make(config):
    """diffusers' own DiT of these sizes; its weights are random, for it is only timed."""
    from diffusers import DiTTransformer2DModel

    return DiTTransformer2DModel(
        num_attention_heads=config["heads"], attention_head_dim=config["width"] // config["heads"],
        in_channels=config["channels"], out_channels=2 * config["channels"], num_layers=config["depth"],
        sample_size=config["image_size"], patch_size=config["patch"], num_embeds_ada_norm=len(config["classes"]))


def serve(task, options):
    """One run to warm up; then as many as each line says."""
    begin = time.perf_counter()
    task.run()
    print(json.dumps({"first": time.perf_counter() - begin}), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            task.run()
            seconds.append(time.perf_counter() - begin)
        print(json.dumps(seconds), flush=True)


def memory_of(field):
    """Bytes: VmRSS now, or VmHWM, the most there was."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field + ":"))


def run_memory(options):
    imported = memory_of("VmRSS")
    if options.checkpoint:
        checkpoint_blocks()
    training = Training(options)
    loaded = memory_of("VmRSS")
    training.run()
    print(json.dumps({"imported": imported, "loaded": loaded, "peak": memory_of("VmHWM")}))


def checkpoint_blocks():
    """Blocks keep their inputs alone and compute the rest again in backward."""
    from torch.utils.checkpoint import checkpoint

    forward = dit.Block.forward
    dit.Block.forward = lambda self, *inputs: checkpoint(forward, self, *inputs, use_reentrant=False)


def run_first(options):
    drawing = Drawing(options)
    print("loaded", flush=True)
    image = ((drawing.run()[0, 0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    from PIL import Image

    Image.fromarray(image).save(options.output)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["make", "grad", "adapted", "step", "sample", "memory", "first"])
    parser.add_argument("model")
    parser.add_argument("--input")
    parser.add_argument("--output", "-o")
    parser.add_argument("--form", default="gathered")
    parser.add_argument("--method", action="store_true", help="fine-tuning: what `form` freezes and adds")
    parser.add_argument("--rank", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--adapter", help="weights of a run of `kindit adapt`")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    for flag in ("--compile", "--bf16", "--checkpoint"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tasks = {"make": model_make, "grad": run_grad, "adapted": run_adapted, "memory": run_memory, "first": run_first,
             "step": lambda o: serve(Training(o), o), "sample": lambda o: serve(Drawing(o), o)}
    tasks[options.task](options)


if __name__ == "__main__":
    main()
