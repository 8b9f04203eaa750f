//! The small ops of the towers: weighted bags of table rows, layer norm, GELU, unit length, and the losses that go with them.
//!
//! See docs/model.md, sections 4.10 and 5.9.

use std::sync::Arc;

use rayon::prelude::*;

use super::losses::by_entry;
use super::matmul::{View, product, product_into};
use crate::csr::Csr;
use crate::model::nodes::{group, split_rows};
use crate::profile::{span, work};
use crate::real::Real;
use crate::simd::{axpy, gather_sum};
use crate::tape::{Tape, Var};

/// Entries of cells with their weights, and in which order a table row gets its gradient.
#[derive(Debug)]
pub struct Bag<T> {
    /// `[B, N]` weights.
    cells: Csr<T>,
    /// `[R]` rows of the table that have an entry, ascending.
    rows: Vec<u32>,
    /// `[R + 1]` where the entries of each start in `by_row`.
    row_ptr: Vec<usize>,
    /// `[nnz]` entries by row, then by entry.
    by_row: Vec<u32>,
    /// `[nnz]` cell of each entry.
    cell: Vec<u32>,
}

impl<T: Real> Bag<T> {
    /// Of weights `[B, N]`, `N` rows in the table; entries of weight 0 are left out.
    pub fn new(weights: &Csr<T>, n: usize) -> Self {
        let mut cells = Csr::new();
        for i in 0..weights.rows() {
            let (index, w) = weights.row(i);
            cells.push_row(index.iter().copied().zip(w.iter().copied()).filter(|x| x.1 != T::of(0.0)));
        }
        let mut place = vec![u32::MAX; n];
        cells.indices.iter().for_each(|&i| place[i as usize] = 0);
        let mut rows = Vec::new();
        for (i, p) in place.iter_mut().enumerate().filter(|x| *x.1 == 0) {
            *p = rows.len() as u32;
            rows.push(i as u32);
        }
        let local: Vec<u32> = cells.indices.iter().map(|&i| place[i as usize]).collect();
        let (row_ptr, by_row) = group(&local, rows.len());
        let mut cell = Vec::with_capacity(local.len());
        (0..cells.rows()).for_each(|b| cell.resize(cells.indptr[b + 1], b as u32));
        Bag { cells, rows, row_ptr, by_row, cell }
    }
}

/// Σ weight × row of `table` `[N, W]`, for each cell of the bag → `[B, W]`.
/// See docs/model.md, eq. 80.
pub fn bag<'p, T: Real>(tape: &mut Tape<'p, T>, of: Arc<Bag<T>>, table: Var) -> Var {
    let _span = span("tower", "forward");
    let [_, w] = tape.shape(table);
    let n = of.cells.rows();
    let numbers = (of.cells.indices.len() * w) as f64;
    work(|| (2.0 * numbers, numbers * size_of::<T>() as f64));
    let mut out = vec![T::of(0.0); n * w];
    {
        let rows = tape.get(table);
        out.par_chunks_mut(w.max(1)).enumerate().for_each(|(b, out)| {
            let (index, weight) = of.cells.row(b);
            gather_sum(out, weight, rows, w, index);
        });
    }
    let out = tape.value(out, [n, w]);
    tape.record("tower", &[out], move |s| {
        let grad = s.take(out);
        let mut d = s.take(table);
        work(|| (2.0 * numbers, 2.0 * numbers * size_of::<T>() as f64));
        split_rows(&mut d, &of.rows, w, 64).into_par_iter().for_each(|(start, first, piece)| {
            for r in start..(start + 64).min(of.rows.len()) {
                let at = (of.rows[r] as usize - first) * w;
                for &e in &of.by_row[of.row_ptr[r]..of.row_ptr[r + 1]] {
                    let from = of.cell[e as usize] as usize * w;
                    axpy(&mut piece[at..at + w], of.cells.values[e as usize], &grad[from..from + w]);
                }
            }
        });
        s.put(table, d);
    });
    out
}

