//! Ops of the model on numpy: `translate` forward and backward, `attend` forward.

use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;
use sccrossrec::csr::Csr;
use sccrossrec::model::nodes::NodeSet;
use sccrossrec::ops::attend::{AttendSpec, attend as attend_op};
use sccrossrec::ops::translate::{PeakColumns, TranslateSpec, translate as translate_op};
use sccrossrec::tape::{Grads, Tape, Var};

use crate::error::{raised, usage};
use crate::fork;

/// Does `work` without the interpreter, on threads of its own.
pub fn on_threads<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    fork::check()?;
    let pool = rayon::ThreadPoolBuilder::new().build();
    let pool = pool.map_err(|e| usage(format!("the system starts no threads ({e})")))?;
    Ok(py.detach(|| pool.install(work)))
}

/// A matrix `[rows, columns]` of numpy.
struct Table<'a>(&'a [f32], [usize; 2]);

fn table<'a>(array: &'a PyReadonlyArray2<'_, f32>) -> PyResult<Table<'a>> {
    let [rows, columns] = *array.as_array().shape() else { return Err(usage("a matrix of two dimensions is needed")) };
    Ok(Table(array.as_slice()?, [rows, columns]))
}

/// Starts, indices and values of a CSR matrix.
type Sparse<'py> = (PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, f32>);

/// Queries or keys: a row a node `[n, H]`, and what a value of 1 adds to it `[H]`.
type Rows<'py> = (PyReadonlyArray2<'py, f32>, PyReadonlyArray1<'py, f32>);

/// A sparse matrix as the library has it, checked; within a row sorted by (chromosome, index), and where each entry came from.
fn csr(given: &Sparse<'_>, chrom: &[u32], what: &str) -> PyResult<(Csr<f32>, Vec<usize>)> {
    let (ptr, indices, values) = (given.0.as_slice()?, given.1.as_slice()?, given.2.as_slice()?);
    let n = values.len();
    let rises = ptr.first() == Some(&0) && ptr.last() == Some(&(n as i64)) && ptr.windows(2).all(|w| w[0] <= w[1]);
    if !rises || indices.len() != n {
        return Err(usage(format!("{what}: starts do not rise from 0 to the number of values")));
    }
    if let Some(bad) = indices.iter().find(|&&i| usize::try_from(i).map_or(true, |i| i >= chrom.len())) {
        return Err(usage(format!("{what}: index {bad} of {}", chrom.len())));
    }
    let mut out = Csr::new();
    let mut order = Vec::with_capacity(n);
    for w in ptr.windows(2) {
        let mut row: Vec<usize> = (w[0] as usize..w[1] as usize).collect();
        row.sort_by_key(|&e| (chrom[indices[e] as usize], indices[e]));
        if row.windows(2).any(|w| indices[w[0]] == indices[w[1]]) {
            return Err(usage(format!("{what}: an index twice in a row; sum duplicates first")));
        }
        out.push_row(row.iter().map(|&e| (indices[e] as u32, values[e])));
        order.extend(row);
    }
    Ok((out, order))
}

/// Shapes of queries and keys that fit together; H.
fn fits(q: &Table<'_>, uq: &[f32], k: &Table<'_>, uk: &[f32], heads: usize) -> PyResult<usize> {
    let h = q.1[1];
    if k.1[1] != h || uq.len() != h || uk.len() != h {
        return Err(usage(format!("q has {h} columns; k has {}, uq {}, uk {}", k.1[1], uq.len(), uk.len())));
    }
    if heads == 0 || heads > 255 || !h.is_multiple_of(heads) {
        return Err(usage(format!("heads {heads}: must divide the {h} columns of q")));
    }
    Ok(h)
}

/// q, uq, k, uk on a tape, as parameters 0 to 3.
type Four = ((Var, Var), (Var, Var));

fn on_tape<'p>(tape: &mut Tape<'p, f32>, (q, uq): (&Table<'p>, &'p [f32]), (k, uk): (&Table<'p>, &'p [f32])) -> Four {
    let h = q.1[1];
    let queries = (tape.param(0, q.0, q.1), tape.param(1, uq, [1, h]));
    (queries, (tape.param(2, k.0, k.1), tape.param(3, uk, [1, h])))
}

