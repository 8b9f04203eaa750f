//! Cells as what baselines are fitted on: log-normalised expression, standardised expression, TF-IDF of open peaks.
//!
//! See docs/model.md, eq. 87 and 88.

use rayon::prelude::*;

use super::linear::{Sparse, leading};
use crate::csr::Csr;
use crate::data::anndata::MatrixKind;
use crate::dataset::{Cell, DataSet};
use crate::error::Result;
use crate::progress::Progress;
use crate::simd::axpy;

/// Cells read by a thread at a time.
const CELLS: usize = 256;
/// Standard deviations at which standardised expression is cut.
const CUT: f64 = 10.0;
/// What TF × IDF is multiplied with before the logarithm.
const TIMES: f64 = 1e4;

/// Log-normalised expression (docs/model.md, eq. 87): log1p of counts scaled to the median total of some cells; values that are
/// no counts are taken as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogExpression {
    median: Option<f64>,
    genes: usize,
}

impl LogExpression {
    /// With the median total of `cells`, of which there is at least one.
    ///
    /// # Errors
    /// As [`DataSet::check`].
    pub fn fit(data: &DataSet, cells: &[u32]) -> Result<Self> {
        let genes = data.vocabulary().genes.len();
        if data.kinds().0 != Some(MatrixKind::Counts) {
            return Ok(LogExpression { median: None, genes });
        }
        let total = |cell: &mut Cell, &c: &u32| {
            data.rna_into(c as usize, cell);
            total(cell)
        };
        let mut totals: Vec<f64> = cells.par_iter().map_init(Cell::default, total).collect();
        data.check()?;
        totals.sort_unstable_by(f64::total_cmp);
        let at = |i: usize| totals.get(i).copied().unwrap_or(1.0);
        let median = (at(totals.len() / 2) + at(totals.len().saturating_sub(1) / 2)) / 2.0;
        Ok(LogExpression { median: Some(median), genes })
    }

    /// The median total; `None` where values are taken as they are.
    pub fn median(&self) -> Option<f64> {
        self.median
    }

    /// Levels of the genes of `cell`, in their order, into `out`.
    pub fn levels(&self, cell: &Cell, out: &mut Vec<f32>) {
        out.clear();
        match self.median {
            None => out.extend(cell.rna().map(|x| x.1)),
            Some(median) => {
                let scale = median / total(cell).max(1.0);
                out.extend(cell.rna().map(|x| (f64::from(x.1) * scale).ln_1p() as f32));
            }
        }
    }

    /// Levels `[cells, G]`.
    ///
    /// # Errors
    /// As [`DataSet::check`].
    pub fn dense(&self, data: &DataSet, cells: &[u32]) -> Result<Vec<f32>> {
        let mut out = vec![0.0f32; cells.len() * self.genes];
        let buffers = || (Cell::default(), Vec::new());
        out.par_chunks_exact_mut(self.genes).zip(cells).for_each_init(buffers, |(cell, levels), (out, &c)| {
            data.rna_into(c as usize, cell);
            self.levels(cell, levels);
            cell.genes.iter().zip(levels.iter()).for_each(|(&g, &x)| out[g as usize] = x);
        });
        data.check()?;
        Ok(out)
    }
}

fn total(cell: &Cell) -> f64 {
    cell.rna().map(|x| f64::from(x.1)).sum()
}

/// What a cell's entries are made into.
pub(super) enum Features {
    /// Levels of genes, no more.
    Levels(LogExpression),
    /// Levels standardised and cut, less what a missing gene becomes: that is in `shift` of the matrix or cancels.
    Standardised {
        log: LogExpression,
        mean: Vec<f64>,
        /// 1 over the standard deviation.
        over: Vec<f64>,
    },
    /// log(1 + 10⁴ TF × IDF) of open peaks.
    Peaks { idf: Vec<f64> },
}

