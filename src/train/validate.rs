//! Validation after an epoch.

use crate::model::Batch;
use crate::model::output::Output;

/// Sums of a validation pass.
#[derive(Default)]
pub(crate) struct Validation {
    pub samples: usize,
    pub loss: f64,
    pub match_loss: f64,
    pub cis_loss: f64,
    pub correct: usize,
    pub positives: usize,
    /// Wrong 0/1 predictions of each head: absolute and squared errors are both 1.
    wrong: Vec<u64>,
}

impl Validation {
    pub(crate) fn add(&mut self, batch: &Batch<f32>, output: &Output<f32>, genes: usize) {
        self.samples += batch.len();
        self.loss += f64::from(output.loss) * batch.len() as f64;
        self.match_loss += f64::from(output.match_loss) * batch.len() as f64;
        self.cis_loss += f64::from(output.cis_loss) * batch.len() as f64;
        for (i, (&label, l)) in batch.label.iter().zip(output.logits.chunks_exact(2)).enumerate() {
            // argmax; equal logits: the first; what is no number decides nothing
            self.correct += usize::from(u8::from(l[1] > l[0]) == label && !l.iter().any(|x| x.is_nan()));
            if label != 1 {
                continue;
            }
            self.positives += 1;
            let (index, values) = batch.rna.row(i);
            let heads = &output.translation[i];
            self.wrong.resize(heads.len() / genes, 0);
            for (head, wrong) in heads.chunks_exact(genes).zip(&mut self.wrong) {
                // What is predicted but not there, and what is there but not predicted.
                let predicted = head.iter().filter(|&&p| p == 1).count();
                let (mut truth, mut both) = (0, 0);
                for (&g, &v) in index.iter().zip(values) {
                    truth += usize::from(v > 0.0);
                    both += usize::from(v > 0.0 && head[g as usize] == 1);
                }
                *wrong += (predicted + truth - 2 * both) as u64;
            }
        }
    }

    /// Mean over heads of a function of the share of wrong predictions; None without positives.
    pub(crate) fn over_heads(&self, genes: usize, f: impl Fn(f64) -> f64) -> Option<f64> {
        let cells = self.positives as f64 * genes as f64;
        let sum: f64 = self.wrong.iter().map(|&w| f(w as f64 / cells)).sum();
        ratio(sum, self.wrong.len())
    }
}

pub(crate) fn ratio(a: f64, n: usize) -> Option<f64> {
    (n > 0).then(|| a / n as f64).filter(|x| x.is_finite())
}