fn matrix<'py>(py: Python<'py>, numbers: Vec<f32>, shape: [usize; 2]) -> PyResult<Bound<'py, PyArray2<f32>>> {
    numbers.into_pyarray(py).reshape(shape)
}

/// Predicted expression `[n × heads, G]` of 0 and 1 (row `sample × heads + head`) of cells with the peaks `peaks` (CSR `[n, P]`):
/// a gene is on where more than `min_peaks` of the cell's peaks have `sigmoid(q·k)` above `tau`.
///
/// `queries` q `[G, H]` and uq `[H]`, `keys` k `[P, H]` and uk `[H]`; an entry of value v has the key `k + v uk`, a gene the query
/// `q + uq`. `spec` is heads, `tau`, `min_peaks`. With `grad` of the prediction's shape its straight-through gradients come as well: `(pred, dq, duq, dk, duk)`.
#[pyfunction]
#[pyo3(signature = (queries, keys, peaks, spec, grad=None))]
pub fn translate<'py>(
    py: Python<'py>,
    queries: Rows<'py>,
    keys: Rows<'py>,
    peaks: Sparse<'py>,
    spec: (usize, f64, usize),
    grad: Option<PyReadonlyArray2<'py, f32>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (heads, tau, min_peaks) = spec;
    let (q, uq, k, uk) = (table(&queries.0)?, queries.1.as_slice()?, table(&keys.0)?, keys.1.as_slice()?);
    let h = fits(&q, uq, &k, uk, heads)?;
    let chrom = vec![0; k.1[0]];
    let (peaks, _) = csr(&peaks, &chrom, "peaks")?;
    let shape = [peaks.rows() * heads, q.1[0]];
    let grad = grad.as_ref().map(table).transpose()?;
    if let Some(g) = grad.as_ref().filter(|g| g.1 != shape) {
        return Err(usage(format!("grad is {:?}, and the prediction {shape:?}", g.1)));
    }
    let spec = TranslateSpec { heads, tau, min_peaks };
    let (pred, grads) = on_threads(py, || -> sccrossrec::Result<_> {
        let nodes = NodeSet::new(&peaks, &chrom, true);
        let all: Vec<usize> = (0..peaks.rows()).collect();
        let columns = Arc::new(PeakColumns::new(&nodes, &all));
        let mut tape = if grad.is_some() { Tape::recording() } else { Tape::inference() };
        let (queries, keys) = on_tape(&mut tape, (&q, uq), (&k, uk));
        let pred = translate_op(&mut tape, spec, columns, queries, keys, None);
        let numbers = tape.get(pred).to_vec();
        let Some(grad) = &grad else { return Ok((numbers, None)) };
        let mut grads = [q.0.len(), h, k.0.len(), h].map(|n| vec![0f32; n]);
        let slices = grads.iter_mut().map(|g| &mut g[..]).collect();
        tape.backward(pred, grad.0, Grads::new(slices))?;
        Ok((numbers, Some(grads)))
    })?
    .map_err(|e| raised(&e))?;
    let pred = matrix(py, pred, shape)?;
    let Some([dq, duq, dk, duk]) = grads else { return Ok(pred.into_any()) };
    let (dq, dk) = (matrix(py, dq, q.1)?, matrix(py, dk, k.1)?);
    Ok((pred, dq, duq.into_pyarray(py), dk, duk.into_pyarray(py)).into_pyobject(py)?.into_any())
}

/// Row sums, column sums, and the pairs: samples, heads, genes, peaks, weights, scores, whether they pass.
type Attended<'py> = (
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray2<f32>>,
    (
        Bound<'py, PyArray1<i64>>,
        Bound<'py, PyArray1<u8>>,
        Bound<'py, PyArray1<i64>>,
        Bound<'py, PyArray1<i64>>,
        Bound<'py, PyArray1<f32>>,
        Bound<'py, PyArray1<f32>>,
        Bound<'py, PyArray1<bool>>,
    ),
);