/// Each row less its mean, over its standard deviation, times `scale` plus `shift` (`[W]` both).
/// See docs/model.md, eq. 81.
pub fn layer_norm<T: Real>(tape: &mut Tape<'_, T>, x: Var, scale: Var, shift: Var) -> Var {
    let [n, w] = tape.shape(x);
    let of_w = T::of(1.0 / w as f64);
    let (mut y, mut inverse) = (vec![T::of(0.0); n * w], Vec::with_capacity(n));
    let (g, h) = (tape.get(scale), tape.get(shift));
    for (row, out) in tape.get(x).chunks_exact(w).zip(y.chunks_exact_mut(w)) {
        let mean = row.iter().copied().sum::<T>() * of_w;
        let var = row.iter().map(|&v| (v - mean) * (v - mean)).sum::<T>() * of_w;
        let by = T::of(1.0) / num_traits::Float::sqrt(var + T::of(1e-5));
        inverse.push((mean, by));
        for ((o, &v), (&g, &h)) in out.iter_mut().zip(row).zip(g.iter().zip(h)) {
            *o = (v - mean) * by * g + h;
        }
    }
    let y = tape.value(y, [n, w]);
    tape.record("layer_norm", &[y], move |s| {
        let (dy, mut dx, mut dg, mut dh) = (s.take(y), s.take(x), s.take(scale), s.take(shift));
        let mut unit = vec![T::of(0.0); w];
        let mut slope = vec![T::of(0.0); w];
        for (i, &(mean, by)) in inverse.iter().enumerate() {
            let at = i * w..(i + 1) * w;
            let (x, g) = (&s.value(x)[at.clone()], s.value(scale));
            for (j, &dy) in dy[at.clone()].iter().enumerate() {
                unit[j] = (x[j] - mean) * by;
                slope[j] = dy * g[j];
                dg[j] += dy * unit[j];
                dh[j] += dy;
            }
            let mean_slope = slope.iter().copied().sum::<T>() * of_w;
            let along = slope.iter().zip(&unit).map(|(&a, &b)| a * b).sum::<T>() * of_w;
            for ((d, &a), &u) in dx[at].iter_mut().zip(&slope).zip(&unit) {
                *d += by * (a - mean_slope - u * along);
            }
        }
        s.put(x, dx);
        s.put(scale, dg);
        s.put(shift, dh);
    });
    y
}

/// GELU by its usual approximation with tanh.
/// See docs/model.md, eq. 82.
pub fn gelu<T: Real>(tape: &mut Tape<'_, T>, x: Var) -> Var {
    let (a, b) = (T::of((2.0 / std::f64::consts::PI).sqrt()), T::of(0.044715));
    let (half, one, three) = (T::of(0.5), T::of(1.0), T::of(3.0));
    let tanh = move |v: T| num_traits::Float::tanh(a * (v + b * v * v * v));
    let y = tape.get(x).iter().map(|&v| half * v * (one + tanh(v))).collect();
    let y = tape.value(y, tape.shape(x));
    tape.record("gelu", &[y], move |s| {
        let (dy, mut dx) = (s.take(y), s.take(x));
        for ((o, &g), &v) in dx.iter_mut().zip(dy.iter()).zip(s.value(x)) {
            let t = tanh(v);
            *o += g * half * (one + t + v * (one - t * t) * a * (one + three * b * v * v));
        }
        s.put(x, dx);
    });
    y
}

/// Rows at length 1.
/// See docs/model.md, eq. 83.
pub fn unit<T: Real>(tape: &mut Tape<'_, T>, x: Var) -> Var {
    let [n, w] = tape.shape(x);
    let mut y = tape.get(x).to_vec();
    let mut inverse = Vec::with_capacity(n);
    for row in y.chunks_exact_mut(w) {
        let square = row.iter().map(|&v| v * v).sum::<T>() + T::of(1e-12);
        let by = T::of(1.0) / num_traits::Float::sqrt(square);
        row.iter_mut().for_each(|v| *v *= by);
        inverse.push(by);
    }
    let y = tape.value(y, [n, w]);
    tape.record("unit", &[y], move |s| {
        let (dy, mut dx) = (s.take(y), s.take(x));
        for (i, &by) in inverse.iter().enumerate() {
            let at = i * w..(i + 1) * w;
            let (g, y) = (&dy[at.clone()], &s.value(y)[at.clone()]);
            let along = g.iter().zip(y).map(|(&a, &b)| a * b).sum::<T>();
            for ((d, &g), &y) in dx[at].iter_mut().zip(g).zip(y) {
                *d += by * (g - y * along);
            }
        }
        s.put(x, dx);
    });
    y
}

/// `x × exp(log)`, `log` a parameter of one number.
pub fn scaled<T: Real>(tape: &mut Tape<'_, T>, x: Var, log: Var) -> Var {
    let by = num_traits::Float::exp(tape.get(log)[0]);
    let y = tape.get(x).iter().map(|&v| v * by).collect();
    let y = tape.value(y, tape.shape(x));
    tape.record("scaled", &[y], move |s| {
        let (dy, mut dx, mut dl) = (s.take(y), s.take(x), s.take(log));
        let along = dy.iter().zip(s.value(y)).map(|(&g, &y)| g * y).sum::<T>();
        dl[0] += along;
        axpy(&mut dx, by, &dy);
        s.put(x, dx);
        s.put(log, dl);
    });
    y
}

