//! The small maps around the ops: `pooled`, `linear`, `relu`, `dropout`, `concat`, and the losses.

pub(crate) mod cuda;

use rayon::prelude::*;

use crate::ops::matmul::{View, product, product_into};
use crate::real::Real;
use crate::rng::philox;
use crate::simd::axpy;
use crate::tape::{Tape, Var};

/// `y = x Wᵀ + b`: x `[n, in]`, w `[out, in]`, b `[1, out]` → `[n, out]`.
pub fn linear<T: Real>(tape: &mut Tape<'_, T>, x: Var, w: Var, b: Var) -> Var {
    let ([n, inp], [out, inp2]) = (tape.shape(x), tape.shape(w));
    assert_eq!(inp, inp2, "linear: width of x against w");
    let mut y = tape.get(b).repeat(n);
    product(&mut y, View::new(tape.get(x), n, inp), View::new(tape.get(w), out, inp).t(), true);
    let y = tape.value(y, [n, out]);
    tape.record("linear", &[y], move |s| {
        let (dy, mut dx, mut dw, mut db) = (s.take(y), s.take(x), s.take(w), s.take(b));
        product(&mut dx, View::new(&dy, n, out), View::new(s.value(w), out, inp), true);
        product_into(&mut dw, inp, View::new(&dy, n, out).t(), View::new(s.value(x), n, inp), true);
        for row in dy.chunks_exact(out) {
            db.iter_mut().zip(row).for_each(|(o, &g)| *o += g);
        }
        s.put(x, dx);
        s.put(w, dw);
        s.put(b, db);
    });
    y
}

/// A linear map applied after pooling: `y[b, slice h] = scale[b] (W[slice h] bag[h, b] + b[slice h] Σw[h, b])`.
///
/// `bag` `[heads × B, in + 1]` from `pool`, its last column Σw; w `[out, in]`, b `[1, out]`, `scale` `[B]` → `[B, out]`.
/// Head h owns `out / heads` rows of w.
pub fn pooled<'p, T: Real>(tape: &mut Tape<'p, T>, bag: Var, w: Var, b: Var, heads: usize, scale: Vec<T>) -> Var {
    let ([rows, stride], [out, inp]) = (tape.shape(bag), tape.shape(w));
    assert_eq!(stride, inp + 1, "pooled: width of the bag against w");
    let (n, slice) = (rows / heads, out / heads);
    let mut y = vec![T::of(0.0); n * out];
    {
        let (bag, w, b) = (tape.get(bag), tape.get(w), tape.get(b));
        for h in 0..heads {
            let bag = &bag[h * n * stride..(h + 1) * n * stride];
            let wh = View::new(&w[h * slice * inp..(h + 1) * slice * inp], slice, inp);
            product_into(&mut y[h * slice..], out, View::strided(bag, n, inp, stride), wh.t(), false);
            for i in 0..n {
                for j in h * slice..(h + 1) * slice {
                    y[i * out + j] = scale[i] * (y[i * out + j] + b[j] * bag[i * stride + inp]);
                }
            }
        }
    }
    let y = tape.value(y, [n, out]);
    tape.record("pooled", &[y], move |s| {
        let mut dy = s.take(y);
        let (mut dbag, mut dw, mut db) = (s.take(bag), s.take(w), s.take(b));
        for (row, &c) in dy.chunks_exact_mut(out).zip(&scale) {
            row.iter_mut().for_each(|g| *g *= c);
        }
        let (bag_v, wv, bv) = (s.value(bag), s.value(w), s.value(b));
        for h in 0..heads {
            let bag_v = &bag_v[h * n * stride..(h + 1) * n * stride];
            let dbag = &mut dbag[h * n * stride..(h + 1) * n * stride];
            let wr = h * slice * inp..(h + 1) * slice * inp;
            let g = View::strided(&dy[h * slice..], n, slice, out);
            product_into(dbag, stride, g, View::new(&wv[wr.clone()], slice, inp), true);
            product_into(&mut dw[wr], inp, g.t(), View::strided(bag_v, n, inp, stride), true);
            for i in 0..n {
                for j in h * slice..(h + 1) * slice {
                    dbag[i * stride + inp] += dy[i * out + j] * bv[j];
                    db[j] += dy[i * out + j] * bag_v[i * stride + inp];
                }
            }
        }
        s.put(bag, dbag);
        s.put(w, dw);
        s.put(b, db);
    });
    y
}

/// `[a | b]` by columns.
pub fn concat<T: Real>(tape: &mut Tape<'_, T>, a: Var, b: Var) -> Var {
    let ([n, ca], [nb, cb]) = (tape.shape(a), tape.shape(b));
    assert_eq!(n, nb, "concat: rows");
    let mut y = Vec::with_capacity(n * (ca + cb));
    for (x, z) in tape.get(a).chunks_exact(ca).zip(tape.get(b).chunks_exact(cb)) {
        y.extend_from_slice(x);
        y.extend_from_slice(z);
    }
    let y = tape.value(y, [n, ca + cb]);
    tape.record("concat", &[y], move |s| {
        let (dy, mut da, mut db) = (s.take(y), s.take(a), s.take(b));
        for (i, row) in dy.chunks_exact(ca + cb).enumerate() {
            da[i * ca..(i + 1) * ca].iter_mut().zip(&row[..ca]).for_each(|(o, &g)| *o += g);
            db[i * cb..(i + 1) * cb].iter_mut().zip(&row[ca..]).for_each(|(o, &g)| *o += g);
        }
        s.put(a, da);
        s.put(b, db);
    });
    y
}

