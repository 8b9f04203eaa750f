//! Translation (ATAC → RNA): predicted against measured expression, accumulated cell by cell.
//!
//! The truth of RMSE, MAE, detection, Pearson and FOSCTTM is `[expression > 0]` (docs/model.md, section 8.7), as the
//! prediction is an indicator too; RMSE, MAE and Pearson against the expression as stored (what the loss sees) stand
//! beside them under names that end in `_expression`.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::matching::share;
use crate::error::{Error, Result};

/// Metrics of predicted expression over cells × genes. What is undefined is `None`: `null` in JSON, a dash in tables.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct TranslationMetrics {
    /// Cells.
    pub cells: u64,
    /// Root mean squared error against `[expression > 0]`.
    pub rmse: Option<f64>,
    /// Mean absolute error against `[expression > 0]`.
    pub mae: Option<f64>,
    /// Of the entries predicted expressed (prediction > 0.5), the share that is.
    pub precision: Option<f64>,
    /// Of the entries expressed, the share predicted so.
    pub recall: Option<f64>,
    /// 2 TP / (2 TP + FP + FN).
    pub f1: Option<f64>,
    /// Mean over cells of the Pearson correlation over genes with `[expression > 0]`.
    pub pearson: Option<f64>,
    /// Cells that `pearson` leaves out: prediction or truth is the same for every gene.
    pub pearson_undefined: u64,
    /// Root mean squared error against the expression as stored.
    pub rmse_expression: Option<f64>,
    /// Mean absolute error against the expression as stored.
    pub mae_expression: Option<f64>,
    /// Mean over cells of the Pearson correlation over genes with the expression as stored.
    pub pearson_expression: Option<f64>,
    /// Cells that `pearson_expression` leaves out.
    pub pearson_expression_undefined: u64,
    /// Fraction of samples closer than the true match: mean over cells i of #{j : |t_i − p_j| < |t_i − p_i|} / (N − 1).
    /// `None` with fewer than two cells, and for baselines, which predict the same for every cell.
    pub foscttm: Option<f64>,
    /// Mean share of the other cells exactly as far as the true match. Predictions that are equal for all cells have
    /// a `foscttm` of 0 and ties of 1; a random guess has `foscttm` + ties / 2 = 0.5.
    pub foscttm_ties: Option<f64>,
}

impl TranslationMetrics {
    /// The mean over heads: each number is averaged over the heads where it is defined; counts of undefined cells are
    /// the largest of any head.
    pub fn mean(heads: &[TranslationMetrics]) -> TranslationMetrics {
        let mean = |f: fn(&TranslationMetrics) -> Option<f64>| {
            let v: Vec<f64> = heads.iter().filter_map(f).collect();
            (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64)
        };
        let most = |f: fn(&TranslationMetrics) -> u64| heads.iter().map(f).max().unwrap_or(0);
        TranslationMetrics {
            cells: most(|m| m.cells),
            rmse: mean(|m| m.rmse),
            mae: mean(|m| m.mae),
            precision: mean(|m| m.precision),
            recall: mean(|m| m.recall),
            f1: mean(|m| m.f1),
            pearson: mean(|m| m.pearson),
            pearson_undefined: most(|m| m.pearson_undefined),
            rmse_expression: mean(|m| m.rmse_expression),
            mae_expression: mean(|m| m.mae_expression),
            pearson_expression: mean(|m| m.pearson_expression),
            pearson_expression_undefined: most(|m| m.pearson_expression_undefined),
            foscttm: mean(|m| m.foscttm),
            foscttm_ties: mean(|m| m.foscttm_ties),
        }
    }
}

/// Translation of a model and of the trivial baselines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TranslationReport {
    /// The model; the mean of `heads`.
    pub model: TranslationMetrics,
    /// Each head of the model.
    pub heads: Vec<TranslationMetrics>,
    /// No gene is expressed.
    pub all_zeros: TranslationMetrics,
    /// Each gene as its mean over the training cells: of `[expression > 0]`, and of the expression as stored for the
    /// metrics named `_expression`. `None` without training cells.
    pub gene_mean: Option<TranslationMetrics>,
    /// Each gene expressed in all cells or in none, as in most training cells. `None` without training cells.
    pub gene_majority: Option<TranslationMetrics>,
    /// Cells behind `gene_mean` and `gene_majority`: those of the positive training samples.
    pub training_cells: u64,
}

/// Running mean of what is defined.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    n: u64,
    undefined: u64,
}

impl Mean {
    fn add(&mut self, x: Option<f64>) {
        match x {
            Some(x) => {
                self.sum += x;
                self.n += 1;
            }
            None => self.undefined += 1,
        }
    }

