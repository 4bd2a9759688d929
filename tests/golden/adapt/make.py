"""Makes the golden files of this folder: what models with fine-tuning adapters must compute, and how they must train.

Provenance: LoRA, PiSSA, DoRA, LoHa and OFT are the peft package's own layers, around the nn.Linear layers of the DiT of
../model/kind_dit.py (q, k, v apart); SVDiff and the ablations are the few lines of PyTorch below, written from the
papers. All in float64 on one thread with fixed seeds; nothing is taken from kindit's own C. Weights and inputs are
exactly what the files hold (float32); results are rounded to float32 once.

A case is a folder: config.json and model.safetensors as kindit has them, and io.safetensors:
  x, t, y -> out                                       a forward pass
  x0, noise, t0, y0 -> loss, grad.<tensor>             of the first step, every tensor that trains
  x0, noise, t0, y0 (10 steps) -> losses, final.<tensor>   AdamW over what trains
PiSSA has besides the dense model that it starts from (dense.<tensor>).

kindit keeps LoRA's B, LoHa's w1_a and w2_a transposed (a component is a row of each factor), and alpha / r in lora_s.

Made with Python 3.11, torch 2.15, peft 0.21.
Rerun:  python tests/golden/adapt/make.py [CASE ...]
"""
import os
import sys

import torch
from peft import LoHaConfig, LoraConfig, OFTConfig, get_peft_model

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "model"))
import diffusion  # noqa: E402
import kind_dit  # noqa: E402
import make as model_make  # noqa: E402