impl Features {
    /// Columns of genes standardised by `levels`, `[cells, G]`.
    pub fn standardised(log: LogExpression, levels: &Csr<f32>) -> Self {
        let n = levels.rows().max(1) as f64;
        let (mut mean, mut over) = (vec![0.0; log.genes], vec![0.0; log.genes]);
        for (&g, &x) in levels.indices.iter().zip(&levels.values) {
            mean[g as usize] += f64::from(x) / n;
        }
        // Squares about the mean: of what is there, and of the zeros.
        let mut there = vec![0.0; log.genes];
        for (&g, &x) in levels.indices.iter().zip(&levels.values) {
            over[g as usize] += (f64::from(x) - mean[g as usize]).powi(2);
            there[g as usize] += 1.0;
        }
        for (g, v) in over.iter_mut().enumerate() {
            let sd = ((*v + (n - there[g]) * mean[g] * mean[g]) / n).sqrt();
            *v = if sd > 0.0 { 1.0 / sd } else { 1.0 };
        }
        Features::Standardised { log, mean, over }
    }

    /// With the document frequencies of `cells`.
    ///
    /// # Errors
    /// As [`DataSet::check`].
    pub fn peaks(data: &DataSet, cells: &[u32]) -> Result<Self> {
        let mut open = vec![0u32; data.vocabulary().peaks.len()];
        let mut cell = Cell::default();
        for &c in cells {
            data.atac_into(c as usize, &mut cell);
            cell.peaks.iter().for_each(|&p| open[p as usize] += 1);
        }
        data.check()?;
        let idf = |&k: &u32| (cells.len() as f64 / (1.0 + f64::from(k))).ln_1p();
        Ok(Features::Peaks { idf: open.iter().map(idf).collect() })
    }

    fn columns(&self) -> usize {
        match self {
            Features::Levels(log) => log.genes,
            Features::Standardised { mean, .. } => mean.len(),
            Features::Peaks { idf } => idf.len(),
        }
    }

    /// Reads cell `i`: its columns, and their values into `out`.
    fn read<'c>(&self, data: &DataSet, i: u32, cell: &'c mut Cell, out: &mut Vec<f32>) -> &'c [u32] {
        match self {
            Features::Levels(log) => {
                data.rna_into(i as usize, cell);
                log.levels(cell, out);
                &cell.genes
            }
            Features::Standardised { log, mean, over } => {
                data.rna_into(i as usize, cell);
                log.levels(cell, out);
                for (x, &g) in out.iter_mut().zip(&cell.genes) {
                    let of = |x: f64| ((x - mean[g as usize]) * over[g as usize]).clamp(-CUT, CUT);
                    *x = (of(f64::from(*x)) - of(0.0)) as f32;
                }
                &cell.genes
            }
            Features::Peaks { idf } => {
                data.atac_into(i as usize, cell);
                let each = TIMES / (cell.peaks.len() as f64).max(1.0);
                out.clear();
                out.extend(cell.peaks.iter().map(|&p| (each * idf[p as usize]).ln_1p() as f32));
                &cell.peaks
            }
        }
    }

    /// The matrix of cells.
    ///
    /// # Errors
    /// As [`DataSet::check`].
    pub fn matrix(&self, data: &DataSet, cells: &[u32]) -> Result<Csr<f32>> {
        let parts: Vec<Csr<f32>> = cells
            .par_chunks(CELLS)
            .map(|some| {
                let (mut part, mut cell, mut values) = (Csr::new(), Cell::default(), Vec::new());
                for &c in some {
                    let index = self.read(data, c, &mut cell, &mut values);
                    part.push_row(index.iter().copied().zip(values.iter().copied()));
                }
                part
            })
            .collect();
        data.check()?;
        let mut all = Csr::new();
        for part in parts {
            let before = all.indices.len();
            all.indptr.extend(part.indptr[1..].iter().map(|p| before + p));
            all.indices.extend(part.indices);
            all.values.extend(part.values);
        }
        Ok(all)
    }
}

