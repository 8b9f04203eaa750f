"""The example for Snakemake runs; skipped where Snakemake is not."""

import importlib.util
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.skipif(importlib.util.find_spec("snakemake") is None, reason="no snakemake here")
def test_from_files_to_a_page(simulated, tmp_path):
    files = simulated[0].uns["sccrossrec"]
    shutil.copy(ROOT / "docs" / "workflow" / "Snakefile", tmp_path)
    config = [f"{k}={files[k]}" for k in ("rna", "atac", "gtf")]
    config += [f"sccrossrec={sys.executable} -m sccrossrec", "train=--epochs 1 --tower-epochs 1 --device cpu", "discover=--null none"]
    line = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", *config]
    for _ in range(2):
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stderr + done.stdout and (tmp_path / "report.html").exists()
