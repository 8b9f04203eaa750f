//! Predicted expression beside measured expression: errors, and correlations by cell and by gene.
//!
//! A number that is the same for every cell can be right on average and say nothing of cells; correlations by gene over cells
//! show that. See docs/model.md, eq. 80 and 81.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ranking::{ranking, ranks};
use super::translation::pearson_of;

/// Genes looked at together.
const GENES: usize = 64;

/// Metrics of predicted expression of N cells and G genes; `None` is what is undefined. A gene *counts* where it is found in at
/// least `min_cells` of the cells and is missing in as many. A correlation with a prediction that does not vary is 0: it says
/// nothing. The definitions: docs/model.md, eq. 80 and 81.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ExpressionMetrics {
    /// N.
    pub cells: u64,
    /// Genes that count.
    pub genes: u64,
    /// What makes a gene count.
    pub min_cells: u64,
    /// Root mean squared error over all cells and genes.
    pub rmse: Option<f64>,
    /// Mean absolute error over all cells and genes.
    pub mae: Option<f64>,
    /// Share of the squares about each gene's mean over these cells that is explained; below 0 where the means are nearer.
    pub r2: Option<f64>,
    /// Pearson correlation over genes, mean over the cells whose truth varies.
    pub pearson_cell: Option<f64>,
    /// The same after the gene's mean over these cells (of the truth) is taken from both: what is particular to a cell.
    pub pearson_cell_centred: Option<f64>,
    /// Pearson correlation over cells, mean over genes that count.
    pub pearson_gene: Option<f64>,
    /// Spearman correlation over cells, mean over genes that count.
    pub spearman_gene: Option<f64>,
    /// AUROC of `[truth > 0]` over cells, mean over genes that count.
    pub auroc_gene: Option<f64>,
}

impl ExpressionMetrics {
    /// The default of `min_cells` for `n` cells: a fiftieth of them, from 3 to 10.
    pub fn min_cells(n: usize) -> usize {
        (n / 50).clamp(3, 10)
    }
}