/// Masked top-k attention of the genes of samples on their peaks of the same chromosome.
///
/// `queries` and `keys` as of `translate`; `nodes` CSR `[B, G]` of genes and `[B, P]` of peaks; `chromosomes` `[G]` and `[P]`, their
/// numbers. `spec` is heads, `top_k`, `tau`, and the chromosome that matches nothing. Comes `(row_sums [heads, nnz of genes], col_sums [heads, nnz
/// of peaks], (sample, head, gene, peak, weight, score, kept))`; sums are in the order of the entries given.
#[pyfunction]
pub fn attend<'py>(
    py: Python<'py>,
    queries: Rows<'py>,
    keys: Rows<'py>,
    nodes: (Sparse<'py>, Sparse<'py>),
    chromosomes: (Vec<u32>, Vec<u32>),
    spec: (usize, usize, f64, Option<u32>),
) -> PyResult<Attended<'py>> {
    let (heads, top_k, tau, unknown) = spec;
    let (gene_chrom, peak_chrom) = chromosomes;
    let (q, uq, k, uk) = (table(&queries.0)?, queries.1.as_slice()?, table(&keys.0)?, keys.1.as_slice()?);
    fits(&q, uq, &k, uk, heads)?;
    if gene_chrom.len() != q.1[0] || peak_chrom.len() != k.1[0] || top_k == 0 {
        return Err(usage("a chromosome for each row of q and of k is needed, and top_k of at least 1"));
    }
    let (genes, gene_order) = csr(&nodes.0, &gene_chrom, "genes")?;
    let (peaks, peak_order) = csr(&nodes.1, &peak_chrom, "peaks")?;
    if genes.rows() != peaks.rows() {
        return Err(usage(format!("{} samples of genes and {} of peaks", genes.rows(), peaks.rows())));
    }
    let spec = AttendSpec { heads, top_k, tau, unknown };
    let (rows, columns, selections) = on_threads(py, || {
        let gene_nodes = Arc::new(NodeSet::new(&genes, &gene_chrom, true));
        let peak_nodes = Arc::new(NodeSet::new(&peaks, &peak_chrom, true));
        let mut tape = Tape::inference();
        let (queries, keys) = on_tape(&mut tape, (&q, uq), (&k, uk));
        let found = attend_op(&mut tape, spec, gene_nodes, peak_nodes, queries, keys, None);
        let back = |v, order: &[usize]| {
            let mut out = vec![0f32; heads * order.len()];
            let of = tape.get(v).chunks(order.len().max(1)).zip(out.chunks_mut(order.len().max(1)));
            of.for_each(|(from, to)| order.iter().zip(from).for_each(|(&e, &x)| to[e] = x));
            out
        };
        (back(found.row_sums, &gene_order), back(found.col_sums, &peak_order), found.selections)
    })?;
    let (mut sample, mut head, mut gene, mut peak) = (vec![], vec![], vec![], vec![]);
    let (mut weight, mut score, mut kept) = (vec![], vec![], vec![]);
    for (b, s) in selections.iter().enumerate() {
        for (r, &(own, entry)) in s.rows.iter().enumerate() {
            for m in s.start[r] as usize..s.start[r + 1] as usize {
                sample.push(b as i64);
                head.push(own);
                gene.push(i64::from(genes.indices[entry as usize]));
                peak.push(i64::from(peaks.indices[s.peak[m] as usize]));
                weight.push(s.weight[m]);
                score.push(s.score[m]);
                kept.push(s.kept[m]);
            }
        }
    }
    let pairs = (
        sample.into_pyarray(py),
        head.into_pyarray(py),
        gene.into_pyarray(py),
        peak.into_pyarray(py),
        weight.into_pyarray(py),
        score.into_pyarray(py),
        kept.into_pyarray(py),
    );
    let shapes = ([heads, gene_order.len()], [heads, peak_order.len()]);
    Ok((matrix(py, rows, shapes.0)?, matrix(py, columns, shapes.1)?, pairs))
}
