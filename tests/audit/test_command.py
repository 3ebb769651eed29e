"""``xfeedback audit`` on folders of images: models by name, from files and of the user's, and shards."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

import xfeedback_widgets as xf
from xfeedback_widgets.audit import AuditReport
from xfeedback_widgets.cli import main

MODULE = """
import torch
from torch import nn


def net():
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images of three digits in folders, a table of boxes, masks, and a module with a model."""
    images, labels = load_digits(n_class=3, return_X_y=True)
    names = ("nought", "one", "two")
    with (tmp_path / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "xmin", "ymin", "xmax", "ymax", "width", "height"])
        for number, (image, label) in enumerate(zip(images[:24], labels[:24], strict=True)):
            path = tmp_path / "images" / names[label] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image.reshape(8, 8) * 15).astype(np.uint8)).resize((32, 32)).save(path)
            table.writerow([path.name, names[label], 8, 0, 24, 32, 32, 32])
            mask = tmp_path / "masks" / f"{number:02d}.png"
            mask.parent.mkdir(exist_ok=True)
            Image.fromarray(
                np.where(np.arange(32) < 16, 1, 2).astype(np.uint8)[None].repeat(32, 0)
            ).save(mask)
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(xf.cli, "_device", lambda: "cpu")
    yield f"{name}:net"
    sys.modules.pop(name, None)


def test_a_model_of_the_users_and_every_output(folder, capsys):
    files = [f"report.{ending}" for ending in ("html", "json", "csv", "parquet")]
    assert main(["audit", folder, "images", "--boxes", "boxes.csv", "--output", *files]) == 0
    said = capsys.readouterr()
    assert "AuditReport(24 images" in said.out
    assert "24 of 24 images" in said.err
    assert all(f"written: {file}" in said.out for file in files)
    report = AuditReport.load("report.parquet")
    assert report.rows.tobytes() == AuditReport.load("report.json").rows.tobytes()
    assert report.rows["area"].tolist() == pytest.approx(
        [128 / 224] * 24
    )  # 32 → 256 pixels, crop of 224
    assert [line.split()[0] for line in said.out.splitlines()[2:5]] == report.ranking


def test_a_named_architecture_with_weights_from_files(folder, capsys):
    model = torchvision.models.squeezenet1_1(weights=None, num_classes=3)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, "weights.pt"
    )
    safetensors.torch.save_file(model.state_dict(), "weights.safetensors")
    for file in ("weights.pt", "weights.safetensors"):
        arguments = [
            "audit",
            "squeezenet1_1",
            "images",
            "--masks",
            "masks",
            "--relevant",
            "1",
            "--weights",
            file,
        ]
        assert main([*arguments, "--output", f"{file}.json", "--batch-size", "12"]) == 0
    one, two = (AuditReport.load(f"{file}.json") for file in ("weights.pt", "weights.safetensors"))
    assert one.rows.tobytes() == two.rows.tobytes()
    assert one.rows["area"].tolist() == pytest.approx([0.5] * 24)
    capsys.readouterr()
    assert main(["audit", "resnet18", "images", "--masks", "masks", "--weights", "weights.pt"]) == 1
    assert "weights.pt does not hold weights of resnet18" in capsys.readouterr().err
    assert main(["audit", "resnet999", "images", "--masks", "masks"]) == 1
    assert "torchvision has no classifier 'resnet999'" in capsys.readouterr().err


def test_weights_are_never_unpickled(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/pwned",)

    torch.save({"weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"evil\.pt cannot be read as weights"):
        xf.audit.load_model("squeezenet1_1", tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    with pytest.raises(ValueError, match=r"cut\.safetensors cannot be read as weights"):
        xf.audit.read_weights(tmp_path / "cut.safetensors")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        xf.audit.read_weights(tmp_path / "list.pt")


def test_a_timm_model_brings_its_own_transform(folder):
    timm = pytest.importorskip("timm")
    made = timm.create_model("resnet10t", pretrained=False, num_classes=3)
    safetensors.torch.save_file(made.state_dict(), "timm.safetensors")
    model, transform = xf.audit.load_model("timm/resnet10t", "timm.safetensors")
    image = transform(Image.new("RGB", (64, 48)))
    assert image.shape == (3, 176, 176)
    assert model(image[None]).shape == (1, 3)
    with pytest.raises(ValueError, match="timm has no model 'resnet_nothing'"):
        xf.audit.load_model("timm/resnet_nothing")


def test_processes_of_torchrun_take_a_shard_each(folder, capsys, monkeypatch):
    arguments = ["audit", folder, "images", "--boxes", "boxes.csv", "--batch-size", "4"]
    assert main([*arguments, "--output", "whole.json"]) == 0
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    assert main(arguments) == 1
    assert "several processes need --directory" in capsys.readouterr().err
    for rank in (2, 1, 0):  # the first one waits for the others, and puts the parts together
        monkeypatch.setenv("RANK", str(rank))
        assert main([*arguments, "--directory", "run", "--output", "parts.json"]) == 0
        assert Path("parts.json").exists() == (rank == 0)
    whole, parts = AuditReport.load("whole.json"), AuditReport.load("parts.json")
    assert whole.rows.tobytes() == parts.rows.tobytes()
    assert (list(whole.ids), whole.facts) == (list(parts.ids), parts.facts)


def test_folders_and_outputs_must_fit(folder, capsys):
    arguments = ["audit", folder, "images", "--boxes", "boxes.csv"]
    Path("outputs.csv").write_text("class,output\nnought,2\none,0\ntwo,1\n")
    assert main([*arguments, "--outputs", "outputs.csv", "--output", "report.json"]) == 0
    assert AuditReport.load("report.json").facts["outputs"] == [2, 0, 1]
    Path("outputs.csv").write_text("class,output\nnought,2\n")
    assert main([*arguments, "--outputs", "outputs.csv"]) == 1
    assert "outputs.csv has no row for class 'one'" in capsys.readouterr().err
    Path("images/three").mkdir()
    assert main(arguments) == 1
    assert "has 3 outputs and images 4 class folders" in capsys.readouterr().err
