//! What lies between kinds and what lies within them, weighed by how far pairs near a promoter stand out from pairs that
//! are no links. Weights and the number of components used on one half of the chromosomes are learned on the other.

use serde::{Deserialize, Serialize};

/// Distances within which pairs are taken to hold many links, in bases: the nearest that shows anything counts.
const REACH: [f64; 7] = [2e3, 5e3, 2e4, 5e4, 1e5, 2e5, 5e5];
/// Pairs that are needed within it, in all.
const LEAST: usize = 300;
/// Standard errors that these must stand out by.
const SURE: f64 = 4.0;

/// How far pairs near a promoter stand out with so many components taken out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Components of RNA taken out within kinds.
    pub components: usize,
    /// Mean of the combined score of the pairs near a promoter, in standard deviations of the null, on chromosomes that the
    /// weights were not learned on.
    pub stands_out: f64,
    /// The same of what lies within kinds alone.
    pub within: f64,
}

/// Weights of one half of the chromosomes, learned on the other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Components of RNA taken out within kinds.
    pub components: usize,
    /// Of z_between.
    pub between: f64,
    /// Of z_within.
    pub within: f64,
}

impl Weights {
    /// Of both scores, with variance 1 among null pairs.
    pub fn combine(&self, between: f64, within: f64) -> f64 {
        self.between * between + self.within * within
    }
}

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// For each half of the chromosomes.
    pub weights: [Weights; 2],
    /// Candidates for the number of components.
    pub curve: Vec<CurvePoint>,
    /// Distance of TSS and peak up to which pairs were looked at, in bases; `None`: nothing stands out.
    pub within_bases: Option<f64>,
    /// Pairs looked at.
    pub pairs: u64,
}

/// Moments of (z_between, z_within) of some pairs.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    n: f64,
    sum: [f64; 2],
    square: [f64; 3],
}

impl Moments {
    fn add(&mut self, b: f64, w: f64) {
        self.n += 1.0;
        self.sum = [self.sum[0] + b, self.sum[1] + w];
        self.square = [self.square[0] + b * b, self.square[1] + b * w, self.square[2] + w * w];
    }

    fn mean(&self) -> [f64; 2] {
        self.sum.map(|s| s / self.n.max(1.0))
    }

    /// Variances and covariance: b, bw, w.
    fn covariance(&self) -> [f64; 3] {
        let ([b, w], n) = (self.mean(), self.n.max(1.0));
        [self.square[0] / n - b * b, self.square[1] / n - b * w, self.square[2] / n - w * w]
    }
}

/// Weights, none below 0, that set pairs of mean `d` furthest from null pairs of covariance `s`, which get variance 1.
/// `None` where nothing does.
fn best(d: [f64; 2], [bb, bw, ww]: [f64; 3]) -> Option<[f64; 2]> {
    let determinant = bb * ww - bw * bw;
    let mut tried = vec![[d[0] / bb, 0.0], [0.0, d[1] / ww]];
    if determinant > 1e-9 * bb * ww {
        tried.push([(ww * d[0] - bw * d[1]) / determinant, (bb * d[1] - bw * d[0]) / determinant]);
    }
    let spread = |w: &[f64; 2]| (w[0] * w[0] * bb + 2.0 * w[0] * w[1] * bw + w[1] * w[1] * ww).sqrt();
    let apart = |w: &[f64; 2]| (w[0] * d[0] + w[1] * d[1]) / spread(w);
    let fits = |w: &[f64; 2]| w.iter().all(|x| x.is_finite() && *x >= 0.0) && spread(w) > 0.0;
    let found = tried.into_iter().filter(fits).max_by(|a, b| apart(a).total_cmp(&apart(b)))?;
    let by = spread(&found);
    Some(found.map(|w| w / by))
}

/// Equal weights for null pairs of this covariance; of one score alone where the other does not vary.
fn equal([bb, bw, ww]: [f64; 3]) -> [f64; 2] {
    match (bb > 1e-9, ww > 1e-9) {
        (true, true) => [1.0 / (bb + 2.0 * bw + ww).max(1e-9).sqrt(); 2],
        (true, false) => [1.0 / bb.sqrt(), 0.0],
        (false, true) => [0.0, 1.0 / ww.sqrt()],
        (false, false) => [0.0, 0.0],
    }
}

