"""Makes the golden files of methods of layers: similarity.npz, and the folders teacher and student.

Provenance: similarities are numpy's, in float64, from Kornblith et al.'s definition by centred Gram matrices of the
examples (kindit multiplies features instead). Losses and gradients of distillation are PyTorch's, in float64, of the DiT
of ../model/kind_dit.py, from LAPTOP-Diff's normalised feature loss as docs/method.md reads it; fixed seeds, one thread;
nothing is taken from kindit's own C. Weights and inputs are exactly what the files hold (float32); results are rounded
to float32 once.

similarity.npz: x, y (N, D), cka (1); the second case x2, y2, cka2 has means a thousand times what varies about them.
teacher: a dense model of three blocks and classes a, b, c. student: two blocks, which are to follow blocks 0 and 2 of the
teacher, and classes b, d, c; io.safetensors:
  x0, noise, t, y -> mse, vlb, distance (per sample), loss (mean of their sum), grad.<tensor>

Made with Python 3.11, torch 2.15, numpy 2.
Rerun:  python tests/golden/adapt/blocks.py
"""
import os
import sys

import numpy
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "model"))
import diffusion  # noqa: E402
import kind_dit  # noqa: E402
import make as model_make  # noqa: E402

KEPT = [0, 2]


def cka(x, y):
    n = len(x)
    centre = numpy.eye(n) - numpy.full((n, n), 1 / n)
    k, l = (centre @ (z @ z.T) @ centre for z in (x, y))
    return numpy.sum(k * l) / numpy.sqrt(numpy.sum(k * k) * numpy.sum(l * l))


def make_similarity():
    random = numpy.random.default_rng(1)
    arrays = {}
    for suffix, offset in (("", 0.3), ("2", 1000.0)):
        shared = random.standard_normal((40, 3)) @ random.standard_normal((3, 12))
        x = (shared + 0.7 * random.standard_normal((40, 12)) + offset).astype(numpy.float32)
        y = (2 * shared[:, ::-1] + random.standard_normal((40, 12)) - offset).astype(numpy.float32)
        arrays.update({"x" + suffix: x, "y" + suffix: y,
                       "cka" + suffix: numpy.array([cka(x.astype(float), y.astype(float))], numpy.float32)})
        print("cka" + suffix, arrays["cka" + suffix])
    numpy.savez(os.path.join(HERE, "similarity.npz"), **arrays)


def model(name, depth, classes, generator):
    config = model_make.config_make("dense", 8, 2, 2, 24, depth, 2, 4, True, classes)
    params = model_make.weights_make(config, torch.float32, generator)
    model_make.model_write(os.path.join(HERE, name), config, params, torch.float32)
    return config, params


def label_for(teacher, student, y):
    """The teacher's number of each class, by id; its null label where it does not know the class."""
    ids = [c["id"] for c in teacher["classes"]]
    known = [ids.index(c["id"]) if c["id"] in ids else len(ids) for c in student["classes"]] + [len(ids)]
    return torch.tensor([known[label] for label in y.tolist()])


def make_distillation():
    generator = torch.Generator().manual_seed(2)
    teacher, teacher_params = model("teacher", 3, "abc", generator)
    student, params = model("student", len(KEPT), "bdc", generator)
    schedule = diffusion.Schedule(diffusion.betas_linear())
    t, y = torch.tensor([999, 20, 0, 500, 3]), torch.tensor([0, 1, 2, 3, 0])
    x0 = model_make.images_make(student, len(y), generator)
    noise = model_make.noise_make(x0.shape, generator)
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    streams, targets = [], []

    def student_model(x, steps):
        return kind_dit.forward(student, leaves, x, steps, y, streams)

    mse, vlb = diffusion.loss_terms(schedule, student_model, x0, noise, t, True)
    with torch.no_grad():
        kind_dit.forward(teacher, teacher_params, schedule.add_noise(x0, noise, t), torch.tensor(schedule.timestep)[t],
                         label_for(teacher, student, y), targets)
    pairs = [(streams[i], targets[block]) for i, block in enumerate(KEPT)]
    distance = sum(((s - g) ** 2).sum((1, 2)) / (g ** 2).sum((1, 2)) for s, g in pairs) / len(KEPT)
    loss = (mse + vlb + distance).mean()
    loss.backward()
    results = {"mse": mse, "vlb": vlb, "distance": distance, "loss": loss.reshape(1)}
    results.update({"grad." + name: leaf.grad for name, leaf in leaves.items()})
    inputs = {"x0": x0.float(), "noise": noise.float(), "t": t, "y": y}
    model_make.save(os.path.join(HERE, "student", "io.safetensors"), inputs | model_make.rounded(results))
    print("mse", mse.tolist(), "vlb", vlb.tolist(), "distance", distance.tolist())


torch.set_num_threads(1)
make_similarity()
make_distillation()