/// Correlation of truth (second) with a prediction: 0 where that is constant, `None` where the truth is.
fn correlation(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> Option<f64> {
    let mut truth = pairs.clone().map(|p| p.1);
    let first = truth.next()?;
    truth.any(|t| t != first).then(|| pearson_of(pairs).unwrap_or(0.0))
}

/// Of one gene that counts.
#[derive(Clone, Copy, Default)]
struct OfGene {
    pearson: f64,
    spearman: f64,
    auroc: f64,
}

fn of_gene(predicted: &[f64], truth: &[f64], found: &[u8]) -> OfGene {
    let by_rank = |x: &[f64]| ranks(x).0;
    let (p, t) = (by_rank(predicted), by_rank(truth));
    let zip = |a: &[f64], b: &[f64]| pearson_of(a.iter().copied().zip(b.iter().copied())).unwrap_or(0.0);
    OfGene {
        pearson: zip(predicted, truth),
        spearman: zip(&p, &t),
        auroc: ranking(predicted, found).auroc.unwrap_or(0.5),
    }
}

fn mean(x: impl Iterator<Item = f64>) -> Option<f64> {
    let (n, sum) = x.fold((0.0, 0.0), |(n, s), x| (n + 1.0, s + x));
    (n > 0.0).then(|| sum / n)
}

/// Measures predictions `[N, genes]` against the truth `[N, genes]`; `min_cells` is [`ExpressionMetrics::min_cells`] where it is
/// not given (0 counts as 1). The mean of each gene over these cells, a constant for every cell, has an `r2` of 0.
///
/// ```
/// use sccrossrec::evaluate::expression;
/// let truth = [0.0, 2.0, 1.0, 0.0, 3.0, 2.0];
/// let m = expression(&truth, &truth, 2, Some(1));
/// assert_eq!((m.rmse, m.r2, m.genes), (Some(0.0), Some(1.0), 2));
/// ```
pub fn expression(predicted: &[f32], truth: &[f32], genes: usize, min_cells: Option<usize>) -> ExpressionMetrics {
    assert_eq!(predicted.len(), truth.len(), "predictions and truth of equal shape");
    let n = truth.len().checked_div(genes).unwrap_or(0);
    let least = min_cells.unwrap_or_else(|| ExpressionMetrics::min_cells(n)).max(1);
    if n == 0 {
        return ExpressionMetrics { min_cells: least as u64, ..Default::default() };
    }
    // By gene: its mean, squares about it, squared and absolute errors, and more where it counts.
    type Sums = (f64, [f64; 3], Option<OfGene>);
    let of_genes: Vec<Sums> = (0..genes)
        .into_par_iter()
        .step_by(GENES)
        .flat_map_iter(|from| {
            let some = GENES.min(genes - from);
            let gather = |m: &[f32]| {
                let mut columns = vec![Vec::with_capacity(n); some];
                for row in m.chunks_exact(genes) {
                    columns.iter_mut().zip(&row[from..]).for_each(|(c, &x)| c.push(f64::from(x)));
                }
                columns
            };
            let pairs = gather(predicted).into_iter().zip(gather(truth));
            pairs.map(|(p, t)| {
                let mean = t.iter().sum::<f64>() / n as f64;
                let about = t.iter().map(|t| (t - mean) * (t - mean)).sum();
                let squared = p.iter().zip(&t).map(|(p, t)| (p - t) * (p - t)).sum();
                let absolute = p.iter().zip(&t).map(|(p, t)| (p - t).abs()).sum();
                let found: Vec<u8> = t.iter().map(|&t| u8::from(t > 0.0)).collect();
                let with = found.iter().filter(|&&f| f == 1).count();
                let counts = with >= least && with + least <= n;
                (mean, [about, squared, absolute], counts.then(|| of_gene(&p, &t, &found)))
            })
        })
        .collect();
    let means: Vec<f64> = of_genes.iter().map(|g| g.0).collect();
    let of_cells: Vec<[Option<f64>; 2]> = predicted
        .par_chunks_exact(genes)
        .zip(truth.par_chunks_exact(genes))
        .map(|(p, t)| {
            let pairs = p.iter().zip(t).map(|(&p, &t)| (f64::from(p), f64::from(t)));
            let centred = pairs.clone().zip(&means).map(|((p, t), m)| (p - m, t - m));
            [correlation(pairs), correlation(centred)]
        })
        .collect();
    let sum = |k: usize| of_genes.iter().map(|g| g.1[k]).sum::<f64>();
    let counted: Vec<OfGene> = of_genes.iter().filter_map(|g| g.2).collect();
    let all = n as f64 * genes as f64;
    let about = sum(0);
    ExpressionMetrics {
        cells: n as u64,
        genes: counted.len() as u64,
        min_cells: least as u64,
        rmse: Some((sum(1) / all).sqrt()),
        mae: Some(sum(2) / all),
        r2: (about > 0.0).then(|| 1.0 - sum(1) / about),
        pearson_cell: mean(of_cells.iter().filter_map(|c| c[0])),
        pearson_cell_centred: mean(of_cells.iter().filter_map(|c| c[1])),
        pearson_gene: mean(counted.iter().map(|g| g.pearson)),
        spearman_gene: mean(counted.iter().map(|g| g.spearman)),
        auroc_gene: mean(counted.iter().map(|g| g.auroc)),
    }
}

/// How well the expression of one gene is told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GeneTold {
    /// Its number.
    pub gene: u32,
    /// Cells that it is found in.
    pub cells: u32,
    /// Pearson correlation over cells.
    pub pearson: f64,
    /// Spearman correlation over cells.
    pub spearman: f64,
    /// AUROC of `[truth > 0]` over cells.
    pub auroc: f64,
}

