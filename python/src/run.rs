//! The attention of one cell of a run.

use std::path::PathBuf;

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use sccrossrec::{Access, Checkpoint, Run, Want};

use crate::error::{raised, usage};
use crate::ops::on_threads;

/// Genes, peaks, heads, weights, scores.
type Pairs<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<u8>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
);

/// The pairs of a gene and a peak that pass the threshold in one cell: `(gene, peak, head, weight, score)`, sorted by head, gene,
/// peak. Genes and peaks are numbers of the data set, which is the run's where none is given. `last` takes the parameters of the
/// last checkpoint in the place of the best.
#[pyfunction]
#[pyo3(signature = (run, cell, data=None, last=false, allow_missing=false))]
pub fn attention<'py>(
    py: Python<'py>,
    run: PathBuf,
    cell: &str,
    data: Option<PathBuf>,
    last: bool,
    allow_missing: bool,
) -> PyResult<Pairs<'py>> {
    let found = on_threads(py, || -> sccrossrec::Result<_> {
        let mut run = Run::open(&run)?;
        run.allow_missing = allow_missing;
        let data = run.open_data(data.as_deref(), Access::default())?;
        let Some(at) = data.vocabulary().cells.iter().position(|c| c == cell) else { return Ok(None) };
        let model = run.model(&data, if last { Checkpoint::Last } else { Checkpoint::Best })?;
        let mut out = model.forward(&data.batch_of_cells(&[at as u32]), Want { attention: true, ..Want::default() })?;
        Ok(Some((out.attention.swap_remove(0), data.cell(at))))
    })?;
    let Some((found, cell)) = found.map_err(|e| raised(&e))? else {
        return Err(usage(format!("there is no cell {cell:?}; names are those of the data set")));
    };
    let of = |rows: &[u32], all: &[u32]| rows.iter().map(|&r| i64::from(all[r as usize])).collect::<Vec<_>>();
    Ok((
        of(&found.gene_row, &cell.genes).into_pyarray(py),
        of(&found.peak_row, &cell.peaks).into_pyarray(py),
        found.head.into_pyarray(py),
        found.weight.into_pyarray(py),
        found.score.into_pyarray(py),
    ))
}
