//! The node lists of a batch, arranged for the ops: table rows, chromosome segments, entries by row.

use crate::csr::Csr;
use crate::real::Real;

/// The gene nodes (or the peak nodes) of a batch.
///
/// A *table* has one row for each distinct gene of the batch (and for those that translation needs besides, if not all);
/// an *entry* is one node of one sample, in CSR order over samples.
#[derive(Debug)]
pub struct NodeSet<T> {
    /// `[R]` data set index of each table row, ascending.
    pub rows: Vec<u32>,
    /// `[B + 1]` entries of each sample.
    pub indptr: Vec<usize>,
    /// `[nnz]` table row of each entry.
    pub local: Vec<u32>,
    /// `[nnz]` sample of each entry.
    pub sample: Vec<u32>,
    /// `[nnz]` value (expression or accessibility) of each entry.
    pub values: Vec<T>,
    /// `[R + 1]` where the entries of each table row start in `by_row`.
    pub row_ptr: Vec<usize>,
    /// `[nnz]` entries, sorted by table row, then entry: the order in which gradients are summed.
    pub by_row: Vec<u32>,
    /// `[B]` chromosome segments of each sample: (chromosome, first entry, one past the last).
    pub segments: Vec<Vec<(u32, usize, usize)>>,
}

/// Not in the table.
const NONE: u32 = u32::MAX;

impl<T: Real> NodeSet<T> {
    /// Arranges `csr` `[B, N]`. `chrom` is `[N]`; with `all`, the table has a row for each of the N.
    pub fn new(csr: &Csr<T>, chrom: &[u32], all: bool) -> Self {
        if all {
            return Self::arrange(csr, chrom, vec![0; chrom.len()]);
        }
        Self::with(csr, chrom, &[])
    }

    /// Arranges `csr` `[B, N]` with a table of the rows it names and of `more`.
    pub fn with(csr: &Csr<T>, chrom: &[u32], more: &[u32]) -> Self {
        let mut place = vec![NONE; chrom.len()];
        csr.indices.iter().chain(more).for_each(|&i| place[i as usize] = 0);
        Self::arrange(csr, chrom, place)
    }

    /// `place` `[N]` is 0 for the rows of the table, [`NONE`] for the others.
    fn arrange(csr: &Csr<T>, chrom: &[u32], mut place: Vec<u32>) -> Self {
        let mut rows = Vec::new();
        for (i, p) in place.iter_mut().enumerate() {
            if *p != NONE {
                *p = rows.len() as u32;
                rows.push(i as u32);
            }
        }
        let local: Vec<u32> = csr.indices.iter().map(|&i| place[i as usize]).collect();
        let mut sample = Vec::with_capacity(local.len());
        let mut segments = Vec::with_capacity(csr.rows());
        for b in 0..csr.rows() {
            let (start, end) = (csr.indptr[b], csr.indptr[b + 1]);
            sample.resize(end, b as u32);
            let mut list: Vec<(u32, usize, usize)> = Vec::new();
            for e in start..end {
                let c = chrom[csr.indices[e] as usize];
                match list.last_mut() {
                    Some(last) if last.0 == c => last.2 = e + 1,
                    _ => list.push((c, e, e + 1)),
                }
            }
            segments.push(list);
        }
        let (row_ptr, by_row) = group(&local, rows.len());
        NodeSet {
            rows,
            indptr: csr.indptr.clone(),
            local,
            sample,
            values: csr.values.clone(),
            row_ptr,
            by_row,
            segments,
        }
    }

    /// B.
    pub fn samples(&self) -> usize {
        self.indptr.len() - 1
    }

    /// Nodes of sample `b`.
    pub fn count(&self, b: usize) -> usize {
        self.indptr[b + 1] - self.indptr[b]
    }

    /// Entries of all samples.
    pub fn nnz(&self) -> usize {
        self.local.len()
    }
}

/// Stable counting sort: positions of `keys` (each below `n`) grouped by key. Returns (starts `[n + 1]`, positions).
pub fn group(keys: &[u32], n: usize) -> (Vec<usize>, Vec<u32>) {
    let mut ptr = vec![0usize; n + 1];
    for &k in keys {
        ptr[k as usize + 1] += 1;
    }
    for i in 0..n {
        ptr[i + 1] += ptr[i];
    }
    let mut next = ptr.clone();
    let mut order = vec![0u32; keys.len()];
    for (i, &k) in keys.iter().enumerate() {
        order[next[k as usize]] = i as u32;
        next[k as usize] += 1;
    }
    (ptr, order)
}

/// Cuts `buffer` (rows of `width`) into the pieces that belong to consecutive groups of ascending `rows`, so that
/// groups can be written in parallel. Returns, for each group of `size` rows: (first index into `rows`, row number of
/// the piece's first row, piece).
pub fn split_rows<'a, T>(
    mut buffer: &'a mut [T],
    rows: &[u32],
    width: usize,
    size: usize,
) -> Vec<(usize, usize, &'a mut [T])> {
    let mut out = Vec::new();
    let mut done = 0usize;
    for start in (0..rows.len()).step_by(size) {
        let end = (start + size).min(rows.len());
        let (first, last) = (rows[start] as usize, rows[end - 1] as usize + 1);
        let (_, rest) = buffer.split_at_mut((first - done) * width);
        let (piece, rest) = rest.split_at_mut((last - first) * width);
        out.push((start, first, piece));
        buffer = rest;
        done = last;
    }
    out
}
