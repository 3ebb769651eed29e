"""The command line: the same loop without a notebook.

``xfeedback train`` opens a session directory with a model and data that a function of yours builds, and
trains on the answers in it; ``export``, ``versions`` and ``rollback`` work on the directory alone; ``demo``
runs the whole loop on real digits. ``audit`` ranks the classes of a classifier by its attention to the
object, a shard per process under ``torchrun``. Parsing and printing live here, nothing else.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xfeedback_widgets import __version__, audit
from xfeedback_widgets.data import UnreadableImageError, image_folder, mask_folder, read_boxes
from xfeedback_widgets.feedback import (
    CocoAB,
    Feedback,
    ImageNetAB,
    Journal,
    JournalError,
    anonymous,
    export_ab,
    export_coco,
    export_label_studio,
    export_png,
    export_records,
)
from xfeedback_widgets.session import Session
from xfeedback_widgets.training import DamagedVersionError, Settings, VersionStore

if TYPE_CHECKING:
    from collections.abc import Sequence


#: What a wrong argument or a damaged file leads to; anything else is a bug and keeps its traceback.
_EXPECTED = (
    OSError, ValueError, TypeError, KeyError, JournalError, DamagedVersionError, UnreadableImageError,
)  # fmt: skip


_BYPRODUCTS = {"coco-ab": CocoAB, "imagenet-ab": ImageNetAB}
_FOR_TOOLS = {"coco": export_coco, "label-studio": export_label_studio, "png": export_png}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv
        Arguments without the program's name; None: the process's.

    Returns
    -------
    int
        0, or 1 where the command failed and 130 where it was interrupted; the reason stands on
        standard error.
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        print("xfeedback: interrupted; what was saved stays", file=sys.stderr)
        return 130
    except _EXPECTED as error:
        # str() of a KeyError would put its message in quotes
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"xfeedback: {message}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xfeedback", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole loop on real digits, with its controls")
    demo.add_argument(
        "--output", type=Path, default=Path("artifacts/demo.html"), help="page to write"
    )
    demo.add_argument("--answers", type=int, default=150, help="how many answers to give")
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(command=_demo)

    train = commands.add_parser("train", help="train on the answers in a session directory")
    train.add_argument("directory", type=Path)
    train.add_argument(
        "--problem",
        required=True,
        metavar="MODULE:FUNCTION",
        help="function that returns the keyword arguments of xf.Session: model, data, validation, …",
    )
    for name, kind in (("epochs", int), ("batch_size", int), ("lr", float), ("seed", int)):
        train.add_argument(f"--{name.replace('_', '-')}", type=kind)
    train.set_defaults(command=_train)

    export = commands.add_parser("export", help="write the answers to a file")
    export.add_argument("directory", type=Path)
    export.add_argument("output", type=Path, help="ends in .jsonl, .csv or .parquet")
    export.add_argument(
        "--format",
        choices=sorted([*_FOR_TOOLS, *_BYPRODUCTS]),
        help="for other tools instead: masks as PNG (a folder or .zip) or COCO, or Label Studio's tasks; "
        "or clicks and paths as in ImageNet-AB and COCO-AB (.json)",
    )
    export.add_argument(
        "--names",
        choices=("hash", "keep"),
        default="hash",
        help="who answered: a hash that is another one in each export (default), or their names",
    )
    export.set_defaults(command=_export)

    versions = commands.add_parser("versions", help="list the versions of a session directory")
    versions.add_argument("directory", type=Path)
    versions.set_defaults(command=_versions)

    _add_audit(commands)

    rollback = commands.add_parser("rollback", help="make an older version the current one")
    rollback.add_argument("directory", type=Path)
    rollback.add_argument("version", type=int)
    rollback.set_defaults(command=_rollback)
    return parser


def _add_audit(commands: Any) -> None:
    command = commands.add_parser("audit", help="rank classes by attention to the object")
    command.add_argument(
        "model", metavar="MODEL", help="torchvision's name, timm/NAME, or MODULE:FUNCTION of yours"
    )
    command.add_argument("data", type=Path, metavar="DATA", help="folder with a folder per class")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--boxes", type=Path, help="folder of VOC XML, COCO .json, or .csv table")
    where.add_argument("--masks", type=Path, help="folder of PNG masks named like the images")
    command.add_argument(
        "--relevant",
        type=int,
        nargs="+",
        metavar="VALUE",
        help="values of masks that are the object",
    )
    command.add_argument(
        "--weights", type=Path, help=".safetensors, or .pt that weights_only reads"
    )
    command.add_argument(
        "--outputs",
        type=Path,
        metavar="CSV",
        help="columns class and output: the model's output of each class",
    )
    command.add_argument("--saliency", default="gradcam++", metavar="METHOD")
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument("--device", help="default: a GPU where there is one")
    command.add_argument("--directory", type=Path, help="keep rows here, and go on after a stop")
    command.add_argument(
        "--output",
        type=Path,
        nargs="+",
        default=[],
        help="reports to write: .html .json .csv .parquet",
    )
    command.add_argument("--lowest", type=int, default=20, help="how many classes to print")
    command.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and arguments.directory is None:
        raise ValueError("several processes need --directory, a folder that all of them see")
    if ":" in arguments.model:
        model, transform = _function(arguments.model)(), None
        if arguments.weights is not None:
            model.load_state_dict(audit.read_weights(arguments.weights))
    else:
        model, transform = audit.load_model(arguments.model, arguments.weights)
    data = image_folder(arguments.data, transform)
    outputs = None if arguments.outputs is None else _outputs(arguments.outputs, data.class_names)
    count = audit.count_outputs(model, data)
    if outputs is None and count != data.num_classes:
        raise ValueError(
            f"{arguments.model} has {count} outputs and {arguments.data} {data.num_classes} class folders; "
            "say with --outputs which output belongs to which folder"
        )
    masks = None
    if arguments.masks is not None:
        masks = mask_folder(data, arguments.masks, relevant=arguments.relevant)
    report = audit.audit(
        model, data, masks=masks, saliency=arguments.saliency, batch_size=arguments.batch_size,
        boxes=None if arguments.boxes is None else read_boxes(arguments.boxes),
        outputs=outputs,
        device=arguments.device or _device(), directory=arguments.directory,
        progress=rank == 0, shard=(rank, world) if world > 1 else None,
    )  # fmt: skip
    if world > 1:
        if rank > 0:
            return 0
        while (
            audit.finished(arguments.directory, world) < world
        ):  # torchrun ends us where one of them fails
            time.sleep(0.2)
        report = audit.AuditReport.load(arguments.directory)
    shown = ("class", "images", "accuracy", "accuracy_top5", "crs", "low", "high", "expected")
    table = report.class_table.rows(slice(arguments.lowest))
    print(audit.Table({name: table[name] for name in shown}, title=table.title))
    print(report)
    for path in arguments.output:
        report.save(path)
        print(f"written: {path}")
    return 0


def _device() -> str:
    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def _outputs(path: Path, class_names: Sequence[str]) -> list[int]:
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if not {"class", "output"} <= set(reader.fieldnames or ()):
            raise ValueError(
                f"{path} needs the columns class and output, it has {reader.fieldnames}"
            )
        found = {row["class"]: int(row["output"]) for row in reader}
    missing = [name for name in class_names if name not in found]
    if missing:
        raise ValueError(f"{path} has no row for class {missing[0]!r}")
    return [found[name] for name in class_names]


def _demo(arguments: argparse.Namespace) -> int:
    from xfeedback_widgets import demo  # builds on the widgets, which other commands do without

    demo.run(arguments.output, answers=arguments.answers, seed=arguments.seed)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    settings = {
        name: value
        for name in ("epochs", "batch_size", "lr", "seed")
        if (value := getattr(arguments, name)) is not None
    }
    Settings().but(**settings)  # wrong values are said before the problem is built
    _existing(arguments.directory, "feedback.sqlite")
    with Session(directory=arguments.directory, **_problem(arguments.problem)) as session:
        print(f"{session!r}, training with {session.correction!r}")
        session.subscribe(_report)
        session.train(**settings)
        progress = session.wait()
        if progress.error is not None:  # an exception of the model or the data: say where
            print(f"{progress.traceback}xfeedback: training failed", file=sys.stderr)
            return 1
        print(progress.message)
        return 0 if progress.state == "done" else 1


def _report(event: str, payload: Any) -> None:
    if event == "published":
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in payload.metrics.items())
        print(f"version {payload.number}: {metrics}", flush=True)


def _problem(where: str) -> dict[str, Any]:
    arguments = _function(where)()
    if not isinstance(arguments, dict) or not {"model", "data"} <= arguments.keys():
        raise ValueError(
            f"{where} must return a dict of xf.Session's arguments with 'model' and 'data', "
            f"got {type(arguments).__name__}"
        )
    return arguments


def _function(where: str) -> Any:
    module_name, _, function_name = where.partition(":")
    if not function_name:
        raise ValueError(f"--problem takes MODULE:FUNCTION, got {where!r}")
    if "" not in sys.path:  # a script of the working directory, as with python -m
        sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot load {where!r}: {error}") from error


def _existing(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.exists():
        raise FileNotFoundError(f"{directory} is not a session directory: it holds no {name}")
    return path


def _export(arguments: argparse.Namespace) -> int:
    with Journal(_existing(arguments.directory, "feedback.sqlite")) as journal:
        records = journal.records()
        records = anonymous(records) if arguments.names == "hash" else records
        feedback, output = Feedback.of(records), arguments.output
        if arguments.format in _BYPRODUCTS:
            kind = _BYPRODUCTS[arguments.format]
            found = (one.trace for given in feedback.byproducts.values() for one in given)
            traces = [trace for trace in found if isinstance(trace, kind)]
            written = f"{export_ab(traces, output, workers='keep')} records"
        elif arguments.format:
            written = f"{_FOR_TOOLS[arguments.format](feedback, output)} images"
        else:
            written = f"{export_records(records, output)} answers"
        if journal.damage:
            print(f"xfeedback: {journal.damage}", file=sys.stderr)
    print(f"{written} written to {arguments.output}")
    return 0


def _versions(arguments: argparse.Namespace) -> int:
    _existing(arguments.directory, "versions")
    store = VersionStore(arguments.directory)
    current = store.current()
    for version in store:
        mark = "*" if current is not None and current[0].number == version.number else " "
        created = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(version.created))
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in version.metrics.items())
        print(f"{mark}{version.number:>5}  {created}  {version.answers:>6} answers  {metrics}")
    for damage in store.damage:
        print(f"xfeedback: {damage}", file=sys.stderr)
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    _existing(arguments.directory, "versions")
    store = VersionStore(arguments.directory, keep=None)  # how many to keep is the session's choice
    store.weights(arguments.version)  # a damaged version must not become the current one
    store.point_to(arguments.version)
    print(f"version {arguments.version} is current; sessions opened from now on start with it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
