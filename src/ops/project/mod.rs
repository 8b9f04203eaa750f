//! `project`: the projection tables of queries or keys (docs/model.md, section 7.1).
//!
//! `table = E[rows] W_Eᵀ + W_C[:, chromosome] + extras W_Fᵀ + b`, `[R, H]`, and `u`, the column of `W` that the value
//! (expression or accessibility) multiplies, `[1, H]`: `q_i = table[i] + e_i u`. One row a distinct gene or peak of the
//! batch, not one a node. DNA stays one byte a base until a block of rows is multiplied.

#[forbid(unsafe_code)]
pub(crate) mod check;
pub(crate) mod cuda;

use std::sync::Arc;

use rayon::prelude::*;

use super::matmul::{View, product_into};
use crate::model::nodes::split_rows;
use crate::model::{Features, ModelConfig};
use crate::profile::{span, work};
use crate::real::Real;
use crate::simd::vectorized;
use crate::tape::{Tape, Var};

/// Constant features after the chromosome one-hot.
#[derive(Debug, Clone, Copy)]
pub enum Extra<'p, T> {
    /// `[N, width]` numbers.
    Dense(&'p [T]),
    /// `[N, width]` base codes; the feature is the code × 0.25.
    Dna(&'p [u8]),
}

/// What is known of the nodes of one side: genes or peaks.
#[derive(Debug, Clone, Copy)]
pub struct Side<'p, T> {
    /// `[N]` chromosome of each.
    pub chrom: &'p [u32],
    /// C.
    pub chromosomes: usize,
    /// Features after the one-hot.
    pub extra: Extra<'p, T>,
    /// How many of them.
    pub extra_width: usize,
    /// d, width of the id embedding.
    pub dim: usize,
}

impl<'p, T> Side<'p, T> {
    /// The genes of a model.
    pub fn of_genes(config: &ModelConfig, features: &'p Features<T>) -> Self {
        Side {
            chrom: &features.gene_chrom,
            chromosomes: config.chromosomes,
            extra: Extra::Dense(&features.gene_extra),
            extra_width: config.gene_extra,
            dim: config.embedding_dim,
        }
    }

    /// Its peaks.
    pub fn of_peaks(config: &ModelConfig, features: &'p Features<T>) -> Self {
        Side {
            chrom: &features.peak_chrom,
            chromosomes: config.chromosomes,
            extra: Extra::Dna(&features.peak_dna),
            extra_width: config.dna_length,
            dim: config.embedding_dim,
        }
    }
}

impl<T: Real> Side<'_, T> {
    /// Width of a node's feature row `[E (d) | value (1) | one-hot (C) | extras]`.
    pub fn width(&self) -> usize {
        self.dim + 1 + self.chromosomes + self.extra_width
    }

    /// Feature `j` after the one-hot of node `i`.
    pub fn extra_at(&self, i: usize, j: usize) -> T {
        match self.extra {
            Extra::Dense(x) => x[i * self.extra_width + j],
            Extra::Dna(x) => T::of(0.25 * f64::from(x[i * self.extra_width + j])),
        }
    }

    /// Writes the features after the one-hot of node `i` to `out`.
    pub fn extras_into(&self, i: usize, out: &mut [T]) {
        let range = i * self.extra_width..(i + 1) * self.extra_width;
        match self.extra {
            Extra::Dense(x) => out.copy_from_slice(&x[range]),
            Extra::Dna(x) => bases(out, &x[range]),
        }
    }

    /// Bytes of a node's extras as they are stored.
    fn extra_bytes(&self) -> usize {
        match self.extra {
            Extra::Dense(_) => self.extra_width * size_of::<T>(),
            Extra::Dna(_) => self.extra_width,
        }
    }

    /// Gathers `[E | extras]` of some nodes, `[rows, d + extra_width]`.
    fn gather(&self, emb: &[T], rows: &[u32], out: &mut Vec<T>) {
        let width = self.dim + self.extra_width;
        out.resize(rows.len() * width, T::of(0.0));
        for (o, &i) in out.chunks_exact_mut(width).zip(rows) {
            let i = i as usize;
            o[..self.dim].copy_from_slice(&emb[i * self.dim..(i + 1) * self.dim]);
            self.extras_into(i, &mut o[self.dim..]);
        }
    }
}

vectorized! {
    /// Base codes × 0.25.
    fn bases<T: Real>(out: &mut [T], codes: &[u8]) {
        for (o, &b) in out.iter_mut().zip(codes) {
            *o = T::small(b) * T::of(0.25);
        }
    }
}

/// Rows of one block: a gathered block of 256 × 512 f32 is half a megabyte.
const BLOCK: usize = 256;

/// `W` `[H, width]` without its value and chromosome columns: `[H, d + extra]`.
fn pack<T: Real>(w: &[T], side: &Side<'_, T>, h: usize) -> Vec<T> {
    let (d, width) = (side.dim, side.width());
    let mut out = Vec::with_capacity(h * (d + side.extra_width));
    for row in w.chunks_exact(width) {
        out.extend_from_slice(&row[..d]);
        out.extend_from_slice(&row[d + 1 + side.chromosomes..]);
    }
    debug_assert_eq!(out.len(), h * (d + side.extra_width));
    out
}

