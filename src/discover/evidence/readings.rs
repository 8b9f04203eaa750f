//! What a cell's entries say: counts, and levels that can be compared between cells.

use super::cells::{Cells, plus};
use crate::dataset::Cell;
use crate::error::Result;
use crate::vocabulary::Vocabulary;

/// Counts a cell is scaled to before the logarithm.
const DEPTH: f64 = 1e4;

/// What the values of expression are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expression {
    /// Found or not.
    Binary,
    /// Whole numbers.
    Counts,
    /// Logarithms of scaled counts, as after log-normalisation.
    Logs,
}

/// Sums over cells, and what the values are.
#[derive(Debug, Clone)]
pub struct Readings {
    /// What the values of expression are.
    pub expression: Expression,
    /// `[G]` cells that have each gene.
    pub genes: Vec<u32>,
    /// `[P]` cells in which each peak is open.
    pub peaks: Vec<u32>,
    /// `[G]` sums and sums of squares of levels ([`Readings::levels`]).
    pub sum: Vec<f64>,
    /// As `sum`.
    pub square: Vec<f64>,
    /// Cells.
    pub n: usize,
}

impl Readings {
    /// Of `cells`: two passes.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn new(v: &Vocabulary, cells: Cells<'_>) -> Result<Self> {
        let none = || (true, true, vec![0u32; v.genes.len()], vec![0u32; v.peaks.len()]);
        let (ones, whole, genes, peaks) = cells.sum(
            none,
            |(ones, whole, genes, peaks), _, cell| {
                for (g, x) in cell.rna() {
                    *ones &= x == 1.0;
                    *whole &= x.fract() == 0.0;
                    genes[g as usize] += u32::from(x > 0.0);
                }
                cell.atac().for_each(|(p, a)| peaks[p as usize] += u32::from(a > 0.0));
            },
            |a, b| {
                a.0 &= b.0;
                a.1 &= b.1;
                a.2.iter_mut().zip(b.2).for_each(|(x, y)| *x += y);
                a.3.iter_mut().zip(b.3).for_each(|(x, y)| *x += y);
            },
        )?;
        let expression = match (ones, whole) {
            (true, _) => Expression::Binary,
            (false, true) => Expression::Counts,
            (false, false) => Expression::Logs,
        };
        let n = cells.numbers.len();
        let mut made = Readings { expression, genes, peaks, sum: Vec::new(), square: Vec::new(), n };
        let zero = || (vec![0.0; v.genes.len()], vec![0.0; v.genes.len()], Vec::new());
        let (sum, square, _) = cells.sum(
            zero,
            |(sum, square, levels), _, cell| {
                made.levels(cell, levels);
                for (&g, &x) in cell.genes.iter().zip(levels.iter()) {
                    sum[g as usize] += f64::from(x);
                    square[g as usize] += f64::from(x) * f64::from(x);
                }
            },
            |a, b| {
                plus(&mut a.0, &b.0);
                plus(&mut a.1, &b.1);
            },
        )?;
        (made.sum, made.square) = (sum, square);
        Ok(made)
    }

    /// Levels of a cell's genes, in their order: ln (1 + 10,000 × share of the cell's counts); values that are logarithms
    /// or binary stay.
    pub fn levels(&self, cell: &Cell, levels: &mut Vec<f32>) {
        levels.clear();
        match self.expression {
            Expression::Counts => {
                let total: f64 = cell.rna().map(|(_, x)| f64::from(x)).sum();
                let scale = DEPTH / total.max(1.0);
                levels.extend(cell.rna().map(|(_, x)| (f64::from(x) * scale).ln_1p() as f32));
            }
            Expression::Binary | Expression::Logs => levels.extend(cell.rna().map(|(_, x)| x)),
        }
    }

    /// Counts of a cell's genes, in their order. From logarithms they are guessed: the least level of a cell is a count of 1
    /// in nearly every cell.
    pub fn counts(&self, cell: &Cell, counts: &mut Vec<u32>) {
        counts.clear();
        match self.expression {
            Expression::Logs => {
                let linear = |x: f32| f64::from(x.min(60.0)).exp_m1();
                let unit = cell.rna().map(|(_, x)| linear(x)).filter(|&x| x > 0.0).fold(f64::INFINITY, f64::min);
                counts.extend(cell.rna().map(|(_, x)| (linear(x) / unit).round().clamp(0.0, 1e6) as u32));
            }
            Expression::Binary | Expression::Counts => {
                counts.extend(cell.rna().map(|(_, x)| x.clamp(0.0, 1e6) as u32));
            }
        }
    }
}
