"""Makes the golden files of this folder: what a DiT, its loss, its optimiser and its samplers must give, in float64.

Provenance: every number comes from kind_dit.py and diffusion.py beside this file (PyTorch, CPU, float64, one thread)
and fixed seeds; nothing is taken from kindit's own C. The oracle is itself checked here before anything is written:
  - dense models against diffusers' DiTTransformer2DModel (time frequencies i/127 replaced by the original DiT's i/128)
  - KIND models against the dense model with W_c merged, class by class and for the null label
  - the sampler steps against diffusers' DDPMScheduler and DDIMScheduler, the KL term against torch.distributions
  - AdamW with absent tailors is torch.optim.AdamW over one parameter a tailor, its gradient None in the steps that the
    class is absent from
Inputs and weights are exactly representable in the dtype they are stored in; results are rounded to float32 once.

Made with Python 3.11.7, torch 2.5.1, diffusers 0.31.0, numpy 2.4.6, safetensors 0.8.0; trajectory_adapt with torch 2.15.0+cu132, with
which the other trajectories come out the same to the byte.
Rerun:  pip install torch==2.5.1 diffusers==0.31.0 "huggingface_hub<0.27" safetensors numpy
        python tests/golden/model/make.py
"""
import json
import os

import torch
from safetensors.torch import save_file

import diffusion
import kind_dit

HERE = os.path.dirname(os.path.abspath(__file__))


def config_make(kind, image_size, channels, patch, width, depth, heads, mlp_ratio, learn_sigma, classes, n_learngene=0,
                n_tailor=0, fused_qkv=False, factor_adaln=False):
    return {
        "format": 1, "kind": kind, "image_size": image_size, "channels": channels, "patch": patch, "width": width,
        "depth": depth, "heads": heads, "mlp_ratio": mlp_ratio, "learn_sigma": learn_sigma, "fused_qkv": fused_qkv,
        "factor_adaln": factor_adaln, "n_learngene": n_learngene, "n_tailor": n_tailor,
        "classes": [{"id": c, "name": "class " + c} for c in classes],
    }


# name: (config, labels, dtype of the weights). Label K is the null label. adaLN and final layer are random, not zero.
CASES = {
    "dense_p2": (config_make("dense", 8, 4, 2, 24, 2, 2, 4, True, "abc"), [2, 0, 3, 2], torch.bfloat16),
    "dense_p4": (config_make("dense", 16, 1, 4, 24, 1, 3, 4, False, "ab"), [1, 0, 2], torch.float32),
    "kind_p2": (config_make("kind", 8, 4, 2, 36, 2, 2, 4, True, "abcd", 5, 2), [2, 4, 0, 2, 4], torch.bfloat16),
    "kind_p4": (config_make("kind", 16, 1, 4, 24, 1, 1, 4, False, "ab", 7, 1), [1, 0, 2, 0], torch.bfloat16),
    "kind_fused": (config_make("kind", 12, 3, 2, 72, 1, 4, 2, True, "abc", 6, 2, True, True), [1, 3, 2, 1],
                   torch.bfloat16),
}
TIMESTEPS = [0, 999, 500, 17, 1]

