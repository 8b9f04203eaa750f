//! Highly variable genes of counts, as scanpy's `highly_variable_genes(flavor="seurat_v3")` finds them.

use super::loess::loess;
use crate::csr::Csr;
use crate::error::Result;

/// Share of the genes in a neighbourhood of the trend.
const SPAN: f64 = 0.3;

/// Statistics of `G` genes over cells.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableGenes {
    /// Mean count `[G]`.
    pub means: Vec<f64>,
    /// Variance of the counts `[G]`, with N − 1 in the denominator.
    pub variances: Vec<f64>,
    /// Variance `[G]` of the counts standardised by the deviation that their mean lets expect, clipped at √N.
    pub variances_norm: Vec<f64>,
    /// Place `[G]` by `variances_norm`, from 0; `None` from the number of top genes on. Of equal genes the first one
    /// comes first.
    pub rank: Vec<Option<u32>>,
}

/// What [`variable_genes`] found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// The statistics.
    Genes(VariableGenes),
    /// A value that is no count: the gene and the value.
    NotCounts {
        /// Number of the gene.
        gene: usize,
        /// The value.
        value: f32,
    },
    /// Fewer than two cells, or no gene whose counts vary.
    NothingVaries,
}

/// The `top` most variable of `genes` genes. `pass` hands every row of the counts, in blocks, to the function it is
/// given; it is called twice (once, where the rows hold no counts) and must hand out the same rows. Memory is that
/// of the statistics.
///
/// # Errors
/// Those of `pass`.
pub fn variable_genes(
    genes: usize,
    top: usize,
    mut pass: impl FnMut(&mut dyn FnMut(&Csr<f32>) -> Result<()>) -> Result<()>,
) -> Result<Found> {
    let (mut cells, mut sum, mut squares) = (0usize, vec![0.0; genes], vec![0.0; genes]);
    let mut odd = None;
    pass(&mut |block| {
        cells += block.rows();
        for (&g, &v) in block.indices.iter().zip(&block.values) {
            let (g, x) = (g as usize, f64::from(v));
            if x.fract() != 0.0 && odd.is_none() {
                odd = Some((g, v));
            }
            sum[g] += x;
            squares[g] += x * x;
        }
        Ok(())
    })?;
    if let Some((gene, value)) = odd {
        return Ok(Found::NotCounts { gene, value });
    }
    if cells < 2 {
        return Ok(Found::NothingVaries);
    }
    let n = cells as f64;
    let means: Vec<f64> = sum.iter().map(|s| s / n).collect();
    // Counts and their squares are exact, so that the variance of equal counts is 0.
    let variances: Vec<f64> =
        sum.iter().zip(&squares).map(|(s, q)| ((n * q - s * s) / (n * (n - 1.0))).max(0.0)).collect();
    let varying: Vec<usize> = (0..genes).filter(|&g| variances[g] > 0.0).collect();
    let x: Vec<f64> = varying.iter().map(|&g| means[g].log10()).collect();
    let y: Vec<f64> = varying.iter().map(|&g| variances[g].log10()).collect();
    let trend = match loess(&x, &y, SPAN) {
        Some(trend) if !trend.is_empty() => trend,
        _ => return Ok(Found::NothingVaries),
    };
    let mut deviation = vec![1.0; genes]; // of genes that do not vary
    for (&g, fitted) in varying.iter().zip(trend) {
        deviation[g] = 10f64.powf(fitted).sqrt();
    }
    let limit: Vec<f64> = deviation.iter().zip(&means).map(|(d, m)| d * n.sqrt() + m).collect();
    sum.fill(0.0);
    squares.fill(0.0);
    pass(&mut |block| {
        for (&g, &v) in block.indices.iter().zip(&block.values) {
            let g = g as usize;
            let x = f64::from(v).min(limit[g]);
            sum[g] += x;
            squares[g] += x * x;
        }
        Ok(())
    })?;
    let variances_norm: Vec<f64> = (0..genes)
        .map(|g| {
            let m = means[g];
            (n * m * m + squares[g] - 2.0 * sum[g] * m) / ((n - 1.0) * deviation[g] * deviation[g])
        })
        .collect();
    let mut order: Vec<usize> = (0..genes).collect();
    order.sort_by(|&a, &b| variances_norm[b].total_cmp(&variances_norm[a]));
    let mut rank = vec![None; genes];
    for (place, &g) in (0..).zip(order.iter().take(top)) {
        rank[g] = Some(place);
    }
    Ok(Found::Genes(VariableGenes { means, variances, variances_norm, rank }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn rows(cells: &[Vec<f32>]) -> Csr<f32> {
        let mut block = Csr::new();
        for row in cells {
            block.push_row((0..).zip(row.iter().copied()).filter(|e| e.1 != 0.0));
        }
        block
    }

    fn find(cells: &[Vec<f32>], top: usize, step: usize) -> Found {
        let genes = cells.first().map_or(0, Vec::len);
        variable_genes(genes, top, |sink| cells.chunks(step).try_for_each(|c| sink(&rows(c)))).unwrap()
    }

    #[test]
    fn the_gene_that_varies_beyond_its_mean() {
        let mut rng = Rng::new(3, 1);
        let cells: Vec<Vec<f32>> = (0..400)
            .map(|c| {
                let spread = |mean: f64, rng: &mut Rng| (0..8).filter(|_| rng.uniform() < mean / 8.0).count() as f32;
                let mut row: Vec<f32> = (0..40).map(|g| spread(0.2 + 0.1 * f64::from(g), &mut rng)).collect();
                row[20] = if c % 10 == 0 { 22.0 } else { 0.0 };
                row[7] = 0.0;
                row[8] = 3.0;
                row
            })
            .collect();
        let Found::Genes(v) = find(&cells, 5, 400) else { panic!() };
        assert_eq!(v.rank[20], Some(0));
        assert_eq!((v.means[20], v.means[7], v.means[8]), (2.2, 0.0, 3.0));
        assert!((v.variances[20] - 2.2 * 19.8 * 400.0 / 399.0).abs() < 1e-9, "{}", v.variances[20]);
        assert_eq!((v.variances[7], v.variances_norm[7]), (0.0, 0.0));
        assert_eq!((v.variances[8], v.variances_norm[8]), (0.0, 0.0));
        let mut ranks: Vec<u32> = v.rank.iter().flatten().copied().collect();
        ranks.sort_unstable();
        assert_eq!(ranks, [0, 1, 2, 3, 4]);
        assert_eq!((0..40).filter(|&g| v.rank[g].is_some()).count(), 5);
        assert_eq!(find(&cells, 5, 7), Found::Genes(v), "blocks make no difference");
    }

    #[test]
    fn what_has_no_trend() {
        assert_eq!(find(&[vec![1.0, 2.0], vec![0.5, 1.0]], 2, 2), Found::NotCounts { gene: 0, value: 0.5 });
        assert_eq!(find(&[vec![1.0, 2.0]], 2, 1), Found::NothingVaries);
        assert_eq!(find(&[vec![1.0, 2.0], vec![1.0, 2.0]], 2, 1), Found::NothingVaries);
        let Found::Genes(v) = find(&[vec![1.0, 0.0], vec![4.0, 0.0]], 9, 1) else { panic!() };
        assert_eq!(v.rank, [Some(0), Some(1)]);
    }
}
