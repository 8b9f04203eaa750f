//! What a pass is asked for and what it brings.

use crate::real::{Real, sigmoid};

/// What a forward pass should bring back besides loss, logits and embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// The sparse attention of every sample.
    pub attention: bool,
    /// Predicted expression of every positive sample (label 1).
    pub translation: bool,
    /// The counts n_i behind it (implies `translation`).
    pub counts: bool,
    /// Node outputs r_i and p_j.
    pub nodes: bool,
    /// The choices made (see [`Decisions`]).
    pub decisions: bool,
    /// What the cis term predicts of every positive sample.
    pub cis: bool,
}

/// Sparse attention of one sample: the pairs that pass the threshold, sorted by head, gene row, peak row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attention<T> {
    /// Head of each pair.
    pub head: Vec<u8>,
    /// Row of the gene within the sample's gene list.
    pub gene_row: Vec<u32>,
    /// Row of the peak within the sample's peak list.
    pub peak_row: Vec<u32>,
    /// A_ij, softmax weight over the gene's top peaks.
    pub weight: Vec<T>,
    /// s_ij = sigmoid(q·k), above tau.
    pub score: Vec<T>,
}

/// Node-level outputs of one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Nodes<T> {
    /// `[n_r, H]`, r_i in the order of the sample's gene list.
    pub gene: Vec<T>,
    /// `[n_a, H]`, p_j.
    pub peak: Vec<T>,
}

/// What a pass over a batch brings back.
#[derive(Debug, Clone)]
pub struct Output<T> {
    /// match_loss + alpha × translation_loss, and the cis and contrastive terms where there are any, by their weights.
    pub loss: T,
    /// Mean cross-entropy.
    pub match_loss: T,
    /// Sum over positives of the mean squared error, divided by B.
    pub translation_loss: T,
    /// Of the cis term: mean over positives of the sum over genes, before its weight; 0 where there is none.
    pub cis_loss: T,
    /// Of the contrastive term, before its weight; 0 where there is none.
    pub contrast_loss: T,
    /// `[B, 2]`.
    pub logits: Vec<T>,
    /// `[B, 2H]`, z.
    pub embedding: Vec<T>,
    /// `[B]`, with `Want::attention`.
    pub attention: Vec<Attention<T>>,
    /// `[B]`, with `Want::translation`: `[heads, G]` of 0/1 for positives, empty for negatives. Where [`Run::genes`] are
    /// named, of these alone. `[G]` of a model that translates by its cis term ([`ModelConfig::translates_by_cis`]).
    pub translation: Vec<Vec<u8>>,
    /// `[B]`, with `Want::counts`: as `translation`.
    pub counts: Vec<Vec<u32>>,
    /// `[B]`, with `Want::nodes`.
    pub nodes: Vec<Nodes<T>>,
    /// With `Want::decisions`.
    pub decisions: Option<Decisions<T>>,
    /// `[B]`, with `Want::cis`: `[G]` logits of detection, or levels, for positives; empty for negatives.
    pub cis: Vec<Vec<T>>,
    /// The same from the ATAC alone: at the mean depth of RNA.
    pub cis_blind: Vec<Vec<T>>,
}

/// The choices of a run: top-k members and their side of the threshold, and which genes are predicted on. Given to
/// another run (of another precision), that run follows them instead of choosing.
#[derive(Debug, Clone, PartialEq)]
pub struct Decisions<T> {
    /// `[B]`.
    pub attend: Vec<Selection<T>>,
    /// `[positives × heads, G]` of 0/1; of [`Run::genes`] alone, where they are named.
    pub translate: Vec<u8>,
}

impl<T: Real> Decisions<T> {
    /// The same choices for another number type.
    pub fn cast<U: Real>(&self) -> Decisions<U> {
        let cast = |x: &[T]| x.iter().map(|v| U::of(v.f64())).collect();
        let attend = self.attend.iter().map(|s| Selection {
            rows: s.rows.clone(),
            start: s.start.clone(),
            peak: s.peak.clone(),
            weight: cast(&s.weight),
            score: cast(&s.score),
            kept: s.kept.clone(),
        });
        Decisions { attend: attend.collect(), translate: self.translate.clone() }
    }
}

/// The genes of one sample that have at least one pair above the threshold, and their top-k members.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection<T> {
    /// Head and gene entry of each chosen gene, by gene entry within chromosome blocks, heads innermost.
    pub rows: Vec<(u8, u32)>,
    /// `[rows + 1]` where each one's members start.
    pub start: Vec<u32>,
    /// Peak entry of each unmasked member, best first.
    pub peak: Vec<u32>,
    /// Softmax weight w (before the threshold).
    pub weight: Vec<T>,
    /// Score s.
    pub score: Vec<T>,
    /// Does the pair pass the threshold?
    pub kept: Vec<bool>,
}

impl<T: Real> Selection<T> {
    /// Adds a gene if one of its members passes: softmax over all members, masked ones included, then the threshold.
    /// `scores` is only memory.
    pub(crate) fn push_row(
        &mut self,
        head: u8,
        entry: u32,
        members: impl Iterator<Item = Member<T>> + Clone,
        tau: f64,
        scores: &mut Vec<T>,
    ) {
        let tau = T::of(tau);
        scores.clear();
        scores.extend(members.clone().map(|m| sigmoid(m.0)));
        let passes = |s: T, forced: Option<bool>| forced.unwrap_or(s > tau);
        if !members.clone().zip(scores.iter()).any(|(m, &s)| m.1.is_some_and(|(_, forced)| passes(s, forced))) {
            return;
        }
        let max = scores.iter().fold(T::of(0.0), |m, &s| if s > m { s } else { m });
        let first = self.weight.len();
        let mut sum = T::of(0.0);
        for ((_, who), &s) in members.zip(scores.iter()) {
            let e = num_traits::Float::exp(s - max);
            sum += e;
            if let Some((peak, forced)) = who {
                self.peak.push(peak);
                self.score.push(s);
                self.weight.push(e);
                self.kept.push(passes(s, forced));
            }
        }
        self.weight[first..].iter_mut().for_each(|w| *w /= sum);
        self.rows.push((head, entry));
        self.start.push(self.peak.len() as u32);
    }

    /// Members of chosen gene `r`.
    pub fn members(&self, r: usize) -> std::ops::Range<usize> {
        self.start[r] as usize..self.start[r + 1] as usize
    }
}

/// Logit of a member and, unless it is masked, its peak entry and the side of the threshold it was told to take.
pub(crate) type Member<T> = (T, Option<(u32, Option<bool>)>);