/// Cross-entropy of each row of `a bᵀ exp(log)` against its own number, and of each column, half each, → `[1, 1]`. `a` and
/// `b` are `[n, W]`; the factor is at most 100.
/// See docs/model.md, eq. 85.
pub fn contrast_scaled<T: Real>(tape: &mut Tape<'_, T>, a: Var, b: Var, log: Var) -> Var {
    let [n, w] = tape.shape(a);
    assert_eq!([n, w], tape.shape(b), "contrast_scaled: views");
    let most = T::of(100.0);
    let free = num_traits::Float::exp(tape.get(log)[0]);
    let (factor, held) = if free < most { (free, false) } else { (most, true) };
    let mut logits = vec![T::of(0.0); n * n];
    product(&mut logits, View::new(tape.get(a), n, w), View::new(tape.get(b), n, w).t(), false);
    logits.iter_mut().for_each(|x| *x *= factor);
    let each = T::of(0.5 / n as f64);
    let (rows, mut slope) = soft(&logits, n);
    let across = transposed(&logits, n);
    let (columns, of_columns) = soft(&across, n);
    let back = transposed(&of_columns, n);
    for (s, c) in slope.iter_mut().zip(&back) {
        *s = each * (*s + *c);
    }
    (0..n).for_each(|i| slope[i * n + i] -= each + each);
    let loss = (rows + columns) * each;
    let y = tape.value(vec![loss], [1, 1]);
    tape.record("contrast_scaled", &[y], move |s| {
        let (dy, mut da, mut db, mut dl) = (s.take(y), s.take(a), s.take(b), s.take(log));
        if !held {
            dl[0] += dy[0] * slope.iter().zip(&logits).map(|(&d, &x)| d * x).sum::<T>();
        }
        let mut slope = slope;
        slope.iter_mut().for_each(|x| *x *= dy[0] * factor);
        let d = View::new(&slope, n, n);
        product_into(&mut da, w, d, View::new(s.value(b), n, w), true);
        product_into(&mut db, w, d.t(), View::new(s.value(a), n, w), true);
        s.put(a, da);
        s.put(b, db);
        s.put(log, dl);
    });
    y
}

/// Of logits `[n, n]`: the sum of −ln softmax at the diagonal, and the softmax of each row.
fn soft<T: Real>(logits: &[T], n: usize) -> (T, Vec<T>) {
    let mut out = logits.to_vec();
    let losses: Vec<T> = out
        .par_chunks_mut(n.max(1))
        .enumerate()
        .map(|(i, row)| {
            let own = row[i];
            let most = row.iter().fold(own, |m, &x| if x > m { x } else { m });
            row.iter_mut().for_each(|x| *x = num_traits::Float::exp(*x - most));
            let sum: T = row.iter().copied().sum();
            row.iter_mut().for_each(|x| *x /= sum);
            num_traits::Float::ln(sum) + most - own
        })
        .collect();
    (losses.into_iter().sum(), out)
}

fn transposed<T: Real>(x: &[T], n: usize) -> Vec<T> {
    let mut out = vec![T::of(0.0); n * n];
    out.par_chunks_mut(n.max(1)).enumerate().for_each(|(i, row)| {
        row.iter_mut().enumerate().for_each(|(j, o)| *o = x[j * n + i]);
    });
    out
}

