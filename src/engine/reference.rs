//! The reference path: node by node and pair by pair, as docs/model.md, section 4 reads. Dense, slow, independent of the
//! ops; tests compare the fast path with it. It allocates n_r × n_a and G × n_a matrices freely.
#![allow(clippy::needless_range_loop)]

use crate::error::Result;
use crate::model::{Batch, Model, PREFIX};
use crate::real::Real;

/// A dense row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix<T> {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// `[rows × cols]`.
    pub data: Vec<T>,
}

impl<T: Real> Matrix<T> {
    fn zeros(rows: usize, cols: usize) -> Self {
        Matrix { rows, cols, data: vec![T::of(0.0); rows * cols] }
    }
    /// Number at (i, j).
    pub fn at(&self, i: usize, j: usize) -> T {
        self.data[i * self.cols + j]
    }
    fn add(&mut self, i: usize, j: usize, x: T) {
        self.data[i * self.cols + j] += x;
    }
    /// Row i.
    pub fn row(&self, i: usize) -> &[T] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }
}

/// What the reference path computes for one sample.
#[derive(Debug)]
pub struct SampleOutput<T> {
    /// `[2]`.
    pub logits: Vec<T>,
    /// `[2H]`.
    pub embedding: Vec<T>,
    /// A head's A, `[n_r, n_a]`.
    pub attention: Vec<Matrix<T>>,
    /// A head's masked logits, `[n_r, n_a]`.
    pub logit: Vec<Matrix<T>>,
    /// A head's translation logits, `[G, n_a]`; empty for negatives.
    pub translation_logit: Vec<Matrix<T>>,
    /// `[heads, G]` of 0/1; empty for negatives.
    pub translation: Vec<T>,
    /// r_i, `[n_r, H]`.
    pub gene: Matrix<T>,
    /// p_j, `[n_a, H]`.
    pub peak: Matrix<T>,
}

/// Loss, outputs and gradients of a batch.
#[derive(Debug)]
pub struct ReferenceOutput<T> {
    /// Loss of the batch.
    pub loss: T,
    /// `[B]`.
    pub samples: Vec<SampleOutput<T>>,
    /// Gradients, an arena of the parameters' layout.
    pub grads: Vec<T>,
}

/// A sample with its feature rows, queries, keys and values.
struct Sample<'a, T> {
    genes: &'a [(usize, T)],
    peaks: &'a [(usize, T)],
    /// Feature rows of the genes.
    x: Matrix<T>,
    /// Feature rows of the peaks.
    y: Matrix<T>,
    q: Matrix<T>,
    k: Matrix<T>,
    vr: Matrix<T>,
    va: Matrix<T>,
}

/// Of each head A, the logits and the softmax before the threshold; and the messages to genes and to peaks.
struct Attended<T> {
    attention: Vec<Matrix<T>>,
    logit: Vec<Matrix<T>>,
    soft: Vec<Matrix<T>>,
    messages: [Matrix<T>; 2],
}

/// What the matching says, and the gradients of feature rows and messages, of genes and of peaks.
struct Matched<T> {
    loss: T,
    logits: Matrix<T>,
    z: Matrix<T>,
    gene: Matrix<T>,
    peak: Matrix<T>,
    d_features: [Matrix<T>; 2],
    d_messages: [Matrix<T>; 2],
}

fn sigmoid<T: Real>(x: T) -> T {
    T::of(1.0) / (T::of(1.0) + num_traits::Float::exp(-x))
}

/// A linear map of the model and the place of its gradients.
struct Layer<'a, T> {
    w: &'a [T],
    b: &'a [T],
    at: (usize, usize),
}

impl<T: Real> Layer<'_, T> {
    fn forward(&self, x: &Matrix<T>) -> Matrix<T> {
        let out = self.b.len();
        let mut y = Matrix::zeros(x.rows, out);
        for i in 0..x.rows {
            for o in 0..out {
                let mut sum = self.b[o];
                for j in 0..x.cols {
                    sum += x.at(i, j) * self.w[o * x.cols + j];
                }
                y.add(i, o, sum);
            }
        }
        y
    }

    /// Adds gradients of weight and bias to the arena, returns that of x.
    fn backward(&self, x: &Matrix<T>, dy: &Matrix<T>, arena: &mut [T]) -> Matrix<T> {
        let mut dx = Matrix::zeros(x.rows, x.cols);
        for i in 0..x.rows {
            for o in 0..dy.cols {
                let g = dy.at(i, o);
                arena[self.at.1 + o] += g;
                for j in 0..x.cols {
                    arena[self.at.0 + o * x.cols + j] += g * x.at(i, j);
                    dx.add(i, j, g * self.w[o * x.cols + j]);
                }
            }
        }
        dx
    }
}

