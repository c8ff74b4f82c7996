"""What runs elsewhere, or at a release: workflows name what exists, constraints cover what is installed."""

import re
import sys

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from codec_cli.zoo import Zoo

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = [name.split()[-1] for name in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", name)]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NEEDS_WORKFLOWS = pytest.mark.skipif(not WORKFLOWS, reason="no .github: this is not the repository")


def parsed(path):
    yaml = pytest.importorskip("yaml", reason="PyYAML (extra `dev`) reads workflows")
    return yaml.safe_load(path.read_text("utf-8"))


def steps(path):
    return [step for job in parsed(path)["jobs"].values() for step in job["steps"]]


def commands(path):
    """All shell lines of a workflow, or of a script."""
    if path.suffix == ".yml":
        return [line for step in steps(path) for line in step.get("run", "").splitlines()]
    return [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]


def constraints(python, system="linux"):
    """The version of every package (by canonical name) in constraints.txt that holds for a Python."""
    platform = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system]
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": system,
        "platform_system": platform,
        "os_name": "nt" if system == "win32" else "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    found = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        item = Requirement(line)
        if item.marker is None or item.marker.evaluate(environment):
            (only,) = item.specifier
            assert only.operator == "==", line
            assert canonicalize_name(item.name) not in found, line
            found[canonicalize_name(item.name)] = only.version
    return found, environment


@NEEDS_WORKFLOWS
@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_make_targets_exist(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    pattern = r"(?:^|[;&|]|\bsudo)\s*make ([a-z-]+)"
    used = {name for line in commands(path) for name in re.findall(pattern, line)}
    assert used <= targets
    assert used or path.name == "kodak.yml"  # which needs no make


@NEEDS_WORKFLOWS
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_paths_exist(path):
    pattern = r"(?<![\w./-])(?:(?:tests|scripts|docs|models|codec_cli)/[\w./-]+|[\w-]+\.(?:txt|toml))"
    text = "\n".join(
        line for line in path.read_text("utf-8").splitlines() if not line.strip().startswith("#")
    )
    named = set(re.findall(pattern, text))
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing
    assert named


@NEEDS_WORKFLOWS
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_pinned_and_modest(path):
    """Actions have a version, jobs an end, and nothing may write to the repository."""
    workflow = parsed(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    assert all(re.fullmatch(r"[\w./-]+@v\d+", step["uses"]) for step in steps(path) if "uses" in step)


def test_packages_hold_all_models():
    """But for the weights of superseded ones: an index takes files of 100 MB."""
    given = BUILD["wheel"]["force-include"]
    assert all(target == f"codec_cli/_{source}" for source, target in given.items())
    held = {
        path for source in given for path in [ROOT / source, *(ROOT / source).glob("*")] if path.is_file()
    }
    left_out = {ROOT / name.removeprefix("/") for name in BUILD["sdist"]["exclude"]}
    newest = Zoo().info("photo").path
    assert all(path.name == "weights.npz" and path.parent != newest for path in left_out)
    assert held == {path for path in (ROOT / "models").glob("*/*") if path.is_file()} - left_out
    assert sum(path.stat().st_size for path in held) < 95_000_000


@NEEDS_WORKFLOWS
def test_tested_versions_are_installed():
    """SECURITY.md promises it of all workflows but for one job."""
    installs = [
        (step["name"], line)
        for path in WORKFLOWS
        for step in steps(path)
        for line in step.get("run", "").splitlines()
        if re.search(r"\bpip install\b", line)
    ]
    pinned = (ROOT / "scripts" / "train_xla.txt").read_text().splitlines()
    assert all("==" in line or line.startswith("#") for line in pinned)
    known = ("--constraint constraints.txt", "--requirement scripts/train_xla.txt")
    loose = [name for name, line in installs if not any(option in line for option in known)]
    assert loose == ["Install without constraints, as a newcomer does"]
    assert len(installs) > 2


@NEEDS_WORKFLOWS
def test_every_python_and_system():
    """What the classifiers promise is tested, and the golden files on every kind of machine."""
    base = parsed(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["base"]
    matrix = base["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    systems = {*matrix["os"], *(entry["os"] for entry in matrix["include"])}
    assert {name.split("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}
    assert any(name.endswith("-arm") for name in systems)
    assert any("tests/test_golden.py" in step.get("run", "") for step in base["steps"])


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_constraints_cover_the_project(python, system):
    """Whatever may be asked for has a version, one that is allowed; `make constraints` writes them."""
    pinned, environment = constraints(python, system)
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(text) for items in lists for text in items):
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({**environment, "extra": ""})
        if wanted and name != PROJECT["name"]:
            assert name in pinned, f"{name} is not in constraints.txt: run `make constraints`"
            assert requirement.specifier.contains(pinned[name]), f"{requirement}: {pinned[name]}"


def test_ignored_advisories_have_reasons():
    """No exception without a reason, and none for what a Python without TensorFlow installs too."""
    held_back, newest = constraints("3.11")[0], constraints("3.13")[0]
    lines = (ROOT / "audit-ignored.txt").read_text("utf-8").splitlines()
    for line in (line for line in lines if line and not line.startswith("#")):
        match = re.fullmatch(r"(?:PYSEC|GHSA|CVE)-[\w-]+  ([\w.-]+) ([\w.]+): \S.+", line)
        assert match, f"not 'ID  PACKAGE VERSION: REASON': {line}"
        assert held_back[match[1]] == match[2], f"no longer installed, remove it: {line}"
        assert newest.get(match[1]) != match[2], f"the base install has it, too: {line}"


def test_changelog_tells_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## \[(.+?)\] - (\d{4}-\d\d-\d\d|unreleased)$", text, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"]
