"""Runs a fuzzer for a given time and says what it did.

    python tests/fuzz/run.py --seconds 600
    python tests/fuzz/run.py --target models --seconds 60
    python tests/fuzz/run.py --total
    python tests/fuzz/run.py --repeat build/fuzz/findings/FILE

atheris guides it by coverage; where that is not installed, our own engine changes files at random. The
harness and the repairs are the same.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import importlib.util
import json
import os
import random
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

if TYPE_CHECKING:
    from fuzz.harness import Harness

WORK = ROOT / "build" / "fuzz"
FINDINGS, RUNS = WORK / "findings", WORK / "runs"
NOTE_EVERY = 60
"""Seconds after which what was done is written down."""
MAX_FINDINGS = 20
HANG = 120
"""Seconds of the clock after which an execution counts as a hang, and ends the run."""
ADDRESS_SPACE = 1 << 30
"""Bytes that may be allocated beyond what there is after the seeds were read, by anything."""


class Session:
    """Executes inputs, counts, and keeps what was found.

    Args:
        harness: What runs.
        seconds: When to stop; None for never.
        runs: After how many executions to stop; None for never.
        log: Gets JSON of what was done, again and again.
        engine: Its name.
    """

    def __init__(
        self, harness: Harness, seconds: float | None, runs: int | None, log: Path, engine: str
    ) -> None:
        self._harness, self._seconds, self._runs, self._log = harness, seconds, runs, log
        self._engine = engine
        self._start, self._start_cpu = time.monotonic(), time.process_time()
        self.counts: collections.Counter[str] = collections.Counter()
        self.results: collections.Counter[str] = collections.Counter()
        self._found: dict[str, Path] = {}
        self._noted = self._start

    @property
    def over(self) -> bool:
        """Whether it is time to stop."""
        late = self._seconds is not None and time.monotonic() - self._start >= self._seconds
        enough = self._runs is not None and self.counts["executions"] >= self._runs
        return late or enough or len(self._found) >= MAX_FINDINGS

    def run(self, data: bytes) -> bool:
        """One execution; whether it got to the range decoder."""
        from fuzz.harness import FindingError

        self.counts["executions"] += 1
        if time.monotonic() - self._noted > NOTE_EVERY:
            self._noted = time.monotonic()
            self.note()
        try:
            outcome = self._harness.execute(data)
        except FindingError as error:
            self._keep(data, error)
            return False
        self.counts["reached"] += outcome.reached
        self.counts["synthesis"] += outcome.synthesis
        self.counts["traced"] += outcome.traced
        self.results[f"{outcome.target} {outcome.result}"] += 1
        return outcome.reached

    def _keep(self, data: bytes, error: BaseException) -> None:
        """Writes an input down, once for every place where something went wrong."""
        cause = error.__cause__ or error
        frames = [f for f in traceback.extract_tb(cause.__traceback__) if "codec_cli" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
        key = f"{type(cause).__name__} {place}" if frames else str(error)[:80]
        self.counts["findings"] += 1
        if key in self._found:
            return
        path = self._found[key] = FINDINGS / f"{os.getpid()}-{len(self._found)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        print(f"FINDING {key}: {error}\n  {path}\n{''.join(traceback.format_exception(cause))}", flush=True)

    def note(self) -> dict[str, Any]:
        """Writes down what was done so far, so that a run that is stopped counts, too."""
        wall, cpu = time.monotonic() - self._start, time.process_time() - self._start_cpu
        facts: dict[str, Any] = {
            "engine": self._engine,
            **{key: self.counts[key] for key in ("executions", "reached", "synthesis", "traced", "findings")},
            "seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
            "distinct_findings": list(self._found),
            "results": dict(self.results.most_common()),
        }
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_text(json.dumps(facts) + "\n")
        return facts

    def finish(self) -> int:
        """Tells what was done, and returns the exit code."""
        print(described([self.note()]), flush=True)
        return 1 if self._found else 0


def described(runs: list[dict[str, Any]]) -> str:
    """What some runs did together, for people."""
    total: collections.Counter[str] = collections.Counter()
    results: collections.Counter[str] = collections.Counter()
    for run in runs:
        total.update({key: value for key, value in run.items() if isinstance(value, (int, float))})
        results.update(run["results"])
    n, wall, cpu = total["executions"] or 1, total["seconds"] or 1, total["cpu_seconds"] or 1
    engines = ", ".join(sorted({run["engine"] for run in runs}))
    distinct = len({place for run in runs for place in run["distinct_findings"]})
    return (
        f"{total['executions']} executions ({engines}) in {wall:.0f} s, "
        f"{n / wall:.0f} a second, {n / cpu:.0f} a second of processor time\n"
        f"reached the range decoder: {total['reached']} ({total['reached'] / n:.1%})\n"
        f"with the networks: {total['synthesis'] / n:.1%}, memory traced: {total['traced'] / n:.1%}\n"
        f"ended as: {', '.join(f'{key} {count}' for key, count in results.most_common())}\n"
        f"findings: {total['findings']} ({distinct} distinct, in {FINDINGS})"
    )


def main() -> int:
    """Runs, and returns the exit code: 1 if there are findings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--target", choices=("files", "models"), default="files")
    parser.add_argument("--engine", choices=("atheris", "python"), help="atheris where it is installed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--total", action="store_true", help="add up what all runs did, and end")
    parser.add_argument(
        "--repeat", type=Path, metavar="FILE", help="execute one input, with everything checked"
    )
    options = parser.parse_args()
    if options.total:
        for target in ("files", "models"):
            runs = [json.loads(path.read_text()) for path in sorted(RUNS.glob(f"{target}-*.json"))]
            print(f"{target}: {len(runs)} runs\n{described(runs)}\n")
        return 0
    installed = importlib.util.find_spec("atheris") is not None
    engine = options.engine or ("atheris" if installed else "python")
    if engine == "atheris" and not installed:
        parser.error("atheris is not installed; pip install '.[fuzz]', or --engine python")
    imports: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if engine == "atheris":
        import atheris

        imports = atheris.instrument_imports(include=["codec_cli"])
    with imports:
        from fuzz import corpus
        from fuzz.harness import Harness
        from fuzz.mutation import Mutator
    seeds = corpus.files() if options.target == "files" else corpus.models()
    known = list(seeds.values())
    limit = 1 << 13 if options.target == "files" else 1 << 18
    with Harness() as harness:
        harness.warm_up([*corpus.files().values(), *known])
        if options.repeat:
            print(harness.execute(options.repeat.read_bytes(), everything=True))
            return 0
        _limit_memory()
        WORK.mkdir(parents=True, exist_ok=True)
        session = Session(
            harness, options.seconds, options.runs, RUNS / f"{options.target}-{os.getpid()}.json", engine
        )
        if engine == "python":
            return _random_changes(
                session, Mutator(random.Random(options.seed), None, harness.marks, known), seeds, limit
            )
        corpus.write(WORK / f"seeds-{options.target}", seeds)
        corpus.write_dictionary(WORK / "dictionary")
        grown = WORK / f"corpus-{options.target}"
        grown.mkdir(exist_ok=True)

        def execute(data: bytes) -> None:
            session.run(data)
            if session.over:
                code = session.finish()
                harness.__exit__()
                os._exit(code)  # libFuzzer owns the process: it has no way to return.

        def mutate(data: bytes, largest: int, seed: int) -> bytes:
            rng = random.Random(seed)

            def guided(part: bytes, size: int) -> bytes:
                return bytes(atheris.Mutate(part, min(size, len(part) + 64)))

            return Mutator(rng, guided, harness.marks, known)(data, largest)

        arguments = (
            *(
                f"-max_len={limit}",
                f"-seed={options.seed}",
                f"-timeout={HANG}",
                "-rss_limit_mb=2048",
                "-verbosity=0",
            ),
            *(
                f"-dict={WORK / 'dictionary'}",
                f"-artifact_prefix={WORK}/",
                "-len_control=0",
                "-mutate_depth=1",
            ),
            *(str(grown), str(WORK / f"seeds-{options.target}")),
        )
        atheris.Setup([sys.argv[0], *arguments], execute, custom_mutator=mutate)
        atheris.Fuzz()
    return 0


def _random_changes(session: Session, mutator: object, seeds: dict[str, bytes], limit: int) -> int:
    """Our own engine: changes seeds, and changes what came of that."""
    rng = random.Random(0)
    pool = list(seeds.values())
    size = 8 * len(pool)
    while not session.over:
        faulthandler.dump_traceback_later(HANG, exit=True)
        data = mutator(rng.choice(pool), limit)  # type: ignore[operator]
        good = session.run(data)
        faulthandler.cancel_dump_traceback_later()
        if good and rng.random() < 0.1:
            pool[len(seeds) :] = [*pool[len(seeds) :], data][-size:]
    return session.finish()


def _limit_memory() -> None:
    """A claimed size that is allocated before it is checked becomes a MemoryError, which is a finding."""
    try:
        import resource
    except ImportError:  # Windows.
        return
    pages = (
        int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    )
    if pages is not None:
        limit = pages * resource.getpagesize() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


if __name__ == "__main__":
    sys.exit(main())