fn side_by_side<T: Real>(a: &Matrix<T>, b: &Matrix<T>) -> Matrix<T> {
    let mut y = Matrix::zeros(a.rows, a.cols + b.cols);
    for i in 0..a.rows {
        for j in 0..a.cols {
            y.add(i, j, a.at(i, j));
        }
        for j in 0..b.cols {
            y.add(i, a.cols + j, b.at(i, j));
        }
    }
    y
}

fn columns<T: Real>(a: &Matrix<T>, from: usize, to: usize) -> Matrix<T> {
    let mut y = Matrix::zeros(a.rows, to - from);
    for i in 0..a.rows {
        for j in from..to {
            y.add(i, j - from, a.at(i, j));
        }
    }
    y
}

fn add_to<T: Real>(a: &mut Matrix<T>, b: &Matrix<T>) {
    a.data.iter_mut().zip(&b.data).for_each(|(a, &b)| *a += b);
}

impl<T: Real> Model<T> {
    fn layer(&self, name: &str) -> Layer<'_, T> {
        let full = if name.starts_with("fc") { name.to_string() } else { format!("{PREFIX}{name}") };
        let find = |part: &str| {
            let e = self.params.layout().find(&format!("{full}.{part}"));
            e.map_or(0..0, |e| e.range.clone())
        };
        let (w, b) = (find("weight"), find("bias"));
        let all = self.params.as_slice();
        Layer { w: &all[w.clone()], b: &all[b.clone()], at: (w.start, b.start) }
    }

    fn feature_rows(&self, gene: bool, nodes: &[(usize, T)]) -> Matrix<T> {
        let side = if gene { self.gene_side() } else { self.peak_side() };
        let name = if gene { "rna_idembedding.weight" } else { "atac_idembedding.weight" };
        let emb = self.params.get(name).unwrap_or(&[]);
        let d = side.dim;
        let mut x = Matrix::zeros(nodes.len(), side.width());
        for (r, &(i, v)) in nodes.iter().enumerate() {
            for j in 0..d {
                x.add(r, j, emb[i * d + j]);
            }
            x.add(r, d, v);
            x.add(r, d + 1 + side.chrom[i] as usize, T::of(1.0));
            for j in 0..side.extra_width {
                x.add(r, d + 1 + side.chromosomes + j, side.extra_at(i, j));
            }
        }
        x
    }

    fn scatter_embedding(&self, gene: bool, nodes: &[(usize, T)], dx: &Matrix<T>, arena: &mut [T]) {
        let name = if gene { "rna_idembedding.weight" } else { "atac_idembedding.weight" };
        let d = self.config.embedding_dim;
        let start = self.params.layout().find(name).map_or(0, |e| e.range.start);
        for (r, &(i, _)) in nodes.iter().enumerate() {
            for j in 0..d {
                arena[start + i * d + j] += dx.at(r, j);
            }
        }
    }

    /// Loss, outputs and gradients of a batch, pair by pair, without dropout.
    pub fn reference(&self, batch: &Batch<T>) -> Result<ReferenceOutput<T>> {
        batch.validate(&self.features)?;
        let n = batch.len();
        let mut grads = vec![T::of(0.0); self.params.layout().len()];
        let mut loss = T::of(0.0);
        let mut samples = Vec::new();
        for b in 0..n {
            let nodes = |csr: &crate::csr::Csr<T>| -> Vec<(usize, T)> {
                let (i, v) = csr.row(b);
                i.iter().map(|&i| i as usize).zip(v.iter().copied()).collect()
            };
            let (genes, peaks) = (nodes(&batch.rna), nodes(&batch.atac));
            let label = usize::from(batch.label[b]);
            let (l, out) = self.reference_sample(&genes, &peaks, label, T::of(1.0 / n as f64), &mut grads);
            loss += l;
            samples.push(out);
        }
        Ok(ReferenceOutput { loss, samples, grads })
    }

    fn reference_sample(
        &self,
        genes: &[(usize, T)],
        peaks: &[(usize, T)],
        label: usize,
        share: T,
        arena: &mut [T],
    ) -> (T, SampleOutput<T>) {
        let (x, y) = (self.feature_rows(true, genes), self.feature_rows(false, peaks));
        let (wq, wk) = (self.layer("rna_query"), self.layer("atac_key"));
        let (wvr, wva) = (self.layer("rna_value"), self.layer("atac_value"));
        let (q, k) = (wq.forward(&x), wk.forward(&y));
        let (vr, va) = (wvr.forward(&x), wva.forward(&y));
        let s = Sample { genes, peaks, x, y, q, k, vr, va };
        let attended = self.reference_attention(&s);
        let matched = self.reference_matching(&s, &attended, label, share, arena);
        let (mut loss, [mut dx, mut dy]) = (matched.loss, matched.d_features);
        let [dq, mut dk, dvr, dva] = self.reference_attention_backward(&s, &attended, &matched.d_messages);
        add_to(&mut dx, &wvr.backward(&s.x, &dvr, arena));
        add_to(&mut dy, &wva.backward(&s.y, &dva, arena));
        add_to(&mut dx, &wq.backward(&s.x, &dq, arena));
        let (mut translation, mut translation_logit) = (Vec::new(), Vec::new());
        if label == 1 {
            (translation, translation_logit) = self.reference_translation(&s, share, &mut loss, &mut dk, arena);
        }
        add_to(&mut dy, &wk.backward(&s.y, &dk, arena));
        self.scatter_embedding(true, genes, &dx, arena);
        self.scatter_embedding(false, peaks, &dy, arena);
        let out = SampleOutput {
            logits: matched.logits.data,
            embedding: matched.z.data,
            attention: attended.attention,
            logit: attended.logit,
            translation_logit,
            translation,
            gene: matched.gene,
            peak: matched.peak,
        };
        (loss, out)
    }

    /// May this gene attend to this peak?
    fn may_attend(&self, gene: usize, peak: usize) -> bool {
        let (cg, cp) = (self.features.gene_chrom[gene], self.features.peak_chrom[peak]);
        cg == cp && self.features.unknown != Some(cg)
    }

    /// Scores, the best of each gene, and messages.
    fn reference_attention(&self, s: &Sample<'_, T>) -> Attended<T> {
        let c = &self.config;
        let (h, heads, tau) = (c.hidden, c.heads, T::of(c.tau));
        let hd = h / heads;
        let Sample { genes, peaks, q, k, vr, va, .. } = s;
        let (n_r, n_a) = (genes.len(), peaks.len());
        let (mut attention, mut logit, mut soft) = (Vec::new(), Vec::new(), Vec::new());
        let (mut m_r, mut m_a) = (Matrix::zeros(n_r, h), Matrix::zeros(n_a, h));
        for head in 0..heads {
            let (mut l, mut a, mut w) = (Matrix::zeros(n_r, n_a), Matrix::zeros(n_r, n_a), Matrix::zeros(n_r, n_a));
            for i in 0..n_r {
                for j in 0..n_a {
                    if self.may_attend(genes[i].0, peaks[j].0) {
                        let dot: T = (head * hd..(head + 1) * hd).map(|t| q.at(i, t) * k.at(j, t)).sum();
                        l.add(i, j, dot);
                    }
                }
                let mut order: Vec<usize> = (0..n_a).collect();
                order.sort_by(|&p, &r| {
                    let by = l.at(i, r).partial_cmp(&l.at(i, p)).unwrap_or(std::cmp::Ordering::Equal);
                    by.then(peaks[p].0.cmp(&peaks[r].0))
                });
                order.truncate(c.top_k);
                let sum: T = order.iter().map(|&j| num_traits::Float::exp(sigmoid(l.at(i, j)))).sum();
                for j in order {
                    let s = sigmoid(l.at(i, j));
                    w.add(i, j, num_traits::Float::exp(s) / sum);
                    if s > tau {
                        a.add(i, j, w.at(i, j));
                    }
                }
                for j in 0..n_a {
                    for t in head * hd..(head + 1) * hd {
                        m_r.add(i, t, a.at(i, j) * va.at(j, t));
                        m_a.add(j, t, a.at(i, j) * vr.at(i, t));
                    }
                }
            }
            attention.push(a);
            logit.push(l);
            soft.push(w);
        }
        Attended { attention, logit, soft, messages: [m_r, m_a] }
    }

    /// From messages to the loss of the matching, and back to the messages.
    fn reference_matching(
        &self,
        s: &Sample<'_, T>,
        attended: &Attended<T>,
        label: usize,
        share: T,
        arena: &mut [T],
    ) -> Matched<T> {
        let (h, heads) = (self.config.hidden, self.config.heads);
        let (zero, one) = (T::of(0.0), T::of(1.0));
        let (x, y, [m_r, m_a]) = (&s.x, &s.y, &attended.messages);
        let (n_r, n_a) = (s.genes.len(), s.peaks.len());
        let (or, oa) = (self.layer("rna_out_proj"), self.layer("atac_out_proj"));
        let (o_r, o_a) = if heads > 1 { (or.forward(m_r), oa.forward(m_a)) } else { (m_r.clone(), m_a.clone()) };
        let (wsr, wsa) = (self.layer("rna_self_attention"), self.layer("atac_self_attention"));
        let (dr, da) = (self.layer("dim_reduction_rna"), self.layer("dim_reduction_atac"));
        let (in_r, in_a) = (side_by_side(&o_r, &wsr.forward(x)), side_by_side(&o_a, &wsa.forward(y)));
        let (r, p) = (dr.forward(&in_r), da.forward(&in_a));
        let mut z = Matrix::zeros(1, 2 * h);
        for (at, m) in [(0, &r), (h, &p)] {
            for i in 0..m.rows {
                for t in 0..h {
                    z.add(0, at + t, m.at(i, t) / T::of(m.rows as f64));
                }
            }
        }
        let relu =
            |m: &Matrix<T>| Matrix { data: m.data.iter().map(|&v| if v > zero { v } else { zero }).collect(), ..*m };
        let (f1, f2, f3) = (self.layer("fc1"), self.layer("fc2"), self.layer("fc3"));
        let a1 = relu(&f1.forward(&z));
        let a2 = relu(&f2.forward(&a1));
        let logits = f3.forward(&a2);
        let e: Vec<T> = logits.data.iter().map(|&v| num_traits::Float::exp(v)).collect();
        let total: T = e.iter().copied().sum();
        let loss = -num_traits::Float::ln(e[label] / total) * share;

        // Backward of the matching head and the message passing.
        let mut dl = Matrix::zeros(1, 2);
        for j in 0..2 {
            dl.add(0, j, share * (e[j] / total - if j == label { one } else { zero }));
        }
        let gate = |m: &mut Matrix<T>, a: &Matrix<T>| {
            m.data.iter_mut().zip(&a.data).for_each(|(g, &v)| {
                if v <= zero {
                    *g = zero
                }
            })
        };
        let mut d2 = f3.backward(&a2, &dl, arena);
        gate(&mut d2, &a2);
        let mut d1 = f2.backward(&a1, &d2, arena);
        gate(&mut d1, &a1);
        let dz = f1.backward(&z, &d1, arena);
        let spread = |at: usize, rows: usize| {
            let mut g = Matrix::zeros(rows, h);
            for i in 0..rows {
                for t in 0..h {
                    g.add(i, t, dz.at(0, at + t) / T::of(rows as f64));
                }
            }
            g
        };
        let d_in_r = dr.backward(&in_r, &spread(0, n_r), arena);
        let d_in_a = da.backward(&in_a, &spread(h, n_a), arena);
        let dx = wsr.backward(x, &columns(&d_in_r, h, 2 * h), arena);
        let dy = wsa.backward(y, &columns(&d_in_a, h, 2 * h), arena);
        let (mut dm_r, mut dm_a) = (columns(&d_in_r, 0, h), columns(&d_in_a, 0, h));
        if heads > 1 {
            dm_r = or.backward(m_r, &dm_r, arena);
            dm_a = oa.backward(m_a, &dm_a, arena);
        }
        Matched { loss, logits, z, gene: r, peak: p, d_features: [dx, dy], d_messages: [dm_r, dm_a] }
    }

    /// Gradients of queries, keys, and the values of genes and of peaks.
    fn reference_attention_backward(
        &self,
        s: &Sample<'_, T>,
        of: &Attended<T>,
        [dm_r, dm_a]: &[Matrix<T>; 2],
    ) -> [Matrix<T>; 4] {
        let (h, heads) = (self.config.hidden, self.config.heads);
        let (hd, zero, one) = (h / heads, T::of(0.0), T::of(1.0));
        let Sample { genes, peaks, q, k, vr, va, .. } = s;
        let (n_r, n_a) = (genes.len(), peaks.len());
        let (mut dq, mut dk) = (Matrix::zeros(n_r, h), Matrix::zeros(n_a, h));
        let (mut dvr, mut dva) = (Matrix::zeros(n_r, h), Matrix::zeros(n_a, h));
        for head in 0..heads {
            let (a, l, w) = (&of.attention[head], &of.logit[head], &of.soft[head]);
            let range = head * hd..(head + 1) * hd;
            for i in 0..n_r {
                let mut up = vec![zero; n_a];
                for (j, up) in up.iter_mut().enumerate() {
                    for t in range.clone() {
                        dva.add(j, t, a.at(i, j) * dm_r.at(i, t));
                        dvr.add(i, t, a.at(i, j) * dm_a.at(j, t));
                        if a.at(i, j) != zero {
                            *up += dm_r.at(i, t) * va.at(j, t) + dm_a.at(j, t) * vr.at(i, t);
                        }
                    }
                }
                let mean: T = (0..n_a).map(|j| w.at(i, j) * up[j]).sum();
                for j in 0..n_a {
                    if self.may_attend(genes[i].0, peaks[j].0) {
                        let s = sigmoid(l.at(i, j));
                        let g = s * (one - s) * w.at(i, j) * (up[j] - mean);
                        for t in range.clone() {
                            dq.add(i, t, g * k.at(j, t));
                            dk.add(j, t, g * q.at(i, t));
                        }
                    }
                }
            }
        }
        [dq, dk, dvr, dva]
    }

    /// Every gene against the cell's peaks: predictions and logits. Adds to the loss and to the gradient of the keys.
    fn reference_translation(
        &self,
        s: &Sample<'_, T>,
        share: T,
        loss: &mut T,
        dk: &mut Matrix<T>,
        arena: &mut [T],
    ) -> (Vec<T>, Vec<Matrix<T>>) {
        let c = &self.config;
        let (h, heads) = (c.hidden, c.heads);
        let (hd, n_a) = (h / heads, s.peaks.len());
        let (zero, one, tau) = (T::of(0.0), T::of(1.0), T::of(c.tau));
        let (wq, k) = (self.layer("rna_query"), &s.k);
        let (mut translation, mut translation_logit) = (Vec::new(), Vec::new());
        let all: Vec<(usize, T)> = (0..c.genes).map(|g| (g, one)).collect();
        let xd = self.feature_rows(true, &all);
        let qd = wq.forward(&xd);
        let mut dqd = Matrix::zeros(c.genes, h);
        let mut target = vec![zero; c.genes];
        s.genes.iter().for_each(|&(g, v)| target[g] = v);
        let cells = T::of((c.genes * heads) as f64);
        for head in 0..heads {
            let range = head * hd..(head + 1) * hd;
            let mut l = Matrix::zeros(c.genes, n_a);
            for (i, &truth) in target.iter().enumerate() {
                let mut count = 0;
                for j in 0..n_a {
                    l.add(i, j, range.clone().map(|t| qd.at(i, t) * k.at(j, t)).sum());
                    count += usize::from(sigmoid(l.at(i, j)) > tau);
                }
                let pred = T::of(f64::from(u8::from(count > c.min_peaks)));
                translation.push(pred);
                let diff = pred - truth;
                *loss += T::of(c.alpha) * share * diff * diff / cells;
                let g = T::of(2.0 * c.alpha) * share * diff / cells;
                for j in 0..n_a {
                    let s = sigmoid(l.at(i, j));
                    let g = g * s * (one - s);
                    for t in range.clone() {
                        dqd.add(i, t, g * k.at(j, t));
                        dk.add(j, t, g * qd.at(i, t));
                    }
                }
            }
            translation_logit.push(l);
        }
        let dxd = wq.backward(&xd, &dqd, arena);
        self.scatter_embedding(true, &all, &dxd, arena);
        (translation, translation_logit)
    }
}
