//! `cis` against the CPU.

use std::sync::Arc;

use super::{Places, cis};
use crate::device::abi::{CIS_BINS, NONE};
use crate::device::sink::{Sink, backward, seed};
use crate::device::view::{F32, Image, View};
use crate::model::{CisConfig, CisGraph, CisTarget};
use crate::ops::head::{linear, pooled};
use crate::ops::losses::{mean_abs, weighted_sum};
use crate::real::sigmoid;
use crate::tape::{Tape, Var};

impl View<'_> {
    fn cis(&self) -> Option<(&CisConfig, &CisGraph)> {
        Some((self.config.cis.as_ref()?, self.case.model.cis.as_deref()?))
    }

    fn near_places<'p>(&'p self, graph: &'p CisGraph) -> Places<'p> {
        let (gene_chrom, peak_chrom) = (&self.features.gene_chrom, &self.features.peak_chrom);
        Places { graph, rows: &self.peaks.rows, gene_chrom, peak_chrom }
    }

    /// The near part on a tape with parameters q, uq, k, uk, decay: predictions and the weights of edges.
    fn near<'p>(&self, tape: &mut Tape<'p, f64>, at: Places<'p>, inputs: [&'p [f64]; 5]) -> (Var, Var) {
        let h = self.config.hidden;
        let [q, uq, k, uk, decay] = inputs;
        let q = (tape.param(0, q, [q.len() / h, h]), tape.param(1, uq, [1, h]));
        let k = (tape.param(2, k, [k.len() / h, h]), tape.param(3, uk, [1, h]));
        let decay = tape.param(4, decay, [1, decay.len()]);
        cis(tape, at, Arc::new(self.columns()), q, k, decay)
    }

    /// x of the positives: numbers of the cell, as the device has them in `image`, and depths.
    fn covariates(&self, image: &Image, term: &CisConfig) -> Vec<f64> {
        let n = term.components;
        let cell = self.numbers(image, "cis_cell", self.batch.len() * n);
        let of = |&i: &usize| {
            let depths = term.depths(self.genes.count(i), self.peaks.count(i));
            cell[i * n..(i + 1) * n].iter().copied().chain(depths).collect::<Vec<f64>>()
        };
        self.positives.iter().flat_map(of).collect()
    }

    pub(crate) fn cis_forward(&self, out: &mut Sink<'_>) {
        let Some((term, graph)) = self.cis() else { return out.exact("cis", Some("there is no such term".into())) };
        let (c, n, cols) = (self.config, self.positives.len(), self.columns());
        let (h, genes) = (c.hidden, c.genes);
        // Where peaks are, and who has which column.
        let mut place = vec![NONE; c.peaks];
        cols.row.iter().for_each(|&r| place[self.peaks.rows[r as usize] as usize] = r);
        let got = self.words(self.after, "cis_place", c.peaks);
        let wrong = (0..c.peaks).find(|&p| got[p] != place[p]);
        out.exact("cis_place", wrong.map(|p| format!("peak {p} is at {}, should be at {}", got[p], place[p])));
        let words = n.div_ceil(32);
        let mut open = vec![0u32; cols.len() * words];
        for i in 0..n {
            for &u in &cols.col[cols.indptr[i]..cols.indptr[i + 1]] {
                open[u as usize * words + i / 32] |= 1 << (i % 32);
            }
        }
        let wrong = self.words(self.after, "cis_open", open.len()) != open;
        out.exact("cis_open", wrong.then(|| "other bits than the positives' columns".into()));
        // Scores of the edges of peaks that are there; others are not written.
        let [q, uq, k, uk] = self.tables_read();
        let qe = Self::effective(&q, &uq, (0..genes).map(|g| (g, 1.0)));
        let product = |g: usize, x: &[f64]| qe[g * h..(g + 1) * h].iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
        let values: Vec<f64> = (0..genes).map(|g| product(g, &uk)).collect();
        out.tensor("cis_value_score", &self.get("cis_value_score", genes), &values, F32);
        let all = self.get("cis_score", graph.len());
        let (mut got, mut want) = (Vec::new(), Vec::new());
        for (p, &r) in place.iter().enumerate().filter(|x| *x.1 != NONE) {
            let edges = graph.peak_ptr[p]..graph.peak_ptr[p + 1];
            got.extend_from_slice(&all[edges.clone()]);
            let key = &k[r as usize * h..(r as usize + 1) * h];
            want.extend(graph.gene[edges].iter().map(|&g| product(g as usize, key)));
        }
        out.tensor("cis_score", &got, &want, F32);
        let decay = self.param("cis.decay");
        let mut tape = Tape::inference();
        let (near, edges) = self.near(&mut tape, self.near_places(graph), [&q, &uq, &k, &uk, &decay]);
        out.tensor("cis_near", &self.get("cis_near", n * genes), tape.get(near), F32);
        // The cell, and the map of it and the depths.
        if term.components > 0 {
            let (w, b) = (self.param("cis.cell.weight"), self.param("cis.cell.bias"));
            let width = c.embedding_dim + 1 + c.peak_features();
            let mean = self.numbers(self.before, "mean_a", self.batch.len() * (width + 1));
            let mut tape = Tape::inference();
            let x = tape.param(0, &mean, [self.batch.len(), width + 1]);
            let (w, b) = (tape.param(1, &w, [term.components, width]), tape.param(2, &b, [1, term.components]));
            let cell = pooled(&mut tape, x, w, b, 1, vec![1.0; self.batch.len()]);
            out.tensor("cis_cell", &self.get("cis_cell", tape.get(cell).len()), tape.get(cell), F32);
        }
        let x = self.covariates(self.after, term);
        out.tensor("cis_x", &self.get("cis_x", x.len()), &x, F32);
        let (w, b) = (self.param("cis.gene.weight"), self.param("cis.gene.bias"));
        let width = term.components + 2;
        let mut y = tape.get(near).to_vec();
        let mut of_x = Tape::inference();
        let own = (of_x.param(0, &x, [n, width]), of_x.param(1, &w, [genes, width]), of_x.param(2, &b, [1, genes]));
        let own = linear(&mut of_x, own.0, own.1, own.2);
        y.iter_mut().zip(of_x.get(own)).for_each(|(y, x)| *y += x);
        let got = self.get("cis_y", n * genes);
        out.tensor("cis_y", &got, &y, F32);
        // Loss and slope, from the device's own predictions.
        let share = 1.0 / self.batch.len() as f64;
        let (mut d_y, mut parts) = (Vec::new(), Vec::new());
        for (&sample, row) in self.positives.iter().zip(got.chunks_exact(genes)) {
            let truth = self.expression(sample);
            let one = |(&y, v): (&f64, f64)| match term.target {
                CisTarget::Level => (0.5 * (y - v) * (y - v), y - v),
                CisTarget::Detection => {
                    let t = f64::from(u8::from(v > 0.0));
                    ((-y.abs()).exp().ln_1p() + y.max(0.0) - y * t, sigmoid(y) - t)
                }
            };
            let (loss, slope): (Vec<f64>, Vec<f64>) = row.iter().zip(truth).map(one).unzip();
            parts.push(share * loss.iter().sum::<f64>());
            d_y.extend(slope.iter().map(|d| term.weight * share * d));
        }
        out.tensor("cis_d_y", &self.get("cis_d_y", d_y.len()), &d_y, F32);
        out.tensor("cis_loss_part", &self.get("cis_loss_part", n), &parts, F32);
        let edges = tape.get(edges);
        let size = edges.iter().map(|w| w.abs()).sum::<f64>() / edges.len().max(1) as f64;
        let loss: f64 = parts.iter().sum();
        self.loss(out, "cis_loss", loss, term.weight * loss + term.sparsity * size, |r| r.cis_loss);
    }

    pub(crate) fn cis_backward(&self, out: &mut Sink<'_>) {
        let Some((term, _)) = self.cis() else { return out.exact("cis", Some("there is no such term".into())) };
        let (genes, n, samples) = (self.config.genes, self.positives.len(), self.batch.len());
        let (numbers, width) = (term.components, term.components + 2);
        let x = self.numbers(self.before, "cis_x", n * width);
        let d_y = self.numbers(self.before, "cis_d_y", n * genes);
        let (w, b) = (self.param("cis.gene.weight"), self.param("cis.gene.bias"));
        let mut tape = Tape::recording();
        let (vx, vw, vb) =
            (tape.param(0, &x, [n, width]), tape.param(1, &w, [genes, width]), tape.param(2, &b, [1, genes]));
        let y = linear(&mut tape, vx, vw, vb);
        let root = seed(&mut tape, vec![(y, d_y)]);
        let d = backward(tape, root, &[x.len(), w.len(), b.len()]);
        out.tensor("cis_d_x", &self.get("cis_d_x", n * width), &d[0], F32);
        self.gradient(out, "cis.gene.weight", &d[1], F32);
        self.gradient(out, "cis.gene.bias", &d[2], F32);
        if numbers == 0 {
            return;
        }
        let mut d_cell = vec![0.0; samples * numbers];
        for (&i, row) in self.positives.iter().zip(self.get("cis_d_x", n * width).chunks_exact(width)) {
            d_cell[i * numbers..(i + 1) * numbers].copy_from_slice(&row[..numbers]);
        }
        let got = self.get("cis_d_cell", d_cell.len());
        out.exact("cis_d_cell", (got != d_cell).then(|| "is not what it is of the positives".into()));
        let (w, b) = (self.param("cis.cell.weight"), self.param("cis.cell.bias"));
        let inp = w.len() / numbers;
        let mean = self.numbers(self.before, "mean_a", samples * (inp + 1));
        let mut tape = Tape::recording();
        let (vx, vw, vb) = (
            tape.param(0, &mean, [samples, inp + 1]),
            tape.param(1, &w, [numbers, inp]),
            tape.param(2, &b, [1, numbers]),
        );
        let cell = pooled(&mut tape, vx, vw, vb, 1, vec![1.0; samples]);
        let root = seed(&mut tape, vec![(cell, d_cell)]);
        let d = backward(tape, root, &[mean.len(), w.len(), b.len()]);
        out.tensor("d_mean_a", &self.get("d_mean_a", mean.len()), &d[0], F32);
        self.gradient(out, "cis.cell.weight", &d[1], F32);
        self.gradient(out, "cis.cell.bias", &d[2], F32);
    }

    pub(crate) fn cis_backward_tables(&self, out: &mut Sink<'_>) {
        let Some((term, graph)) = self.cis() else { return out.exact("cis", Some("there is no such term".into())) };
        let (n, h) = (self.positives.len(), self.config.hidden);
        let [q, uq, k, uk] = self.tables_read();
        let decay = self.param("cis.decay");
        let mut tape = Tape::recording();
        let (near, edges) = self.near(&mut tape, self.near_places(graph), [&q, &uq, &k, &uk, &decay]);
        let mut seeds = vec![(near, self.numbers(self.before, "cis_d_y", n * self.config.genes))];
        if term.sparsity != 0.0 {
            let size = mean_abs(&mut tape, edges);
            let none = tape.value(vec![0.0], [1, 1]);
            seeds.push((weighted_sum(&mut tape, none, size, term.sparsity), vec![1.0]));
        }
        let root = seed(&mut tape, seeds);
        let d = backward(tape, root, &[q.len(), h, k.len(), h, CIS_BINS as usize]);
        for (name, more) in ["d_q", "d_uq", "d_k", "d_uk"].into_iter().zip(&d) {
            let before = self.numbers(self.before, name, more.len());
            out.added(name, &before, &self.get(name, more.len()), more, F32);
        }
        self.gradient(out, "cis.decay", &d[4], F32);
    }
}
