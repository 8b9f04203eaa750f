"""Keywords are the flags of the program, as its reference page has them."""

import json
import re

import pytest
import sccrossrec as scx
from conftest import ROOT
from sccrossrec import _call, _native

VERBS = ["simulate", "prepare", "check", "pairs", "train", "evaluate", "embed", "translate", "match", "discover", "report"]


def page():
    for name in ("reference.md", "cli.md"):
        path = ROOT / "docs" / name
        if path.exists() and "## Flags of every verb" in path.read_text():
            return path.read_text()
    pytest.skip("no reference page beside these tests")


def sections():
    """Of each verb its flags, with their defaults."""
    out, verb, table = {}, None, False
    for line in page().splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        if line.startswith("## "):
            verb = out.setdefault(line[3:].strip("` "), {})
        elif cells[1:] == ["what", "default"]:
            table = True
        elif len(cells) != 3:
            table = False
        elif table and (flag := re.match(r"`--([a-z0-9-]+)", cells[0])):
            verb[flag.group(1)] = cells[2].replace("\\|", "|")
    return out


@pytest.mark.parametrize("verb", VERBS)
def test_names_and_defaults_are_those_of_the_reference_page(verb):
    written = sections()
    common = set(written["Flags of every verb"])
    own = {f["name"]: f for f in json.loads(_native.flags(verb)) if f["name"] not in common}
    assert set(own) == set(written.get(verb, {}))
    for name, flag in own.items():
        if written[verb][name] != "required":
            assert (flag["default"] or "") == written[verb][name], name


def test_words():
    words = _call.words
    assert words("train", {"epochs": 3, "lr": 1e-3, "force": True, "lazy_adam": False, "patience": None}) == [
        "--epochs=3",
        "--lr=0.001",
        "--force",
    ]
    assert words("train", {"kernel": {"attend": "a.cu", "adam": "b.cu"}}) == ["--kernel=attend=a.cu", "--kernel=adam=b.cu"]
    assert words("prepare", {"cell_types": ["A", "B"]}) == ["--cell-types=A", "--cell-types=B"]
    assert words("prepare", {"gene_features": ["means", "strand"]}) == ["--gene-features=means,strand"]
    assert words("prepare", {"from_": "x"}) == ["--from=x"]
    assert words("plot arcs", {"top": 5}) == ["--top=5"]


def test_an_unknown_keyword_names_the_nearest():
    with pytest.raises(TypeError, match=r"train\(\) got an unexpected keyword argument 'epoch'; did you mean 'epochs'\?"):
        scx.train("data", epoch=3)
    with pytest.raises(TypeError, match="'json'"):
        scx.train("data", json=True)
    with pytest.raises(TypeError, match="force is a switch"):
        scx.train("data", force="yes")


def test_flags_as_a_table():
    table = scx.flags("train")
    assert {"epochs", "batch_size", "seed", "threads"} <= set(table.index)
    assert table.loc["device", "default"] == "auto"