/// The genes that count, one by one: those whose means [`expression`] tells.
pub fn expression_by_gene(predicted: &[f32], truth: &[f32], genes: usize, min_cells: Option<usize>) -> Vec<GeneTold> {
    assert_eq!(predicted.len(), truth.len(), "predictions and truth of equal shape");
    let n = truth.len().checked_div(genes).unwrap_or(0);
    let least = min_cells.unwrap_or_else(|| ExpressionMetrics::min_cells(n)).max(1);
    (0..genes)
        .into_par_iter()
        .filter_map(|g| {
            let column = |m: &[f32]| m.iter().skip(g).step_by(genes).map(|&x| f64::from(x)).collect::<Vec<f64>>();
            let (p, t) = (column(predicted), column(truth));
            let found: Vec<u8> = t.iter().map(|&t| u8::from(t > 0.0)).collect();
            let with = found.iter().filter(|&&f| f == 1).count();
            (with >= least && with + least <= n).then(|| {
                let OfGene { pearson, spearman, auroc } = of_gene(&p, &t, &found);
                GeneTold { gene: g as u32, cells: with as u32, pearson, spearman, auroc }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn close(got: Option<f64>, want: f64, what: &str) {
        assert!((got.unwrap() - want).abs() < 1e-9, "{what}: {got:?} {want}");
    }

    #[test]
    fn by_hand() {
        // Three cells, three genes; gene 2 is found in every cell, and does not count.
        let truth = [0.0, 2.0, 1.0, 1.0, 0.0, 1.0, 2.0, 1.0, 4.0f32];
        let predicted = [0.0, 1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 3.0f32];
        let m = expression(&predicted, &truth, 3, Some(1));
        assert_eq!((m.cells, m.genes, m.min_cells), (3, 2, 1));
        // Errors: 0 −1 0, 1 1 0, −1 0 −1.
        close(m.rmse, (5.0f64 / 9.0).sqrt(), "rmse");
        close(m.mae, 5.0 / 9.0, "mae");
        // Means 1, 1, 2; squares about them 2, 2, 6.
        close(m.r2, 1.0 - 5.0 / 10.0, "r2");
        // Gene 0: (0,1,2) against (0,2,1): ½. Gene 1: the prediction is constant: 0.
        close(m.pearson_gene, 0.25, "pearson by gene");
        close(m.spearman_gene, 0.25, "spearman by gene");
        close(m.auroc_gene, (1.0 + 0.5) / 2.0, "auroc by gene");
        let each = expression_by_gene(&predicted, &truth, 3, Some(1));
        assert_eq!(each.iter().map(|g| (g.gene, g.cells)).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
        close(Some(each[0].pearson), 0.5, "of one gene");
        assert_eq!((each[1].pearson, each[0].auroc, each[1].auroc), (0.0, 1.0, 0.5));
        // Cells: (0,2,1)·(0,1,1); (1,0,1)·(2,1,1); (2,1,4)·(1,1,3), centred.
        let r = |a: [f64; 3], b: [f64; 3]| {
            let (x, y) = (a.iter().sum::<f64>() / 3.0, b.iter().sum::<f64>() / 3.0);
            let s = |f: &dyn Fn(usize) -> f64| (0..3).map(f).sum::<f64>();
            s(&|i| (a[i] - x) * (b[i] - y)) / (s(&|i| (a[i] - x).powi(2)) * s(&|i| (b[i] - y).powi(2))).sqrt()
        };
        let plain = r([0., 2., 1.], [0., 1., 1.]) + r([1., 0., 1.], [2., 1., 1.]) + r([2., 1., 4.], [1., 1., 3.]);
        close(m.pearson_cell, plain / 3.0, "by cell");
        let less = r([-1., 1., -1.], [-1., 0., -1.]) + r([0., -1., -1.], [1., 0., -1.]) + r([1., 0., 2.], [0., 0., 1.]);
        close(m.pearson_cell_centred, less / 3.0, "by cell, centred");
    }

    #[test]
    fn what_is_constant_says_nothing() {
        let truth = [0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 1.0, 1.0f32];
        let m = expression(&[0.0; 8], &truth, 2, Some(1));
        assert_eq!((m.pearson_gene, m.spearman_gene, m.auroc_gene), (Some(0.0), Some(0.0), Some(0.5)));
        // The last cell's truth is the same for both genes, and left out.
        assert_eq!(m.pearson_cell, Some(0.0));
        // Each gene's mean: nothing is explained, nothing lost.
        let m = expression(&[0.75, 1.25].repeat(4), &truth, 2, Some(1));
        close(m.r2, 0.0, "r2");
        assert_eq!((m.pearson_gene, m.pearson_cell_centred), (Some(0.0), Some(0.0)));
        assert_eq!(expression(&[], &[], 2, None).rmse, None);
        let none = expression(&[1.0; 4], &[1.0; 4], 2, None);
        assert_eq!((none.r2, none.pearson_gene, none.pearson_cell, none.genes), (None, None, None, 0));
        assert_eq!([100, 200, 400, 5000].map(ExpressionMetrics::min_cells), [3, 4, 8, 10]);
    }

    /// Column by column and pair by pair, on data with ties, more genes than are looked at together.
    #[test]
    fn equals_a_second_computation() {
        let (n, genes) = (60, 150);
        let mut rng = Rng::new(8, 1);
        let truth: Vec<f32> = (0..n * genes).map(|at| rng.below(2 + at % genes % 3) as f32 * 0.5).collect();
        let predicted: Vec<f32> = truth
            .iter()
            .enumerate()
            .map(|(at, t)| if at % genes == 7 { 0.3 } else { t + rng.below(4) as f32 })
            .collect();
        let m = expression(&predicted, &truth, genes, None);
        let column = |x: &[f32], g: usize| (0..n).map(|i| f64::from(x[i * genes + g])).collect::<Vec<f64>>();
        let r = |a: &[f64], b: &[f64]| {
            let (x, y) = (a.iter().sum::<f64>() / a.len() as f64, b.iter().sum::<f64>() / b.len() as f64);
            let s = |u: &[f64], v: &[f64], x: f64, y: f64| u.iter().zip(v).map(|(u, v)| (u - x) * (v - y)).sum::<f64>();
            let d = (s(a, a, x, x) * s(b, b, y, y)).sqrt();
            if d > 1e-9 { s(a, b, x, y) / d } else { 0.0 }
        };
        // Rank: how many are below, and half of the equal ones.
        let half = |a: f64, b: f64| {
            if b < a {
                1.0
            } else if b == a {
                0.5
            } else {
                0.0
            }
        };
        let rank = |x: &[f64]| x.iter().map(|a| x.iter().map(|b| half(*a, *b)).sum()).collect::<Vec<f64>>();
        let (mut counted, mut pearson, mut spearman, mut auroc, mut about, mut squared) =
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        for g in 0..genes {
            let (p, t) = (column(&predicted, g), column(&truth, g));
            let mean = t.iter().sum::<f64>() / n as f64;
            about += t.iter().map(|t| (t - mean).powi(2)).sum::<f64>();
            squared += p.iter().zip(&t).map(|(p, t)| (p - t).powi(2)).sum::<f64>();
            let on = t.iter().filter(|t| **t > 0.0).count();
            if on < 3 || n - on < 3 {
                continue;
            }
            counted += 1.0;
            pearson += r(&p, &t);
            spearman += r(&rank(&p), &rank(&t));
            let pairs = (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|&(i, j)| t[i] > 0.0 && t[j] == 0.0);
            auroc += pairs.map(|(i, j)| half(p[i], p[j])).sum::<f64>() / (on * (n - on)) as f64;
        }
        assert_eq!(m.genes as f64, counted);
        close(m.pearson_gene, pearson / counted, "pearson");
        close(m.spearman_gene, spearman / counted, "spearman");
        close(m.auroc_gene, auroc / counted, "auroc");
        close(m.r2, 1.0 - squared / about, "r2");
        let means: Vec<f64> = (0..genes).map(|g| column(&truth, g).iter().sum::<f64>() / n as f64).collect();
        let row = |x: &[f32], i: usize, c: f64| {
            (0..genes).map(|g| f64::from(x[i * genes + g]) - c * means[g]).collect::<Vec<f64>>()
        };
        let by_cell = |c: f64| (0..n).map(|i| r(&row(&predicted, i, c), &row(&truth, i, c))).sum::<f64>() / n as f64;
        close(m.pearson_cell, by_cell(0.0), "by cell");
        close(m.pearson_cell_centred, by_cell(1.0), "centred");
    }
}