/// Log of the number of genes or peaks of each cell.
fn depths(data: &DataSet, cells: &[u32], peaks: bool) -> Vec<f64> {
    let number = |&c: &u32| {
        let (g, p) = data.cell_sizes(c as usize);
        (if peaks { p } else { g } as f64).ln_1p()
    };
    cells.iter().map(number).collect()
}

/// Mean and standard deviation; 1 where that is 0.
fn moments(x: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let (n, sum) = x.clone().fold((0.0f64, 0.0), |(n, s), x| (n + 1.0, s + x));
    let mean = sum / n.max(1.0);
    let sd = (x.map(|x| (x - mean).powi(2)).sum::<f64>() / n.max(1.0)).sqrt();
    (mean, if sd > 0.0 { sd } else { 1.0 })
}

/// Components of one modality and the depth, each standardised over the cells that they were fitted on.
pub(super) struct Side {
    features: Features,
    peaks: bool,
    /// `[columns, components]`.
    right: Vec<f64>,
    /// Mean and standard deviation of each component, and of the depth.
    of: Vec<(f64, f64)>,
    depth: (f64, f64),
}

impl Side {
    /// Of the RNA: principal components; or of the ATAC: components of TF-IDF but the first, which is depth.
    ///
    /// # Errors
    /// As [`DataSet::check`]; [`crate::error::Error::Interrupted`].
    pub fn fit(
        features: Features,
        data: &DataSet,
        cells: &[u32],
        components: usize,
        seed: u64,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let peaks = matches!(features, Features::Peaks { .. });
        let columns = features.columns();
        let rows = features.matrix(data, cells)?;
        let mut shift = Vec::new();
        if !peaks {
            shift = vec![0.0; columns];
            let n = cells.len().max(1) as f64;
            rows.indices.iter().zip(&rows.values).for_each(|(&c, &x)| shift[c as usize] += f64::from(x) / n);
        }
        let m = Sparse { rows, columns, shift };
        let dropped = usize::from(peaks);
        let found = leading(&m, components + dropped, seed, progress)?;
        let (all, k) = (found.values.len(), found.values.len().saturating_sub(dropped));
        let right: Vec<f64> = if k == 0 {
            Vec::new()
        } else {
            found.right.chunks_exact(all).flat_map(|row| row[dropped..].iter().copied()).collect()
        };
        let mut side = Side { features, peaks, right, of: vec![(0.0, 1.0); k], depth: (0.0, 1.0) };
        // The mean takes out what `shift` is.
        let scores = if k == 0 { Vec::new() } else { Sparse { shift: Vec::new(), ..m }.times(&side.right, k) };
        side.of = (0..k).map(|j| moments(scores.iter().skip(j).step_by(k).copied())).collect();
        side.depth = moments(depths(data, cells, peaks).into_iter());
        Ok(side)
    }

    /// Components and the depth.
    pub fn width(&self) -> usize {
        self.of.len() + 1
    }

    /// `[cells, width]` of any cells, each component as spread as the data are along it, over the largest; the depth last, as
    /// spread as the largest, or without it `[cells, width − 1]`.
    ///
    /// # Errors
    /// As [`DataSet::check`].
    pub fn embedding(&self, data: &DataSet, cells: &[u32], depth: bool) -> Result<Vec<f32>> {
        let largest = self.of.iter().map(|x| x.1).fold(f64::MIN_POSITIVE, f64::max);
        let mut spread: Vec<f64> = self.of.iter().map(|x| x.1 / largest).collect();
        if depth {
            spread.push(1.0);
        }
        let scores = self.scores(data, cells)?;
        Ok(scores
            .chunks_exact(self.width())
            .flat_map(|row| row.iter().zip(&spread).map(|(x, s)| (x * s) as f32))
            .collect())
    }

