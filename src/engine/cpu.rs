//! The fast path: a batch through the ops, forward and backward (docs/model.md, section 7).

use super::stages::CpuPass;
use crate::error::{Error, Result};
use crate::model::output::{Attention, Output, Predicted, Want};
use crate::model::terms::Terms;
use crate::model::{Batch, Decisions, Dropout, Model, ModelConfig};
use crate::ops::losses::{mean_abs, weighted_sum};
use crate::real::Real;
use crate::tape::Tape;

impl<T: Real> Model<T> {
    /// Forward pass without dropout. The translation, and its loss, is computed only where `want` asks for
    /// `translation` or `counts`; else `translation_loss` is 0.
    ///
    /// # Errors
    /// [`Error::Usage`] for a batch that does not fit the model: an index beyond its genes or
    /// peaks, rows out of order, a sample without a gene or a peak.
    pub fn forward(&self, batch: &Batch<T>, want: Want) -> Result<Output<T>> {
        self.run(batch, PassOptions { want, ..PassOptions::default() })
    }

    /// Forward and backward pass; gradients of the loss are added to `grads` (`[layout.len()]`).
    ///
    /// ```
    /// use std::sync::Arc;
    /// use sccrossrec::model::{Batch, Features, Init, Model, ModelConfig};
    /// # fn main() -> sccrossrec::Result<()> {
    /// // Two genes and three peaks on one chromosome.
    /// let features = Features::<f32> {
    ///     gene_chrom: vec![0, 0],
    ///     peak_chrom: vec![0, 0, 0],
    ///     chromosomes: 1,
    ///     unknown: None,
    ///     gene_extra: vec![],
    ///     peak_dna: vec![],
    /// };
    /// let config = ModelConfig { genes: 2, peaks: 3, chromosomes: 1, embedding_dim: 8, hidden: 8, ..Default::default() };
    /// let init = Init::PyTorch { embedding_std: 1.0 };
    /// let model = Model::new(config, Arc::new(features), init, 906)?;
    /// let mut batch = Batch::new();
    /// batch.push(1, 0, [(0, 1.5), (1, 0.7)], [(0, 1.0), (2, 1.0)]);
    /// let mut grads = vec![0.0; model.params.layout().len()];
    /// let out = model.train_step(&batch, None, &mut grads)?;
    /// assert!(out.loss > 0.0 && grads.iter().any(|&g| g != 0.0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] for a batch that does not fit the model: an index beyond its genes or
    /// peaks, rows out of order, a sample without a gene or a peak.
    pub fn train_step(&self, batch: &Batch<T>, dropout: Option<Dropout>, grads: &mut [T]) -> Result<Output<T>> {
        self.run(batch, PassOptions { dropout, grads: Some(grads), ..PassOptions::default() })
    }
}

/// What one pass over a batch is to do.
#[derive(Debug, Default)]
pub struct PassOptions<'a, T> {
    /// Dropout of a training step; none in evaluation.
    pub dropout: Option<Dropout>,
    /// Where gradients are added, `[layout.len()]`; none: forward only.
    pub grads: Option<&'a mut [T]>,
    /// What to bring back.
    pub want: Want,
    /// Follow these choices.
    pub given: Option<&'a Decisions<T>>,
    /// Translate these genes only, ascending and distinct (none named: all). The loss is the mean over them; over uniform
    /// random draws ([`crate::model::sample_genes`]) its expectation, and that of its gradient, are those of all genes.
    pub genes: Option<&'a [u32]>,
}

impl<T> PassOptions<'_, T> {
    fn check(&self, config: &ModelConfig) -> Result<()> {
        let wrong = |list: &[u32]| {
            list.is_empty() || !list.is_sorted_by(|a, b| a < b) || list.iter().any(|&g| g as usize >= config.genes)
        };
        if self.genes.is_some_and(wrong) {
            return Err(Error::usage("genes to translate: they are to be ascending numbers of genes, at least one"));
        }
        Ok(())
    }
}

