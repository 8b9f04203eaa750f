//! `pool`: bag sums Σ weight × feature row over the nodes of each sample, a CSR SpMM over gathered rows
//! (docs/model.md, section 7.3).
//!
//! A row of the result is `[Σ w E (d) | Σ w value | Σ w one-hot (C) | Σ w extras | Σ w]`, so that one linear map
//! ([`crate::ops::head::pooled`]) serves means, whose Σ w is 1, and attention bags alike.

#[forbid(unsafe_code)]
pub(crate) mod check;
pub(crate) mod cuda;

use std::sync::Arc;

use rayon::prelude::*;

use super::project::{Extra, Side};
use crate::model::nodes::{NodeSet, split_rows};
use crate::profile::{span, work};
use crate::real::Real;
use crate::simd::{axpy, dot, gather_sum, vectorized};
use crate::tape::{Tape, Var};

/// What the rows are weighted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// 1 / (nodes of the sample): the mean.
    Mean,
    /// `[heads, nnz]` weights on the tape. Their gradient is computed where the weight is not 0, which is where
    /// `attend` needs it.
    Var {
        /// The weights.
        var: Var,
        /// Heads; the result has `heads × B` rows, head by head.
        heads: usize,
    },
}

/// Pools the nodes of each sample: `[heads × B, width + 1]`. `emb` is the parameter `[N, d]`.
///
/// Backward sums the entries of each embedding row in entry order: the same result for any number of threads.
pub fn pool<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    side: Side<'p, T>,
    nodes: Arc<NodeSet<T>>,
    emb: Var,
    weights: Weights,
) -> Var {
    let _span = span("pool", "forward");
    let (var, heads) = match weights {
        Weights::Mean => (None, 1),
        Weights::Var { var, heads } => (Some(var), heads),
    };
    let bags = Bags { side, nodes, heads };
    let wv = var.map(|v| tape.get(v));
    work(|| {
        let numbers = bags.numbers(wv);
        (2.0 * numbers, numbers * size_of::<T>() as f64)
    });
    let rows = heads * bags.nodes.samples();
    let out = bags.forward(tape.get(emb), wv);
    let out = tape.value(out, [rows, bags.side.width() + 1]);
    tape.record("pool", &[out], move |s| {
        let grad = s.take(out);
        let mut de = s.take(emb);
        let wv = var.map(|v| s.value(v));
        work(|| {
            // A weight on the tape gets a gradient of its own.
            let both = if wv.is_some() { 2.0 } else { 1.0 };
            let numbers = bags.numbers(wv);
            (2.0 * both * numbers, 2.0 * both * numbers * size_of::<T>() as f64)
        });
        bags.add_to_embedding(&grad, wv, &mut de);
        s.put(emb, de);
        if let Some(var) = var {
            let mut dw = s.take(var);
            bags.add_to_weights(&grad, s.value(emb), s.value(var), &mut dw);
            s.put(var, dw);
        }
    });
    out
}

/// The bags of a batch: a sum for each head and sample.
struct Bags<'p, T> {
    side: Side<'p, T>,
    nodes: Arc<NodeSet<T>>,
    heads: usize,
}

