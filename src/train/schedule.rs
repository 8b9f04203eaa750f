//! The learning rate as settings: what it is at a batch size, how it warms up and falls.
//!
//! See docs/model.md, section 5.7.

use serde::{Deserialize, Serialize};

use crate::ops::adam::{Decay, Rates};

/// How the rate follows the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// Not at all.
    #[default]
    None,
    /// As the root of the batch size.
    Sqrt,
    /// As the batch size.
    Linear,
}

/// What makes the rate of a step of `lr`. The default leaves it as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// How the rate follows the batch size.
    pub scaling: Scaling,
    /// The batch size, in samples, at which `lr` holds as it is.
    pub base_batch: usize,
    /// Steps over which the rate rises from 0.
    pub warmup_steps: u64,
    /// The same in epochs; of the two, the longer one counts.
    pub warmup_epochs: f64,
    /// How the rate falls after that, until the last step of the last epoch.
    pub decay: Decay,
    /// The share of the rate that the last step has.
    pub final_fraction: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule {
            scaling: Scaling::None,
            base_batch: 1,
            warmup_steps: 0,
            warmup_epochs: 0.0,
            decay: Decay::None,
            final_fraction: 0.0,
        }
    }
}

/// Steps that can be counted exactly in an f64.
pub(crate) const MOST_STEPS: f64 = 9e15;

impl Schedule {
    /// The rate at this batch size, warm-up and decay left out.
    pub fn scaled(&self, lr: f64, batch_size: usize) -> f64 {
        let ratio = batch_size as f64 / self.base_batch as f64;
        match self.scaling {
            Scaling::None => lr,
            Scaling::Sqrt => lr * ratio.sqrt(),
            Scaling::Linear => lr * ratio,
        }
    }

    /// The rates of all steps of a training of `epochs` epochs of `steps` steps of `batch_size` samples.
    pub fn rates(&self, lr: f64, batch_size: usize, steps: u64, epochs: u32) -> Rates {
        let warm = (self.warmup_epochs * steps as f64).ceil().min(MOST_STEPS) as u64;
        Rates {
            rate: self.scaled(lr, batch_size),
            warmup: self.warmup_steps.max(warm),
            decay: self.decay,
            last: self.final_fraction,
            steps: steps.saturating_mul(u64::from(epochs)),
        }
    }

    /// A few words for tables: `constant`, or what is not.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        match self.scaling {
            Scaling::None => {}
            Scaling::Sqrt => words.push(format!("root of batch / {}", self.base_batch)),
            Scaling::Linear => words.push(format!("batch / {}", self.base_batch)),
        }
        if self.warmup_steps > 0 {
            words.push(format!("warm-up {} steps", self.warmup_steps));
        }
        if self.warmup_epochs > 0.0 {
            words.push(format!("warm-up {} epochs", self.warmup_epochs));
        }
        match self.decay {
            Decay::None => {}
            Decay::Cosine => words.push(format!("cosine to {}", self.final_fraction)),
            Decay::Linear => words.push(format!("linear to {}", self.final_fraction)),
        }
        if words.is_empty() { "constant".into() } else { words.join(", ") }
    }
}
