"""The command line on real session directories: what it prints, what it returns, and how it fails."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

import xfeedback_widgets as xf
from xfeedback_widgets.cli import main

PROBLEM = """
import torch
from sklearn.datasets import load_digits
from torch import nn

import xfeedback_widgets as xf


def build(**more):
    images, labels = load_digits(n_class=3, return_X_y=True)
    tensors = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8)[:60] / 16
    data = xf.data.ImageSet(
        list(zip(tensors, labels[:60].tolist())), ids=[f"digit-{i}" for i in range(60)]
    )
    torch.manual_seed(7)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    return {"model": model, "data": data, "steps_per_epoch": 2, "batch_size": 8, **more}


class Broken(xf.corrections.Correction):
    name = "broken"

    def loss(self, model, batch):
        raise ZeroDivisionError("somebody's mistake")


def broken():
    return build(correction=Broken())


def no_dict():
    return 3


def too_many_names():
    return build() | {"data": xf.data.ImageSet([(torch.rand(1, 8, 8), 7)])}
"""


@pytest.fixture
def problem(tmp_path, monkeypatch, request):
    """A module of the user's in the working directory; its name is new for each test."""
    monkeypatch.chdir(tmp_path)
    name = f"problem_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(PROBLEM)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def run(tmp_path, make_model, digits):
    """A session directory with three answers and two versions besides the original."""
    directory = tmp_path / "run"
    with xf.Session(
        make_model(), digits, directory, annotator="ada", epochs=2, steps_per_epoch=1
    ) as session:
        for i, answer in enumerate(("accept", "reject", "unsure")):
            session.record(xf.Verdict(f"digit-{i}", answer))
        session.train()
        assert session.wait(60).state == "done"
        assert session.version == 2
    return directory