impl<T: Real> Model<T> {
    /// Rows of the id tables that a training step on `batch` reads and writes, ascending: genes first, peaks behind them, as
    /// they lie in the arena. `genes` as in [`PassOptions::genes`]. A row more than `Terms` asks for is of no harm; one less
    /// would change the bits of runs with `--lazy-adam`, so this stays as it was.
    pub fn table_rows(&self, batch: &Batch<T>, genes: Option<&[u32]>) -> Vec<u32> {
        let c = &self.config;
        let translating = batch.label.contains(&1);
        let mut named = vec![false; c.genes + c.peaks];
        match genes {
            _ if !translating => {}
            _ if c.cis.is_some() => named[..c.genes].fill(true),
            Some(some) => some.iter().for_each(|&g| named[g as usize] = true),
            None => named[..c.genes].fill(true),
        }
        batch.rna.indices.iter().for_each(|&g| named[g as usize] = true);
        batch.atac.indices.iter().for_each(|&p| named[c.genes + p as usize] = true);
        (0..).zip(named).filter(|x| x.1).map(|x| x.0).collect()
    }

    /// One pass over a batch. The batch is checked first (indices, order, no empty sample).
    ///
    /// # Errors
    /// [`Error::Usage`] for a batch that does not fit the model: an index beyond its genes or
    /// peaks, rows out of order, a sample without a gene or a peak.
    pub fn run(&self, batch: &Batch<T>, options: PassOptions<'_, T>) -> Result<Output<T>> {
        batch.validate(&self.features)?;
        options.check(&self.config)?;
        let c = &self.config;
        let PassOptions { dropout, grads, want, given, genes } = options;
        let n = batch.len();
        let positives: Vec<usize> = (0..n).filter(|&i| batch.label[i] == 1).collect();
        let terms = Terms::of(c, want, grads.is_some()).of_positives(positives.len());
        let tape = if grads.is_some() { Tape::recording() } else { Tape::inference() };
        let mut pass = CpuPass::new(self, batch, &positives, terms, genes, tape);

        let scored = pass.attend(given.map(|d| d.attend.as_slice()));
        let embedded = pass.embed(&scored.attended);
        let (logits, match_loss) = pass.classify(embedded.z, dropout);
        let first = |pass: &CpuPass<'_, T>, loss| pass.tape.get(loss)[0];
        let of = |v| pass.tape.get(v).to_vec();
        let mut out = Output::new(first(&pass, match_loss), of(logits), of(embedded.z));
        let mut predicted = Predicted::default();

        let mut loss = match_loss;
        if c.match_weight != 1.0 {
            let none = pass.tape.value(vec![T::of(0.0)], [1, 1]);
            loss = weighted_sum(&mut pass.tape, none, match_loss, c.match_weight);
        }
        if terms.contrast {
            let apart = pass.contrast(&embedded);
            out.contrast_loss = first(&pass, apart);
            loss = weighted_sum(&mut pass.tape, loss, apart, c.contrast);
        }
        if let Some((term, graph)) = self.cis_term().filter(|_| terms.cis)
            && let Some(told) = pass.cis((term, graph), &scored, &embedded, terms.blind)
        {
            if want.cis {
                predicted.cis = pass.tape.get(told.y).to_vec();
            }
            if let Some(blind) = told.blind {
                predicted.blind = pass.tape.get(blind).to_vec();
            }
            let cis = pass.cis_loss(told.y, term.target);
            out.cis_loss = first(&pass, cis);
            loss = weighted_sum(&mut pass.tape, loss, cis, term.weight);
            if term.sparsity != 0.0 && pass.tape.shape(told.edges)[1] > 0 {
                let size = mean_abs(&mut pass.tape, told.edges);
                loss = weighted_sum(&mut pass.tape, loss, size, term.sparsity);
            }
        }
        if terms.translate {
            let translated = pass.translate(&scored, terms.counts, given.map(|d| d.translate.as_slice()));
            (predicted.on, predicted.counts) = (translated.on, translated.counts);
            out.translation_loss = first(&pass, translated.loss);
            loss = weighted_sum(&mut pass.tape, loss, translated.loss, c.alpha);
        }
        out.loss = first(&pass, loss);

        let on = out.hand_out(c, want, &positives, n, predicted);
        let selections = &scored.attended.selections;
        if want.attention {
            let of = |i: usize| Attention::of(&selections[i], pass.genes.indptr[i], pass.peaks.indptr[i]);
            out.attention = (0..n).map(of).collect();
        }
        if want.decisions {
            out.decisions = Some(Decisions { attend: selections.to_vec(), translate: on });
        }
        if want.nodes {
            out.nodes = self.node_outputs(&pass.genes, &pass.peaks, selections);
        }
        if let Some(grads) = grads {
            pass.backward(loss, grads)?;
        }
        Ok(out)
    }
}
