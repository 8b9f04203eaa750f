//! Matching: do RNA and ATAC of a sample come from one cell?

use serde::{Deserialize, Serialize};

use super::ranking::Ranking;

/// Metrics of a two-class decision. What is undefined is `None`: `null` in JSON, a dash in tables; all of them where samples of
/// one class are missing, as where no negatives were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct MatchingMetrics {
    /// Samples.
    pub samples: u64,
    /// Samples of label 1.
    pub positives: u64,
    /// Share of samples decided rightly.
    pub accuracy: Option<f64>,
    /// Of the samples predicted 0, the share labelled 0.
    pub precision_0: Option<f64>,
    /// Of the samples labelled 0, the share predicted 0.
    pub recall_0: Option<f64>,
    /// Of the samples predicted 1, the share labelled 1.
    pub precision_1: Option<f64>,
    /// Of the samples labelled 1, the share predicted 1.
    pub recall_1: Option<f64>,
    /// Area under the ROC curve, ties by average rank.
    pub auroc: Option<f64>,
    /// Average precision of class 1.
    pub auprc: Option<f64>,
}

/// Matching of a model and of the trivial baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchingReport {
    /// The model.
    pub model: MatchingMetrics,
    /// Every sample predicted as the class that most training samples have (0 where they are even or there are none).
    pub majority: MatchingMetrics,
    /// That class.
    pub majority_class: u8,
}

/// Collects decisions and scores, batch by batch. Memory: nine bytes a sample.
#[derive(Debug, Clone, Default)]
pub struct MatchingTally {
    /// `confusion[label][prediction]`.
    confusion: [[u64; 2]; 2],
    score: Vec<f64>,
    label: Vec<u8>,
}

/// `part / whole`, if there is a whole.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl MatchingTally {
    /// Nothing collected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One sample by its logits of class 0 and 1. The prediction is their argmax (class 0 where they are equal), the
    /// score is logit 1 − logit 0, which orders samples as the probability of class 1 does and never saturates.
    pub fn add_logits(&mut self, label: u8, logits: [f64; 2]) {
        self.add(label, u8::from(logits[1] > logits[0]), logits[1] - logits[0]);
    }

    /// One sample by its decision and its score (higher: rather class 1). Labels and decisions other than 0 count as 1.
    pub fn add(&mut self, label: u8, predicted: u8, score: f64) {
        self.confusion[usize::from(label != 0)][usize::from(predicted != 0)] += 1;
        self.score.push(score);
        self.label.push(u8::from(label != 0));
    }

    /// The metrics of what was collected.
    pub fn finish(&self) -> MatchingMetrics {
        let [[tn, fp], [fneg, tp]] = self.confusion;
        let samples = tn + fp + fneg + tp;
        let of =
            |positive: u8| self.score.iter().zip(&self.label).filter(move |&(_, &l)| l == positive).map(|(&s, _)| s);
        let mut ranking = Ranking::new(of(1).collect());
        of(0).for_each(|s| ranking.add_negative(s));
        let ranked = ranking.finish();
        // Where all are of one class, whoever always says so is right: that says nothing.
        let told = |x: Option<f64>| x.filter(|_| fneg + tp > 0 && tn + fp > 0);
        MatchingMetrics {
            samples,
            positives: fneg + tp,
            accuracy: told(share(tp + tn, samples)),
            precision_0: told(share(tn, tn + fneg)),
            recall_0: told(share(tn, tn + fp)),
            precision_1: told(share(tp, tp + fp)),
            recall_1: told(share(tp, tp + fneg)),
            auroc: ranked.auroc,
            auprc: told(ranked.auprc),
        }
    }
}

/// The trivial baseline: every one of `labels` predicted as the `majority` class, all with one score.
pub fn majority_baseline(labels: impl IntoIterator<Item = u8>, majority: u8) -> MatchingMetrics {
    let mut m = MatchingTally::new();
    labels.into_iter().for_each(|l| m.add(l, majority, 0.0));
    m.finish()
}
