"""Compresses many small images and watches memory and throughput of directory runs.

    python scripts/soak.py --files 10000              # once with one process, once with two
    python scripts/soak.py --minutes 30 --jobs 2      # one run of half an hour

Prints a table for each run: every few seconds the files done, files per second, and the resident memory of
the command's process and of all its processes together. After that: the growth of memory from the second
tenth of the run (in the first, things are loaded) to its last tenth (means), and throughput against one
process with one thread times the number of processes. Exits with 1 if memory grew by more than 5 % or that
ratio is below 0.85.

With --minutes the command is started once and interrupted when they are over, so that it has no chance to
forget. It gets as many names as it could possibly need: hard links to the images.

Reads ``/proc``, so it needs Linux. Other programs on the machine make the ratio smaller; the processor time
per file, which they change less, is printed too.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

GROWTH = 0.05
RATIO = 0.85
FASTEST = 100
"""Files per second that no process is expected to do."""
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment.

    Attributes:
        seconds: Since the start of the run.
        files: Lines in the manifest: files done.
        main: Resident bytes of the command's process.
        total: Of all processes, each with all of its pages.
    """

    seconds: float
    files: int
    main: int
    total: int


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        jobs: Processes.
        files: Files done.
        samples: In the order of time, from when the first file was done.
        processor: Processor seconds of all processes that have ended.
    """

    jobs: int
    files: int
    samples: list[Sample]
    processor: float

    @property
    def throughput(self) -> float:
        """Files per second, without the start."""
        first, last = self.samples[0], self.samples[-1]
        return (last.files - first.files) / (last.seconds - first.seconds)

    @property
    def growth(self) -> float:
        """Of all memory, from the second tenth to the last, as a fraction."""
        totals = [sample.total for sample in self.samples]
        tenth = max(1, len(totals) // 10)
        return statistics.mean(totals[-tenth:]) / statistics.mean(totals[tenth : 2 * tenth]) - 1


def make_images(folder: Path, count: int, side: int) -> None:
    """Writes small pictures: pieces of a smooth scene with some noise, no two alike."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[: 4 * side, : 4 * side]
    scene = np.stack([128 + 90 * np.sin(x / 31 + i) * np.cos(y / 23 - i / 2) for i in range(3)], 2)
    for index in range(count):
        top, left = rng.integers(0, 3 * side, 2)
        piece = scene[top : top + side, left : left + side] + rng.normal(0, 3, (side, side, 1))
        path = folder / f"{index // 1000:03}" / f"{index:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(piece, 0, 255).astype(np.uint8)).save(path, compress_level=1)


def link_images(images: Path, folder: Path, count: int) -> int:
    """Makes at least ``count`` names for some images: hard links, in copies of their folder; how many."""
    paths = sorted(images.rglob("*.png"))
    copies = math.ceil(count / len(paths))
    for copy in range(copies):
        for path in paths:
            link = folder / f"{copy:05}" / path.relative_to(images)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    return copies * len(paths)


