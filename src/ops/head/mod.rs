//! The small maps around the ops: `pooled`, `linear`, `relu`, `dropout`, `concat`, and the losses.
//!
//! See docs/model.md, section 4.5, section 5, section 7.3.

pub(crate) mod check;
pub(crate) mod cuda;

use super::matmul::{View, product, product_into};
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
/// See docs/model.md, eq. 60.
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
/// See docs/model.md, eq. 21.
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
