//! Ranking metrics over any number of scored items: AUROC and AUPRC with ties, exact, streaming.
//!
//! Only the scores of the positives are kept. All other items are counted into the gaps between them, so billions of
//! items (all gene–peak pairs of equal chromosome) need memory in proportion to the positives alone.

use serde::{Deserialize, Serialize};

/// What [`Ranking::finish`] brings back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankingMetrics {
    /// Area under the ROC curve, ties by average rank; `None` without positives or without negatives.
    pub auroc: Option<f64>,
    /// Average precision, all items of one score entering together; `None` without positives.
    pub auprc: Option<f64>,
    /// Items labelled positive.
    pub positives: u64,
    /// All other items.
    pub negatives: u64,
}

impl RankingMetrics {
    /// The AUPRC of a random order: the share of positives. `None` without items.
    pub fn chance(&self) -> Option<f64> {
        let n = self.positives + self.negatives;
        (n > 0).then(|| self.positives as f64 / n as f64)
    }

    /// AUPRC over its chance level.
    pub fn lift(&self) -> Option<f64> {
        Some(self.auprc? / self.chance().filter(|&c| c > 0.0)?)
    }
}

/// Counts items against a fixed set of positives. Higher scores should be positive.
///
/// NaN ranks below every number, all NaN tied. The result does not depend on the order of additions, so counts made
/// in parallel may be merged in any order.
///
/// ```
/// use sccrossrec::evaluate::Ranking;
/// let mut r = Ranking::new(vec![0.9, 0.4]);
/// for negative in [0.5, 0.1] {
///     r.add_negative(negative);
/// }
/// let m = r.finish();
/// assert_eq!(m.auroc, Some(0.75));
/// ```
#[derive(Debug, Clone)]
pub struct Ranking {
    /// Distinct scores of positives, ascending.
    level: Vec<f64>,
    /// Positives at each level.
    positives: Vec<u64>,
    /// Negatives at `2 i + 1` equal to level i, at `2 i` below it (and above level i − 1).
    negatives: Vec<u64>,
    /// Where to look for a score.
    table: Table,
}

/// Numbers in buckets of equal width from the lowest level to the highest: a score is compared with the levels of its own
/// bucket alone, as all of lower buckets are below it and all of higher ones above.
#[derive(Debug, Clone, Default)]
struct Table {
    lowest: f64,
    /// Buckets over the width of all.
    scale: f64,
    /// Levels in lower buckets, of each bucket and behind the last; empty where all levels have to be looked at.
    before: Vec<u32>,
}

impl Table {
    /// Buckets a level.
    const FINE: usize = 4;

    fn new(level: &[f64]) -> Self {
        let (Some(&lowest), Some(&highest)) = (level.first(), level.last()) else { return Table::default() };
        let buckets = Self::FINE * level.len();
        let scale = buckets as f64 / (highest - lowest);
        if level.len() < 32 || u32::try_from(buckets).is_err() || !scale.is_finite() || scale <= 0.0 {
            return Table::default();
        }
        let mut table = Table { lowest, scale, before: vec![0; buckets + 1] };
        for &l in level {
            let b = table.bucket(l);
            table.before[b + 1] += 1;
        }
        for b in 0..buckets {
            table.before[b + 1] += table.before[b];
        }
        table
    }

    /// Rises with the score, so that order between buckets is order of scores, however it is rounded.
    fn bucket(&self, score: f64) -> usize {
        (((score - self.lowest) * self.scale) as usize).min(self.before.len() - 2)
    }

    /// The number of levels below a score.
    fn below(&self, level: &[f64], score: f64) -> usize {
        if self.before.is_empty() {
            return level.partition_point(|&l| l < score);
        }
        let b = self.bucket(score);
        let (from, to) = (self.before[b] as usize, self.before[b + 1] as usize);
        from + level[from..to].partition_point(|&l| l < score)
    }
}

/// NaN as the lowest number and -0 as 0, so that `total_cmp` is the order wanted.
fn key(x: f64) -> f64 {
    if x.is_nan() { f64::NEG_INFINITY } else { x + 0.0 }
}

impl Ranking {
    /// Starts from the scores of all positives.
    pub fn new(mut scores: Vec<f64>) -> Self {
        scores.iter_mut().for_each(|x| *x = key(*x));
        scores.sort_unstable_by(f64::total_cmp);
        let (mut level, mut positives) = (Vec::new(), Vec::new());
        for s in scores {
            if level.last() == Some(&s) {
                if let Some(n) = positives.last_mut() {
                    *n += 1;
                }
            } else {
                level.push(s);
                positives.push(1);
            }
        }
        let negatives = vec![0; 2 * level.len() + 1];
        Ranking { table: Table::new(&level), level, positives, negatives }
    }

    /// The place of a score in `negatives`.
    fn slot(&self, score: f64) -> usize {
        let s = key(score);
        let i = self.table.below(&self.level, s);
        if self.level.get(i) == Some(&s) { 2 * i + 1 } else { 2 * i }
    }

    /// Counts one negative.
    pub fn add_negative(&mut self, score: f64) {
        let slot = self.slot(score);
        self.negatives[slot] += 1;
    }

    /// Counts `n` negatives of one score.
    pub fn add_negatives(&mut self, score: f64, n: u64) {
        let slot = self.slot(score);
        self.negatives[slot] += n;
    }

    /// Takes out one negative that was counted with this score: for whoever streams all items, positives among them.
    /// The caller answers for its having been counted; a count never falls below zero.
    pub fn remove_negative(&mut self, score: f64) {
        let slot = self.slot(score);
        self.negatives[slot] = self.negatives[slot].saturating_sub(1);
    }

