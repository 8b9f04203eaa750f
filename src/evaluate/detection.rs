//! Detection: which cells a gene is found in, told from their ATAC. Ranked gene by gene over cells, so that what all cells
//! share (a gene's frequency) counts for nothing; log loss beside it says how good the probabilities are.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ranking::ranking;
use crate::real::sigmoid;

/// Of one predictor.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DetectionMetrics {
    /// Mean over genes of the AUROC over cells; genes found in all cells or in none are left out.
    pub auroc: Option<f64>,
    /// Mean over cells and genes of −ln of the probability given to what was; `None` for scores that are no probabilities.
    pub log_loss: Option<f64>,
}

/// Detection of genes in the cells of a part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetectionReport {
    /// Cells looked at: the positives of the part, or every k-th where they are more than memory is for.
    pub cells: u64,
    /// Genes found in some of them but not in all.
    pub genes: u64,
    /// The cis term, from ATAC alone; `None` for a model without.
    pub cis: Option<DetectionMetrics>,
    /// The same, told the number of genes of the cell.
    pub cis_and_depth: Option<DetectionMetrics>,
    /// The published translation: the number of peaks whose score passes; `None` where it was not trained.
    pub counts: Option<DetectionMetrics>,
    /// Each gene at its frequency among the training cells.
    pub gene_mean: DetectionMetrics,
    /// Each gene at its frequency among the training cells of the cell's type: told the label. `None` without types.
    pub type_mean: Option<DetectionMetrics>,
}

/// Most numbers held for one predictor: 400 MB.
const MOST: usize = 100_000_000;

/// Frequencies of genes among training cells.
#[derive(Debug, Clone, Default)]
pub(super) struct Frequencies {
    /// `[T, G]` by cell type, or one row of all.
    pub rows: Vec<Vec<f64>>,
}

impl Frequencies {
    /// From cells with a gene `[T][G]` and cells `[T]`: half a cell more on either side; a type leans on all cells by one.
    pub fn new(found: &[Vec<f64>], cells: &[f64]) -> (Vec<f64>, Frequencies) {
        let genes = found.first().map_or(0, Vec::len);
        let n: f64 = cells.iter().sum();
        let all: Vec<f64> = (0..genes).map(|g| (found.iter().map(|t| t[g]).sum::<f64>() + 0.5) / (n + 1.0)).collect();
        let of = |(t, &n): (&Vec<f64>, &f64)| t.iter().zip(&all).map(|(x, a)| (x + a) / (n + 1.0)).collect();
        let rows = found.iter().zip(cells).map(of).collect();
        (all, Frequencies { rows })
    }
}

/// Predictions and truth of cells, kept until the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Detection {
    genes: usize,
    truth: Vec<u8>,
    /// From ATAC alone, and told the depth.
    cis: [Vec<f32>; 2],
    counts: Vec<f32>,
    types: Vec<u32>,
}

impl Detection {
    /// No cells yet.
    pub fn new(genes: usize) -> Self {
        Detection { genes, ..Default::default() }
    }

    /// Of so many cells, every how many are kept.
    pub fn stride(genes: usize, cells: usize) -> usize {
        (genes * cells).div_ceil(MOST).max(1)
    }

    /// Adds a cell: is each gene found; what the cis term says told the depth, and blind; the counts (either may be empty);
    /// its type.
    pub fn add(&mut self, truth: impl Iterator<Item = bool>, cis: [&[f32]; 2], counts: &[u32], cell_type: u32) {
        self.truth.extend(truth.map(u8::from));
        let [told, blind] = cis;
        self.cis[0].extend(blind);
        self.cis[1].extend(told);
        if !counts.is_empty() {
            // Heads side by side.
            self.counts.extend((0..self.genes).map(|g| counts.iter().skip(g).step_by(self.genes).sum::<u32>() as f32));
        }
        self.types.push(cell_type);
    }

