"""Small simulated data, a data set and a run of them, made once."""

import sys
from pathlib import Path

import pytest
import sccrossrec as scx

SMALL = dict(cells=160, genes=30, peaks=120, chromosomes=3, cell_types=3)
QUICK = dict(epochs=1, batch_size=32, hidden=16, embedding_dim=8, tower_epochs=2, tower_batch_size=32, tower_width=16, tower_size=8)

#: The checkout, where there is one around these tests.
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def simulated():
    """RNA and ATAC."""
    return scx.simulate(progress=False, **SMALL)


@pytest.fixture(scope="session")
def data(simulated):
    """A data set."""
    rna, atac = simulated
    return scx.prepare(rna, atac, gtf=rna.uns["sccrossrec"]["gtf"], progress=False)


@pytest.fixture(scope="session")
def model(data):
    """A run of one epoch."""
    return scx.train(data, device="cpu", progress=False, **QUICK)


@pytest.fixture(scope="session")
def found(data):
    """Links without a model."""
    return scx.links(data, progress=False)


@pytest.fixture
def python():
    """The interpreter."""
    return sys.executable
