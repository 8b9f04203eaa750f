//! What the cells of each type show of every peak and gene.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::anndata::MatrixKind;
use crate::dataset::draw::names_of;
use crate::dataset::{Cell, DataSet};
use crate::error::{Error, Result};
use crate::near::hint;
use crate::progress::Progress;
use crate::vocabulary::Vocabulary;

/// Expression is told in counts of a cell with so many.
const COUNTS: f64 = 1e4;

/// What some cells show of a gene.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Detection {
    /// Share of the cells that have it.
    pub share: f32,
    /// Mean of its expression: of counts ln(1 + 10,000 × count / counts of the cell), else of the values as they are.
    pub mean: f32,
}

/// The cells of a type.
#[derive(Debug, Clone, PartialEq)]
pub struct OfCells {
    /// Cell type; `all cells` where the data have none.
    pub name: String,
    /// Cells.
    pub cells: usize,
    /// Counts of all its cells in peaks.
    pub depth: f64,
    /// `[P]` what a cell of median depth has of each peak: counts of the type in it / `depth` × median depth. Of values that
    /// are no counts their mean.
    pub peaks: Vec<f32>,
    /// `[G]`.
    pub genes: Vec<Detection>,
}

/// Every type of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiles {
    /// Types with cells, in the order of the data set.
    pub types: Vec<OfCells>,
    /// Median over all cells of their counts in peaks; `None` where the values are no counts, and not scaled.
    pub median: Option<f64>,
    /// Is the expression one of counts?
    pub counts: bool,
}

/// A type as it is added up: counts of its peaks, and depths of its cells.
struct Sums {
    peaks: Vec<f64>,
    depths: Vec<f64>,
    genes: Vec<Detection>,
}

/// The cells of each type that has any: its name, and their numbers.
fn groups(data: &DataSet) -> Vec<(String, Vec<u32>)> {
    let v = data.vocabulary();
    if v.cell_types.is_empty() {
        return vec![("all cells".into(), (0..data.n_cells() as u32).collect())];
    }
    let mut all: Vec<Vec<u32>> = vec![Vec::new(); v.cell_types.len()];
    (0..).zip(&v.cell_type).for_each(|(c, &t)| all[t as usize].push(c));
    v.cell_types.iter().cloned().zip(all).filter(|g| !g.1.is_empty()).collect()
}

impl OfCells {
    /// Height of a peak in a picture: its counts per 1,000 bases.
    pub(crate) fn per_kb(&self, peak: usize, v: &Vocabulary) -> f32 {
        let at = &v.peaks[peak];
        self.peaks[peak] * (1000.0 / (at.end - at.start).max(1) as f32)
    }
}

fn scale(median: Option<f64>, depth: f64, cells: usize) -> f64 {
    match median {
        Some(m) if depth > 0.0 => m / depth,
        Some(_) => 0.0,
        None => 1.0 / cells.max(1) as f64,
    }
}

impl Profiles {
    /// Reads every cell once. Memory: 4 bytes a peak and 8 a gene of each type.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::error::Error::Interrupted).
    pub fn of(data: &DataSet, progress: &dyn Progress) -> Result<Self> {
        let (rna, atac) = data.kinds();
        let counts = rna == Some(MatrixKind::Counts);
        let groups = groups(data);
        // A type is one thread's: sums are in the order of the cells.
        let sums =
            groups.par_iter().map(|(_, cells)| add_up(data, cells, counts, progress)).collect::<Result<Vec<_>>>()?;
        data.check()?;
        let mut depths: Vec<f64> = sums.iter().flat_map(|s| s.depths.iter().copied()).collect();
        depths.sort_by(f64::total_cmp);
        let middle = |at: usize| depths.get(at).copied().unwrap_or(0.0);
        let median = (middle(depths.len().saturating_sub(1) / 2) + middle(depths.len() / 2)) / 2.0;
        let median = (atac != Some(MatrixKind::Normalised)).then_some(median);
        let types = groups.into_iter().zip(sums).map(|((name, cells), s)| {
            let depth: f64 = s.depths.iter().sum();
            let scale = scale(median, depth, cells.len());
            let peaks = s.peaks.iter().map(|x| (x * scale) as f32).collect();
            OfCells { name, cells: cells.len(), depth, peaks, genes: s.genes }
        });
        Ok(Profiles { types: types.collect(), median, counts })
    }

    /// What a count in a type is worth: multiplied by it, counts are those of a cell of median depth.
    pub(super) fn scale(&self, of: &OfCells) -> f64 {
        scale(self.median, of.depth, of.cells)
    }

    /// What the expression is, in words.
    pub(super) fn expression(&self) -> &'static str {
        if self.counts { "ln(1 + counts per 10,000)" } else { "values as stored" }
    }

    /// Numbers of the types that are wanted, in that order; all where none is named.
    ///
    /// # Errors
    /// A type without cells, with names that are like it.
    pub(super) fn rows(&self, wanted: &[String]) -> Result<Vec<usize>> {
        let names: Vec<String> = self.types.iter().map(|t| t.name.clone()).collect();
        if wanted.is_empty() {
            return Ok((0..names.len()).collect());
        }
        let mut out: Vec<usize> = Vec::new();
        for name in names_of(wanted, &names) {
            let at = names.iter().position(|n| *n == name).ok_or_else(|| {
                let hint = hint(&name, names.iter().map(String::as_str));
                Error::usage(format!("--cell-types {name}: no cell is of such a type; {hint}"))
            })?;
            if !out.contains(&at) {
                out.push(at);
            }
        }
        Ok(out)
    }
}

fn add_up(data: &DataSet, cells: &[u32], counts: bool, progress: &dyn Progress) -> Result<Sums> {
    let v = data.vocabulary();
    let mut sums = Sums { peaks: vec![0.0; v.peaks.len()], depths: Vec::with_capacity(cells.len()), genes: Vec::new() };
    let mut genes = vec![(0u32, 0f64); v.genes.len()];
    let mut cell = Cell::default();
    for &c in cells {
        progress.check("nothing was written")?;
        data.cell_into(c as usize, &mut cell);
        let mut depth = 0.0;
        for (p, x) in cell.atac() {
            sums.peaks[p as usize] += f64::from(x);
            depth += f64::from(x);
        }
        sums.depths.push(depth);
        let total: f64 = cell.rna().map(|(_, x)| f64::from(x)).sum();
        for (g, x) in cell.rna().filter(|(_, x)| *x > 0.0) {
            let told = if counts { (COUNTS * f64::from(x) / total).ln_1p() } else { f64::from(x) };
            genes[g as usize].0 += 1;
            genes[g as usize].1 += told;
        }
    }
    let n = cells.len().max(1) as f64;
    sums.genes = genes
        .into_iter()
        .map(|(k, sum)| Detection { share: (f64::from(k) / n) as f32, mean: (sum / n) as f32 })
        .collect();
    Ok(sums)
}