TRAJECTORY_STEPS = 10
TRAJECTORIES = {  # name: (config, labels of each step, weight decay, whether all that is shared is frozen)
    "trajectory_kind": (config_make("kind", 8, 1, 2, 16, 1, 2, 2, True, "abcd", 4, 1),
                        [[0, 1, 4, 0], [2, 0, 4, 4], [1, 1, 2, 0], [4, 4, 4, 4], [0, 0, 0, 4],
                         [1, 2, 0, 1], [2, 2, 4, 0], [0, 1, 2, 4], [0, 4, 1, 1], [0, 1, 0, 1]], 0.01, False),
    "trajectory_dense": (config_make("dense", 8, 1, 2, 16, 1, 2, 2, True, "abc"),
                         [[i % 3, 3, i // 5, (i * 2) % 3] for i in range(TRAJECTORY_STEPS)], 0.0, False),
    "trajectory_adapt": (config_make("kind", 8, 1, 2, 16, 1, 2, 2, True, "abc", 4, 2),
                         [[0, 1, 0, 0], [1, 0, 3, 1], [1, 1, 0, 0], [3, 3, 3, 3], [0, 0, 0, 1],
                          [1, 1, 0, 1], [1, 1, 3, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1]], 0.01, True),
}
# A key bias has gradient zero (softmax does not see it), in float32 rounding noise: 1e-6 keeps Adam from amplifying it.
LR, BETA1, BETA2, EPS, EMA = 1e-3, 0.9, 0.999, 1e-6, 0.9


def save(path, tensors):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)


def rounded(results):
    return {name: tensor.float() for name, tensor in results.items()}


def exact(tensor, dtype=torch.float32):
    """Rounded to `dtype` and back, so that a file of that dtype holds exactly what is computed with."""
    return tensor.to(dtype).double()


def weights_make(config, dtype, generator):
    """Random weights that keep activations near 1 in every layer, so that no error hides behind a zero."""
    params = {}
    for name, shape in kind_dit.parameter_shapes(config).items():
        value = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith(".bias"):
            value = 0.1 * value
        elif name.endswith(".s"):
            value = 1 + 0.4 * value
        elif name.endswith(".V"):
            value = value / (config["n_learngene"] + config["n_tailor"]) ** 0.5
        elif name.startswith("final_layer.linear"):
            value = 0.5 * value / shape[1] ** 0.5
        elif "embedding_table" in name:
            value = 0.5 * value
        else:
            value = value / torch.tensor(shape[1:]).prod().item() ** 0.5
        params[name] = exact(value, dtype)
    return params


def images_make(config, n, generator):
    """Images as uint8 data gives them, some pixels exactly -1 and 1 (the open bins of the decoder)."""
    shape = (n, config["channels"], config["image_size"], config["image_size"])
    return exact((torch.randint(-20, 276, shape, generator=generator).clamp(0, 255) / 127.5 - 1).float())


def noise_make(shape, generator):
    return exact(torch.randn(shape, generator=generator, dtype=torch.float64))


def model_write(folder, config, params, dtype):
    save(os.path.join(folder, "model.safetensors"), {name: tensor.to(dtype) for name, tensor in params.items()})
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
        file.write("\n")


def require_close(what, found, expected, tolerance):
    error = ((found - expected).norm() / expected.norm()).item()
    if not error <= tolerance:
        raise SystemExit(f"the oracle disagrees with {what}: relative error {error:.3g}, allowed {tolerance:.3g}")
    print(f"  agrees with {what}: {error:.2g}")


# ---- the oracle against others ---------------------------------------------------------------------------------------


class DoubleTimesteps(torch.nn.Module):
    """diffusers' sinusoidal features without its rounding to float32; the shift makes the frequencies i/128."""

    def forward(self, t):
        from diffusers.models.embeddings import get_timestep_embedding
        ours = kind_dit.timestep_features(t, torch.float64)
        theirs = get_timestep_embedding(t, kind_dit.FREQUENCIES, flip_sin_to_cos=True, downscale_freq_shift=0)
        require_close("diffusers' time features (float32)", ours, theirs.double(), 1e-4)
        return ours


def diffusers_model(config, params):
    """DiTTransformer2DModel with the same weights. q, k, v lie apart there, and each block repeats the embedders."""
    from diffusers import DiTTransformer2DModel
    D, C, depth = config["width"], config["channels"], config["depth"]
    model = DiTTransformer2DModel(
        num_attention_heads=config["heads"], attention_head_dim=D // config["heads"], in_channels=C,
        out_channels=C * (2 if config["learn_sigma"] else 1), num_layers=depth, sample_size=config["image_size"],
        patch_size=config["patch"], num_embeds_ada_norm=len(config["classes"]), norm_eps=1e-6).double().eval()
    state = {"pos_embed.proj." + w: params["x_embedder.proj." + w] for w in ("weight", "bias")}
    for w in ("weight", "bias"):
        state["proj_out_1." + w] = params["final_layer.adaLN_modulation.1." + w]
        state["proj_out_2." + w] = params["final_layer.linear." + w]
    for i in range(depth):
        ours, theirs = f"blocks.{i}.", f"transformer_blocks.{i}."
        state[theirs + "norm1.emb.class_embedder.embedding_table.weight"] = params["y_embedder.embedding_table.weight"]
        for w in ("weight", "bias"):
            for part, to in zip(params[ours + "attn.qkv." + w].chunk(3), ("to_q.", "to_k.", "to_v.")):
                state[theirs + "attn1." + to + w] = part
            for a, b in (("attn.proj.", "attn1.to_out.0."), ("mlp.fc1.", "ff.net.0.proj."), ("mlp.fc2.", "ff.net.2."),
                         ("adaLN_modulation.1.", "norm1.linear.")):
                state[theirs + b + w] = params[ours + a + w]
            for a, b in (("mlp.0.", "linear_1."), ("mlp.2.", "linear_2.")):
                state[theirs + "norm1.emb.timestep_embedder." + b + w] = params["t_embedder." + a + w]
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or missing:
        raise SystemExit(f"diffusers' state dict differs: missing {missing}, unexpected {unexpected}")
    # The position table is a float32 buffer made from float64 numbers; ours must round to it.
    table = kind_dit.position_table(config["image_size"] // config["patch"], D, torch.float64)
    require_close("diffusers' position table", table, model.pos_embed.pos_embed[0].double(), 1e-7)
    model.pos_embed.pos_embed.copy_(table[None])
    for block in model.transformer_blocks:
        block.norm1.emb.time_proj = DoubleTimesteps()
    return model


def check_dense(config, params, x, t, y):
    with torch.no_grad():
        theirs = diffusers_model(config, params)(x, timestep=t, class_labels=y).sample
    require_close("DiTTransformer2DModel", kind_dit.forward(config, params, x, t, y), theirs, 1e-12)


def check_kind(config, params, x, t):
    dense = dict(config, kind="dense")
    for label in range(len(config["classes"]) + 1):
        y = torch.full((len(x),), label)
        merged = kind_dit.merge(config, params, label)
        require_close(f"the dense model merged for label {label}", kind_dit.forward(config, params, x, t, y),
                      kind_dit.forward(dense, merged, x, t, y), 1e-12)


def check_schedulers(schedule):
    """One step from the same x, at each of the ten steps, against diffusers (whose tables are float32)."""
    from diffusers import DDIMScheduler, DDPMScheduler
    common = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": True}
    ddpm = DDPMScheduler(variance_type="learned_range", **common)
    ddim = DDIMScheduler(set_alpha_to_one=True, **common)
    kept = list(range(0, 1000, 100))
    respaced = schedule.respace(kept)
    for scheduler in (ddpm, ddim):
        scheduler.set_timesteps(10)
        if list(scheduler.timesteps) != kept[::-1]:
            raise SystemExit("diffusers chose other timesteps")
    generator = torch.Generator().manual_seed(7)
    worst = {"ddpm": 0.0, "ddim": 0.0}
    for index, original in enumerate(kept):
        x, z = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
        output = 0.5 * torch.randn(2, 6, 4, 4, generator=generator, dtype=torch.float64)
        t = torch.full((2,), index)
        # With zero noise the seed of the scheduler does not matter; its variance is compared on its own.
        mean = diffusion.step_ddpm(respaced, output, x, t, torch.zeros_like(x), True)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        ours = diffusion.step_ddpm(respaced, output, x, t, noise, True)
        theirs = ddpm.step(output, original, x, generator=torch.Generator().manual_seed(1)).prev_sample
        worst["ddpm"] = max(worst["ddpm"], ((ours - theirs).norm() / mean.norm()).item())
        for eta in (0.0, 0.5):
            ours = diffusion.step_ddim(respaced, output, x, t, z, True, eta)
            theirs = ddim.step(output[:, :3], original, x, eta=eta, use_clipped_model_output=True,
                               variance_noise=z * (index != 0)).prev_sample
            worst["ddim"] = max(worst["ddim"], ((ours - theirs).norm() / ours.norm()).item())
    for name, error in worst.items():
        if not error < 1e-4:
            raise SystemExit(f"diffusers' {name} differs: {error:.3g}")
        print(f"  agrees with diffusers' {name} step: {error:.2g}")


def check_kl():
    mean1, mean2, lv1, lv2 = torch.randn(4, 100, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    theirs = torch.distributions.kl_divergence(torch.distributions.Normal(mean1, torch.exp(0.5 * lv1)),
                                               torch.distributions.Normal(mean2, torch.exp(0.5 * lv2)))
    require_close("torch.distributions' KL", diffusion.normal_kl(mean1, lv1, mean2, lv2), theirs, 1e-12)


# ---- the files -------------------------------------------------------------------------------------------------------


def losses(schedule, config, params, x0, noise, t, y):
    """(loss, mse, vlb or None, the model's input and its output)."""
    passes = []

    def model(xt, original):
        passes.append((xt, kind_dit.forward(config, params, xt, original, y)))
        return passes[-1][1]

    mse, vlb = diffusion.loss_terms(schedule, model, x0, noise, t, config["learn_sigma"])
    return (mse + vlb if vlb is not None else mse).mean(), mse, vlb, passes[0]


def make_case(name, schedule, seed):
    config, labels, dtype = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    params = weights_make(config, dtype, generator)
    y, t = torch.tensor(labels), torch.tensor(TIMESTEPS[: len(labels)])
    x0 = images_make(config, len(y), generator)
    x, noise = noise_make(x0.shape, generator), noise_make(x0.shape, generator)
    print(name)
    if config["kind"] == "dense":
        check_dense(config, params, x, t, y)
    else:
        check_kind(config, params, x, t)

    results = {"out": kind_dit.forward(config, params, x, t, y)}
    if config["kind"] == "kind":
        results["out.null"] = kind_dit.forward(config, params, x, t, torch.full_like(y, len(config["classes"])))
    leaves = {key: tensor.clone().requires_grad_() for key, tensor in params.items()}
    results["loss"], results["mse"], vlb, (results["xt"], output) = losses(schedule, config, leaves, x0, noise, t, y)
    if vlb is not None:
        results["vlb"] = vlb
    output.retain_grad()
    results["loss"].backward()
    results["doutput"] = output.grad
    results.update({"grad." + key: leaf.grad for key, leaf in leaves.items()})

    folder = os.path.join(HERE, name)
    model_write(folder, config, params, dtype)
    save(os.path.join(folder, "io.safetensors"),
         {**rounded(results), "x": x.float(), "x0": x0.float(), "noise": noise.float(), "t": t, "y": y})


def make_trajectory(name, schedule, seed):
    """AdamW and EMA over changing batches. A tailor is a parameter of its own; AdamW passes by one without gradient."""
    config, labels, weight_decay, frozen = TRAJECTORIES[name]
    generator = torch.Generator().manual_seed(seed)
    params = weights_make(config, torch.bfloat16, generator)
    n = len(config["classes"])
    pieces = {}  # name -> [tailor 0, ..., tailor n-1, shared] or [shared]
    for key, tensor in params.items():
        rows = kind_dit.tailor_rows(config, key)
        split = tensor.split([rows] * n + [len(tensor) - n * rows]) if rows else [tensor]
        pieces[key] = [piece.clone().requires_grad_() for piece in split[:-1]]
        pieces[key].append(split[-1].clone().requires_grad_(not frozen))
    ema = {key: tensor.clone() for key, tensor in params.items()}
    trained = [piece for split in pieces.values() for piece in split if piece.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, betas=(BETA1, BETA2), eps=EPS, weight_decay=weight_decay)

    y = torch.tensor(labels)
    steps, B = y.shape
    x0 = images_make(config, steps * B, generator)
    noise = noise_make(x0.shape, generator)
    x0, noise = (z.reshape(steps, B, *z.shape[1:]) for z in (x0, noise))
    t = torch.randint(0, 1000, (steps, B), generator=generator)
    t[2, 1] = 0
    curve = {"loss": [], "mse": [], "vlb": []}
    for i in range(steps):
        optimizer.zero_grad()
        whole = {key: torch.cat(split) for key, split in pieces.items()}
        terms = losses(schedule, config, whole, x0[i], noise[i], t[i], y[i])
        for values, value in zip(curve.values(), terms):
            values.append(value.detach())
        if terms[0].requires_grad:  # not where only frozen weights are in use
            terms[0].backward()
        for split in pieces.values():
            for c in range(len(split) - 1):
                if not (y[i] == c).any():
                    if split[c].grad is not None and split[c].grad.abs().max() != 0:
                        raise SystemExit(f"{name}: an absent tailor has a gradient")
                    split[c].grad = None
        optimizer.step()
        for key, split in pieces.items():
            ema[key] = EMA * ema[key] + (1 - EMA) * torch.cat(split).detach()
    final = {"final." + key: torch.cat(split) for key, split in pieces.items()}
    folder = os.path.join(HERE, name)
    model_write(folder, config, params, torch.bfloat16)
    save(os.path.join(folder, "io.safetensors"), {
        **rounded(final), **rounded({"ema." + key: tensor for key, tensor in ema.items()}),
        **rounded({key: torch.stack(values) for key, values in curve.items()}),
        "x0": x0.float(), "noise": noise.float(), "t": t, "y": y})
    print(f"{name}: losses {' '.join(f'{v.item():.3f}' for v in curve['loss'])}")


SAMPLERS = {  # name: (method, eta, w, guided channels, clip)
    "ddpm_first3": ("ddpm", 0.0, 1.5, 3, True),
    "ddpm_all": ("ddpm", 0.0, 1.5, 4, False),
    "ddim": ("ddim", 0.0, 1.5, 4, True),
    "ddim_eta": ("ddim", 0.5, 1.0, 4, True),
}


def make_sampler(schedule, seed):
    config, params = kind_dit.load(os.path.join(HERE, "kind_p2"))
    null, steps = len(config["classes"]), 10
    generator = torch.Generator().manual_seed(seed)
    y = torch.tensor([3, null])
    shape = (len(y), config["channels"], config["image_size"], config["image_size"])
    start, noise = noise_make(shape, generator), noise_make((steps, *shape), generator)
    respaced = schedule.respace(diffusion.space_timesteps(1000, steps))
    results = {}
    for name, (method, eta, w, channels, clip) in SAMPLERS.items():
        results["trajectory." + name] = diffusion.sample(
            respaced, lambda x, t, c: kind_dit.forward(config, params, x, t, c), start, y, null,
            noise, method=method, eta=eta, w=w, channels=channels, clip=clip)
        last = results["trajectory." + name][-1]
        print(f"sampler {name}: final x mean {last.mean():.3f}, largest {last.abs().max():.3f}")
    save(os.path.join(HERE, "sampler", "io.safetensors"),
         {**rounded(results), "start": start.float(), "noise": noise.float(), "y": y})


def make_schedule(schedule):
    """Float64: the C side computes in double too."""
    spacings = {"full": None, "even10": diffusion.space_timesteps(1000, 10),
                "even7": diffusion.space_timesteps(1000, 7), "even64": diffusion.space_timesteps(1000, 64),
                "ddim50": diffusion.space_timesteps_ddim(1000, 50)}
    tensors = {}
    for name, kept in spacings.items():
        s = schedule if kept is None else schedule.respace(kept)
        tensors[name + ".timestep"] = torch.tensor(s.timestep)
        for field in ("beta", "alpha_bar", "alpha_bar_prev", "posterior_variance", "posterior_log_variance", "mean_x0",
                      "mean_xt"):
            tensors[f"{name}.{field}"] = getattr(s, field)
    save(os.path.join(HERE, "schedule", "io.safetensors"), tensors)


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    schedule = diffusion.Schedule(diffusion.betas_linear())
    check_kl()
    check_schedulers(schedule)
    for seed, name in enumerate(CASES):
        make_case(name, schedule, 100 + seed)
    for seed, name in enumerate(TRAJECTORIES):
        make_trajectory(name, schedule, 200 + seed)
    make_sampler(schedule, 300)
    make_schedule(schedule)
    size = sum(os.path.getsize(os.path.join(folder, file)) for folder, _, files in os.walk(HERE) for file in files)
    print(f"{size / 1e6:.2f} MB in all")


if __name__ == "__main__":
    main()
