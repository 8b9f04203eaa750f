//! `translate` against the CPU.

use std::sync::Arc;

use super::cuda::mask_words;
use super::{PeakColumns, TranslateSpec, logit_limit, translate};
use crate::device::sink::{Sink, backward, rounded, seed};
use crate::device::view::{BF16, F32, View};
use crate::model::Precision;
use crate::ops::matmul::{View as Matrix, product_into};
use crate::tape::Tape;

impl View<'_> {
    pub(crate) fn columns(&self) -> PeakColumns<f64> {
        PeakColumns::new(&self.peaks, self.positives)
    }

    pub(crate) fn translate_forward(&self, out: &mut Sink<'_>) {
        let c = self.config;
        let (h, heads, genes, n) = (c.hidden, c.heads, c.genes, self.positives.len());
        let (slice, cols) = (h / heads, self.columns());
        let padded = slice.next_multiple_of(16);
        let [q, uq, k, uk] = self.tables_read();
        let qe = Self::effective(&q, &uq, (0..genes).map(|g| (g, 1.0)));
        let ke = Self::effective(&k, &uk, (0..cols.len()).map(|i| (cols.row[i] as usize, cols.value[i])));
        let pad = |x: &[f64]| {
            let one = |s: &[f64]| s.iter().copied().chain(std::iter::repeat_n(0.0, padded - slice)).collect::<Vec<_>>();
            x.chunks_exact(slice).flat_map(one).collect::<Vec<f64>>()
        };
        let read = |name: &str, n: usize| match self.precision {
            Precision::F32 => self.get(name, n),
            Precision::Bf16 => {
                let words = self.words(self.after, name, n.div_ceil(2));
                let both = words.into_iter().flat_map(|w| [w as u16, (w >> 16) as u16]);
                both.take(n).map(|x| half::bf16::from_bits(x).to_f64()).collect()
            }
        };
        for (name, exact) in [("genes_eff", pad(&qe)), ("keys_eff", pad(&ke))] {
            let limit = if self.precision == Precision::F32 { F32 } else { BF16 };
            out.tensor(name, &read(name, exact.len()), &exact, limit);
        }
        // Scores above the threshold.
        let (blocks, u) = (mask_words(genes) / 8, cols.len());
        let mask = self.words(self.after, "mask", heads * blocks * 8 * u);
        let bit = |head: usize, g: usize, col: usize| {
            mask[((head * blocks + g / 256) * u + col) * 8 + g % 256 / 32] >> (g % 32) & 1 == 1
        };
        let limit: f64 = logit_limit(c.tau);
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (mut differing, mut wrong) = (0, None);
        const STEP: usize = 512;
        let mut tile = vec![0.0; STEP * genes];
        for head in 0..heads {
            let gene = |g: usize| &qe[g * h + head * slice..][..slice];
            let norms: Vec<f64> = (0..genes).map(|g| norm(gene(g))).collect();
            for first in (0..u).step_by(STEP) {
                let width = STEP.min(u - first);
                let ks = Matrix::strided(&ke[first * h + head * slice..], width, slice, h);
                let qs = Matrix::strided(&qe[head * slice..], genes, slice, h);
                product_into(&mut tile[..width * genes], genes, ks, qs.t(), false);
                for (i, row) in tile.chunks_exact(genes).take(width).enumerate() {
                    let size = norm(&ke[(first + i) * h + head * slice..][..slice]) * self.free();
                    for (g, &logit) in row.iter().enumerate() {
                        if bit(head, g, first + i) != (logit > limit) {
                            differing += 1;
                            if (logit - limit).abs() > size * norms[g] + 1e-6 && wrong.is_none() {
                                wrong = Some(format!(
                                    "gene {g}, column {} has logit {logit:.5} and is said to be {} {limit:.5}",
                                    first + i,
                                    if logit > limit { "below" } else { "above" }
                                ));
                            }
                        }
                    }
                }
            }
            for g in genes..blocks * 256 {
                if let Some(col) = (0..u).find(|&col| bit(head, g, col)) {
                    wrong = wrong.or(Some(format!("a bit past the last gene is set, in column {col}")));
                }
            }
        }
        out.choices("mask: scores above tau", differing, wrong);
        // Counts of those, and what follows.
        let words = mask_words(genes);
        let predicted = self.words(self.after, "predicted", n * heads * words);
        let count = self.words(self.after, "count", n * heads * genes);
        let on = |i: usize, head: usize, g: usize| predicted[(i * heads + head) * words + g / 32] >> (g % 32) & 1 == 1;
        let (mut bad_on, mut bad_count) = (None, None);
        let mut d_pred = Vec::with_capacity(n * heads * genes);
        let mut loss = Vec::with_capacity(n * heads);
        let per = (genes * heads * self.batch.len()) as f64;
        for (i, &sample) in self.positives.iter().enumerate() {
            let truth = self.expression(sample);
            for head in 0..heads {
                let mut counts = vec![0u32; genes];
                for &col in &cols.col[cols.indptr[i]..cols.indptr[i + 1]] {
                    for (g, n) in counts.iter_mut().enumerate() {
                        *n += u32::from(bit(head, g, col as usize));
                    }
                }
                let mut sum = 0.0;
                for (g, &n) in counts.iter().enumerate() {
                    let said = on(i, head, g);
                    if said != (n as usize > c.min_peaks) && bad_on.is_none() {
                        bad_on = Some(format!("positive {i}, gene {g}: {n} scores above tau, predicted {said}"));
                    }
                    let exact = count[(i * heads + head) * genes + g];
                    if exact != n && bad_count.is_none() {
                        bad_count = Some(format!("positive {i}, gene {g}: count {exact}, should be {n}"));
                    }
                    let d = f64::from(u8::from(said)) - truth[g];
                    d_pred.push(2.0 * c.alpha * d / per);
                    sum += d * d;
                }
                loss.push(sum / per);
            }
        }
        out.exact("predicted", bad_on);
        out.exact("count", bad_count);
        out.tensor("d_pred", &self.get("d_pred", d_pred.len()), &d_pred, F32);
        out.tensor("loss_part", &self.get("loss_part", loss.len()), &loss, F32);
    }

    pub(crate) fn translate_backward(&self, out: &mut Sink<'_>) {
        let c = self.config;
        let (h, heads, genes, n) = (c.hidden, c.heads, c.genes, self.positives.len());
        let spec = TranslateSpec { heads, tau: c.tau, min_peaks: c.min_peaks };
        let words = mask_words(genes);
        let predicted = self.words(self.before, "predicted", n * heads * words);
        let rows = predicted.chunks_exact(words);
        let given: Vec<u8> = rows.flat_map(|w| (0..genes).map(|g| (w[g / 32] >> (g % 32) & 1) as u8)).collect();
        let d_pred = self.numbers(self.before, "d_pred", n * heads * genes);
        let run = |cols: Arc<PeakColumns<f64>>, [q, uq, k, uk]: [&[f64]; 4]| {
            let mut tape = Tape::recording();
            let shape = |x: &[f64]| [x.len() / h, h];
            let vq = (tape.param(0, q, shape(q)), tape.param(1, uq, [1, h]));
            let vk = (tape.param(2, k, shape(k)), tape.param(3, uk, [1, h]));
            let pred = translate(&mut tape, spec, cols, vq, vk, Some(&given));
            let root = seed(&mut tape, vec![(pred, d_pred.clone())]);
            backward(tape, root, &[q.len(), h, k.len(), h])
        };
        let [q, uq, k, uk] = self.tables_read();
        let cols = Arc::new(self.columns());
        let exact = run(cols.clone(), [&q, &uq, &k, &uk]);
        // The same with rounded rows: a table row a column, and no value.
        let near = (self.precision == Precision::Bf16).then(|| {
            let qe = rounded(&Self::effective(&q, &uq, (0..genes).map(|g| (g, 1.0))));
            let of = |i: usize| (cols.row[i] as usize, cols.value[i]);
            let ke = rounded(&Self::effective(&k, &uk, (0..cols.len()).map(of)));
            let synthetic = self.flat(cols.len(), cols.indptr.clone(), cols.col.clone());
            let all: Vec<usize> = (0..n).collect();
            let zero = vec![0.0; h];
            let d = run(Arc::new(PeakColumns::new(&synthetic, &all)), [&qe, &zero, &ke, &zero]);
            let (mut dk, mut duk) = (vec![0.0; k.len()], vec![0.0; h]);
            for (i, row) in d[2].chunks_exact(h).enumerate() {
                let (r, v) = of(i);
                for (j, x) in row.iter().enumerate() {
                    dk[r * h + j] += x;
                    duk[j] += v * x;
                }
            }
            [d[0].clone(), d[1].clone(), dk, duk]
        });
        // The slope of the sigmoid is as wrong, relatively, as the logit is absolutely: large ones are rounded coarsely.
        let longest = |x: &[f64]| x.chunks(h).map(|r| r.iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max);
        let coarse = (longest(&q) + longest(&uq)) * (longest(&k) + longest(&uk)) * f64::from(f32::EPSILON);
        for (i, name) in ["d_q", "d_uq", "d_k", "d_uk"].into_iter().enumerate() {
            let limit = self.allow(3.0, &exact[i], || near.as_ref().map_or(Vec::new(), |n| n[i].clone())).max(coarse);
            let before = self.numbers(self.before, name, exact[i].len());
            out.added(name, &before, &self.get(name, exact[i].len()), &exact[i], limit);
        }
    }
}