/// Scores of pairs and of null pairs among which to choose.
pub(super) struct Scores<'a> {
    /// Candidates for the number of components.
    pub candidates: &'a [usize],
    /// z_between of each pair and each null pair.
    pub between: [&'a [f32]; 2],
    /// For each candidate z_within of each pair and each null pair.
    pub within: &'a [[Vec<f32>; 2]],
    /// Half of the chromosomes of each pair and of each null pair: 0 or 1.
    pub half: [&'a [u8]; 2],
    /// Distance of each pair.
    pub distance: &'a [f64],
}

impl Scores<'_> {
    /// Moments, for a candidate and each half of the chromosomes, of what `which` is told is in.
    fn moments(&self, candidate: usize, side: usize, which: impl Fn(usize) -> bool) -> [Moments; 2] {
        let mut found = [Moments::default(); 2];
        let within = &self.within[candidate][side];
        for (i, (&b, &w)) in self.between[side].iter().zip(within).enumerate().filter(|(i, _)| which(*i)) {
            found[usize::from(self.half[side][i])].add(f64::from(b), f64::from(w));
        }
        found
    }

    /// Chooses.
    pub fn choose(&self) -> Choice {
        let null: Vec<[Moments; 2]> = (0..self.candidates.len()).map(|c| self.moments(c, 1, |_| true)).collect();
        let one_half = null.first().is_none_or(|m| m[0].n == 0.0 || m[1].n == 0.0);
        for reach in REACH {
            let near: Vec<[Moments; 2]> =
                (0..self.candidates.len()).map(|c| self.moments(c, 0, |i| self.distance[i] <= reach)).collect();
            let pairs = near.first().map_or(0.0, |m| m[0].n + m[1].n);
            if pairs < LEAST as f64 {
                continue;
            }
            let learned = |c: usize, half: usize| {
                let (d, of_null) = (near[c][half].mean(), null[c][half].mean());
                best([d[0] - of_null[0], d[1] - of_null[1]], null[c][half].covariance())
            };
            // How far pairs of a half stand out by weights of the other; by its own where all lie in one half.
            let shown = |c: usize, half: usize, w: [f64; 2]| {
                let (d, m) = (near[c][half].mean(), null[c][half].mean());
                let [bb, bw, ww] = null[c][half].covariance();
                let spread = (w[0] * w[0] * bb + 2.0 * w[0] * w[1] * bw + w[1] * w[1] * ww).max(1e-12).sqrt();
                (w[0] * (d[0] - m[0]) + w[1] * (d[1] - m[1])) / spread
            };
            let other = |half: usize| if one_half { half } else { 1 - half };
            let halves: Vec<usize> = (0..2).filter(|&h| near[0][h].n > 0.0).collect();
            let mean = |of: &dyn Fn(usize) -> f64| halves.iter().map(|&h| near[0][h].n * of(h)).sum::<f64>() / pairs;
            let of = |c: usize| CurvePoint {
                components: self.candidates[c],
                stands_out: mean(&|h| learned(c, other(h)).map_or(0.0, |w| shown(c, h, w))),
                within: mean(&|h| shown(c, h, [0.0, 1.0])),
            };
            let curve: Vec<CurvePoint> = (0..self.candidates.len()).map(of).collect();
            // What a half is given was learned on the other, the number of components as well: by how far its pairs stand out.
            let given = |half: usize| {
                let from = other(half);
                let by = |c: usize| learned(c, from).map_or(f64::NEG_INFINITY, |w| shown(c, from, w));
                let c = (0..self.candidates.len()).max_by(|&a, &b| by(a).total_cmp(&by(b)).then(b.cmp(&a)))?;
                let w = learned(c, from)?;
                Some((c, Weights { components: self.candidates[c], between: w[0], within: w[1] }))
            };
            let weights = [given(0), given(1)].map(|g| g.or_else(|| given(0)).or_else(|| given(1)));
            if let [Some((a, x)), Some((b, y))] = weights {
                let seen = mean(&|h| {
                    if h == 0 { shown(a, 0, [x.between, x.within]) } else { shown(b, 1, [y.between, y.within]) }
                });
                if seen * pairs.sqrt() >= SURE {
                    return Choice { weights: [x, y], curve, within_bases: Some(reach), pairs: pairs as u64 };
                }
            }
        }
        let flat = |half: usize| {
            let [between, within] = null
                .first()
                .map_or([1.0, 0.0], |m| equal(if m[half].n > 0.0 { m[half] } else { m[1 - half] }.covariance()));
            Weights { components: self.candidates.first().copied().unwrap_or(0), between, within }
        };
        Choice { weights: [flat(0), flat(1)], curve: Vec::new(), within_bases: None, pairs: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Weights fall on the score that tells, on none where none does, and the candidate that leaves most is taken.
    #[test]
    fn the_score_that_tells_is_chosen() {
        let mut rng = Rng::new(8, 1);
        let n = 40_000;
        let distance: Vec<f64> = (0..n).map(|i| if i % 4 == 0 { 500.0 } else { 3e5 }).collect();
        let half: Vec<u8> = (0..n).map(|i| (i / 4 % 2) as u8).collect();
        let mut draw = |shift: f64| -> Vec<f32> {
            distance.iter().map(|&d| (rng.normal() + if d < 1e3 { shift } else { 0.0 }) as f32).collect()
        };
        let (between, null) = (draw(1.0), draw(0.0));
        let within = [[draw(0.0), draw(0.0)], [draw(0.5), draw(0.0)]];
        let scores = Scores {
            candidates: &[0, 5],
            between: [&between, &null],
            within: &within,
            half: [&half, &half],
            distance: &distance,
        };
        let choice = scores.choose();
        assert_eq!(choice.within_bases, Some(2e3));
        for w in choice.weights {
            assert_eq!(w.components, 5);
            assert!((w.between / w.within - 2.0).abs() < 0.4, "{w:?}");
        }
        assert!(choice.curve[1].stands_out > choice.curve[0].stands_out && choice.curve[0].within.abs() < 0.1);

        let nothing = draw(0.0);
        let scores = Scores { between: [&nothing, &null], within: &within[..1], candidates: &[0], ..scores };
        let choice = scores.choose();
        assert_eq!((choice.within_bases, choice.curve.len()), (None, 0));
        assert!((choice.weights[0].between / choice.weights[0].within - 1.0).abs() < 1e-9);
    }
}
