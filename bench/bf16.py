"""The losses of bench/bf16.sh's two runs: how far apart they are, and a picture. bf16.py FOLDER"""
import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def losses(run):
    with open(run / "metrics.csv") as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}


folder = Path(sys.argv[1])
fp32, bf16 = losses(folder / "fp32"), losses(folder / "bf16")
steps = sorted(set(fp32) & set(bf16))
apart = {step: abs(bf16[step] - fp32[step]) / fp32[step] for step in steps}
late = [step for step in steps if step > steps[-1] * 2 // 3]
mean = lambda run, of: sum(run[step] for step in of) / len(of)
print(f"means of 50 steps: {100 * mean(apart, steps):.2f} % apart on average, {100 * max(apart.values()):.2f} % at most; "
      f"means of the last third: {100 * abs(mean(bf16, late) / mean(fp32, late) - 1):.2f} %")
figure, axes = plt.subplots(figsize=(7, 3.5), dpi=100)
axes.plot(steps, [fp32[step] for step in steps], label="fp32", linewidth=2.5, alpha=0.5)
axes.plot(steps, [bf16[step] for step in steps], label="bf16", linewidth=1)
axes.set(xlabel="step", ylabel="loss, mean of 50 steps", yscale="log")
axes.legend()
figure.tight_layout()
figure.savefig(folder / "bf16.png")