/// Poisson: Σ weight × (depth × exp(x) − count × x), → `[1, 1]`, `depth` `[B]` the cell's counts over the median; `count`
/// as in [`super::losses::detection`]. Log rates above 12 count as 12.
/// See docs/model.md, eq. 88.
pub fn poisson<'p, T: Real>(
    tape: &mut Tape<'p, T>,
    log_rate: Var,
    weight: f64,
    depth: Vec<T>,
    count: impl Fn(usize, &mut [T]) + Sync + Send + 'p,
) -> Var {
    let [rows, n] = tape.shape(log_rate);
    assert_eq!(rows, depth.len(), "poisson: depths");
    let most = T::of(12.0);
    // Each number has the log of its cell's depth added, so that the loss is one of the number and its count alone.
    let shift: Vec<T> = depth.iter().map(|&d| num_traits::Float::ln(d)).collect();
    let moved = tape.get(log_rate).chunks_exact(n.max(1)).zip(&shift).flat_map(|(x, &s)| x.iter().map(move |&x| x + s));
    let moved = tape.value(moved.collect(), [rows, n]);
    tape.record("poisson_depth", &[moved], move |s| {
        let (dy, mut dx) = (s.take(moved), s.take(log_rate));
        axpy(&mut dx, T::of(1.0), &dy);
        s.put(log_rate, dx);
    });
    by_entry(tape, "poisson", moved, weight, count, move |x, t| {
        let mean = num_traits::Float::exp(if x > most { most } else { x });
        (mean - t * x, mean - t)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::tape::Grads;

    /// Gradients of `f` of parameters of these shapes against differences in f64.
    fn check(shapes: &[[usize; 2]], f: impl Fn(&mut Tape<'_, f64>, &[Var]) -> Var) {
        let mut rng = Rng::new(5, 1);
        let values: Vec<Vec<f64>> = shapes.iter().map(|s| (0..s[0] * s[1]).map(|_| rng.normal()).collect()).collect();
        let run = |values: &[Vec<f64>], grads: Option<Vec<&mut [f64]>>| {
            let mut tape = if grads.is_some() { Tape::recording() } else { Tape::inference() };
            let vars: Vec<Var> =
                values.iter().zip(shapes).enumerate().map(|(i, (v, s))| tape.param(i, v, *s)).collect();
            let y = f(&mut tape, &vars);
            let n = tape.get(y).len();
            // A weighted sum, so that no gradient cancels.
            let seed: Vec<f64> = (0..n).map(|i| 1.0 + 0.3 * (i as f64).sin()).collect();
            let sum: f64 = tape.get(y).iter().zip(&seed).map(|(a, b)| a * b).sum();
            if let Some(grads) = grads {
                tape.backward(y, &seed, Grads::new(grads)).unwrap();
            }
            sum
        };
        let mut arenas: Vec<Vec<f64>> = values.iter().map(|v| vec![0.0; v.len()]).collect();
        run(&values, Some(arenas.iter_mut().map(Vec::as_mut_slice).collect()));
        let mut largest: f64 = 0.0;
        for (p, arena) in arenas.iter().enumerate() {
            for (i, &g) in arena.iter().enumerate() {
                let at = |by: f64| {
                    let mut moved = values.clone();
                    moved[p][i] += by;
                    run(&moved, None)
                };
                let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((slope - g).abs() < 1e-6 * (1.0 + slope.abs()), "parameter {p}, {i}: {slope} {g}");
                largest = largest.max(g.abs());
            }
        }
        assert!(largest > 1e-3);
    }

    fn cells() -> Csr<f64> {
        let mut c = Csr::new();
        c.push_row([(0u32, 0.5), (3, 2.0)]);
        c.push_row([(3u32, -1.0), (4, 0.0)]);
        c.push_row([]);
        c
    }

    #[test]
    fn gradients_are_those_of_the_functions() {
        let of = Arc::new(Bag::new(&cells(), 6));
        check(&[[6, 3]], |t, v| bag(t, of.clone(), v[0]));
        check(&[[3, 5], [1, 5], [1, 5]], |t, v| layer_norm(t, v[0], v[1], v[2]));
        check(&[[4, 3]], |t, v| gelu(t, v[0]));
        check(&[[4, 3]], |t, v| unit(t, v[0]));
        check(&[[4, 3], [1, 1]], |t, v| scaled(t, v[0], v[1]));
        check(&[[5, 3], [5, 3], [1, 1]], |t, v| contrast_scaled(t, v[0], v[1], v[2]));
        check(&[[2, 4]], |t, v| poisson(t, v[0], 0.7, vec![0.5, 2.0], |i, out: &mut [f64]| out[i] = 3.0));
    }

    #[test]
    fn values_by_hand() {
        let mut tape = Tape::<f64>::inference();
        let table: Vec<f64> = (0..12).map(f64::from).collect();
        let t = tape.value(table, [6, 2]);
        let b = bag(&mut tape, Arc::new(Bag::new(&cells(), 6)), t);
        assert_eq!(tape.get(b), [12.0, 14.5, -6.0, -7.0, 0.0, 0.0]);
        let x = tape.value(vec![3.0, 4.0], [1, 2]);
        let u = unit(&mut tape, x);
        assert!(tape.get(u).iter().zip([0.6, 0.8]).all(|(a, b)| (a - b).abs() < 1e-9));
        // Two cells, orthogonal: each softmax is 1 / (1 + e^-2) at its own.
        let a = tape.value(vec![1.0, 0.0, 0.0, 1.0], [2, 2]);
        let log = tape.value(vec![2f64.ln()], [1, 1]);
        let loss = contrast_scaled(&mut tape, a, a, log);
        assert!((tape.get(loss)[0] - (1.0 + (-2f64).exp()).ln()).abs() < 1e-12);
        // Means 1 and 2 at depth 2 of counts 0 and 3.
        let rate = tape.value(vec![0.5f64.ln(), 0.0], [1, 2]);
        let loss = poisson(&mut tape, rate, 1.0, vec![2.0], |_, out: &mut [f64]| out[1] = 3.0);
        assert!((tape.get(loss)[0] - (1.0 + 2.0 - 3.0 * 2f64.ln())).abs() < 1e-12);
        let g = tape.value(vec![0.0, 1.0], [1, 2]);
        let g = gelu(&mut tape, g);
        assert!(tape.get(g)[0] == 0.0 && (tape.get(g)[1] - 0.8412).abs() < 1e-3);
    }
}
