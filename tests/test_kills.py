"""Processes killed at random moments: targets are absent or whole, sources untouched, leftovers swept."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from codec_cli.files import TEMPORARY_SUFFIX

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL")

FILES = 60
KINDS = (
    "compress",
    "decompress",
    "compress --delete-source",
    "decompress --delete-source",
    "compress --jobs 2",
)
# These run over files that exist.
OVERWRITING = ("compress --force", "decompress --force --preserve")


def old(name):
    """What is in the place of an output before it is overwritten."""
    return b"old content of " + name.encode()


class Crime:
    """Kills one kind of run over and over, and looks at what is left of its files.

    Args:
        folder: To work in.
        kind: One of :data:`KINDS` or :data:`OVERWRITING`.
        pictures: Content of the images by name.
        packed: Content of the compressed files by name.
        unpacked: Content of the images that these decompress to, by name.
        seed: For the moments.
    """

    def __init__(self, folder, kind, pictures, packed, unpacked, seed):
        self.kind = kind
        verb, *options = kind.split()
        self.sources, self.results = (pictures, packed) if verb == "compress" else (packed, unpacked)
        self.inputs, self.outputs = folder / "in", folder / "out"
        self.manifest = folder / "manifest.jsonl"
        model = ["--model", "tiny"] if verb == "compress" else []
        files = [self.inputs, self.outputs, "--manifest", self.manifest]
        self.command = [sys.executable, "-u", "-m", "codec_cli", verb, *files, "--resume", *options, *model]
        self.random = random.Random(seed)
        self.kills = self.rounds = 0
        self.left = self.most = 0
        self.span = 1.0
        self.restart()

    def restart(self):
        """All sources again, and no outputs, or old ones."""
        for folder in (self.inputs, self.outputs):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        for name, data in self.sources.items():
            (self.inputs / name).write_bytes(data)
        # Sources that are older than all outputs, however coarse the clock.
        for index, path in enumerate(self.inputs.iterdir()):
            os.utime(path, (1 + index, 1 + index))
            path.chmod((0o444, 0o640)[index % 2])
        if "--force" in self.kind:
            for name in self.results:
                (self.outputs / name).write_bytes(old(name))
                os.utime(self.outputs / name, (0, 0))
        self.manifest.unlink(missing_ok=True)

    def run(self, kill):
        """Runs the command, and kills it, or not; returns whether it came to its end."""
        process = subprocess.Popen(
            self.command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        begun = time.perf_counter()
        output = b""
        if kill:
            # Mostly while files are written; what was begun before, too: that sweeps.
            if self.random.random() < 0.9:
                written = self.random.randrange(1, FILES // 4)
                while written and (line := process.stdout.readline()):
                    output += line
                    written -= b"skipped" not in line
                time.sleep(self.random.random() * 0.02)
            else:
                time.sleep(self.random.random() * self.span)
            os.kill(process.pid, signal.SIGKILL)
        # Workers hold the other end of the pipe: they are gone, too, when it ends.
        output += process.stdout.read()
        process.stdout.close()
        code = process.wait()
        if not kill:
            self.span = time.perf_counter() - begun
        assert code in ((0, -signal.SIGKILL) if kill else (0,)), output
        return code == 0

    def look(self):
        """Checks every file there is."""
        here = {path.name: path.read_bytes() for path in self.inputs.iterdir()}
        made = {path.name: path.read_bytes() for path in self.outputs.iterdir()}
        temporary = [name for name in made if name.endswith(TEMPORARY_SUFFIX)]
        self.left += bool(temporary)
        self.most = max(self.most, len(temporary))
        for name in temporary:
            del made[name]
        if "--force" in self.kind:
            assert made.keys() == self.results.keys(), "an old output is lost"
        for name, data in made.items():
            if "--force" in self.kind and data == old(name):
                continue
            assert data == self.results[name], f"{name} is not whole"
            if "--preserve" in self.kind:
                self.look_at_facts(name)
        for name, data in here.items():
            assert data == self.sources[name], f"{name} was touched"
        missing = {name.partition(".")[0] for name in self.sources.keys() - here.keys()}
        if "--delete-source" not in self.kind:
            assert not missing
        assert missing <= {name.partition(".")[0] for name in made}, "a source is lost"
        # What a killed run leaves, the next one removes at its start: they never add up.
        assert len(temporary) <= (2 if "--jobs" in self.kind else 1)
        if self.manifest.exists():
            for line in self.manifest.read_bytes().splitlines():
                json.loads(line)
        return made

    def look_at_facts(self, name):
        """Checks that an output that has its name has its source's times and permissions, too."""
        (source,) = self.inputs.glob(f"{name.partition('.')[0]}.*")
        facts, expected = (self.outputs / name).stat(), source.stat()
        assert (facts.st_mtime_ns, facts.st_mode) == (expected.st_mtime_ns, expected.st_mode)

    def commit(self, kills):
        """Kills so many runs."""
        while self.kills < kills:
            if self.run(kill=True):
                self.finish()
                continue
            self.kills += 1
            self.look()
            if not any(self.inputs.iterdir()):  # All deleted: the next run would have nothing to do.
                self.finish()
        self.finish()

    def finish(self):
        """Runs once without a kill, and looks at the result."""
        # A run over an empty folder is an error.
        if any(self.inputs.iterdir()):
            self.run(kill=False)
        assert self.look() == self.results
        assert not any(path.name.endswith(TEMPORARY_SUFFIX) for path in self.outputs.iterdir())
        self.rounds += 1
        self.restart()


@pytest.fixture
def files(run, write_photo, tmp_path):
    """What images, compressed files and their images should be."""
    folders = [tmp_path / name for name in ("pictures", "packed", "unpacked")]
    for index in range(FILES):
        write_photo(folders[0] / f"{index:02}.png", 96, 64 + index % 8)
    assert run("compress", *folders[:2], "--model", "tiny").exit_code == 0
    assert run("decompress", *folders[1:]).exit_code == 0
    return [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]


def murder(tmp_path, files, kills, kinds=KINDS):
    """Kills so many runs of each kind, two at a time."""
    crimes = [Crime(tmp_path / str(seed), kind, *files, seed) for seed, kind in enumerate(kinds)]
    waiting, failures = list(crimes), []

    def work():
        while waiting and not failures:
            try:
                waiting.pop().commit(kills)
            except BaseException as failure:
                failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure
    for crime in crimes:
        print(
            f"{crime.kind}: {crime.kills} kills, {crime.rounds} times through; "
            f"{crime.left} left a temporary file, {crime.most} at most"
        )
    assert [crime.kills for crime in crimes] == [kills] * len(kinds)
    return crimes


def test_twenty_kills(environment, tmp_path, files):
    murder(tmp_path, files, 20 // len(KINDS))


def test_ten_kills_over_existing_outputs(environment, tmp_path, files):
    murder(tmp_path, files, 10 // len(OVERWRITING), OVERWRITING)


@pytest.mark.slow
def test_five_hundred_kills(environment, tmp_path, files):
    crimes = murder(tmp_path, files, 100)
    # Otherwise none of them came at a bad moment, and nothing was tested.
    assert all(crime.left for crime in crimes)


@pytest.mark.slow
def test_two_hundred_kills_over_existing_outputs(environment, tmp_path, files):
    crimes = murder(tmp_path, files, 100, OVERWRITING)
    assert all(crime.left for crime in crimes)