STEPS, LR, EPS = 10, 1e-3, 1e-6
RANK, ALPHA, BLOCKS, N_LEARNGENE = 3, 6, 4, 9
SIX = [f"attn.{part}" for part in ("q", "k", "v", "proj")] + ["mlp.fc1", "mlp.fc2"]
TARGETS = r".*\d+_(attn_(q|k|v|proj)|mlp_fc[12])"
LABELS = "y_embedder.embedding_table.weight"
LABELS_OF_STEPS = [[i % 3, 3, i // 5, (i * 2) % 3] for i in range(STEPS)]


def config_make(adapter, factored):
    config = model_make.config_make("kind" if factored else "dense", 8, 1, 2, 24, 2, 2, 4, True, "abc",
                                    factored if factored else 0, 0)
    return dict(config, format=3, adapter=adapter)


def matrix_names(config):
    return [f"blocks.{i}.{name}" for i in range(config["depth"]) for name in SIX]


def dense_make(config, generator):
    """name -> float64 tensor of a dense model with q, k, v apart."""
    params = model_make.weights_make(dict(config, kind="dense"), torch.float32, generator)
    for i in range(config["depth"]):
        for what in ("weight", "bias"):
            for part, rows in zip("qkv", params.pop(f"blocks.{i}.attn.qkv.{what}").chunk(3)):
                params[f"blocks.{i}.attn.{part}.{what}"] = rows.clone()
    return params


def randomise(tensor, generator, scale):
    with torch.no_grad():
        tensor.copy_(model_make.exact(scale * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)))


# ---- peft's adapters -------------------------------------------------------------------------------------------------

# our name -> (attribute of peft's layer, transposed)
LORA = {"lora_A": ("lora_A.default.weight", False), "lora_B": ("lora_B.default.weight", True)}
PEFT = {
    "lora": (LORA, {"kind": "lora", "rank": RANK, "alpha": ALPHA}, LoraConfig(r=RANK, lora_alpha=ALPHA)),
    "pissa": (LORA, {"kind": "lora", "rank": RANK, "alpha": ALPHA},
              LoraConfig(r=RANK, lora_alpha=ALPHA, init_lora_weights="pissa")),
    "dora": (dict(LORA, lora_m=("lora_magnitude_vector.default.weight", False)),
             {"kind": "dora", "rank": RANK, "alpha": ALPHA}, LoraConfig(r=RANK, lora_alpha=ALPHA, use_dora=True)),
    "loha": ({f"hada_w{i}_{part}": (f"hada_w{i}_{part}.default", part == "a") for i in (1, 2) for part in "ab"},
             {"kind": "loha", "rank": RANK, "alpha": ALPHA}, LoHaConfig(r=RANK, alpha=ALPHA)),
    "oft_exact": ({"oft_R": ("oft_R.default.weight", False)}, {"kind": "oft", "blocks": BLOCKS, "cayley_terms": 0},
                  OFTConfig(r=BLOCKS, oft_block_size=0, use_cayley_neumann=False)),
    "oft_neumann": ({"oft_R": ("oft_R.default.weight", False)}, {"kind": "oft", "blocks": BLOCKS, "cayley_terms": 5},
                    OFTConfig(r=BLOCKS, oft_block_size=0, use_cayley_neumann=True, num_cayley_neumann_terms=5)),
}


def get_path(module, path):
    for part in path.split("."):
        module = module[part] if isinstance(module, torch.nn.ParameterDict) else getattr(module, part)
    return module


def peft_case(name, generator):
    """(config, fixed tensors, trained tensors by our name as (parameter, transposed), layers, the dense model)."""
    table, adapter, settings = PEFT[name]
    config = config_make(adapter, 0)
    dense = dense_make(config, generator)
    layers = torch.nn.ModuleDict()
    for matrix in matrix_names(config):
        weight = dense[matrix + ".weight"]
        layers[matrix.replace(".", "_")] = layer = torch.nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight.float(), dense[matrix + ".bias"].float()
    settings.target_modules = TARGETS
    wrapped = get_peft_model(layers, settings).double()
    params, trained, modules = dict(dense), {}, {}
    for matrix in matrix_names(config):
        layer = wrapped.base_model.model[matrix.replace(".", "_")]
        modules[matrix] = layer
        params[matrix + ".weight"] = layer.get_base_layer().weight.detach()
        if "lora_A" in table:
            params[matrix + ".lora_s"] = torch.full((RANK,), ALPHA / RANK, dtype=torch.float64)
        for ours, (path, transposed) in table.items():
            parameter = get_path(layer, path)
            if ours == "lora_m":
                with torch.no_grad():
                    parameter.mul_(model_make.exact(1 + 0.2 * torch.randn(parameter.shape, generator=generator)))
                    parameter.copy_(model_make.exact(parameter))
            elif name != "pissa":
                randomise(parameter, generator, 0.15 if ours == "oft_R" else 0.4)
            trained[f"{matrix}.{ours}"] = (parameter, transposed)
    return config, params, trained, modules, dense


# ---- our own PyTorch: SVDiff and the ablations -------------------------------------------------------------------------


class Factored(torch.nn.Module):
    """y = ((x U^T) * s) V + b with U (r, m1), V (r, m2)."""

    def __init__(self, params, matrix):
        super().__init__()
        self.u, self.s, self.v, self.b = (params[f"{matrix}.{part}"] for part in ("U", "s", "V", "bias"))

    def forward(self, x):
        return ((x @ self.u.T) * self.s) @ self.v + self.b


class Components(torch.nn.Module):
    """base + ((x A^T) * s) B, for every class."""

    def __init__(self, base, a, s, b):
        super().__init__()
        self.base, self.a, self.s, self.b = base, a, s, b

    def forward(self, x):
        return self.base(x) + ((x @ self.a.T) * self.s) @ self.b


class Shifted(torch.nn.Module):
    """SVDiff (Han et al. 2023): W' = U diag(relu(s + d)) V^T."""

    def __init__(self, base, shift):
        super().__init__()
        self.base, self.shift = base, shift

    def forward(self, x):
        return ((x @ self.base.u.T) * torch.relu(self.base.s + self.shift)) @ self.base.v + self.base.b


def factor(dense, config, rank):
    """The dense model with each of the six matrices as its first singular vectors; for a case that is enough."""
    params = {}
    for name, tensor in dense.items():
        if name.endswith(".weight") and name[: -len(".weight")] in matrix_names(config):
            left, s, right = torch.linalg.svd(tensor, full_matrices=False)
            base = name[: -len(".weight")]
            params[base + ".U"], params[base + ".s"] = right[:rank], s[:rank]
            params[base + ".V"] = left[:, :rank].T
        else:
            params[name] = tensor
    return {name: model_make.exact(tensor) for name, tensor in params.items()}


def own_case(name, generator):
    adapter = {"svdiff": {"kind": "svdiff"}, "components": {"kind": "components", "rank": RANK},
               "lora_factored": {"kind": "lora", "rank": RANK, "alpha": ALPHA}}[name]
    config = config_make(adapter, 24 if name == "svdiff" else N_LEARNGENE)
    dense = dense_make(config, generator)
    params = factor(dense, config, config["n_learngene"])
    trained, modules = {}, {}

    def leaf(matrix, ours, shape, scale, mean=0.0):
        tensor = model_make.exact(mean + scale * torch.randn(shape, generator=generator, dtype=torch.float64))
        parameter = torch.nn.Parameter(tensor)
        trained[f"{matrix}.{ours}"] = (parameter, False)
        return parameter

    for matrix in matrix_names(config):
        base = Factored(params, matrix)
        m1, m2 = base.u.shape[1], base.v.shape[1]
        if name == "svdiff":  # some sums below zero, where the ReLU shuts
            modules[matrix] = Shifted(base, leaf(matrix, "shift", (len(base.s),), 0.6))
            continue
        a, b = leaf(matrix, "lora_A", (RANK, m1), 0.3), leaf(matrix, "lora_B", (RANK, m2), 0.3)
        if name == "components":
            s = leaf(matrix, "lora_s", (RANK,), 0.3, 1.0)
        else:
            s = params[matrix + ".lora_s"] = torch.full((RANK,), ALPHA / RANK, dtype=torch.float64)
        modules[matrix] = Components(base, a, s, b)
    return config, params, trained, modules, None


# ---- the files ---------------------------------------------------------------------------------------------------------


def train(schedule, config, params, trained, modules, batch):
    """(loss and gradients of the first step, losses, final tensors). A factored model's label row is its tailor's."""
    x0, noise, t, y = batch
    n = len(config["classes"])
    label_rows = [row.clone()[None].requires_grad_() for row in params[LABELS]]
    table = torch.nn.Parameter(params[LABELS].clone())
    leaves = [parameter for parameter, _ in trained.values()]
    is_factored = config["kind"] == "kind"
    leaves += label_rows if is_factored else [table]
    optimizer = torch.optim.AdamW(leaves, lr=LR, betas=(0.9, 0.999), eps=EPS, weight_decay=0)
    results, losses = {}, []
    for i in range(STEPS):
        optimizer.zero_grad()
        labels = torch.cat(label_rows) if is_factored else table
        loss = model_make.losses(schedule, config, {**params, **modules, LABELS: labels}, x0[i], noise[i], t[i], y[i])[0]
        losses.append(loss.detach())
        loss.backward()
        for c in range(n if is_factored else 0):
            if not (y[i] == c).any():
                label_rows[c].grad = None
        if i == 0:
            results["loss"] = loss.detach()
            for name, (parameter, transposed) in trained.items():
                results["grad." + name] = parameter.grad.T if transposed else parameter.grad
            zero = torch.zeros_like(label_rows[0])
            results["grad." + LABELS] = (
                torch.cat([zero if row.grad is None else row.grad for row in label_rows]) if is_factored else table.grad)
        optimizer.step()
    for name, (parameter, transposed) in trained.items():
        results["final." + name] = parameter.detach().T if transposed else parameter.detach()
    results["final." + LABELS] = (torch.cat(label_rows) if is_factored else table).detach()
    results["losses"] = torch.stack(losses)
    return results


def make_case(name, schedule, seed):
    generator = torch.Generator().manual_seed(seed)
    config, params, trained, modules, dense = (peft_case if name in PEFT else own_case)(name, generator)
    file = {key: tensor for key, tensor in params.items() if not key.endswith(".U") or "kind" in config["kind"]}
    for key, (parameter, transposed) in trained.items():
        file[key] = (parameter.T if transposed else parameter).detach().clone()
    x = model_make.noise_make((4, 1, 8, 8), generator)
    t, y = torch.tensor([0, 999, 500, 17]), torch.tensor([2, 3, 0, 1])
    y0 = torch.tensor(LABELS_OF_STEPS)
    x0 = model_make.images_make(config, STEPS * 4, generator)
    noise = model_make.noise_make(x0.shape, generator)
    x0, noise = (z.reshape(STEPS, 4, *z.shape[1:]) for z in (x0, noise))
    t0 = torch.randint(0, 1000, (STEPS, 4), generator=generator)
    with torch.no_grad():
        out = kind_dit.forward(config, {**params, **modules}, x, t, y)
    results = {"out": out, **train(schedule, config, params, trained, modules, (x0, noise, t0, y0))}
    if name == "pissa":
        results.update({"dense." + key: tensor for key, tensor in dense.items()})
    folder = os.path.join(HERE, name)
    model_make.model_write(folder, config, file, torch.float32)
    model_make.save(os.path.join(folder, "io.safetensors"), {
        **model_make.rounded(results), "x": x.float(), "t": t, "y": y, "x0": x0.float(), "noise": noise.float(),
        "t0": t0, "y0": y0})
    print(f"{name}: losses {' '.join(f'{v.item():.3f}' for v in results['losses'])}")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    schedule = diffusion.Schedule(diffusion.betas_linear())
    cases = [*PEFT, "svdiff", "components", "lora_factored"]
    for seed, name in enumerate(cases):
        if not sys.argv[1:] or name in sys.argv[1:]:
            make_case(name, schedule, 700 + seed)


if __name__ == "__main__":
    main()
