"""The stubs say what the extension holds, and the package keeps to its types."""

import importlib.util
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not here")


def test_stubs_are_those_of_the_extension(tmp_path):
    line = [sys.executable, "-m", "mypy.stubtest", "sccrossrec._native", "--ignore-disjoint-bases"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_types_of_the_package(tmp_path):
    line = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "-p", "sccrossrec"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_versions_agree():
    import sccrossrec

    manifest = ROOT / "Cargo.toml"
    if manifest.exists():
        assert f'version = "{sccrossrec.__version__}"' in manifest.read_text()