def _damage(directory, version):
    path = directory / "versions" / f"{version:06d}" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_versions_are_listed_and_the_current_one_marked(run, capsys):
    assert main(["versions", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in lines] == ["     0", "     1", "*    2"]
    assert "3 answers" in lines[2]
    assert "train_accuracy" in lines[2]


def test_rolls_back_for_the_next_session(run, capsys, make_model, digits):
    assert main(["rollback", str(run), "1"]) == 0
    assert "version 1 is current" in capsys.readouterr().out
    with xf.Session(make_model(), digits, run) as session:
        assert session.version == 1
        assert session.damage == []


def test_rolling_back_deletes_nothing(tmp_path, capsys):
    store = xf.training.VersionStore(tmp_path, keep=None)
    for _ in range(30):
        store.write({}, metrics={}, parent=None, answers=0, correction="")
    assert main(["rollback", str(tmp_path), "3"]) == 0
    assert len(list(store)) == 30


def test_a_damaged_version_is_named_and_not_made_current(run, capsys):
    _damage(run, 1)
    assert main(["rollback", str(run), "1"]) == 1
    assert "000001/weights.safetensors does not match its checksum" in capsys.readouterr().err
    assert (run / "CURRENT").read_text().startswith("000002 ")
    _damage(run, 2)
    assert main(["versions", str(run)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("*    0")
    assert "000002/weights.safetensors does not match its checksum" in captured.err


def test_exports(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "answers.jsonl")]) == 0
    assert capsys.readouterr().out.startswith("3 answers written to ")
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    answers = [(row["image_id"], row["answer"]) for row in rows if "image_id" in row]
    expected = [("digit-0", "accept"), ("digit-1", "reject"), ("digit-2", "unsure")]
    assert answers == expected
    assert main(["export", str(run), str(tmp_path / "answers.csv")]) == 0
    with (tmp_path / "answers.csv").open(newline="") as file:
        assert [(row["image_id"], row["answer"]) for row in csv.DictReader(file)] == expected


@pytest.mark.parametrize(
    ("format_", "name", "read", "count"),
    [
        ("png", "masks.zip", xf.feedback.import_png, 1),
        ("coco", "masks.json", xf.feedback.import_coco, 1),
        ("label-studio", "tasks.json", xf.feedback.import_label_studio, 3),
    ],
)
def test_exports_for_other_tools(run, tmp_path, capsys, format_, name, read, count):
    with xf.feedback.Journal(run / "feedback.sqlite") as journal:
        journal.append(xf.RegionMask("digit-0", [[-1, 0, 1]]))
    assert main(["export", str(run), str(tmp_path / name), "--format", format_]) == 0
    assert capsys.readouterr().out.startswith(f"{count} images written to ")
    masks = [record for record in read(tmp_path / name) if isinstance(record, xf.RegionMask)]
    assert masks == [xf.RegionMask("digit-0", [[-1, 0, 1]])]


def test_exports_clicks_and_hides_who_made_them(run, tmp_path, capsys):
    def browsed(worker):
        clicked = {"selected": True, "selectedRecord": [(0.5, 0.5, 3)]}
        return xf.feedback.ImageNetAB("digit-0", 8, 8, worker_id=worker, **clicked)

    tagged = xf.feedback.CocoAB("digit-1", 8, 8, actionHistories=[("add", "one", None, (0, 1), 5)])
    with xf.feedback.Journal(run / "feedback.sqlite") as journal:
        for who in ("ada", "bob"):
            for record in (xf.Byproduct("digit-0", browsed(who), annotator=who),) * 2:
                journal.append(record)
        journal.append(xf.Byproduct("digit-1", tagged, annotator="ada"))
    path = tmp_path / "clicks.json"
    assert main(["export", str(run), str(path), "--format", "imagenet-ab", "--names", "keep"]) == 0
    assert list(xf.feedback.import_imagenet_ab(path)) == [browsed("ada"), browsed("bob")]
    assert main(["export", str(run), str(path), "--format", "imagenet-ab"]) == 0
    hidden = [record.worker_id for record in xf.feedback.import_imagenet_ab(path)]
    assert len({*hidden, "ada", "bob"}) == 4
    assert main(["export", str(run), str(path), "--format", "coco-ab"]) == 0
    assert list(xf.feedback.import_coco_ab(path)) == [tagged]
    assert main(["export", str(run), str(tmp_path / "all.csv")]) == 0
    assert "ada" not in (tmp_path / "all.csv").read_text()


def test_trains_on_the_answers_of_a_directory(problem, tmp_path, capsys):
    module = __import__(problem)
    with xf.Session(directory="run", **module.build()) as session:
        session.record(xf.Verdict("digit-1", "reject"))
    assert main(["train", "run", "--problem", f"{problem}:build", "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert "version 1: train_loss" in out
    assert out.endswith("done: 2 of 2 epochs published\n")
    assert [v.answers for v in xf.training.VersionStore("run")] == [0, 1, 1]


def test_a_failed_training_says_where_and_returns_one(problem, capsys):
    module = __import__(problem)
    xf.Session(directory="run", **module.build()).close()
    assert main(["train", "run", "--problem", f"{problem}:broken"]) == 1
    captured = capsys.readouterr()
    assert "ZeroDivisionError: somebody's mistake" in captured.err
    assert captured.err.endswith("xfeedback: training failed\n")
    assert "ZeroDivisionError" not in captured.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["versions", "nowhere"], "nowhere is not a session directory: it holds no versions"),
        (["export", "nowhere", "a.csv"], "it holds no feedback.sqlite"),
        (["train", "nowhere", "--problem", "M:build"], "it holds no feedback.sqlite"),
        (["train", "run", "--problem", "M"], "--problem takes MODULE:FUNCTION, got 'M'"),
        (["train", "run", "--problem", "M:nothing"], "cannot load 'M:nothing'"),
        (["train", "run", "--problem", "no_such_module:f"], "No module named 'no_such_module'"),
        (["train", "run", "--problem", "M:no_dict"], "with 'model' and 'data', got int"),
        (["train", "run", "--problem", "M:too_many_names"], "but the model gives 3 logits"),
        (["train", "run", "--problem", "M:build", "--epochs", "0"], "epochs must be at least 1"),
        (["rollback", "run", "9"], "no version 9; there are: 0"),
        (["export", "run", "answers.xls"], ".xls"),
    ],
)
def test_a_wrong_argument_is_one_line_on_standard_error(problem, capsys, arguments, message):
    module = __import__(problem)
    xf.Session(directory="run", **module.build()).close()
    names = [a.replace("M", problem, 1) if a.startswith("M") else a for a in arguments]
    assert main(names) == 1
    captured = capsys.readouterr()
    assert message.replace("'M", f"'{problem}") in captured.err
    assert captured.err.startswith("xfeedback: ")
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


def test_interrupted(run, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("xfeedback_widgets.cli.VersionStore", interrupt)
    assert main(["versions", str(run)]) == 130
    assert capsys.readouterr().err == "xfeedback: interrupted; what was saved stays\n"


def test_as_a_process(run):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "xfeedback_widgets.cli", *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    good = call("versions", str(run))
    assert (good.returncode, len(good.stdout.splitlines()), good.stderr) == (0, 3, "")
    bad = call("rollback", str(run), "7")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("xfeedback: no version 7; there are: 0, 1, 2")
    assert "Traceback" not in bad.stderr
