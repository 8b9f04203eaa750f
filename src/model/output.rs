//! What a pass brings back: losses, logits, embeddings, attention, translation.

use super::config::ModelConfig;
use super::terms::Translation;
pub use super::want::Want;
use crate::real::{Real, sigmoid};

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
    /// `[B]`, with `Want::translation`: `[heads, G]` of 0/1 for positives, empty for negatives. Where
    /// [`PassOptions::genes`](crate::engine::PassOptions::genes) are named, of these alone. `[G]` of a model that
    /// translates by its cis term ([`ModelConfig::translates_by_cis`]).
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

/// What the terms say of the positives of a batch, before it is handed out to its samples.
#[derive(Debug)]
pub(crate) struct Predicted<T> {
    /// `[positives × heads, G]` of 0 and 1: the published translation.
    pub on: Vec<u8>,
    /// `[positives]`: its counts.
    pub counts: Vec<Vec<u32>>,
    /// `[positives, G]`: the cis term.
    pub cis: Vec<T>,
    /// The same from ATAC alone.
    pub blind: Vec<T>,
}

impl<T> Default for Predicted<T> {
    /// Nothing was computed.
    fn default() -> Self {
        Predicted { on: Vec::new(), counts: Vec::new(), cis: Vec::new(), blind: Vec::new() }
    }
}

impl<T: Real> Output<T> {
    /// Nothing but losses, logits and embedding; the loss is that of the matching, so far.
    pub(crate) fn new(match_loss: T, logits: Vec<T>, embedding: Vec<T>) -> Self {
        let zero = T::of(0.0);
        Output {
            loss: match_loss,
            match_loss,
            translation_loss: zero,
            cis_loss: zero,
            contrast_loss: zero,
            logits,
            embedding,
            attention: Vec::new(),
            translation: Vec::new(),
            counts: Vec::new(),
            nodes: Vec::new(),
            decisions: None,
            cis: Vec::new(),
            cis_blind: Vec::new(),
        }
    }

    /// Hands out what `want` asks for, to `samples` samples of which some are positives. Gives back the published decisions.
    pub(crate) fn hand_out(
        &mut self,
        config: &ModelConfig,
        want: Want,
        positives: &[usize],
        samples: usize,
        predicted: Predicted<T>,
    ) -> Vec<u8> {
        let Predicted { on, counts, cis, blind } = predicted;
        let genes = |y: &[T]| y.chunks_exact(config.genes).map(<[T]>::to_vec).collect::<Vec<_>>();
        self.translation = match Translation::of(config, want) {
            Translation::None => Vec::new(),
            Translation::Published => {
                let each = (on.len() / positives.len().max(1)).max(1);
                spread(positives, samples, on.chunks_exact(each).map(<[u8]>::to_vec).collect())
            }
            Translation::Cis => {
                let decide = |row: &[T]| row.iter().map(|&y| u8::from(y > T::of(0.0))).collect();
                spread(positives, samples, blind.chunks_exact(config.genes).map(decide).collect())
            }
        };
        if want.counts {
            self.counts = spread(positives, samples, counts);
        }
        if want.cis && config.cis.is_some() {
            self.cis = spread(positives, samples, genes(&cis));
            self.cis_blind = spread(positives, samples, genes(&blind));
        }
        on
    }
}

/// Results of the positives among all samples; empty for negatives.
fn spread<R>(positives: &[usize], samples: usize, rows: Vec<Vec<R>>) -> Vec<Vec<R>> {
    let mut out: Vec<Vec<R>> = (0..samples).map(|_| Vec::new()).collect();
    for (&i, r) in positives.iter().zip(rows) {
        out[i] = r;
    }
    out
}

impl<T: Real> Attention<T> {
    /// The kept pairs of a selection, sorted by head, gene row, peak row; entries become rows of the sample, whose own
    /// begin at `gene0` and `peak0`.
    pub(crate) fn of(s: &Selection<T>, gene0: usize, peak0: usize) -> Self {
        let mut order: Vec<(u8, u32, u32, usize)> = Vec::new();
        for (r, &(head, entry)) in s.rows.iter().enumerate() {
            let kept = s.members(r).filter(|&m| s.kept[m]);
            order.extend(kept.map(|m| (head, entry - gene0 as u32, s.peak[m] - peak0 as u32, m)));
        }
        order.sort_unstable_by_key(|x| (x.0, x.1, x.2));
        Attention {
            head: order.iter().map(|x| x.0).collect(),
            gene_row: order.iter().map(|x| x.1).collect(),
            peak_row: order.iter().map(|x| x.2).collect(),
            weight: order.iter().map(|x| s.weight[x.3]).collect(),
            score: order.iter().map(|x| s.score[x.3]).collect(),
        }
    }
}

/// The choices of a run: top-k members and their side of the threshold, and which genes are predicted on. Given to
/// another run (of another precision), that run follows them instead of choosing.
#[derive(Debug, Clone, PartialEq)]
pub struct Decisions<T> {
    /// `[B]`.
    pub attend: Vec<Selection<T>>,
    /// `[positives × heads, G]` of 0/1; of [`PassOptions::genes`](crate::engine::PassOptions::genes) alone, where they
    /// are named.
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