    /// A counter of the same positives with no negatives yet, to be filled elsewhere and merged.
    pub fn fork(&self) -> Self {
        Ranking { negatives: vec![0; self.negatives.len()], ..self.clone() }
    }

    /// Adds the negatives of a counter made with [`Ranking::fork`].
    pub fn merge(&mut self, other: &Ranking) {
        self.negatives.iter_mut().zip(&other.negatives).for_each(|(a, b)| *a += b);
    }

    /// AUROC and AUPRC of what was counted.
    pub fn finish(&self) -> RankingMetrics {
        let positives: u64 = self.positives.iter().sum();
        let negatives: u64 = self.negatives.iter().sum();
        // Twice the number of (positive, negative) pairs in the right order, ties counting one half.
        let (mut below, mut twice) = (0u64, 0u128);
        for (i, &n) in self.positives.iter().enumerate() {
            below += self.negatives[2 * i];
            let tied = self.negatives[2 * i + 1];
            twice += u128::from(n) * (2 * u128::from(below) + u128::from(tied));
            below += tied;
        }
        let auroc = (positives > 0 && negatives > 0)
            .then(|| twice as f64 / (2 * u128::from(positives) * u128::from(negatives)) as f64);
        let (mut hits, mut misses, mut ap) = (0u64, self.negatives.last().copied().unwrap_or(0), 0.0);
        for (i, &n) in self.positives.iter().enumerate().rev() {
            hits += n;
            misses += self.negatives[2 * i + 1];
            ap += n as f64 * (hits as f64 / (hits + misses) as f64);
            misses += self.negatives[2 * i];
        }
        let auprc = (positives > 0).then(|| ap / positives as f64);
        RankingMetrics { auroc, auprc, positives, negatives }
    }
}

/// AUROC and AUPRC of scores with labels (non-zero is positive). Both slices have one entry an item.
pub fn ranking(scores: &[f64], labels: &[u8]) -> RankingMetrics {
    let of = |positive: bool| scores.iter().zip(labels).filter(move |&(_, &l)| (l != 0) == positive).map(|(&s, _)| s);
    let mut r = Ranking::new(of(true).collect());
    of(false).for_each(|s| r.add_negative(s));
    r.finish()
}

/// Average rank of each value (from 1, ascending) and, of each, how many are at least as high.
pub(crate) fn ranks(values: &[f64]) -> (Vec<f64>, Vec<u32>) {
    let n = values.len();
    let mut order: Vec<u32> = (0..n as u32).collect();
    order.sort_by(|&a, &b| values[a as usize].total_cmp(&values[b as usize]));
    let (mut rank, mut at_least) = (vec![0.0; n], vec![0; n]);
    let mut done = 0;
    for same in order.chunk_by(|&a, &b| values[a as usize] == values[b as usize]) {
        for &i in same {
            rank[i as usize] = done as f64 + (same.len() + 1) as f64 / 2.0;
            at_least[i as usize] = (n - done) as u32;
        }
        done += same.len();
    }
    (rank, at_least)
}

/// Benjamini and Hochberg's q of `[n]` p-values over `tested` tests; tests that are not among these have p = 1. NaN stays NaN.
pub fn benjamini_hochberg(p: &[f64], tested: u64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let tests = tested.max(order.len() as u64) as f64;
    let (mut q, mut least) = (vec![f64::NAN; p.len()], 1.0f64);
    for (rank, &i) in order.iter().enumerate().rev() {
        least = least.min(p[i] * tests / (rank + 1) as f64);
        q[i] = least;
    }
    q
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// The table finds what a search of all levels finds: near and on levels, outside, and for what is no number.
    #[test]
    fn q_values_are_those_of_benjamini_and_hochberg() {
        let q = benjamini_hochberg(&[0.01, 0.04, f64::NAN, 0.03, 0.5], 4);
        let want = [0.04, 0.16 / 3.0, f64::NAN, 0.16 / 3.0, 0.5];
        assert!(q.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12 || a.is_nan() && b.is_nan()), "{q:?}");
        assert_eq!(benjamini_hochberg(&[0.01], 50), [0.5]);
    }

    #[test]
    fn buckets_find_the_same_place() {
        let mut rng = Rng::new(30, 1);
        let spreads: [fn(&mut Rng) -> f64; 5] = [
            |r| r.uniform(),
            |r| r.normal().powi(9),
            |r| r.below(50) as f64,
            |r| 1e9 + r.uniform() * 1e-6,
            |r| if r.below(9) == 0 { f64::INFINITY } else { r.normal() },
        ];
        for (case, draw) in spreads.into_iter().enumerate() {
            for n in [1, 5, 40, 700] {
                let r = Ranking::new((0..n).map(|_| draw(&mut rng)).collect());
                let mut scores: Vec<f64> = (0..500).map(|_| draw(&mut rng)).collect();
                scores.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, -1e300]);
                for &l in &r.level {
                    scores.extend([l, l.next_up(), l.next_down()]);
                }
                for s in scores {
                    assert_eq!(
                        r.table.below(&r.level, key(s)),
                        r.level.partition_point(|&l| l < key(s)),
                        "case {case}: {s} among {n}"
                    );
                }
            }
        }
        assert!(!Ranking::new((0..100).map(f64::from).collect()).table.before.is_empty());
    }

    #[test]
    fn ranks_by_hand() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.5]), (vec![3.5, 2.0, 3.5, 1.0], vec![2, 3, 2, 4]));
    }
}