/// max(x, 0); its gradient at 0 is 0.
pub fn relu<T: Real>(tape: &mut Tape<'_, T>, x: Var) -> Var {
    let zero = T::of(0.0);
    let y = tape.get(x).iter().map(|&v| if v > zero { v } else { zero }).collect();
    let y = tape.value(y, tape.shape(x));
    tape.record("relu", &[y], move |s| {
        let (dy, mut dx) = (s.take(y), s.take(x));
        for ((o, &g), &v) in dx.iter_mut().zip(dy.iter()).zip(s.value(y)) {
            if v > zero {
                *o += g;
            }
        }
        s.put(x, dx);
    });
    y
}

/// Which numbers dropout keeps: a function of (seed, step, sample, layer, column) alone.
pub fn dropout_mask<T: Real>(p: f64, seed: u64, step: u64, samples: &[u64], layer: u32, width: usize) -> Vec<T> {
    let keep = T::of(1.0 / (1.0 - p));
    let limit = (p * 4_294_967_296.0) as u64;
    let key = [seed as u32 ^ layer.wrapping_mul(0x9E37_79B9), (seed >> 32) as u32];
    let mut mask = Vec::with_capacity(samples.len() * width);
    for &sample in samples {
        for block in 0..width.div_ceil(4) {
            let bits = philox([block as u32, step as u32, sample as u32, (step >> 32) as u32], key);
            let left = (width - 4 * block).min(4);
            mask.extend(bits[..left].iter().map(|&x| if u64::from(x) < limit { T::of(0.0) } else { keep }));
        }
    }
    mask
}

/// `x ∘ mask`; the mask `[n, width]` holds 0 or 1 / (1 − p).
pub fn dropout<'p, T: Real>(tape: &mut Tape<'p, T>, x: Var, mask: Vec<T>) -> Var {
    let y = tape.get(x).iter().zip(&mask).map(|(&v, &m)| v * m).collect();
    let y = tape.value(y, tape.shape(x));
    tape.record("dropout", &[y], move |s| {
        let (dy, mut dx) = (s.take(y), s.take(x));
        for ((o, &g), &m) in dx.iter_mut().zip(dy.iter()).zip(&mask) {
            *o += g * m;
        }
        s.put(x, dx);
    });
    y
}

/// Mean cross-entropy of logits `[B, C]` against labels (each below C) → `[1, 1]`.
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
fn by_entry<'p, T: Real>(
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

/// The contrastive loss of two views `[n, H]` of the same n things, → `[1, 1]`: with `l = a bᵀ / √H`, the mean of the
/// cross-entropies of row i against i and of column i against i. Each is 0.5 of the loss.
pub fn contrast<T: Real>(tape: &mut Tape<'_, T>, a: Var, b: Var) -> Var {
    let ([n, h], other) = (tape.shape(a), tape.shape(b));
    assert_eq!([n, h], other, "contrast: views");
    let by_root = T::of(1.0 / (h as f64).sqrt());
    let mut logits = vec![T::of(0.0); n * n];
    product(&mut logits, View::new(tape.get(a), n, h), View::new(tape.get(b), n, h).t(), false);
    logits.iter_mut().for_each(|x| *x *= by_root);
    let each = T::of(0.5 / n as f64);
    let mut slope = vec![T::of(0.0); n * n];
    let mut loss = T::of(0.0);
    let mut line = vec![T::of(0.0); n];
    for i in 0..n {
        for (start, stride) in [(i * n, 1), (i, n)] {
            line.iter_mut().enumerate().for_each(|(j, x)| *x = logits[start + j * stride]);
            let own = line[i];
            let most = line.iter().fold(own, |m, &x| if x > m { x } else { m });
            line.iter_mut().for_each(|x| *x = num_traits::Float::exp(*x - most));
            let sum: T = line.iter().copied().sum();
            loss += each * (num_traits::Float::ln(sum) + most - own);
            line.iter().enumerate().for_each(|(j, &x)| slope[start + j * stride] += each * x / sum);
            slope[i * n + i] -= each;
        }
    }
    let y = tape.value(vec![loss], [1, 1]);
    tape.record("contrast", &[y], move |s| {
        let (dy, mut da, mut db) = (s.take(y), s.take(a), s.take(b));
        let mut slope = slope;
        slope.iter_mut().for_each(|x| *x *= dy[0] * by_root);
        let d = View::new(&slope, n, n);
        product_into(&mut da, h, d, View::new(s.value(b), n, h), true);
        product_into(&mut db, h, d.t(), View::new(s.value(a), n, h), true);
        s.put(a, da);
        s.put(b, db);
    });
    y
}

/// Mean of absolute values, → `[1, 1]`.
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

/// `a + b`, of one shape.
pub fn add<T: Real>(tape: &mut Tape<'_, T>, a: Var, b: Var) -> Var {
    let shape = tape.shape(a);
    assert_eq!(shape, tape.shape(b), "add: shapes");
    let sum = tape.get(a).iter().zip(tape.get(b)).map(|(&x, &y)| x + y).collect();
    let y = tape.value(sum, shape);
    tape.record("add", &[y], move |s| {
        let dy = s.take(y);
        for x in [a, b] {
            let mut dx = s.take(x);
            axpy(&mut dx, T::of(1.0), &dy);
            s.put(x, dx);
        }
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
