//! `adam`: one pass over a flat arena. L2 decay is added to the gradient, as published (not AdamW).
//!
//! See docs/model.md, section 5.6.

#[forbid(unsafe_code)]
pub(crate) mod check;
pub(crate) mod cuda;
pub(crate) mod rates;
pub(crate) mod sparse;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::profile::{span, work};
use crate::real::Real;
use crate::simd::vectorized;

pub use rates::{Decay, Rates};
pub use sparse::{Others, RowAdam, Stepped};

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

/// Flops of a step on one number.
const FLOPS: f64 = 13.0;

/// The constants of one step, as they enter it.
#[derive(Debug, Clone, Copy)]
struct Constants<T> {
    b1: T,
    r1: T,
    b2: T,
    r2: T,
    size: T,
    root: T,
    eps: T,
    wd: T,
}

impl<T: Real> Constants<T> {
    fn new(c: &AdamConfig, t: u64) -> Self {
        Constants {
            b1: T::of(c.beta1),
            r1: T::of(1.0 - c.beta1),
            b2: T::of(c.beta2),
            r2: T::of(1.0 - c.beta2),
            size: T::of(c.lr / (1.0 - c.beta1.powf(t as f64))),
            root: T::of(1.0 / (1.0 - c.beta2.powf(t as f64)).sqrt()),
            eps: T::of(c.eps),
            wd: T::of(c.weight_decay),
        }
    }

    #[inline(always)]
    fn apply(&self, p: &mut T, g: T, m: &mut T, v: &mut T) {
        let d = g + self.wd * *p;
        *m = self.b1 * *m + self.r1 * d;
        *v = self.b2 * *v + self.r2 * d * d;
        *p -= self.size * *m / (num_traits::Float::sqrt(*v) * self.root + self.eps);
    }
}

/// One step, number `t` (from 1): updates parameters `p` and moments `m`, `v` in place and sets the gradient `g` to 0.
/// All four are `[n]`. The result does not depend on the number of threads.
pub fn step<T: Real>(p: &mut [T], g: &mut [T], m: &mut [T], v: &mut [T], c: &AdamConfig, t: u64) {
    const CHUNK: usize = 1 << 14;
    let _span = span("adam", "");
    // Four arenas read and written.
    work(|| (FLOPS * p.len() as f64, (8 * size_of::<T>() * p.len()) as f64));
    let c = Constants::new(c, t);
    p.par_chunks_mut(CHUNK)
        .zip(g.par_chunks_mut(CHUNK))
        .zip(m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK)))
        .for_each(|((p, g), (m, v))| chunk(p, g, m, v, c));
}

vectorized! {
    fn chunk<T: Real>(p: &mut [T], g: &mut [T], m: &mut [T], v: &mut [T], c: Constants<T>) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            c.apply(p, *g, m, v);
            *g = T::of(0.0);
        }
    }
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Aligned<T>(T);

vectorized! {
    /// Steps of gradient 0, one after the other.
    fn replay<T: Real>(p: &mut [T], m: &mut [T], v: &mut [T], steps: &[Constants<T>]) {
        // A block at a time, aligned, and near enough to the registers.
        const BLOCK: usize = 128;
        let blocks = p.chunks_mut(BLOCK).zip(m.chunks_mut(BLOCK)).zip(v.chunks_mut(BLOCK));
        for ((p, m), v) in blocks {
            let n = p.len();
            let [mut a, mut b, mut c] = [Aligned([T::of(0.0); BLOCK]); 3];
            a.0[..n].copy_from_slice(p);
            b.0[..n].copy_from_slice(m);
            c.0[..n].copy_from_slice(v);
            for &step in steps {
                for ((p, m), v) in a.0.iter_mut().zip(b.0.iter_mut()).zip(c.0.iter_mut()) {
                    step.apply(p, T::of(0.0), m, v);
                }
            }
            p.copy_from_slice(&a.0[..n]);
            m.copy_from_slice(&b.0[..n]);
            v.copy_from_slice(&c.0[..n]);
        }
    }
}
