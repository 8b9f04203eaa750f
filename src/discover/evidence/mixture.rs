//! The share of links among pairs, by distance, learned from the data.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::bins::{EVIDENCE_BINS, NEARER};
use super::cells::plus;
use super::law::{falling, lower_tail};
use crate::progress::Progress;
use crate::real::sigmoid;

/// Most rounds of EM.
const MOST: u32 = 5000;
/// Change of every number at which it has settled.
const SETTLED: f64 = 1e-6;
/// Least μ: what is weaker on average is no link that these cells could show. Where nearly all that lies near goes together a
/// little, likelihood alone would call all of it links.
pub const LEAST_EFFECT: f64 = 1.25;
/// Mean of N(1, 1) above 0.
const MEAN_STRENGTH: f64 = 1.287_599_970_939_178;
/// Least and most share of links of any pairs.
const SHARES: (f64, f64) = (1e-3, 0.9);

/// What the mixture is told of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Score, N(0, 1) among pairs that are no links.
    pub z: f64,
    /// λ, how well a link would show.
    pub power: f64,
    /// Distance bin.
    pub bin: u8,
    /// Transcription starts nearer to the peak, eight at most.
    pub nearer: u8,
}

/// The mixture of links and other pairs: docs/model.md, eq. 74 and 75. The score of a pair that is no link is drawn from N(0, 1),
/// that of a link of strength s and power λ from N(λ s, 1); strengths are those of N(μ, μ²) that lie above 0, so links differ
/// as much as they are strong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// A: share of links among the pairs of each distance bin whose peak has no transcription start nearer; falls with
    /// distance.
    pub shares: Vec<f64>,
    /// B: what is left of it where so many transcription starts are nearer; falls from 1.
    pub nearer: Vec<f64>,
    /// μ: what strengths of links go with; [`LEAST_EFFECT`] at least.
    pub effect: f64,
    /// Rounds of EM.
    pub rounds: u32,
    /// Had it settled by then?
    pub converged: bool,
    /// Log likelihood a pair, above that of noise alone.
    pub likelihood: f64,
}

/// What one round of EM adds up.
#[derive(Clone)]
struct Round {
    /// `[bins, nearer]` weight of links, and pairs.
    links: Vec<f64>,
    pairs: Vec<f64>,
    /// Over links: weight, and mean of the true score.
    weight: f64,
    mean: f64,
    likelihood: f64,
}

const NEAR: usize = NEARER + 1;

impl Round {
    fn zero() -> Round {
        let zeros = || vec![0.0; EVIDENCE_BINS * NEAR];
        Round { links: zeros(), pairs: zeros(), weight: 0.0, mean: 0.0, likelihood: 0.0 }
    }

    fn merge(mut self, o: Round) -> Round {
        plus(&mut self.links, &o.links);
        plus(&mut self.pairs, &o.pairs);
        self.weight += o.weight;
        self.mean += o.mean;
        self.likelihood += o.likelihood;
        self
    }
}

