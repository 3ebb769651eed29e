"""What a Grad-CAM map costs, as ratios to plain inference measured in the same run.

    python tests/benchmarks/bench_saliency.py [--json PATH] [--rounds N] [--sizes 64 224] …

Every round times plain inference and each method on the same batch, in a new order, so that a busy
machine slows all alike; a figure is the median of the rounds' ratios. FLOPs are counted, and so are the
bytes that autograd saves for a backward while a method runs. Weights are random: they do not change costs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path

import torch
import torchvision
from captum.attr import LayerGradCam
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

import xfeedback_widgets.saliency as xs

MODELS = ("resnet18", "resnet50", "mobilenet_v2")
BARS = "bars: ours/plain ≥ 0.95, FLOPs ≤ 1.01, graph 0 bytes, ours/captum ≥ 1, ours/pytorch-grad-cam ≥ 2"


def contenders(model, images, targets):
    """The ways to get from `images` to maps (or to logits only), each as a function without arguments."""
    ours = xs.GradCAM(model)
    layer = ours.target_layer.module
    captum = LayerGradCam(model, layer)
    indices = torch.tensor(targets, device=images.device)

    def plain():
        with torch.no_grad():
            return model(images)

    found = {
        "plain": plain,
        "ours": lambda: ours.explain(images, targets),
        "captum": lambda: captum.attribute(images, indices, relu_attributions=True),
    }
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        return found
    other = GradCAM(model=model, target_layers=[layer])
    wanted = [ClassifierOutputTarget(target) for target in targets]
    # it leaves hooks in the model: only while it runs, or it would slow down the others
    other.activations_and_grads.release()

    def pytorch_grad_cam():
        with GradCAM(model=model, target_layers=[layer]) as cam:
            return cam(input_tensor=images, targets=wanted)

    return {**found, "pytorch_grad_cam": pytorch_grad_cam}


def seconds(run, device):
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def kept_bytes(run):
    """Bytes that autograd packs for a later backward while `run` runs (shared storages count once)."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(storages.values())


def flops(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def measure(name, size, batch, rounds, device):
    model = torchvision.models.get_model(name, weights=None).eval().to(device)
    images = torch.rand(batch, 3, size, size, device=device)
    runs = contenders(model, images, [i % 1000 for i in range(batch)])
    times = {key: [] for key in runs}
    for run in runs.values():
        run()
    order = list(runs)
    for _ in range(rounds):
        random.shuffle(order)  # what runs after a hungry method pays for its garbage
        for key in order:
            times[key].append(seconds(runs[key], device))

    def ratio(slow, fast):
        pairs = zip(times[slow], times[fast], strict=True)
        return statistics.median(a / b for a, b in pairs)

    row = {
        "model": name,
        "size": size,
        "batch": batch,
        "plain_images_per_s": batch / statistics.median(times["plain"]),
        "ours_over_plain": ratio("plain", "ours"),
        "captum_over_plain": ratio("plain", "captum"),
        "ours_over_captum": ratio("captum", "ours"),
        "flops_over_plain": flops(runs["ours"]) / flops(runs["plain"]),
        "graph_bytes": kept_bytes(runs["ours"]),
        "captum_graph_bytes": kept_bytes(runs["captum"]),
    }
    if "pytorch_grad_cam" in runs:
        row["ours_over_pytorch_grad_cam"] = ratio("pytorch_grad_cam", "ours")
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads; {BARS}")
    columns = ("model", "size", "batch", "plain im/s", "ours/plain", "captum/plain", "ours/captum")
    columns += ("ours/pgc", "FLOPs", "graph B", "captum graph MB")
    print(" | ".join(columns))
    rows = []
    for name in options.models:
        for size in options.sizes:
            for batch in options.batches:
                row = measure(name, size, batch, options.rounds, device)
                rows.append(row)
                figures = (
                    f"{row['plain_images_per_s']:.1f}",
                    f"{row['ours_over_plain']:.3f}",
                    f"{row['captum_over_plain']:.3f}",
                    f"{row['ours_over_captum']:.2f}",
                    f"{row.get('ours_over_pytorch_grad_cam', float('nan')):.2f}",
                    f"{row['flops_over_plain']:.4f}",
                    str(row["graph_bytes"]),
                    f"{row['captum_graph_bytes'] / 1e6:.1f}",
                )
                print(" | ".join((name, str(size), str(batch), *figures)), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
