"""An AnnData in memory as the source of `prepare`: the matrix stays where it is."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import _native
from ._errors import InputError, typed

_RNA = {"rna", "gex", "gene expression", "gene_expression", "genes", "scrna", "expression"}
_ATAC = {"atac", "peaks", "peak", "scatac", "chromatin accessibility", "chromatin_accessibility"}


def _plain(array: Any) -> np.ndarray:
    """A type and a layout that the library reads; a copy only of others."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub" or array.dtype == np.float16 or array.dtype.itemsize > 8:
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.float64)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.ascontiguousarray(array)


def _matrix(name: str, x: Any, of: str) -> tuple[str, str, list[np.ndarray]]:
    import scipy.sparse as sp

    if sp.issparse(x):
        layout = x.format if x.format in ("csr", "csc") else "csr"
        x = x.asformat(layout)
        return name, layout, [_plain(x.indptr), _plain(x.indices), _plain(x.data)]
    if not isinstance(x, np.ndarray):
        raise InputError(f"{of}: {name} is a {type(x).__name__}; give a numpy array, or a CSR or CSC matrix of scipy")
    return name, "dense", [_plain(x).reshape(-1)]


def _column(name: Any, values: Any) -> tuple[str, str, Any, list[str] | None]:
    import pandas as pd

    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        return str(name), "categorical", values.cat.codes.tolist(), [str(c) for c in kind.categories]
    if pd.api.types.is_bool_dtype(kind):
        if not values.isna().any():
            return str(name), "bools", values.astype(bool).tolist(), None
    elif pd.api.types.is_integer_dtype(kind):
        if not values.isna().any():
            return str(name), "ints", values.astype(np.int64).tolist(), None
        return str(name), "floats", values.astype("float64").tolist(), None
    elif pd.api.types.is_float_dtype(kind):
        return str(name), "floats", values.to_numpy("float64", na_value=np.nan).tolist(), None
    # Text, with what is missing as no category.
    codes, categories = pd.factorize(values)
    return str(name), "categorical", codes.tolist(), [str(c) for c in categories]


def _frame(frame: Any, more: Any = None) -> tuple[list[str], list[Any]]:
    columns = [_column(name, frame[name]) for name in frame.columns]
    if more is not None:
        # What a MuData knows of all cells, beside its copies of what the modalities know.
        new = [n for n in more.columns if ":" not in str(n) and n not in frame.columns]
        of_these = more[new].reindex(frame.index)
        columns += [_column(name, of_these[name]) for name in new]
    return [str(n) for n in frame.index], columns


def held(adata: Any, name: str, more: Any = None) -> _native.Held:
    """An AnnData as `_native.call` takes it.

    Parameters
    ----------
    adata
        In memory; may be a view.
    name
        What it is called in messages, and where a path is wanted.
    more
        A frame of cells, whose columns are added.
    """
    matrices = []
    if adata.X is not None:
        matrices.append(_matrix("X", adata.X, name))
    layers = {k: v for k, v in adata.layers.items()}
    matrices += [_matrix(str(k), v, name) for k, v in layers.items() if str(k) != "X"]
    if not matrices:
        raise InputError(f"{name}: there is no X and no layer; give it counts")
    with typed():
        return _native.Held(name, _frame(adata.obs, more), _frame(adata.var), matrices)


def is_anndata(x: Any) -> bool:
    """Without an import of what nobody uses."""
    import anndata

    return isinstance(x, anndata.AnnData)


def is_mudata(x: Any) -> bool:
    """As `is_anndata`; mudata may not be there at all."""
    return type(x).__name__ == "MuData" and hasattr(x, "mod")


def backed_path(adata: Any, name: str) -> str:
    """The file of a backed AnnData, which then is read by the library itself.

    Raises
    ------
    InputError
        Of a view, of one that may be written to, and of one whose columns are not those of its file.
    """
    import h5py

    fix = "give adata.to_memory()"
    if adata.is_view:
        raise InputError(f"{name}: is a view of a backed AnnData; {fix}")
    path = str(adata.filename)
    if str(adata.file._filemode) != "r":
        raise InputError(f"{name}: is backed with mode {adata.file._filemode!r}, which locks {path}; open it with 'r', or {fix}")
    with h5py.File(path, "r") as file:
        for axis, frame in (("obs", adata.obs), ("var", adata.var)):
            group = file[axis]
            stored = group.attrs["column-order"] if isinstance(group, h5py.Group) and "column-order" in group.attrs else None
            if stored is not None and set(map(str, stored)) != set(map(str, frame.columns)):
                raise InputError(f"{name}: its {axis} was changed since {path} was opened, and only the file would be read; {fix}")
    return path


def modalities(mdata: Any, rna: str | None, atac: str | None) -> tuple[Any, Any]:
    """RNA and ATAC of a MuData, by the usual names or those given."""

    def one(wanted: str | None, usual: set[str], flag: str) -> Any:
        names = list(mdata.mod)
        found = [n for n in names if n == wanted] if wanted else [n for n in names if n.lower() in usual]
        if len(found) != 1:
            raise InputError(f"the MuData has the modalities {', '.join(names)}; name one with {flag}")
        return mdata.mod[found[0]]

    return one(rna, _RNA, "rna_modality"), one(atac, _ATAC, "atac_modality")
