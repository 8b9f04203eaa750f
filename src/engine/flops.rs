//! Floating-point work of a training step as docs/model.md, section 7.7 counts it (multiply and add are two).

use crate::error::Result;
use crate::model::nodes::NodeSet;
use crate::model::{Batch, Model};
use crate::ops::translate::{BackwardPlan, PeakColumns};
use crate::real::Real;

/// Flops of one forward and backward pass over a batch.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Flops {
    /// Projection tables: forward, and backward into embedding rows and weights.
    pub project: f64,
    /// Chromosome blocks of q·k, and the chosen pairs backward.
    pub attend: f64,
    /// Bag sums and their scatter.
    pub pool: f64,
    /// Translation scores over distinct columns, forward.
    pub translate: f64,
    /// Scores again, and the two products, over the genes with a gradient.
    pub translate_backward: f64,
}

impl Flops {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.project + self.attend + self.pool + self.translate + self.translate_backward
    }
}

impl<T: Real> Model<T> {
    /// Counts the flops of `train_step` on this batch with the present parameters (a forward pass finds which genes
    /// get a translation gradient).
    pub fn flops(&self, batch: &Batch<T>) -> Result<Flops> {
        self.flops_of(batch, None)
    }

    /// The same where only these genes are translated (ascending), as [`crate::engine::PassOptions::genes`] says.
    pub fn flops_of(&self, batch: &Batch<T>, some: Option<&[u32]>) -> Result<Flops> {
        let want = crate::model::output::Want { translation: true, attention: true, ..Default::default() };
        let out = self.forward(batch, want)?;
        let c = &self.config;
        let (h, d) = (c.hidden as f64, c.embedding_dim as f64);
        let positives: Vec<usize> = (0..batch.len()).filter(|&i| batch.label[i] == 1).collect();
        let genes = self.gene_nodes(batch, !positives.is_empty(), some);
        let translated = some.map_or(c.genes, <[u32]>::len);
        let peaks = NodeSet::new(&batch.atac, &self.features.peak_chrom, false);
        let mut f = Flops::default();
        for (rows, extra) in [(genes.rows.len(), c.gene_extra), (peaks.rows.len(), c.dna_length)] {
            let (n, extra) = (rows as f64, extra as f64);
            f.project += 2.0 * n * h * ((d + extra) + d + (d + extra));
        }
        for b in 0..batch.len() {
            for &(chrom, g0, g1) in &genes.segments[b] {
                if let Some(&(_, p0, p1)) = peaks.segments[b].iter().find(|s| s.0 == chrom) {
                    f.attend += 2.0 * (g1 - g0) as f64 * (p1 - p0) as f64 * h;
                }
            }
            f.attend += 4.0 * out.attention[b].weight.len() as f64 * h / c.heads as f64;
        }
        f.pool = (genes.nnz() + peaks.nnz()) as f64 * d * 4.0;
        if !positives.is_empty() {
            let cols = PeakColumns::new(&peaks, &positives);
            f.translate = 2.0 * (translated * cols.len()) as f64 * h;
            let per_head = h / c.heads as f64;
            for head in 0..c.heads {
                let active: Vec<Vec<u32>> = positives
                    .iter()
                    .map(|&i| {
                        let mut truth = vec![T::of(0.0); c.genes];
                        let (index, value) = batch.rna.row(i);
                        index.iter().zip(value).for_each(|(&g, &v)| truth[g as usize] = v);
                        let pred = &out.translation[i][head * c.genes..(head + 1) * c.genes];
                        let differs = |g: &u32| T::of(f64::from(pred[*g as usize])) != truth[*g as usize];
                        match some {
                            Some(some) => some.iter().copied().filter(differs).collect(),
                            None => (0..c.genes as u32).filter(differs).collect(),
                        }
                    })
                    .collect();
                f.translate_backward += 6.0 * per_head * BackwardPlan::new(c.genes, &cols, &active).pairs() as f64;
            }
        }
        Ok(f)
    }
}
