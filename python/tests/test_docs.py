"""The example of docs/python.md runs as it stands there."""

import os
import re

import pytest
from conftest import ROOT


def test_ten_lines(tmp_path, monkeypatch):
    page = ROOT / "docs" / "python.md"
    if not page.exists():
        pytest.skip("no docs beside these tests")
    example = re.search(r"```python\n(.*?)```", page.read_text(), flags=re.S).group(1)
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    assert {"arcs.png", "report.html"} <= set(os.listdir(tmp_path))
    assert "sccrossrec" in names["rna"].layers
