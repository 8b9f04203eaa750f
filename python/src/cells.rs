//! Prepared cells for training loops in Python. Reading them starts no thread and works in a forked process.

use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use sccrossrec::DataSet;
use sccrossrec::dataset::Cell;

use crate::error::raised;

/// Starts, indices, values of a CSR matrix; indices are of 32 bits where that is enough, and then starts are, too.
type Rows<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyArray1<f32>>);

/// A column of cells: name, categories, the category of each cell (-1: none).
type Obs<'py> = (String, Vec<String>, Bound<'py, PyArray1<i64>>);

/// The cells of a prepared data set.
#[pyclass(frozen, module = "sccrossrec._native")]
#[derive(Debug)]
pub struct Cells(DataSet);

fn codes<'py>(py: Python<'py>, codes: &[u32], of: usize) -> Bound<'py, PyArray1<i64>> {
    let code = |&c: &u32| if (c as usize) < of { i64::from(c) } else { -1 };
    codes.iter().map(code).collect::<Vec<_>>().into_pyarray(py)
}

#[pymethods]
impl Cells {
    /// Opens the folder that `prepare` made.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| DataSet::open(&path)).map(Cells).map_err(|e| raised(&e))
    }

    /// Cells.
    fn __len__(&self) -> usize {
        self.0.n_cells()
    }

    /// Of cells and what they hold: two data sets of one hash hold the same.
    #[getter]
    fn hash(&self) -> String {
        self.0.hash().to_string()
    }

    /// `(indptr, indices, values)` of some cells, of `half` "rna" or "atac"; indices rise within a cell.
    fn rows<'py>(&self, py: Python<'py>, cells: PyReadonlyArray1<'py, i64>, half: &str) -> PyResult<Rows<'py>> {
        let rna = match half {
            "rna" => true,
            "atac" => false,
            other => return Err(PyValueError::new_err(format!("{other:?} is neither \"rna\" nor \"atac\""))),
        };
        let (cells, n) = (cells.as_slice()?, self.0.n_cells());
        if let Some(bad) = cells.iter().find(|&&c| usize::try_from(c).map_or(true, |c| c >= n)) {
            return Err(PyIndexError::new_err(format!("there is no cell {bad}: the data have {n}")));
        }
        let (ptr, indices, values) = py.detach(|| read(&self.0, cells, rna));
        if i32::try_from(values.len()).is_ok() {
            let narrow: Vec<i32> = ptr.iter().map(|&p| p as i32).collect();
            let indices: Vec<i32> = indices.into_iter().map(|i| i as i32).collect();
            let (ptr, indices) = (narrow.into_pyarray(py).into_any(), indices.into_pyarray(py).into_any());
            return Ok((ptr, indices, values.into_pyarray(py)));
        }
        let wide: Vec<i64> = indices.into_iter().map(i64::from).collect();
        Ok((ptr.into_pyarray(py).into_any(), wide.into_pyarray(py).into_any(), values.into_pyarray(py)))
    }

    /// Names of the sets of pairs.
    fn pair_sets(&self) -> PyResult<Vec<String>> {
        self.0.sample_sets().map_err(|e| raised(&e))
    }

    /// `(rna, atac, label, part)` of the pairs `name`: cells, 1 for a positive, and 1, 2, 3 for training, validation, test
    /// (0: none).
    #[allow(clippy::type_complexity)]
    fn pairs<'py>(
        &self,
        py: Python<'py>,
        name: &str,
    ) -> PyResult<(
        Bound<'py, PyArray1<i64>>,
        Bound<'py, PyArray1<i64>>,
        Bound<'py, PyArray1<u8>>,
        Bound<'py, PyArray1<u8>>,
    )> {
        let set = py.detach(|| self.0.samples(name)).map_err(|e| raised(&e))?;
        let mut part = vec![0u8; set.samples.len()];
        for (code, numbers) in [(1, &set.train), (2, &set.val), (3, &set.test)] {
            numbers.iter().for_each(|&k| part[k as usize] = code);
        }
        let of = |f: fn(&sccrossrec::dataset::Sample) -> u32| set.samples.iter().map(|s| i64::from(f(s))).collect();
        let [rna, atac]: [Vec<i64>; 2] = [of(|s| s.rna), of(|s| s.atac)];
        let label: Vec<u8> = set.samples.iter().map(|s| s.label).collect();
        Ok((rna.into_pyarray(py), atac.into_pyarray(py), label.into_pyarray(py), part.into_pyarray(py)))
    }

    /// Barcodes.
    fn cells(&self) -> Vec<String> {
        self.0.vocabulary().cells.clone()
    }

    /// What is known of cells: `(name, categories, codes)`, the cell type first.
    fn obs<'py>(&self, py: Python<'py>) -> Vec<Obs<'py>> {
        let v = self.0.vocabulary();
        let mut out = Vec::new();
        if !v.cell_types.is_empty() {
            out.push(("cell_type".to_string(), v.cell_types.clone(), codes(py, &v.cell_type, v.cell_types.len())));
        }
        let more =
            v.obs.iter().map(|o| (o.name.clone(), o.categories.clone(), codes(py, &o.codes, o.categories.len())));
        out.extend(more.filter(|o| o.0 != "cell_type"));
        out
    }

    /// `(names, chromosomes, TSS)` of genes, the TSS 0-based and -1 where unknown.
    fn genes<'py>(&self, py: Python<'py>) -> (Vec<String>, Vec<String>, Bound<'py, PyArray1<i64>>) {
        let v = self.0.vocabulary();
        let tss: Vec<i64> = v.genes.iter().map(|g| g.tss.unwrap_or(-1)).collect();
        let chrom = v.genes.iter().map(|g| v.chromosomes[g.chrom as usize].clone()).collect();
        (v.genes.iter().map(|g| g.name.clone()).collect(), chrom, tss.into_pyarray(py))
    }

    /// `(names, chromosomes, starts, ends)` of peaks, 0-based and half open, -1 where unknown.
    #[allow(clippy::type_complexity)]
    fn peaks<'py>(
        &self,
        py: Python<'py>,
    ) -> (Vec<String>, Vec<String>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>) {
        let v = self.0.vocabulary();
        let start: Vec<i64> = v.peaks.iter().map(|p| p.start).collect();
        let end: Vec<i64> = v.peaks.iter().map(|p| p.end).collect();
        let chrom = v.peaks.iter().map(|p| v.chromosomes[p.chrom as usize].clone()).collect();
        (v.peaks.iter().map(|p| p.name.clone()).collect(), chrom, start.into_pyarray(py), end.into_pyarray(py))
    }
}

/// One half of some cells.
fn read(data: &DataSet, cells: &[i64], rna: bool) -> (Vec<i64>, Vec<u32>, Vec<f32>) {
    let mut entries = 0;
    let sizes = cells.iter().map(|&c| data.cell_sizes(c as usize));
    let mut ptr = vec![0i64];
    for (genes, peaks) in sizes {
        entries += if rna { genes } else { peaks };
        ptr.push(entries as i64);
    }
    let (mut indices, mut values) = (Vec::with_capacity(entries), Vec::with_capacity(entries));
    let (mut cell, mut row) = (Cell::default(), Vec::new());
    for &c in cells {
        row.clear();
        if rna {
            data.rna_into(c as usize, &mut cell);
            row.extend(cell.rna());
        } else {
            data.atac_into(c as usize, &mut cell);
            row.extend(cell.atac());
        }
        // Cells are kept by chromosome.
        row.sort_unstable_by_key(|e| e.0);
        indices.extend(row.iter().map(|e| e.0));
        values.extend(row.iter().map(|e| e.1));
    }
    (ptr, indices, values)
}
