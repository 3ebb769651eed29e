"""Merge a million synthetic rows from eight shards, and say whether it is exact and what it takes.

A process of its own, started by ``bench_audit.py``: the peak of its memory is that of the merge (and of
importing torch, which is printed beside it).
"""

from __future__ import annotations

import json
import random
import re
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from xfeedback_widgets.audit import AuditReport
from xfeedback_widgets.audit.rows import ROW
from xfeedback_widgets.audit.shards import ShardFile, read_shards

SHARDS, CHUNK, CLASSES = 8, 8192, 1000


def synthetic(start, stop):
    rows = np.zeros(stop - start, ROW)
    generator = np.random.default_rng([7, start])
    rows["index"] = np.arange(start, stop)
    rows["label"] = rows["index"] % CLASSES
    for name in ("rs", "area", "confidence", "probability", "elsewhere"):
        rows[name] = generator.random(len(rows), dtype=np.float32)
    rows["rank"] = generator.integers(0, 9, len(rows))
    return rows


def ids_of(start, stop):
    return [f"folder-{n % CLASSES:04d}/image-{n:08d}.jpg" for n in range(start, stop)]


def chunks(count):
    """Yield (shard, start, stop) of pieces that no shard shares."""
    for shard, (first, last) in enumerate(pairwise(count * i // SHARDS for i in range(SHARDS + 1))):
        for start in range(first, last, CHUNK):
            yield shard, start, min(start + CHUNK, last)


def peak_mb():
    # not getrusage: its figure starts with the peak of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def exact(report, count):
    """Compare with rows and ids made anew, piece by piece; the order of the images included."""
    return len(report) == count and all(
        report.rows[start:stop].tobytes() == synthetic(start, stop).tobytes()
        and report.ids[start:stop] == ids_of(start, stop)
        for _, start, stop in chunks(count)
    )


def main(folder, count):
    before = peak_mb()
    facts = {
        "model": "synthetic", "images": count, "class_names": [f"class {i}" for i in range(CLASSES)],
        "outputs": None, "saliency": "none", "regions": "none", "data": "synthetic", "batch_size": 64,
    }  # fmt: skip
    files = [ShardFile(folder, facts, (shard, SHARDS)) for shard in range(SHARDS)]
    for shard, start, stop in chunks(count):
        files[shard].append(synthetic(start, stop), ids_of(start, stop))
    for file in files:
        file.save()
        file.__exit__()
    begun = time.perf_counter()
    loaded = exact(AuditReport.load(folder), count)
    load_s = time.perf_counter() - begun
    reports = [AuditReport(*read_shards(folder, (shard, SHARDS))) for shard in range(SHARDS)]
    random.Random(0).shuffle(reports)
    begun = time.perf_counter()
    merged = AuditReport.merge(reports)
    merge_s = time.perf_counter() - begun
    del reports
    begun = time.perf_counter()
    classes = merged.class_table.height
    print(json.dumps({
        "rows": count, "shards": SHARDS, "exact": loaded and exact(merged, count), "classes": classes,
        "load_s": load_s, "merge_s": merge_s, "ranking_s": time.perf_counter() - begun,
        "peak_mb": peak_mb(), "before_mb": before,
    }))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
