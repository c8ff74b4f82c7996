"""The same work in several processes: order, failures, interrupts, and ends."""

import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from codec_cli import workers
from codec_cli.workers import WINDOW, WorkerError, each


@pytest.mark.parametrize("jobs", [1, 2, 9])
def test_each_keeps_the_order(jobs):
    assert list(each(abs, [-3, 2, -1, 0], jobs, str)) == [3, 2, 1, 0]


def test_each_survives_a_killed_worker():
    # os._exit ends the worker at once, as the kernel does when memory runs out.
    assert list(each(os._exit, [1, 2, 3], 2, lambda thing: f"died at {thing}")) == [
        "died at 1",
        "died at 2",
        "died at 3",
    ]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no process can be sent this signal")
def test_workers_do_not_hear_an_interrupt_while_they_start(environment, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal\n"
        "if __name__ == '__mp_main__':\n"  # A worker, before it has prepared itself.
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "from codec_cli.workers import each\n"
        "if __name__ == '__main__':\n"
        "    print(*each(abs, [-1, -2, -3], 2, str))\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, timeout=30, check=False)
    assert result.stdout == b"1 2 3\n"
    assert b"KeyboardInterrupt" in result.stderr  # It still hears.


def test_workers_end_with_their_parent(environment, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os\n"
        "from codec_cli.workers import each\n"
        "if __name__ == '__main__':\n"
        "    works = ['__import__(\"os\").getpid()', '__import__(\"time\").sleep(60)']\n"
        "    for pid in each(eval, works, 2, str):\n"
        "        print(pid, flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    # Returns when all who hold its pipes are gone: the workers, too.
    result = subprocess.run([sys.executable, script], capture_output=True, timeout=30, check=False)
    assert result.returncode == (-9 if os.name == "posix" else 9)
    assert int(result.stdout) > 0


@pytest.mark.parametrize("ordered", [False, True])
def test_each_takes_things_as_they_are_needed(ordered):
    taken = itertools.count()
    results = each(abs, (next(taken) for _ in range(10_000)), 2, str, ordered=ordered)
    for _ in range(5):
        next(results)
    results.close()
    assert next(taken) <= 5 + (2 * (WINDOW + 1) if ordered else 4)


def test_each_without_order_does_everything():
    assert sorted(each(abs, range(-50, 0), 3, str, ordered=False)) == list(range(1, 51))


def test_a_killed_worker_takes_no_other_thing_with_it():
    works = ["1", "__import__('os')._exit(9)", "__import__('time').sleep(0.3) or 2", "3", "4"]
    for ordered in (False, True):
        results = list(each(eval, works, 2, lambda work: "died", ordered=ordered))
        assert sorted(map(str, results)) == ["1", "2", "3", "4", "died"]
        if ordered:
            assert results == [1, "died", 2, 3, 4]


def test_worker_stops_what_it_does_when_the_results_are_not_wanted(tmp_path):
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from codec_cli.files import atomic_path\n"
        "def work(path):\n"
        "    if path is None:\n"
        "        while not list(Path(sys.argv[1]).iterdir()): time.sleep(0.01)\n"
        "        return\n"
        "    with atomic_path(path, False) as temporary:\n"
        "        temporary.write_bytes(b'half')\n"
        "        time.sleep(60)\n"
        "from codec_cli.workers import each\n"
        "if __name__ == '__main__':\n"
        "    results = each(work, [Path(sys.argv[1]) / 'out.bin', None], 2, str, ordered=False)\n"
        "    next(results)\n"
        "    results.close()\n"
    )
    (tmp_path / "script.py").write_text(script)
    (tmp_path / "work").mkdir()
    subprocess.run([sys.executable, tmp_path / "script.py", tmp_path / "work"], timeout=50, check=True)
    assert list((tmp_path / "work").iterdir()) == []


def test_exceptions_come_with_their_traceback():
    with pytest.raises(ZeroDivisionError) as raised:
        list(each(eval, ["1", "1 / 0", "2"], 2, str))
    assert isinstance(raised.value.__cause__, WorkerError)
    assert "Traceback" in str(raised.value.__cause__)


def test_exceptions_that_do_not_travel():
    works = ["1", "exec('class E(Exception): pass\\nraise E(1)')"]
    with pytest.raises(WorkerError, match="E: 1"):
        list(each(eval, works, 2, str))


def test_work_that_can_not_travel():
    with pytest.raises((AttributeError, pickle.PicklingError)):
        list(each(lambda thing: thing, [1, 2, 3], 2, str))


def test_a_process_that_does_not_start(monkeypatch):
    """What went wrong is what is raised, and no process is left."""
    started = workers._Worker._start

    def start(worker):
        if len(multiprocessing.active_children()) == 2:
            raise OSError("no more processes")
        started(worker)

    monkeypatch.setattr(workers._Worker, "_start", start)
    with pytest.raises(OSError, match="no more processes"):
        list(each(abs, [-1, -2, -3], 3, str))
    assert multiprocessing.active_children() == []


def test_a_process_that_can_not_prepare_itself(environment, tmp_path):
    """It never gets to its things: all of them are given up, and nothing waits."""
    script = tmp_path / "script.py"
    script.write_text(
        "if __name__ == '__mp_main__':\n"
        "    __import__('os')._exit(1)\n"
        "from codec_cli.workers import each\n"
        "if __name__ == '__main__':\n"
        "    print(*each(abs, [-1, -2, -3], 2, lambda thing: f'died at {thing}'))\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, timeout=60, check=True)
    assert result.stdout == b"died at -1 died at -2 died at -3\n"


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no process can be sent this signal")
def test_a_second_signal_does_not_end_what_cleans_up(tmp_path):
    """SIGTERM to the whole group reaches workers twice: once more from the command."""
    script = (
        "import os, signal, sys, time\n"
        "from pathlib import Path\n"
        "folder = Path(sys.argv[1])\n"
        "def work(name):\n"
        "    path = folder / name\n"
        "    try:\n"
        "        path.write_bytes(b'')\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        time.sleep(0.5)\n"
        "        path.unlink()\n"
        "from codec_cli.main import _terminated\n"
        "from codec_cli.workers import each\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGTERM, _terminated)\n"
        "    list(each(work, ['a', 'b'], 2, str))\n"
    )
    (tmp_path / "script.py").write_text(script)
    folder = tmp_path / "work"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", folder], start_new_session=True, stderr=subprocess.PIPE
    )
    while len(list(folder.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=50)
    assert (process.returncode, list(folder.iterdir())) == (143, []), error
