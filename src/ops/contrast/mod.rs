//! `contrast`: RNA and ATAC of each positive against all others of the batch.

pub(crate) mod check;
pub(crate) mod cuda;

use super::matmul::{View, product, product_into};
use crate::real::Real;
use crate::tape::{Tape, Var};

/// The contrastive loss of two views `[n, H]` of the same n things, → `[1, 1]`: with `l = a bᵀ / √H`, the mean of the
/// cross-entropies of row i against i and of column i against i. Each is 0.5 of the loss.
/// See docs/model.md, eq. 36, eq. 37, section 6.4.
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