impl Mixture {
    /// Fits to pairs. Ends early once `progress` says to stop.
    pub fn fit(pairs: &[Seen], progress: &dyn Progress) -> Mixture {
        let mut m = Mixture {
            shares: (0..EVIDENCE_BINS).map(|b| 0.3 / (1.0 + b as f64)).collect(),
            nearer: vec![1.0; NEAR],
            effect: LEAST_EFFECT,
            rounds: 0,
            converged: false,
            likelihood: 0.0,
        };
        while m.rounds < MOST && progress.stop().is_none() {
            let before = m.clone();
            m.rounds += 1;
            let portions: Vec<Round> = pairs.par_chunks(1 << 13).map(|some| m.round(some)).collect();
            let r = portions.into_iter().fold(Round::zero(), Round::merge);
            m.likelihood = r.likelihood / pairs.len().max(1) as f64;
            m.set_shares(&r);
            if r.weight > 1.0 {
                m.effect = (r.mean / r.weight / MEAN_STRENGTH).max(LEAST_EFFECT);
            }
            let close = |a: f64, b: f64| (a - b).abs() <= SETTLED;
            let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(&a, &b)| close(a, b));
            m.converged =
                close(m.effect, before.effect) && same(&m.shares, &before.shares) && same(&m.nearer, &before.nearer);
            if m.converged {
                break;
            }
        }
        m
    }

    fn set_shares(&mut self, r: &Round) {
        let known = EVIDENCE_BINS - 1;
        let at = |bin: usize, near: usize| bin * NEAR + near;
        let (mut up, mut down) = (vec![0.0; EVIDENCE_BINS], vec![0.0; EVIDENCE_BINS]);
        for bin in 0..EVIDENCE_BINS {
            up[bin] = (0..NEAR).map(|k| r.links[at(bin, k)]).sum();
            down[bin] = (0..NEAR).map(|k| r.pairs[at(bin, k)] * self.nearer[k]).sum();
        }
        let mut shares: Vec<f64> = up.iter().zip(&down).map(|(u, d)| (u + 0.01) / (d + 1.0)).collect();
        falling(&mut shares[..known], &down[..known]);
        let (mut up, mut down) = (vec![0.0; NEAR], vec![0.0; NEAR]);
        for k in 0..NEAR {
            up[k] = (0..EVIDENCE_BINS).map(|bin| r.links[at(bin, k)]).sum();
            down[k] = (0..EVIDENCE_BINS).map(|bin| r.pairs[at(bin, k)] * shares[bin]).sum();
        }
        let mut nearer: Vec<f64> = up.iter().zip(&down).map(|(u, d)| (u + 0.01) / (d + 0.01)).collect();
        falling(&mut nearer, &down);
        let first = nearer[0].max(1e-6);
        self.nearer = nearer.iter().map(|x| x / first).collect();
        self.shares = shares.iter().map(|x| (x * first).clamp(SHARES.0, SHARES.1)).collect();
    }

    fn round(&self, pairs: &[Seen]) -> Round {
        let mut r = Round::zero();
        for s in pairs {
            let at = usize::from(s.bin) * NEAR + usize::from(s.nearer);
            let prior = self.share(s);
            let ratio = self.ratio(s.z, s.power);
            let odds = (prior / (1.0 - prior)).ln() + ratio;
            let w = sigmoid(odds);
            r.pairs[at] += 1.0;
            r.links[at] += w;
            // ln(1 + exp(odds)), which is finite where exp(odds) is not.
            r.likelihood += (1.0 - prior).ln() + odds.max(0.0) + (-odds.abs()).exp().ln_1p();
            r.weight += w;
            r.mean += w * self.strength(s.z, s.power);
        }
        r
    }

    /// π: share of links among pairs at such a distance with so many transcription starts nearer.
    pub fn share(&self, s: &Seen) -> f64 {
        (self.shares[usize::from(s.bin)] * self.nearer[usize::from(s.nearer)]).clamp(SHARES.0, SHARES.1)
    }

    /// Of a score: the strength of a link had it no sign, in its standard deviations, and that deviation.
    fn standardised(&self, z: f64, power: f64) -> (f64, f64) {
        let precision = 1.0 / (self.effect * self.effect) + power * power;
        ((1.0 / self.effect + power * z) / precision.sqrt(), 1.0 / precision.sqrt())
    }

    /// Log of how many times likelier a score is for a link of this power than for another pair; it rises with the score.
    fn ratio(&self, z: f64, power: f64) -> f64 {
        let link = self.effect * power;
        let spread = 1.0 + link * link;
        let above = lower_tail(self.standardised(z, power).0).0 - lower_tail(1.0).0;
        0.5 * (z * z - (z - link).powi(2) / spread - spread.ln()) + above
    }

    /// Mean strength of a link of this score.
    fn strength(&self, z: f64, power: f64) -> f64 {
        let (at, deviation) = self.standardised(z, power);
        (at + lower_tail(at).1) * deviation
    }

    /// Log odds (natural) that a pair is a link: docs/model.md, eq. 75.
    pub fn log_odds(&self, s: &Seen) -> f64 {
        let prior = self.share(s);
        (prior / (1.0 - prior)).ln() + self.ratio(s.z, s.power)
    }

    /// The same before its score is looked at.
    pub fn prior_log_odds(&self, s: &Seen) -> f64 {
        let prior = self.share(s);
        (prior / (1.0 - prior)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn drawn(shares: &[f64], effect: f64, n: usize, stream: u64) -> (Vec<Seen>, Vec<bool>) {
        let mut rng = Rng::new(906, stream);
        let (mut pairs, mut truth) = (Vec::new(), Vec::new());
        for (bin, &share) in shares.iter().enumerate() {
            for _ in 0..n {
                let power = 0.3 + 1.4 * rng.uniform();
                let link = rng.uniform() < share;
                // Strengths of N(μ, μ²), none below 0: 1.29 μ on average.
                let strength = (0..100).map(|_| 1.0 + rng.normal()).find(|x| *x > 0.0).unwrap_or(1.0);
                let true_z = if link { power * effect * strength } else { 0.0 };
                pairs.push(Seen { z: true_z + rng.normal(), power, bin: bin as u8, nearer: 0 });
                truth.push(link);
            }
        }
        (pairs, truth)
    }

    /// Pairs drawn from the mixture: its numbers are found again, and probabilities are as frequent as they say.
    #[test]
    fn a_mixture_is_found_again() {
        let shares = [0.5, 0.3, 0.1, 0.05, 0.02];
        let (pairs, truth) = drawn(&shares, 2.5, 20_000, 3);
        let m = Mixture::fit(&pairs, &());
        assert!(m.converged && (m.effect - 2.5).abs() < 0.15, "{m:?}");
        for (bin, &share) in shares.iter().enumerate() {
            assert!((m.shares[bin] - share).abs() < 0.2 * share + 0.003, "{bin}: {} of {share}", m.shares[bin]);
        }
        let mut by_tenth = [(0.0, 0.0, 0.0); 10];
        for (s, &link) in pairs.iter().zip(&truth) {
            let p = sigmoid(m.log_odds(s));
            let t = &mut by_tenth[((p * 10.0) as usize).min(9)];
            *t = (t.0 + p, t.1 + f64::from(u8::from(link)), t.2 + 1.0);
        }
        for (expected, found, n) in by_tenth {
            assert!(
                n > 50.0 && (expected - found).abs() < 4.0 * expected.sqrt() + 0.03 * n,
                "{expected} {found} of {n}"
            );
        }
    }

    /// Without links little is likely.
    #[test]
    fn nothing_is_found_in_noise() {
        let (pairs, _) = drawn(&[0.0; EVIDENCE_BINS], 1.0, 5_000, 4);
        let m = Mixture::fit(&pairs, &());
        assert!(pairs.iter().filter(|s| m.log_odds(s) > 0.0).count() < 10, "{m:?}");
    }

    #[test]
    fn odds_rise_with_the_score() {
        let (pairs, _) = drawn(&[0.4, 0.1], 2.0, 3_000, 5);
        let m = Mixture::fit(&pairs, &());
        for power in [0.05, 1.0, 3.0] {
            let of = |z: f64| m.log_odds(&Seen { z, power, bin: 1, nearer: 2 });
            let all: Vec<f64> = (-100..100).map(|i| of(f64::from(i) * 0.1)).collect();
            assert!(all.is_sorted_by(|a, b| a < b), "{power}");
        }
        assert!(m.shares[..2].is_sorted_by(|a, b| a >= b) && m.nearer.is_sorted_by(|a, b| a >= b));
    }
}
