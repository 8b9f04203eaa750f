"""The notebooks run on real data; skipped without. ``UPDATE=1`` writes what they show, without paths of the machine."""

import os
import re

import pytest
from conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
PLACES = re.compile(r"/(?:tmp|home|root|work|usr|var|Users)/[^\s'\"]*")


@pytest.mark.skipif("SCCROSSREC_TEST_DATA" not in os.environ, reason="SCCROSSREC_TEST_DATA names no real data")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in list(data):
                if kind == "image/svg+xml" and len(data[kind]) > 200_000:
                    data[kind] = "<svg xmlns='http://www.w3.org/2000/svg'/>"
                elif isinstance(data[kind], str):
                    data[kind] = PLACES.sub("…", data[kind])
            if "text" in output:
                output["text"] = PLACES.sub("…", output["text"])
    if os.environ.get("UPDATE"):
        notebook.metadata = {k: notebook.metadata[k] for k in ("kernelspec",) if k in notebook.metadata}
        nbformat.write(notebook, path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_paths_of_a_machine(path):
    assert not PLACES.search(path.read_text())