    fn get(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}

/// Accumulates predictions of whole cells, each `[G]`. Memory does not grow with the cells.
#[derive(Debug, Clone, Default)]
pub struct Translation {
    genes: usize,
    cells: u64,
    /// Sums against the indicator, and against the expression as stored; so are the next two.
    square: [f64; 2],
    absolute: [f64; 2],
    pearson: [Mean; 2],
    tp: u64,
    fp: u64,
    fneg: u64,
}

/// Pearson correlation from plain sums over n pairs, or `None` where a side is constant.
fn pearson(n: f64, sx: f64, sy: f64, sxx: f64, syy: f64, sxy: f64) -> Option<f64> {
    let (vx, vy) = (sxx - sx * sx / n, syy - sy * sy / n);
    // Rounding leaves a constant side a variance of up to a few ulp of its sum of squares.
    let none = |v: f64, s: f64| v <= 1e-13 * s || v.is_nan();
    if n < 2.0 || none(vx, sxx) || none(vy, syy) {
        return None;
    }
    Some(((sxy - sx * sy / n) / (vx.sqrt() * vy.sqrt())).clamp(-1.0, 1.0))
}

/// Pearson correlation of two sequences of equal length; `None` where either is constant (or they are shorter than 2).
pub fn pearson_of(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (mut n, mut sx, mut sy, mut sxx, mut syy, mut sxy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in pairs {
        n += 1.0;
        sx += x;
        sy += y;
        sxx += x * x;
        syy += y * y;
        sxy += x * y;
    }
    pearson(n, sx, sy, sxx, syy, sxy)
}

impl Translation {
    /// For predictions of `genes` genes.
    pub fn new(genes: usize) -> Self {
        Translation { genes, ..Default::default() }
    }

    /// Adds one cell: `predicted(g)` is the prediction of gene g; `genes` and `values` are its stored entries (any
    /// order, no duplicates), absent ones being 0.
    pub fn add_cell(&mut self, predicted: impl Fn(usize) -> f64, genes: &[u32], values: impl Fn(usize) -> f32) {
        let mut expression = vec![0f32; self.genes];
        for (i, &g) in genes.iter().enumerate() {
            expression[g as usize] = values(i);
        }
        self.add_dense(predicted, &expression);
    }

    /// Adds one cell whose expression is dense, `[G]`.
    pub fn add_dense(&mut self, predicted: impl Fn(usize) -> f64, expression: &[f32]) {
        for (g, &e) in expression.iter().enumerate() {
            let (p, on) = (predicted(g), e > 0.0);
            for (k, t) in [f64::from(u8::from(on)), f64::from(e)].into_iter().enumerate() {
                self.square[k] += (p - t) * (p - t);
                self.absolute[k] += (p - t).abs();
            }
            match (p > 0.5, on) {
                (true, true) => self.tp += 1,
                (true, false) => self.fp += 1,
                (false, true) => self.fneg += 1,
                (false, false) => {}
            }
        }
        let of =
            |truth: fn(f32) -> f64| pearson_of(expression.iter().enumerate().map(|(g, &e)| (predicted(g), truth(e))));
        self.pearson[0].add(of(|e| f64::from(u8::from(e > 0.0))));
        self.pearson[1].add(of(f64::from));
        self.cells += 1;
    }

    /// The metrics of what was added, FOSCTTM aside.
    pub fn finish(&self) -> TranslationMetrics {
        let n = self.cells as f64 * self.genes as f64;
        let mean = |x: f64| (n > 0.0).then(|| x / n);
        TranslationMetrics {
            cells: self.cells,
            rmse: mean(self.square[0]).map(f64::sqrt),
            mae: mean(self.absolute[0]),
            precision: share(self.tp, self.tp + self.fp),
            recall: share(self.tp, self.tp + self.fneg),
            f1: share(2 * self.tp, 2 * self.tp + self.fp + self.fneg),
            pearson: self.pearson[0].get(),
            pearson_undefined: self.pearson[0].undefined,
            rmse_expression: mean(self.square[1]).map(f64::sqrt),
            mae_expression: mean(self.absolute[1]),
            pearson_expression: self.pearson[1].get(),
            pearson_expression_undefined: self.pearson[1].undefined,
            foscttm: None,
            foscttm_ties: None,
        }
    }
}

/// Rows of bits, `[rows, columns]`: the 0/1 vectors of FOSCTTM at one bit an entry (7,000 cells × 13,431 genes: 12 MB).
#[derive(Debug, Clone)]
pub struct BitRows {
    columns: usize,
    words: usize,
    bits: Vec<u64>,
}

impl BitRows {
    /// No rows yet.
    pub fn new(columns: usize) -> Self {
        BitRows { columns, words: columns.div_ceil(64).max(1), bits: Vec::new() }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.bits.len() / self.words
    }

    /// Appends a row with these columns set.
    ///
    /// # Errors
    /// [`Error::Internal`] for a column outside.
    pub fn push(&mut self, set: impl IntoIterator<Item = usize>) -> Result<()> {
        let start = self.bits.len();
        self.bits.resize(start + self.words, 0);
        for c in set {
            if c >= self.columns {
                return Err(Error::Internal(format!("column {c} of {} set in a row of bits", self.columns)));
            }
            self.bits[start + c / 64] |= 1 << (c % 64);
        }
        Ok(())
    }

    fn row(&self, i: usize) -> &[u64] {
        &self.bits[i * self.words..(i + 1) * self.words]
    }
}

/// FOSCTTM of 0/1 predictions `p` and truths `t` (equal shapes), docs/model.md, eq. 76, and the mean share of
/// exact ties: (foscttm, ties). Between 0/1 vectors the squared Euclidean distance is the number of differing bits, so
/// both are exact. `None` with fewer than two cells. Time N² G / 64, memory that of the bits.
pub fn foscttm(p: &BitRows, t: &BitRows) -> Option<(f64, f64)> {
    let n = p.rows().min(t.rows());
    if n < 2 {
        return None;
    }
    let distance = |a: &[u64], b: &[u64]| a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum::<u32>();
    let (closer, tied) = (0..n)
        .into_par_iter()
        .map(|i| {
            let own = distance(t.row(i), p.row(i));
            let (mut closer, mut tied) = (0u64, 0u64);
            for j in (0..n).filter(|&j| j != i) {
                match distance(t.row(i), p.row(j)).cmp(&own) {
                    std::cmp::Ordering::Less => closer += 1,
                    std::cmp::Ordering::Equal => tied += 1,
                    std::cmp::Ordering::Greater => {}
                }
            }
            (closer, tied)
        })
        .reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    let pairs = n as f64 * (n - 1) as f64;
    Some((closer as f64 / pairs, tied as f64 / pairs))
}
