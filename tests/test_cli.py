"""The command line as a whole: help, exit codes, start-up, interruptions, the environment."""

import json
import os
import re
import signal
import subprocess
import sys

import click
import pytest
from conftest import error_line

from codec_cli import __version__, codec, errors, options, zoo
from codec_cli.main import COMMANDS, EPILOG, cli
from codec_cli.report import one_line, size_text

HEAVY = (
    "numpy",
    "PIL",
    "ai_edge_litert",
    "constriction",
    "tqdm",
    "scipy",
    "threadpoolctl",
    "multiprocessing",
)


def walk(command=cli, path=()):
    """Yields every command and subcommand with its path."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from walk(command.get_command(context, name), (*path, name))


EVERY = dict(walk())
IDS = {"argvalues": list(EVERY.values()), "ids": [" ".join(path) or "codec" for path in EVERY]}


# Help


def test_all_commands_are_there():
    assert set(COMMANDS) == {path[0] for path in EVERY if len(path) == 1}


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_help_works(run, path):
    result = run(*path, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: codec")
    assert run(*path, "-h").stdout == result.stdout


@pytest.mark.parametrize("command", **IDS)
def test_every_command_shows_an_example(command):
    assert re.search(r"Examples?:\n\s+\S*codec ", command.epilog or "")
    assert "\b" in command.epilog
    assert command.help


@pytest.mark.parametrize("command", **IDS)
def test_every_option_says_what_it_does_and_its_default(command):
    context = click.Context(command, show_default=True)
    for option in command.params:
        if isinstance(option, click.Option) and "--version" not in option.opts:
            _, text = option.get_help_record(context)
            assert option.help, option.name
            assert "default:" in text, option.name


def test_option_of_whole_numbers_names_its_unit(run):
    text = " ".join(run("compress", "--help").stdout.split())
    for unit in ("PIXELS", "1..100", "pixels", "threads", "bits per pixel"):
        assert unit in text


def test_exit_codes_are_documented(run):
    documented = {int(code) for code in re.findall(r"^  (\d+) ", EPILOG, re.M)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert {kind.exit_code for kind in kinds} | {0, 2, errors.SAVED_IN_PART, 130} == documented
    assert "Exit codes:" in run("--help").stdout


def test_version(run):
    assert run("--version").stdout == f"codec {__version__}\n"


@pytest.mark.parametrize("arguments", [["nothing"], ["--nothing"], ["compres", "a.png"]])
def test_unknown_commands_and_options(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: codec" in result.stderr


def test_constants_that_are_repeated_to_start_fast():
    assert options.DEFAULT_MODEL == zoo.DEFAULT_MODEL
    assert options.MODELS_DIR_VARIABLE == zoo.MODELS_DIR_VARIABLE
    assert options.DEFAULT_MAX_PIXELS == codec.DEFAULT_MAX_PIXELS
    assert options.DEFAULT_EFFORT == codec.DEFAULT_EFFORT


def test_completion_of_models(spawn, monkeypatch):
    monkeypatch.setenv("_CODEC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "codec compress --model ti")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert spawn().stdout.decode().splitlines() == [
        f"plain,{name}" for name in ("tiny", "tiny-1", "tiny-factorized", "tiny-factorized-1")
    ]


# What is imported


def modules_after(*arguments):
    """Names of all modules that a command line has imported, in a fresh interpreter."""
    script = (
        "import sys\n"
        "from codec_cli.main import cli\n"
        "try: cli.main(sys.argv[1:], prog_name='codec')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    command = [sys.executable, "-c", script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(result.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [["--help"], ["compress", "--help"], ["eval", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(environment, arguments):
    assert not modules_after(*arguments) & {*HEAVY, "tensorflow"}


def test_using_the_codec_never_imports_tensorflow(environment, write_photo, tmp_path):
    source = write_photo(tmp_path / "a.png")
    small, again = tmp_path / "a.bin", tmp_path / "b.ppm"
    for arguments in (
        ["compress", source, small, "--model", "tiny"],
        ["decompress", small, again],
        ["info", small],
        ["models"],
        ["models", "verify"],
    ):
        modules = modules_after(*arguments)
        assert not {name for name in modules if name.startswith(("tensorflow", "keras", "jax"))}
    assert again.is_file()


def test_entry_imports_nothing_before_it_can_be_interrupted():
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import codec_cli.__main__\n"
        "print(*sorted(set(sys.modules) - before))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["__future__", "codec_cli", "codec_cli.__main__"]


def test_info_needs_neither_pillow_nor_litert(environment, compressed):
    assert not modules_after("info", compressed) & {"PIL", "ai_edge_litert", "constriction"}


# How commands end


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (errors.ModelError("it is broken"), 6, "codec: it is broken"),
        (MemoryError(), 1, "codec: not enough memory"),
        (PermissionError(13, "Permission denied", "/x"), 1, "codec: /x: Permission denied"),
        (RuntimeError("why"), 1, "codec: internal error: RuntimeError: why (please report it;"),
    ],
)
def test_errors_are_one_line(run, monkeypatch, error, code, line):
    def fail(_):
        raise error

    monkeypatch.setattr(zoo.Zoo, "names", fail)
    result = run("models", "list")
    assert result.exit_code == code
    assert error_line(result).startswith(line)


def test_traceback_on_request(run, monkeypatch):
    monkeypatch.setenv("CODEC_DEBUG", "1")
    with pytest.raises(errors.ModelError):
        run("models", "--models-dir", "/nonexistent")


def test_interrupt(run, monkeypatch):
    def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo.Zoo, "names", fail)
    result = run("models")
    assert (result.exit_code, result.output.strip()) == (130, "")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere no process can be sent these signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(environment, compressed, monkeypatch, number, code):
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    command = [sys.executable, "-X", "faulthandler", "-m", "codec_cli", "info", str(compressed), "-"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline()  # From now on it waits for its input, which never comes, or soon will.
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.strip()) == (code, b"")


@pytest.mark.parametrize(
    "module", ["codec_cli.main", "click", "codec_cli.commands.models", "numpy", "PIL.Image"]
)
def test_interrupt_during_imports(environment, compressed, module):
    script = (
        "import sys\n"
        "module = sys.argv.pop(1)\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == module: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "assert module not in sys.modules\n"
        "from codec_cli.__main__ import main\n"
        "main()\n"
    )
    command = ["models"] if "models" in module else ["decompress", str(compressed), "-"]
    done = subprocess.run(
        [sys.executable, "-c", script, module, *command], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.strip(), done.stdout) == (130, b"", b"")


@pytest.mark.skipif(os.name != "posix", reason="no SIGPIPE: a closed pipe is an error like any other")
def test_a_reader_that_goes_away(environment, compressed):
    command = [sys.executable, "-m", "codec_cli", "info", *[str(compressed)] * 2000]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_full_disk_behind_standard_output(spawn):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = spawn("models", "--json", stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr == b"codec: No space left on device\n"


def test_names_that_the_terminal_has_no_letters_for(spawn, write_photo, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    name = os.fsdecode(b"gr\xfcn.png")
    write_photo(tmp_path / name, 16, 16)
    result = spawn("compress", name, "--model", "tiny")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"gr?n.png -> gr?n.bin")
    assert (tmp_path / os.fsdecode(b"gr\xfcn.bin")).is_file()
    again = spawn("compress", name, "--force", "--json", "--model", "tiny")
    assert json.loads(again.stdout)["files"][0]["input"] == name


# Pieces


def test_size_text():
    sizes = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 kB",
        28_312: "28.3 kB",
        999_949: "999.9 kB",
        999_950: "1.0 MB",
    }
    sizes |= {5 * 10**9: "5.0 GB", 10**13: "10000.0 GB"}
    assert {size: size_text(size) for size in sizes} == sizes


def test_one_line():
    assert one_line("a\nb\r\n\x1b[1mc\udcff") == "a b ?[1mc?"
