//! `adam`: one pass over a flat arena. L2 decay is added to the gradient, as published (not AdamW).

pub(crate) mod cuda;
mod rates;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use rates::{Decay, Rates};

use crate::profile::{span, work};
use crate::real::Real;

/// Adam's constants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamConfig {
    /// Learning rate; in training that of the step, see [`Rates`].
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2, added to the gradient of every parameter.
    pub weight_decay: f64,
}

impl Default for AdamConfig {
    /// The published constants.
    fn default() -> Self {
        AdamConfig { lr: 5e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-5 }
    }
}

/// One step, number `t` (from 1): updates parameters `p` and moments `m`, `v` in place and sets the gradient `g` to 0.
/// All four are `[n]`. The result does not depend on the number of threads.
pub fn step<T: Real>(p: &mut [T], g: &mut [T], m: &mut [T], v: &mut [T], c: &AdamConfig, t: u64) {
    const CHUNK: usize = 1 << 14;
    let _span = span("adam", "");
    // Four arenas read and written.
    work(|| 13.0 * p.len() as f64, || (8 * size_of::<T>() * p.len()) as f64);
    let (b1, b2) = (T::of(c.beta1), T::of(c.beta2));
    let (r1, r2) = (T::of(1.0 - c.beta1), T::of(1.0 - c.beta2));
    let size = T::of(c.lr / (1.0 - c.beta1.powf(t as f64)));
    let root = T::of(1.0 / (1.0 - c.beta2.powf(t as f64)).sqrt());
    let (eps, wd) = (T::of(c.eps), T::of(c.weight_decay));
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks_mut(CHUNK))
        .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
        .for_each(|((p, g), (m, v))| {
            chunk(p, g, m, v, b1, r1, b2, r2, size, root, eps, wd);
        });
}

crate::simd::vectorized! {
    fn chunk<T: Real>(
        p: &mut [T], g: &mut [T], m: &mut [T], v: &mut [T],
        b1: T, r1: T, b2: T, r2: T, size: T, root: T, eps: T, wd: T,
    ) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let d = *g + wd * *p;
            *m = b1 * *m + r1 * d;
            *v = b2 * *v + r2 * d * d;
            *p -= size * *m / (num_traits::Float::sqrt(*v) * root + eps);
            *g = T::of(0.0);
        }
    }
}
