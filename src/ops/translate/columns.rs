//! The distinct columns of the score matrix of a batch, and the rows of queries and keys behind the scores.

use rayon::prelude::*;

use crate::model::nodes::{NodeSet, group};
use crate::real::Real;
use crate::simd::axpy;

/// The distinct (peak, accessibility) columns of some samples, and who has which.
#[derive(Debug)]
pub struct PeakColumns<T> {
    /// `[U]` row of the key table.
    pub row: Vec<u32>,
    /// `[U]` accessibility.
    pub value: Vec<T>,
    /// `[n + 1]` columns of each sample.
    pub indptr: Vec<usize>,
    /// `[nnz]` column of each entry.
    pub col: Vec<u32>,
    /// `[U + 1]` where the samples of each column start.
    pub(super) by_ptr: Vec<usize>,
    /// `[nnz]` samples (numbered as in `indptr`) of each column, ascending.
    pub(super) by_sample: Vec<u32>,
}

impl<T: Real> PeakColumns<T> {
    /// PeakColumns of `samples` (numbers of the batch), sorted by key row, then accessibility.
    pub fn new(peaks: &NodeSet<T>, samples: &[usize]) -> Self {
        if samples.is_empty() {
            let (indptr, by_ptr) = (vec![0], vec![0]);
            let [row, col, by_sample] = [const { Vec::new() }; 3];
            return PeakColumns { row, value: Vec::new(), indptr, col, by_ptr, by_sample };
        }
        let mut keys: Vec<(u32, u64)> = Vec::new();
        let bits = |v: T| v.f64().to_bits();
        let mut indptr = vec![0];
        for &b in samples {
            keys.extend((peaks.indptr[b]..peaks.indptr[b + 1]).map(|e| (peaks.local[e], bits(peaks.values[e]))));
            indptr.push(keys.len());
        }
        // Distinct values of each row: most rows have one, so a short list a row finds the column of an entry.
        let (ptr, order) = group(&keys.iter().map(|k| k.0).collect::<Vec<_>>(), peaks.rows.len());
        let mut out = PeakColumns {
            row: Vec::new(),
            value: Vec::new(),
            indptr,
            col: vec![0; keys.len()],
            by_ptr: Vec::new(),
            by_sample: Vec::new(),
        };
        let mut values: Vec<u64> = Vec::new();
        for r in 0..peaks.rows.len() {
            let own = &order[ptr[r]..ptr[r + 1]];
            if own.is_empty() {
                continue;
            }
            values.clear();
            values.extend(own.iter().map(|&e| keys[e as usize].1));
            values.sort_unstable();
            values.dedup();
            let first = out.row.len() as u32;
            for &v in &values {
                out.row.push(r as u32);
                out.value.push(T::of(f64::from_bits(v)));
            }
            for &e in own {
                let at = values.partition_point(|&v| v < keys[e as usize].1);
                out.col[e as usize] = first + at as u32;
            }
        }
        let (by_ptr, by_entry) = group(&out.col, out.row.len());
        let mut sample_of = vec![0u32; keys.len()];
        for (i, w) in out.indptr.windows(2).enumerate() {
            sample_of[w[0]..w[1]].fill(i as u32);
        }
        out.by_sample = by_entry.iter().map(|&e| sample_of[e as usize]).collect();
        out.by_ptr = by_ptr;
        out
    }

    /// U.
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// No columns?
    pub fn is_empty(&self) -> bool {
        self.row.is_empty()
    }

    /// n.
    pub fn samples(&self) -> usize {
        self.indptr.len() - 1
    }

    /// `[U + 1]` where the samples of each column start in [`PeakColumns::by_sample`].
    pub fn by_ptr(&self) -> &[usize] {
        &self.by_ptr
    }

    /// `[nnz]` samples (numbered as in `indptr`) of each column, ascending.
    pub fn by_sample(&self) -> &[u32] {
        &self.by_sample
    }
}

/// `table[row] + value u` for some rows, contiguous, `[rows, H]`.
pub(crate) fn effective<T: Real>(table: &[T], u: &[T], rows: impl Iterator<Item = (usize, T)>, out: &mut Vec<T>) {
    out.clear();
    for (r, v) in rows {
        out.extend(table[r * u.len()..(r + 1) * u.len()].iter().zip(u).map(|(&x, &u)| x + v * u));
    }
}

/// Effective keys of all columns, `[U, H]`.
pub(crate) fn keys<T: Real>(k: &[T], uk: &[T], cols: &PeakColumns<T>) -> Vec<T> {
    let h = uk.len();
    let mut out = vec![T::of(0.0); cols.len() * h];
    out.par_chunks_mut(512 * h).enumerate().for_each(|(c, out)| {
        for (i, out) in out.chunks_exact_mut(h).enumerate() {
            let row = cols.row[c * 512 + i] as usize;
            let v = cols.value[c * 512 + i];
            for ((o, &x), &u) in out.iter_mut().zip(&k[row * h..]).zip(uk) {
                *o = x + v * u;
            }
        }
    });
    out
}

/// The way back through [`keys`]: `dk` and `duk` += what `dke` `[U, H]` says.
pub(crate) fn add_key_gradients<T: Real>(dke: &[T], cols: &PeakColumns<T>, dk: &mut [T], duk: &mut [T]) {
    let h = duk.len();
    for ((d, &row), &v) in dke.chunks_exact(h).zip(&cols.row).zip(&cols.value) {
        axpy(&mut dk[row as usize * h..][..h], T::of(1.0), d);
        axpy(duk, v, d);
    }
}
