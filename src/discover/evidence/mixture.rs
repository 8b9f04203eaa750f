//! The share of links at each distance, learned from the data.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::adjust::Association;
use super::bins::EVIDENCE_BINS;
use super::cells::plus;
use crate::progress::Progress;
use crate::real::sigmoid;

/// The mixture of links and other pairs: docs/model.md, eq. 72.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// π: share of links among the pairs of each distance bin.
    pub shares: Vec<f64>,
    /// m: mean relative effect of a link.
    pub effect: f64,
    /// t: standard deviation of the relative effects of links.
    pub spread: f64,
    /// s: how many times as wide as their standard errors effects of other pairs lie; at least 1, as those of rare pairs lie
    /// narrow but for few.
    pub inflation: f64,
    /// Rounds of EM.
    pub rounds: u32,
}

/// What one round of EM adds up.
#[derive(Clone, Copy)]
struct Round {
    pairs: [f64; EVIDENCE_BINS],
    links: [f64; EVIDENCE_BINS],
    /// Over links, by weight: 1 / variance, effect / variance.
    precision: f64,
    pull: f64,
    /// Over links: square of what is expected of an effect less m, with its variance.
    square: f64,
    /// Over others: weight, and square of effect over error.
    others: f64,
    null: f64,
}

impl Round {
    const ZERO: Round = Round {
        pairs: [0.0; EVIDENCE_BINS],
        links: [0.0; EVIDENCE_BINS],
        precision: 0.0,
        pull: 0.0,
        square: 0.0,
        others: 0.0,
        null: 0.0,
    };

    fn merge(mut self, o: Round) -> Round {
        plus(&mut self.pairs, &o.pairs);
        plus(&mut self.links, &o.links);
        self.precision += o.precision;
        self.pull += o.pull;
        self.square += o.square;
        self.others += o.others;
        self.null += o.null;
        self
    }
}

impl Mixture {
    /// Fits to pairs (bin, association); those without an error are left out. Ends early once `progress` says to stop.
    /// See docs/model.md, eq. 72.
    pub fn fit(pairs: &[(usize, Association)], progress: &dyn Progress) -> Mixture {
        let mut m = Mixture { shares: vec![0.02; EVIDENCE_BINS], effect: 0.5, spread: 0.3, inflation: 1.0, rounds: 0 };
        for _ in 0..500 {
            if progress.stop().is_some() {
                break;
            }
            let before = m.clone();
            m.rounds += 1;
            let portions: Vec<Round> =
                pairs.par_chunks(1 << 14).map(|some| some.iter().fold(Round::ZERO, |r, p| m.add(r, p))).collect();
            let r = portions.into_iter().fold(Round::ZERO, Round::merge);
            let links: f64 = r.links.iter().sum();
            for (share, (l, n)) in m.shares.iter_mut().zip(r.links.iter().zip(&r.pairs)) {
                *share = (l + 0.01) / (n + 2.0);
            }
            if links < 1.0 || r.others == 0.0 {
                break; // nothing stands out: shares say so
            }
            m.effect = (r.pull / r.precision).max(0.0);
            m.spread = (r.square / links).sqrt();
            m.inflation = (r.null / r.others).sqrt().max(1.0);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-7 * b.abs().max(1e-4);
            let same = close(m.effect, before.effect) && close(m.spread, before.spread);
            if same && m.shares.iter().zip(&before.shares).all(|(&a, &b)| close(a, b)) {
                break;
            }
        }
        m
    }

    fn add(&self, mut r: Round, &(bin, a): &(usize, Association)) -> Round {
        if !a.error.is_finite() {
            return r;
        }
        let w = sigmoid(self.log_odds(bin, &a));
        r.pairs[bin] += 1.0;
        r.links[bin] += w;
        let seen = (self.inflation * a.error).powi(2);
        let all = seen + self.spread * self.spread;
        r.precision += w / all;
        r.pull += w * a.effect / all;
        // Given the effect that was seen: variance and mean of the true one.
        let variance = seen * self.spread * self.spread / all;
        let mean = (self.effect * seen + a.effect * self.spread * self.spread) / all;
        r.square += w * ((mean - self.effect).powi(2) + variance);
        r.others += 1.0 - w;
        r.null += (1.0 - w) * (a.effect / a.error).powi(2);
        r
    }

    /// Log odds (natural) that a pair of this bin is a link: docs/model.md, eq. 73. They rise with the effect: below
    /// the effect that speaks most against a link they stay, but for what orders such pairs among each other.
    pub fn log_odds(&self, bin: usize, a: &Association) -> f64 {
        let share = self.shares[bin].clamp(1e-12, 1.0 - 1e-12);
        let prior = share.ln() - (-share).ln_1p();
        if !a.error.is_finite() {
            return prior;
        }
        let null = (self.inflation * a.error).powi(2);
        let link = null + self.spread * self.spread;
        let lowest = -self.effect * null / (link - null).max(f64::MIN_POSITIVE);
        let x = a.effect.max(lowest);
        let ratio = 0.5 * (x * x / null - (x - self.effect).powi(2) / link + (null / link).ln());
        prior + ratio + 1e-9 * (a.effect - x) / a.error
    }
}
