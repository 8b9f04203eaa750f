//! The learning rate of every step.
//!
//! See docs/model.md, section 5.7.

use serde::{Deserialize, Serialize};

/// How the rate falls once it is warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all.
    #[default]
    None,
    /// Along half a cosine.
    Cosine,
    /// Along a line.
    Linear,
}

/// Learning rates: a function of the number of the step alone, so that a resumed run meets the same ones.
///
/// The rate rises along a line over the first `warmup` steps (step n of them, from 1, takes n / `warmup` of it), then
/// falls to `last` of it at step `steps`, the last one planned. Steps that were left out count.
///
/// ```
/// use sccrossrec::ops::adam::{Decay, Rates};
/// let r = Rates { rate: 1e-3, warmup: 4, decay: Decay::Linear, last: 0.5, steps: 12 };
/// assert_eq!(r.at(0), 0.25e-3); // the first step
/// assert_eq!(r.at(3), 1e-3);
/// assert_eq!(r.at(7), 0.75e-3);
/// assert_eq!(r.at(11), 0.5e-3); // the last
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The rate of a warm step.
    pub rate: f64,
    /// Steps until it is warm; 0 and 1: from the first on.
    pub warmup: u64,
    /// How it falls then.
    pub decay: Decay,
    /// The share of it that the last step has.
    pub last: f64,
    /// Steps planned in all.
    pub steps: u64,
}

impl Rates {
    /// The same rate for every step.
    pub fn constant(rate: f64) -> Self {
        Rates { rate, warmup: 0, decay: Decay::None, last: 1.0, steps: 0 }
    }

    /// The rate of the step before which `done` steps were done.
    pub fn at(&self, done: u64) -> f64 {
        let n = done.saturating_add(1);
        if n < self.warmup {
            return self.rate * (n as f64 / self.warmup as f64);
        }
        // The step at which it begins to fall still has all of it.
        let top = self.warmup.max(1);
        let way = match (n - top, self.steps.saturating_sub(top)) {
            (0, _) => 0.0,
            (some, all) if some < all => some as f64 / all as f64,
            _ => 1.0,
        };
        let falling = match self.decay {
            Decay::None => return self.rate,
            Decay::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * way).cos(),
            Decay::Linear => 1.0 - way,
        };
        self.rate * (self.last + (1.0 - self.last) * falling)
    }
}