/// Projects `rows` (ascending, distinct) of a side.
///
/// `emb` `[N, d]`, `w` `[H, d + 1 + C + extra]`, `b` `[1, H]`, all parameters. Returns (table `[R, H]`, u `[1, H]`).
/// Backward adds to all three; every embedding row is written by one block only.
pub fn project<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    side: Side<'p, T>,
    rows: Arc<Vec<u32>>,
    emb: Var,
    w: Var,
    b: Var,
) -> (Var, Var) {
    let _span = span("project", "forward");
    let h = tape.shape(w)[0];
    let (d, width, k) = (side.dim, side.width(), side.dim + side.extra_width);
    let (wv, ev, bv) = (tape.get(w), tape.get(emb), tape.get(b));
    let packed = pack(wv, &side, h);
    let mut start = vec![T::of(0.0); side.chromosomes * h]; // b + W_C, a row a chromosome
    for (c, row) in start.chunks_exact_mut(h).enumerate() {
        for (j, x) in row.iter_mut().enumerate() {
            *x = bv[j] + wv[j * width + d + 1 + c];
        }
    }
    let u: Vec<T> = (0..h).map(|j| wv[j * width + d]).collect();
    // Products over [E | extras] of the rows; a row is read, a row of the table is written.
    let row = size_of::<T>() * (d + h) + side.extra_bytes();
    work(|| (2.0 * (rows.len() * h * k) as f64, (rows.len() * row) as f64));
    let mut table = vec![T::of(0.0); rows.len() * h];
    table.par_chunks_mut(BLOCK * h).zip(rows.par_chunks(BLOCK)).for_each_init(Vec::new, |x, (out, rows)| {
        for (o, &i) in out.chunks_exact_mut(h).zip(rows) {
            let c = side.chrom[i as usize] as usize;
            o.copy_from_slice(&start[c * h..(c + 1) * h]);
        }
        side.gather(ev, rows, x);
        product_into(out, h, View::new(x, rows.len(), k), View::new(&packed, h, k).t(), true);
    });
    let table = tape.value(table, [rows.len(), h]);
    let u = tape.value(u, [1, h]);
    tape.record("project", &[table, u], move |s| {
        let (dt, du) = (s.take(table), s.take(u));
        let (mut de, mut dw, mut db) = (s.take(emb), s.take(w), s.take(b));
        work(|| (2.0 * (rows.len() * h * (d + k)) as f64, (rows.len() * (row + 2 * d * size_of::<T>())) as f64));
        let packed = pack(s.value(w), &side, h);
        let ev = s.value(emb);
        let pieces = split_rows(&mut de, &rows, d, BLOCK);
        // One partial of dW a group of 16 blocks, summed in order.
        let mut parts: Vec<(Vec<T>, Vec<T>)> = Vec::new();
        let mut groups: Vec<Vec<(usize, usize, &mut [T])>> = Vec::new();
        for (i, p) in pieces.into_iter().enumerate() {
            if i % 16 == 0 {
                groups.push(Vec::new());
            }
            if let Some(g) = groups.last_mut() {
                g.push(p);
            }
        }
        groups
            .into_par_iter()
            .map(|group| {
                let mut dwp = vec![T::of(0.0); h * k];
                let mut dc = vec![T::of(0.0); side.chromosomes * h];
                let (mut x, mut dx) = (Vec::new(), Vec::new());
                for (start, first, piece) in group {
                    let rows = &rows[start..(start + BLOCK).min(rows.len())];
                    let dt = &dt[start * h..(start + rows.len()) * h];
                    side.gather(ev, rows, &mut x);
                    dx.resize(rows.len() * d, T::of(0.0));
                    product_into(&mut dx, d, View::new(dt, rows.len(), h), View::strided(&packed, h, d, k), false);
                    for (&i, dx) in rows.iter().zip(dx.chunks_exact(d)) {
                        let at = (i as usize - first) * d;
                        piece[at..at + d].iter_mut().zip(dx).for_each(|(o, &g)| *o += g);
                    }
                    product_into(&mut dwp, k, View::new(dt, rows.len(), h).t(), View::new(&x, rows.len(), k), true);
                    for (&i, dt) in rows.iter().zip(dt.chunks_exact(h)) {
                        let c = side.chrom[i as usize] as usize;
                        dc[c * h..(c + 1) * h].iter_mut().zip(dt).for_each(|(o, &g)| *o += g);
                    }
                }
                (dwp, dc)
            })
            .collect_into_vec(&mut parts);
        for (dwp, dc) in parts {
            for (j, (row, g)) in dw.chunks_exact_mut(width).zip(dwp.chunks_exact(k)).enumerate() {
                row[..d].iter_mut().zip(&g[..d]).for_each(|(o, &g)| *o += g);
                row[d + 1 + side.chromosomes..].iter_mut().zip(&g[d..]).for_each(|(o, &g)| *o += g);
                for c in 0..side.chromosomes {
                    row[d + 1 + c] += dc[c * h + j];
                    db[j] += dc[c * h + j];
                }
            }
        }
        for j in 0..h {
            dw[j * width + d] += du[j];
        }
        s.put(emb, de);
        s.put(w, dw);
        s.put(b, db);
    });
    (table, u)
}