def processes(root: int) -> list[int]:
    """A process and all that it has started, by number."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for process in found:
        found += parents.get(process, [])
    return found


def resident(process: int) -> int:
    """Resident bytes; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def watch(images: Path, count: int, jobs: int, every: float, stop: float, model: str) -> Run:
    """Runs the command once.

    Args:
        images: Folder of images. The outputs go beside it, and are removed afterwards.
        count: How many images there are.
        jobs: Processes.
        every: Seconds between samples.
        stop: Seconds from the first file on after which it is interrupted; 0 for never.
        model: What compresses.
    """
    out, manifest = images.with_name("out"), images.with_name("manifest.jsonl")
    command = [sys.executable, "-m", "codec_cli", "compress", str(images), str(out), "--model", model]
    command += ["--quiet", "--jobs", str(jobs), "--threads", "1", "--manifest", str(manifest), "--force"]
    print(f"\n--jobs {jobs}\n{'s':>7} {'files':>8} {'files/s':>8} {'main MB':>8} {'all MB':>8}")
    before, begun = os.times(), time.perf_counter()
    samples: list[Sample] = []
    files, first, interrupted = 0, math.inf, False
    manifest.write_bytes(b"")
    with subprocess.Popen(command) as process, manifest.open("rb") as lines:
        while process.poll() is None:
            time.sleep(every)
            files += lines.read().count(b"\n")
            now = time.perf_counter() - begun
            main, *others = map(resident, processes(process.pid))
            if 0 < files < count and main and not interrupted:  # Not while it starts or ends.
                samples.append(Sample(now, files, main, main + sum(others)))
                show(samples)
            first = min(first, now) if files else first
            if stop and now - first > stop and not interrupted:
                interrupted = True
                process.send_signal(signal.SIGINT)
        files += lines.read().count(b"\n")
    after = os.times()
    shutil.rmtree(out)
    if process.returncode != (130 if interrupted else 0):
        raise SystemExit(f"codec ended with {process.returncode}")
    if stop and not interrupted:
        raise SystemExit(f"all {count} files were done before {stop:.0f} s were over: give a larger --side")
    if len(samples) < 3:
        raise SystemExit("too few samples: give more --files, or less for --every")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(jobs, files, samples, used)


def show(samples: list[Sample]) -> None:
    """Prints the last sample."""
    last = samples[-1]
    before = samples[-2] if len(samples) > 1 else Sample(0, 0, 0, 0)
    rate = (last.files - before.files) / (last.seconds - before.seconds)
    print(
        f"{last.seconds:7.1f} {last.files:8} {rate:8.1f} {last.main / 1e6:8.1f} {last.total / 1e6:8.1f}",
        flush=True,
    )


def main() -> int:
    """Runs what the command line says and returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000, help="images to make (%(default)s)")
    parser.add_argument("--side", type=int, default=64, help="of an image, in pixels (%(default)s)")
    parser.add_argument("--jobs", type=int, action="append", help="processes; repeatable (1 and 2)")
    parser.add_argument("--minutes", type=float, default=0, help="of each run (0: until all files are done)")
    parser.add_argument("--every", type=float, default=5, help="seconds between samples (%(default)s)")
    parser.add_argument("--model", default="photo", help="(%(default)s)")
    options = parser.parse_args()
    # Background jobs of a shell are deaf to it, and what they start is, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="codec-soak-") as name:
        folder = Path(name)
        print(f"making {options.files} images of {options.side}x{options.side}", flush=True)
        make_images(folder / "images", options.files, options.side)
        runs = [soak(folder, jobs, options) for jobs in options.jobs or [1, 2]]
    return judge(runs)


def soak(folder: Path, jobs: int, options: argparse.Namespace) -> Run:
    """One run over the images in a folder: once, or for some minutes."""
    images, stop = folder / "images", 60 * options.minutes
    if not stop:
        return watch(images, options.files, jobs, options.every, 0, options.model)
    many = folder / "many"
    count = link_images(images, many, math.ceil(stop * jobs * FASTEST))
    run = watch(many, count, jobs, options.every, stop, options.model)
    shutil.rmtree(many)
    return run


def judge(runs: list[Run]) -> int:
    """Prints what came out and returns the exit code."""
    bad = False
    single = next((run for run in runs if run.jobs == 1), None)
    print()
    for run in runs:
        last = run.samples[-1]
        line = (
            f"--jobs {run.jobs}: {run.files} files, {run.throughput:.1f} files/s, "
            f"{1000 * run.processor / run.files:.1f} ms of processor time a file, "
            f"memory {last.total / 1e6:.0f} MB, growth {100 * run.growth:+.1f} %"
        )
        bad |= run.growth > GROWTH
        if single is not None and run is not single:
            ratio = run.throughput / (single.throughput * run.jobs)
            line += f", {100 * ratio:.0f} % of one process times {run.jobs}"
            bad |= ratio < RATIO
        print(line)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
