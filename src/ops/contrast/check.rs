//! `contrast` against the CPU.

use super::contrast;
use crate::device::sink::{Sink, backward, seed};
use crate::device::view::{F32, View};
use crate::ops::matmul::{View as Matrix, product_into};
use crate::tape::Tape;

impl View<'_> {
    /// Second halves of the positives' rows of `x_r` or `x_a`.
    fn alone(&self, name: &str) -> Vec<f64> {
        let h = self.config.hidden;
        let rows = self.numbers(self.before, name, 2 * self.batch.len() * h);
        self.positives.iter().flat_map(|&i| rows[(2 * i + 1) * h..(2 * i + 2) * h].to_vec()).collect()
    }

    pub(crate) fn contrast_forward(&self, out: &mut Sink<'_>) {
        let (h, n) = (self.config.hidden, self.positives.len());
        let (a, b) = (self.alone("x_r"), self.alone("x_a"));
        let mut logits = vec![0.0; n * n];
        product_into(&mut logits, n, Matrix::new(&a, n, h), Matrix::new(&b, n, h).t(), false);
        logits.iter_mut().for_each(|x| *x /= (h as f64).sqrt());
        let got = self.get("contrast_logits", n * n);
        out.tensor("contrast_logits", &got, &logits, F32);
        // Lines and loss from the device's own logits.
        let line = |of: &dyn Fn(usize) -> f64| {
            let most = (0..n).map(of).fold(f64::NEG_INFINITY, f64::max);
            [most, (0..n).map(|j| (of(j) - most).exp()).sum::<f64>()]
        };
        let both = |i: usize| [line(&|j| got[i * n + j]), line(&|j| got[j * n + i])];
        let lines: Vec<f64> = (0..n).flat_map(both).flatten().collect();
        out.tensor("contrast_lines", &self.get("contrast_lines", 4 * n), &lines, F32);
        let own = |i: usize| {
            let of = |k: usize| lines[4 * i + k] + lines[4 * i + k + 1].ln() - got[i * n + i];
            of(0) + of(2)
        };
        let loss = (0..n).map(own).sum::<f64>() * 0.5 / n as f64;
        self.loss(out, "contrast_loss", loss, self.config.contrast * loss, |r| r.contrast_loss);
    }

    pub(crate) fn contrast_backward(&self, out: &mut Sink<'_>) {
        let (h, n) = (self.config.hidden, self.positives.len());
        let (a, b) = (self.alone("x_r"), self.alone("x_a"));
        let mut tape = Tape::recording();
        let (va, vb) = (tape.param(0, &a, [n, h]), tape.param(1, &b, [n, h]));
        let apart = contrast(&mut tape, va, vb);
        let root = seed(&mut tape, vec![(apart, vec![self.config.contrast])]);
        let d = backward(tape, root, &[a.len(), b.len()]);
        for (name, d) in ["d_x_r", "d_x_a"].into_iter().zip(&d) {
            let mut want = vec![0.0; 2 * self.batch.len() * h];
            for (&i, row) in self.positives.iter().zip(d.chunks_exact(h)) {
                want[(2 * i + 1) * h..(2 * i + 2) * h].copy_from_slice(row);
            }
            // Of a single positive nothing is left but rounding: of numbers that are near 1.
            let got = self.get(name, want.len());
            if n == 1 {
                let wrong = got.iter().find(|x| x.is_nan() || x.abs() >= 1e-6);
                out.exact(name, wrong.map(|x| format!("{x:.1e} of a single positive, should be 0")));
            } else {
                out.tensor(name, &got, &want, F32);
            }
        }
    }
}
