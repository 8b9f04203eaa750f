//! What the training cells show of each gene.

use super::DataSet;
use super::cell::Cell;
use super::samples::SampleSet;

/// The cells of the positive training samples, by number.
pub(crate) fn training_cells(set: &SampleSet) -> Vec<u32> {
    cells_of(set, &set.train)
}

/// The cells of the positive ones of some samples, by number.
pub(crate) fn cells_of(set: &SampleSet, numbers: &[u32]) -> Vec<u32> {
    let mut cells: Vec<u32> =
        numbers.iter().map(|&s| set.samples[s as usize]).filter(|s| s.label == 1).map(|s| s.rna).collect();
    cells.sort_unstable();
    cells.dedup();
    cells
}

/// What training cells say of genes.
pub(crate) struct GeneMeans {
    /// `[G]` of `[expression > 0]`, and of the expression.
    pub rate: Vec<f64>,
    pub mean: Vec<f64>,
    /// `[T][G]` cells with the gene, and `[T]` cells, by cell type; one row where there are no types.
    pub found: Vec<Vec<f64>>,
    pub of_type: Vec<f64>,
    pub cells: u64,
}

pub(crate) fn gene_means(data: &DataSet, set: &SampleSet, genes: usize) -> GeneMeans {
    let cells = training_cells(set);
    let v = data.vocabulary();
    let types = v.cell_types.len().max(1);
    let mut mean = vec![0.0; genes];
    let (mut found, mut of_type) = (vec![vec![0.0; genes]; types], vec![0.0; types]);
    let mut cell = Cell::default();
    for &c in &cells {
        data.rna_into(c as usize, &mut cell);
        let t = v.cell_type.get(c as usize).map_or(0, |&t| t as usize);
        of_type[t] += 1.0;
        for (i, &g) in cell.genes.iter().enumerate() {
            let e = cell.expr.get(i);
            found[t][g as usize] += f64::from(u8::from(e > 0.0));
            mean[g as usize] += f64::from(e);
        }
    }
    let n = (cells.len() as f64).max(1.0);
    mean.iter_mut().for_each(|x| *x /= n);
    let rate = (0..genes).map(|g| found.iter().map(|t| t[g]).sum::<f64>() / n).collect();
    GeneMeans { rate, mean, found, of_type, cells: cells.len() as u64 }
}