impl<T: Real> Bags<'_, T> {
    /// Numbers of the embedding rows that are read: those of entries with a weight.
    fn numbers(&self, w: Option<&[T]>) -> f64 {
        let read = w.map_or(self.nodes.nnz(), |w| w.iter().filter(|&&w| w != T::of(0.0)).count());
        (self.side.dim * read) as f64
    }

    /// The sums, `[heads × B, width + 1]`, over embeddings `ev` `[N, d]` with weights `wv` `[heads, nnz]`, or means.
    fn forward(&self, ev: &[T], wv: Option<&[T]>) -> Vec<T> {
        let Bags { side, nodes, heads } = self;
        let (b, d, width, nnz) = (nodes.samples(), side.dim, side.width(), nodes.nnz());
        let mut out = vec![T::of(0.0); heads * b * (width + 1)];
        out.par_chunks_mut(width + 1).enumerate().for_each(|(row, out)| {
            let (head, sample) = (row / b, row % b);
            let range = nodes.indptr[sample]..nodes.indptr[sample + 1];
            let mean = T::of(1.0 / range.len().max(1) as f64);
            let (dense, tail) = out.split_at_mut(d);
            let mut bases = vec![T::of(0.0); side.extra_width];
            // The mean of base codes is a sum of small integers: exact, and 64 to a vector.
            let integers = match (side.extra, wv) {
                (Extra::Dna(codes), None) => {
                    let rows = nodes.local[range.clone()].iter().map(|&r| nodes.rows[r as usize] as usize);
                    for (o, n) in tail[1 + side.chromosomes..].iter_mut().zip(sum_codes(codes, side.extra_width, rows))
                    {
                        *o = T::of(0.25 * f64::from(n)) * mean;
                    }
                    true
                }
                _ => false,
            };
            for e in range {
                let w = wv.map_or(mean, |w| w[head * nnz + e]);
                if w == T::of(0.0) {
                    continue;
                }
                let i = nodes.rows[nodes.local[e] as usize] as usize;
                axpy(dense, w, &ev[i * d..(i + 1) * d]);
                tail[0] += w * nodes.values[e];
                tail[1 + side.chrom[i] as usize] += w;
                if !integers {
                    side.extras_into(i, &mut bases);
                    axpy(&mut tail[1 + side.chromosomes..1 + side.chromosomes + side.extra_width], w, &bases);
                }
                tail[width - d] += w;
            }
        });
        out
    }

    /// Adds the gradient of the embeddings, `[N, d]`.
    fn add_to_embedding(&self, grad: &[T], wv: Option<&[T]>, de: &mut [T]) {
        let Bags { side, nodes, heads } = self;
        let (b, d, width, nnz) = (nodes.samples(), side.dim, side.width(), nodes.nnz());
        split_rows(de, &nodes.rows, d, 64).into_par_iter().for_each_init(
            Default::default,
            |(scale, from): &mut (Vec<T>, Vec<u32>), (start, first, piece)| {
                for r in start..(start + 64).min(nodes.rows.len()) {
                    let at = (nodes.rows[r] as usize - first) * d;
                    let out = &mut piece[at..at + d];
                    let own = &nodes.by_row[nodes.row_ptr[r]..nodes.row_ptr[r + 1]];
                    for head in 0..*heads {
                        scale.clear();
                        from.clear();
                        for &e in own {
                            let sample = nodes.sample[e as usize];
                            let count = nodes.count(sample as usize);
                            let w = wv.map_or_else(|| T::of(1.0 / count as f64), |w| w[head * nnz + e as usize]);
                            if w != T::of(0.0) {
                                scale.push(w);
                                from.push((head * b) as u32 + sample);
                            }
                        }
                        gather_sum(out, scale, grad, width + 1, from);
                    }
                }
            },
        );
    }

    /// Adds the gradient of the weights, `[heads, nnz]`, where they are not 0.
    fn add_to_weights(&self, grad: &[T], ev: &[T], wv: &[T], dw: &mut [T]) {
        let Bags { side, nodes, .. } = self;
        let (b, d, width, nnz) = (nodes.samples(), side.dim, side.width(), nodes.nnz());
        dw.par_chunks_mut(1024).enumerate().for_each_init(
            || vec![T::of(0.0); side.extra_width],
            |bases, (chunk, dw)| {
                for (at, dw) in dw.iter_mut().enumerate() {
                    let flat = chunk * 1024 + at;
                    if wv[flat] == T::of(0.0) {
                        continue;
                    }
                    let (head, e) = (flat / nnz, flat % nnz);
                    let i = nodes.rows[nodes.local[e] as usize] as usize;
                    let g = &grad[(head * b + nodes.sample[e] as usize) * (width + 1)..][..width + 1];
                    side.extras_into(i, bases);
                    *dw += dot(&g[..d], &ev[i * d..(i + 1) * d])
                        + g[d] * nodes.values[e]
                        + g[d + 1 + side.chrom[i] as usize]
                        + dot(&g[d + 1 + side.chromosomes..width], bases)
                        + g[width];
                }
            },
        );
    }
}

/// Column sums of some rows of `[N, width]` base codes (each at most 4, so that 63 rows fit a byte).
pub fn sum_codes(codes: &[u8], width: usize, rows: impl Iterator<Item = usize>) -> Vec<u32> {
    let (mut sums, mut bytes) = (vec![0u32; width], vec![0u8; width]);
    let mut flush = |bytes: &mut [u8]| {
        for (s, b) in sums.iter_mut().zip(bytes) {
            *s += u32::from(std::mem::take(b));
        }
    };
    for (n, row) in rows.enumerate() {
        add_bytes(&mut bytes, &codes[row * width..(row + 1) * width]);
        if n % 63 == 62 {
            flush(&mut bytes);
        }
    }
    flush(&mut bytes);
    sums
}

vectorized! {
    fn add_bytes(sums: &mut [u8], x: &[u8]) {
        for (s, &x) in sums.iter_mut().zip(x) {
            *s = s.wrapping_add(x);
        }
    }
}