    /// `[cells, width]` of any cells, the depth last.
    ///
    /// # Errors
    /// As [`DataSet::check`].
    pub fn scores(&self, data: &DataSet, cells: &[u32]) -> Result<Vec<f64>> {
        let (w, k) = (self.width(), self.of.len());
        let mut out = vec![0.0; cells.len() * w];
        let depths = depths(data, cells, self.peaks);
        let buffers = || (Cell::default(), Vec::new());
        out.par_chunks_exact_mut(w).enumerate().for_each_init(buffers, |(cell, values), (i, out)| {
            let index = self.features.read(data, cells[i], cell, values);
            if k > 0 {
                for (&c, &x) in index.iter().zip(values.iter()) {
                    axpy(&mut out[..k], f64::from(x), &self.right[c as usize * k..][..k]);
                }
            }
            out.iter_mut().zip(&self.of).for_each(|(o, (mean, sd))| *o = (*o - mean) / sd);
            out[k] = (depths[i] - self.depth.0) / self.depth.1;
        });
        data.check()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::baselines::tests::small;
    use faer::MatRef;

    /// `[cells, n]` of one modality, and the totals.
    fn dense(data: &DataSet, cells: &[u32], peaks: bool) -> (Vec<f64>, usize) {
        let v = data.vocabulary();
        let n = if peaks { v.peaks.len() } else { v.genes.len() };
        let mut out = vec![0.0; cells.len() * n];
        for (row, &c) in out.chunks_exact_mut(n).zip(cells) {
            let cell = data.cell(c as usize);
            if peaks {
                cell.atac().for_each(|(p, _)| row[p as usize] = 1.0);
            } else {
                cell.rna().for_each(|(g, x)| row[g as usize] = f64::from(x));
            }
        }
        (out, n)
    }

    fn columns(m: &[f64], n: usize) -> Vec<Vec<f64>> {
        (0..n).map(|g| m.iter().skip(g).step_by(n).copied().collect()).collect()
    }

    fn log(counts: &mut [f64], genes: usize, median: f64) {
        for row in counts.chunks_exact_mut(genes) {
            let total: f64 = row.iter().sum();
            row.iter_mut().for_each(|x| *x = (*x * median / total.max(1.0)).ln_1p());
        }
    }

    #[test]
    fn expression_is_scaled_to_the_median() {
        let (_dir, data) = small(60, true);
        let cells: Vec<u32> = (0..40).collect();
        let (mut counts, genes) = dense(&data, &cells, false);
        let mut totals: Vec<f64> = counts.chunks_exact(genes).map(|r| r.iter().sum()).collect();
        totals.sort_by(f64::total_cmp);
        let fit = LogExpression::fit(&data, &cells).unwrap();
        assert_eq!(fit.median(), Some((totals[19] + totals[20]) / 2.0));
        let odd = LogExpression::fit(&data, &[3]).unwrap();
        assert_eq!(odd.median(), Some(counts[3 * genes..4 * genes].iter().sum()));
        log(&mut counts, genes, fit.median().unwrap());
        let got = fit.dense(&data, &cells).unwrap();
        assert!(got.iter().zip(&counts).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5));
        // Values that are no counts stay as they are.
        let (_dir, data) = small(60, false);
        let fit = LogExpression::fit(&data, &cells).unwrap();
        let (as_stored, _) = dense(&data, &cells, false);
        assert_eq!(fit.median(), None);
        assert!(fit.dense(&data, &cells).unwrap().iter().zip(&as_stored).all(|(a, b)| f64::from(*a) == *b));
    }

    /// Scores of other cells, from faer's decomposition of the dense matrix, standardised.
    fn want(train: &[f64], other: &[f64], columns: usize, drop: usize, k: usize) -> Vec<Vec<f64>> {
        let svd = MatRef::from_row_major_slice(train, train.len() / columns, columns).thin_svd().unwrap();
        let along = |m: &[f64], j: usize| {
            m.chunks_exact(columns).map(|r| (0..columns).map(|c| r[c] * svd.V()[(c, j)]).sum()).collect::<Vec<f64>>()
        };
        (drop..drop + k)
            .map(|j| {
                let (mean, sd) = moments(along(train, j).into_iter());
                along(other, j).iter().map(|x| (x - mean) / sd).collect()
            })
            .collect()
    }

