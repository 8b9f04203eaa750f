//! Losses and small maps to one number.

use rayon::prelude::*;

use crate::real::Real;
use crate::simd::axpy;
use crate::tape::{Tape, Var};

/// Mean cross-entropy of logits `[B, C]` against labels (each below C) → `[1, 1]`.
/// See docs/model.md, eq. 31.
pub fn cross_entropy<T: Real>(tape: &mut Tape<'_, T>, logits: Var, label: &[u8]) -> Var {
    let [n, c] = tape.shape(logits);
    let mut soft = tape.get(logits).to_vec();
    let mut loss = T::of(0.0);
    let inv = T::of(1.0 / n as f64);
    for (row, &l) in soft.chunks_exact_mut(c).zip(label) {
        let max = row.iter().fold(row[0], |m, &x| if x > m { x } else { m });
        let picked = row[usize::from(l)] - max;
        row.iter_mut().for_each(|x| *x = num_traits::Float::exp(*x - max));
        let sum: T = row.iter().copied().sum();
        loss += (num_traits::Float::ln(sum) - picked) * inv;
        row.iter_mut().for_each(|x| *x /= sum);
        row[usize::from(l)] -= T::of(1.0);
    }
    let y = tape.value(vec![loss], [1, 1]);
    tape.record("cross_entropy", &[y], move |s| {
        let (dy, mut dx) = (s.take(y), s.take(logits));
        let f = dy[0] * inv;
        dx.iter_mut().zip(&soft).for_each(|(o, &g)| *o += f * g);
        s.put(logits, dx);
    });
    y
}

/// Σ over rows and columns of weight × the binary cross-entropy of `logits` `[rows, n]` → `[1, 1]`. `target(row)` fills a
/// zeroed `[n]` buffer with 0 and 1 (targets are sparse and not kept dense).
/// See docs/model.md, eq. 33.
pub fn detection<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    logits: Var,
    weight: f64,
    target: impl Fn(usize, &mut [T]) + Sync + Send + 'p,
) -> Var {
    let (zero, one) = (T::of(0.0), T::of(1.0));
    by_entry(tape, "detection", logits, weight, target, |x, t| {
        let e = num_traits::Float::exp(-num_traits::Float::abs(x));
        let loss = num_traits::Float::ln_1p(e) + if x > zero { x } else { zero } - x * t;
        let s = if x > zero { one / (one + e) } else { e / (one + e) };
        (loss, s - t)
    })
}

/// Half of the squared error, summed over all entries × weight, → `[1, 1]`; `target` as in [`detection`].
/// See docs/model.md, eq. 34.
pub fn level<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    predicted: Var,
    weight: f64,
    target: impl Fn(usize, &mut [T]) + Sync + Send + 'p,
) -> Var {
    let half = T::of(0.5);
    by_entry(tape, "level", predicted, weight, target, |x, t| (half * (x - t) * (x - t), x - t))
}

/// Weight × the sum over the entries of `x` `[rows, n]` of a loss, which is told x and its target and brings back the loss
/// and its slope.
pub(super) fn by_entry<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    name: &'static str,
    x: Var,
    weight: f64,
    target: impl Fn(usize, &mut [T]) + Sync + Send + 'p,
    loss: impl Fn(T, T) -> (T, T) + Sync,
) -> Var {
    let [rows, n] = tape.shape(x);
    let f = T::of(weight);
    // Targets, then slopes in their place.
    let mut slope = vec![T::of(0.0); rows * n];
    let losses: Vec<T> = slope
        .par_chunks_mut(n)
        .zip(tape.get(x).par_chunks(n))
        .enumerate()
        .map(|(i, (slope, x))| {
            target(i, slope);
            let mut sum = T::of(0.0);
            for (t, &x) in slope.iter_mut().zip(x) {
                let (own, d) = loss(x, *t);
                sum += own;
                *t = d;
            }
            sum
        })
        .collect();
    let y = tape.value(vec![losses.into_iter().sum::<T>() * f], [1, 1]);
    tape.record(name, &[y], move |s| {
        let (dy, mut dx) = (s.take(y), s.take(x));
        axpy(&mut dx, dy[0] * f, &slope);
        s.put(x, dx);
    });
    y
}

/// Mean of absolute values, → `[1, 1]`.
/// See docs/model.md, eq. 35.
pub fn mean_abs<T: Real>(tape: &mut Tape<'_, T>, x: Var) -> Var {
    let [rows, n] = tape.shape(x);
    let each = T::of(1.0 / (rows * n).max(1) as f64);
    let sum: T = tape.get(x).iter().map(|&x| num_traits::Float::abs(x)).sum();
    let y = tape.value(vec![each * sum], [1, 1]);
    tape.record("mean_abs", &[y], move |s| {
        let (dy, mut dx) = (s.take(y), s.take(x));
        let zero = T::of(0.0);
        for (d, &x) in dx.iter_mut().zip(s.value(x)) {
            *d += dy[0]
                * if x > zero {
                    each
                } else if x < zero {
                    -each
                } else {
                    zero
                };
        }
        s.put(x, dx);
    });
    y
}

/// Σ over rows of weight × mean over columns of (pred − target)², → `[1, 1]`.
///
/// `pred` `[rows, n]`; `target(row)` fills a zeroed `[n]` buffer (targets are sparse and not kept dense).
/// See docs/model.md, eq. 32.
pub fn mse<'p, T: Real>(tape: &mut Tape<'p, T>, pred: Var, weight: f64, target: impl Fn(usize, &mut [T]) + 'p) -> Var {
    let [rows, n] = tape.shape(pred);
    let mut buffer = vec![T::of(0.0); n];
    let mut loss = T::of(0.0);
    let f = T::of(weight / n as f64);
    for (i, p) in tape.get(pred).chunks_exact(n).enumerate() {
        buffer.fill(T::of(0.0));
        target(i, &mut buffer);
        let sum: T = p.iter().zip(&buffer).map(|(&p, &t)| (p - t) * (p - t)).sum();
        loss += sum * f;
    }
    let y = tape.value(vec![loss], [1, 1]);
    tape.record("mse", &[y], move |s| {
        let (dy, mut dp) = (s.take(y), s.take(pred));
        let g = T::of(2.0) * dy[0] * f;
        let pv = s.value(pred);
        for i in 0..rows {
            buffer.fill(T::of(0.0));
            target(i, &mut buffer);
            let range = i * n..(i + 1) * n;
            for ((o, &p), &t) in dp[range.clone()].iter_mut().zip(&pv[range]).zip(&buffer) {
                *o += g * (p - t);
            }
        }
        s.put(pred, dp);
    });
    y
}

/// `a + factor × b`, for `[1, 1]` losses.
pub fn weighted_sum<T: Real>(tape: &mut Tape<'_, T>, a: Var, b: Var, factor: f64) -> Var {
    let f = T::of(factor);
    let y = tape.value(vec![tape.get(a)[0] + f * tape.get(b)[0]], [1, 1]);
    tape.record("weighted_sum", &[y], move |s| {
        let (dy, mut da, mut db) = (s.take(y), s.take(a), s.take(b));
        da[0] += dy[0];
        db[0] += f * dy[0];
        s.put(a, da);
        s.put(b, db);
    });
    y
}