    /// `logits`: are the cis term's numbers logits?
    pub fn finish(&self, logits: bool, all: &[f64], of_types: Option<&Frequencies>) -> Option<DetectionReport> {
        let (cells, genes) = (self.types.len(), self.genes);
        if cells == 0 {
            return None;
        }
        let of_type = |f: &Frequencies, i: usize, g: usize| f.rows[self.types[i] as usize][g];
        let measure = |score: &(dyn Fn(usize, usize) -> f64 + Sync), probability: bool| {
            let of_genes: Vec<(Option<f64>, f64)> = (0..genes)
                .into_par_iter()
                .map(|g| {
                    let scores: Vec<f64> = (0..cells).map(|i| score(i, g)).collect();
                    let found: Vec<u8> = (0..cells).map(|i| self.truth[i * genes + g]).collect();
                    let loss = |(&p, &on): (&f64, &u8)| -(if on == 1 { p } else { 1.0 - p }).clamp(1e-12, 1.0).ln();
                    let total = if probability { scores.iter().zip(&found).map(loss).sum() } else { 0.0 };
                    (ranking(&scores, &found).auroc, total)
                })
                .collect();
            let known: Vec<f64> = of_genes.iter().filter_map(|x| x.0).collect();
            let total: f64 = of_genes.iter().map(|x| x.1).sum();
            let metrics = DetectionMetrics {
                auroc: (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64),
                log_loss: probability.then(|| total / (cells * genes) as f64),
            };
            (metrics, known.len() as u64)
        };
        let at = |x: &[f32], i: usize, g: usize| x[i * genes + g];
        let of_cis = |x: &Vec<f32>| match logits {
            _ if x.is_empty() => None,
            true => Some(measure(&|i, g| sigmoid(f64::from(at(x, i, g))), true).0),
            false => Some(measure(&|i, g| f64::from(at(x, i, g)), false).0),
        };
        let (gene_mean, some) = measure(&|_, g| all[g], true);
        Some(DetectionReport {
            cells: cells as u64,
            genes: some,
            cis: of_cis(&self.cis[0]),
            cis_and_depth: of_cis(&self.cis[1]),
            counts: (!self.counts.is_empty()).then(|| measure(&|i, g| f64::from(at(&self.counts, i, g)), false).0),
            gene_mean,
            type_mean: of_types.map(|f| measure(&|i, g| of_type(f, i, g), true).0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two genes in four cells of two types, by hand.
    #[test]
    fn genes_are_ranked_over_cells() {
        let mut d = Detection::new(3);
        let truth = [[true, false, true], [true, true, true], [false, true, true], [false, false, true]];
        let cis = [[2.0f32, -1.0, 0.0], [0.5, 1.0, 0.0], [1.0, 0.0, 0.0], [-3.0, -2.0, 0.0]];
        for (i, (t, c)) in truth.iter().zip(&cis).enumerate() {
            let blind = c.map(|x| -x);
            d.add(t.iter().copied(), [c, &blind], &[i as u32, 1, 0], (i / 2) as u32);
        }
        let (all, types) = Frequencies::new(&[vec![3.0, 1.0, 4.0], vec![0.0, 1.0, 2.0]], &[4.0, 2.0]);
        assert_eq!(all, [3.5 / 7.0, 2.5 / 7.0, 6.5 / 7.0]);
        let r = d.finish(true, &all, Some(&types)).unwrap();
        // Gene 0: of the four (found, not) pairs three are right; gene 1: all; gene 2 is found everywhere.
        assert_eq!((r.cells, r.genes), (4, 2));
        assert_eq!(r.cis_and_depth.unwrap().auroc, Some((0.75 + 1.0) / 2.0));
        assert_eq!(r.cis.unwrap().auroc, Some(0.25 / 2.0));
        let counts = r.counts.unwrap();
        assert_eq!((counts.auroc, counts.log_loss), (Some((0.0 + 0.5) / 2.0), None));
        assert_eq!(r.gene_mean.auroc, Some(0.5));
        let want: f64 = [0.5, 0.5, 0.5, 0.5, 4.5 / 7.0, 2.5 / 7.0, 2.5 / 7.0, 4.5 / 7.0]
            .into_iter()
            .chain([6.5 / 7.0; 4])
            .map(|p: f64| -p.ln())
            .sum::<f64>()
            / 12.0;
        assert!((r.gene_mean.log_loss.unwrap() - want).abs() < 1e-12);
        assert_eq!(r.type_mean.unwrap().auroc, Some((1.0 + 0.5) / 2.0));
        assert!(Detection::new(3).finish(true, &all, None).is_none());
    }
}