    fn same_but_for_sign(got: &[f64], want: &[f64], what: &str) {
        let dot: f64 = got.iter().zip(want).map(|(a, b)| a * b).sum();
        for (a, b) in got.iter().zip(want) {
            assert!((a - b * dot.signum()).abs() < 0.02, "{what}: {a} {b}");
        }
    }

    #[test]
    fn components_are_those_of_dense_matrices() {
        let (_dir, data) = small(150, true);
        let (train, other): (Vec<u32>, Vec<u32>) = ((0..110).collect(), (110..150).collect());
        let fit = LogExpression::fit(&data, &train).unwrap();
        let both = |peaks| (dense(&data, &train, peaks), dense(&data, &other, peaks).0);
        // RNA: standardised, cut at ten, about the mean.
        let ((mut a, genes), mut b) = both(false);
        log(&mut a, genes, fit.median().unwrap());
        log(&mut b, genes, fit.median().unwrap());
        let of: Vec<(f64, f64)> = columns(&a, genes).into_iter().map(|c| moments(c.into_iter())).collect();
        let standardise = |m: &mut [f64]| {
            let cut = |(x, (mean, sd)): (&mut f64, &(f64, f64))| *x = ((*x - mean) / sd).clamp(-10.0, 10.0);
            m.chunks_exact_mut(genes).for_each(|r| r.iter_mut().zip(&of).for_each(cut));
        };
        standardise(&mut a);
        standardise(&mut b);
        let middle: Vec<f64> = columns(&a, genes).into_iter().map(|c| moments(c.into_iter()).0).collect();
        for m in [&mut a, &mut b] {
            m.chunks_exact_mut(genes).for_each(|r| r.iter_mut().zip(&middle).for_each(|(x, m)| *x -= m));
        }
        let levels = Features::Levels(fit).matrix(&data, &train).unwrap();
        let side = Side::fit(Features::standardised(fit, &levels), &data, &train, 3, 906, &()).unwrap();
        let got = columns(&side.scores(&data, &other).unwrap(), side.width());
        // At their own spread: of the training cells as 1 to s₂ / s₁ to s₃ / s₁.
        let spread = side.embedding(&data, &train, false).unwrap();
        let svd = MatRef::from_row_major_slice(&a, 110, genes).thin_svd().unwrap();
        for k in 0..3 {
            let sd = moments(spread.iter().skip(k).step_by(3).map(|x| f64::from(*x))).1;
            assert!((sd - svd.S()[k] / svd.S()[0]).abs() < 0.01, "{k}: {sd}");
        }
        for (k, want) in want(&a, &b, genes, 0, 3).iter().enumerate() {
            same_but_for_sign(&got[k], want, &format!("component {k} of RNA"));
        }
        let number = |c: &u32| (data.cell(*c as usize).genes.len() as f64).ln_1p();
        let (mean, sd) = moments(train.iter().map(number));
        assert!(got[3].iter().zip(&other).all(|(x, c)| (x - (number(c) - mean) / sd).abs() < 1e-12));
        // ATAC: TF-IDF, without the first.
        let ((mut a, peaks), mut b) = both(true);
        let open: Vec<f64> = columns(&a, peaks).iter().map(|c| c.iter().sum()).collect();
        for m in [&mut a, &mut b] {
            for row in m.chunks_exact_mut(peaks) {
                let total: f64 = row.iter().sum();
                let idf = |p: usize| (1.0 + 110.0 / (1.0 + open[p])).ln();
                row.iter_mut().enumerate().for_each(|(p, x)| *x = (1.0 + 1e4 * *x / total.max(1.0) * idf(p)).ln());
            }
        }
        let side = Side::fit(Features::peaks(&data, &train).unwrap(), &data, &train, 2, 906, &()).unwrap();
        let got = columns(&side.scores(&data, &other).unwrap(), side.width());
        for (k, want) in want(&a, &b, peaks, 1, 2).iter().enumerate() {
            same_but_for_sign(&got[k], want, &format!("component {k} of ATAC"));
        }
    }
}
