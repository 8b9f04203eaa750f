//! `attend` against the CPU.

use std::sync::Arc;

use super::{AttendSpec, Table, TableGrad, attend, gradients};
use crate::device::abi::NONE;
use crate::device::sink::{Sink, rounded, swap};
use crate::device::view::{F32, Image, View};
use crate::model::Precision;
use crate::model::nodes::NodeSet;
use crate::model::output::Selection;
use crate::ops::translate::logit_limit;
use crate::tape::Tape;

impl<'a> View<'a> {
    fn spec(&self) -> AttendSpec {
        let c = self.config;
        AttendSpec { heads: c.heads, top_k: c.top_k, tau: c.tau, unknown: self.features.unknown }
    }

    /// The members that the device chose, with its weights and scores, sample by sample.
    fn selections(&self, image: &Image) -> Vec<Selection<f64>> {
        let c = self.config;
        let len = self.genes.nnz() * c.heads * c.top_k;
        let (member, weight) = (self.words(image, "member", len), self.numbers(image, "weight", len));
        let score = self.numbers(image, "score", len);
        let tau = f64::from(c.tau as f32);
        let one = |b: usize| {
            let mut s = Selection { start: vec![0], ..Selection::default() };
            for e in self.genes.indptr[b]..self.genes.indptr[b + 1] {
                for head in 0..c.heads {
                    let at = (e * c.heads + head) * c.top_k;
                    for m in (at..at + c.top_k).take_while(|&m| member[m] != NONE) {
                        s.peak.push(member[m]);
                        s.weight.push(weight[m]);
                        s.score.push(score[m]);
                        s.kept.push(score[m] > tau);
                    }
                    if s.peak.len() as u32 > s.start[s.start.len() - 1] {
                        s.rows.push((head as u8, e as u32));
                        s.start.push(s.peak.len() as u32);
                    }
                }
            }
            s
        };
        (0..self.batch.len()).map(one).collect()
    }

    pub(crate) fn attend_forward(&self, out: &mut Sink<'_>) {
        let c = self.config;
        let (h, heads, k) = (c.hidden, c.heads, c.top_k);
        let len = self.genes.nnz() * heads * k;
        let (member, score) = (self.words(self.after, "member", len), self.get("score", len));
        let weight = self.get("weight", len);
        let empty = |m: usize| member[m] == NONE && weight[m] == 0.0 && score[m] == 0.0;
        let mut wrong = None;
        for (entry, slots) in member.chunks_exact(k.max(1)).enumerate() {
            let there = slots.iter().take_while(|&&m| m != NONE).count();
            if let Some(m) = (there..k).find(|&m| !empty(entry * k + m)) {
                let gene = entry / heads;
                wrong = Some(format!("gene entry {gene}: place {m} is behind the last member and not empty"));
                break;
            }
            if let Some(p) = slots[..there].iter().find(|&&p| p as usize >= self.peaks.nnz()) {
                wrong = Some(format!("gene entry {}: member {p} is no peak entry", entry / heads));
                break;
            }
        }
        let broken = wrong.is_some();
        out.exact("member: empty places", wrong);
        if broken {
            return;
        }
        let (differing, wrong) = self.places(&member, &score);
        out.choices("member: best places, in order", differing, wrong);
        // The numbers, with the device's choices.
        let [q, uq, kt, uk] = self.tables_read();
        let given = self.selections(self.after);
        if given.iter().any(|s| s.score.iter().chain(&s.weight).any(|x| !x.is_finite())) {
            out.exact("score", Some("holds what is no number".into()));
            return;
        }
        let run = |genes: Arc<NodeSet<f64>>, peaks: Arc<NodeSet<f64>>, [q, uq, k, uk]: [&[f64]; 4]| {
            let mut tape = Tape::inference();
            let q = (tape.param(0, q, [q.len() / h, h]), tape.param(1, uq, [1, h]));
            let k = (tape.param(2, k, [k.len() / h, h]), tape.param(3, uk, [1, h]));
            let a = attend(&mut tape, self.spec(), genes, peaks, q, k, Some(&given));
            let list = |f: fn(&Selection<f64>) -> &Vec<f64>| a.selections.iter().flat_map(|s| f(s).clone()).collect();
            let rows = swap(tape.get(a.row_sums), heads, self.genes.nnz(), 1);
            let cols = swap(tape.get(a.col_sums), heads, self.peaks.nnz(), 1);
            [list(|s| &s.score), list(|s| &s.weight), rows, cols]
        };
        let exact = run(self.genes.clone(), self.peaks.clone(), [&q, &uq, &kt, &uk]);
        let near = (self.precision == Precision::Bf16).then(|| {
            let rows = |table: &[f64], u: &[f64], nodes: &NodeSet<f64>| {
                let of = |e: usize| (nodes.local[e] as usize, nodes.values[e]);
                rounded(&Self::effective(table, u, (0..nodes.nnz()).map(of)))
            };
            let flat = |nodes: &NodeSet<f64>| {
                let own = (0..nodes.nnz() as u32).collect();
                Arc::new(self.flat(nodes.nnz(), nodes.indptr.clone(), own))
            };
            let zero = vec![0.0; h];
            let (qe, ke) = (rows(&q, &uq, &self.genes), rows(&kt, &uk, &self.peaks));
            run(flat(&self.genes), flat(&self.peaks), [&qe, &zero, &ke, &zero])
        });
        let list = |f: fn(&Selection<f64>) -> &Vec<f64>| given.iter().flat_map(|s| f(s).clone()).collect::<Vec<f64>>();
        let got = [
            list(|s| &s.score),
            list(|s| &s.weight),
            self.get("row_sums", self.genes.nnz() * heads),
            self.get("col_sums", self.peaks.nnz() * heads),
        ];
        for (i, name) in ["score", "weight", "row_sums", "col_sums"].into_iter().enumerate() {
            let limit = self.allow(2.0, &exact[i], || near.as_ref().map_or(Vec::new(), |n| n[i].clone()));
            out.tensor(name, &got[i], &exact[i], limit);
        }
        out.exact("pair", self.pairs(&member));
    }

    /// Are the chosen places the best, in order? How many lists differ from the exact ones, and a list that may not.
    fn places(&self, member: &[u32], score: &[f64]) -> (usize, Option<String>) {
        let c = self.config;
        let (h, heads, k) = (c.hidden, c.heads, c.top_k);
        let slice = h / heads;
        let [q, uq, kt, uk] = self.tables_read();
        let (limit, tau): (f64, f64) = (logit_limit(c.tau), f64::from(c.tau as f32));
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (mut differing, mut wrong) = (0, None);
        for b in 0..self.batch.len() {
            let (g0, p0) = (self.genes.indptr[b], self.peaks.indptr[b]);
            let (g1, p1) = (self.genes.indptr[b + 1], self.peaks.indptr[b + 1]);
            let of = |n: &NodeSet<f64>, e: usize| (n.local[e] as usize, n.values[e]);
            let qe = Self::effective(&q, &uq, (g0..g1).map(|e| of(&self.genes, e)));
            let ke = Self::effective(&kt, &uk, (p0..p1).map(|e| of(&self.peaks, e)));
            let index = |e: usize| self.peaks.rows[self.peaks.local[e] as usize];
            let mut lowest: Vec<(u32, u32)> = Vec::new();
            for &(chrom, from, to) in &self.peaks.segments[b] {
                lowest.extend((from..to).map(|e| (index(e), chrom)));
            }
            lowest.sort_unstable();
            let places = k.min(p1 - p0);
            for &(chrom, from, to) in &self.genes.segments[b] {
                let own = self.peaks.segments[b].iter().find(|s| s.0 == chrom && self.features.unknown != Some(chrom));
                let own = own.map_or(0..0, |s| s.1..s.2);
                let masked = lowest.iter().filter(|x| x.1 != chrom).take(places);
                let pads: Vec<Candidate> =
                    masked.map(|x| Candidate { logit: 0.0, free: 0.0, index: x.0, entry: NONE }).collect();
                for entry in from..to {
                    for head in 0..heads {
                        let at = (entry * heads + head) * k;
                        let there = member[at..at + k].iter().take_while(|&&m| m != NONE).count();
                        let range = head * slice..(head + 1) * slice;
                        let row = &qe[(entry - g0) * h..][range.clone()];
                        let size = norm(row) * self.free();
                        let candidate = |e: usize| {
                            let key = &ke[(e - p0) * h..][range.clone()];
                            let logit = row.iter().zip(key).map(|(a, b)| a * b).sum::<f64>();
                            Candidate { logit, free: size * norm(key), index: index(e), entry: e as u32 }
                        };
                        let all: Vec<Candidate> = own.clone().map(candidate).collect();
                        let one = Choice { all: &all, pads: &pads, places, limit };
                        let chosen = &member[at..at + there];
                        let kept: Vec<bool> = score[at..at + there].iter().map(|&s| s > tau).collect();
                        differing += usize::from(!one.is_best(chosen, &kept));
                        if let (None, Err(e)) = (&wrong, one.may_be(chosen, &kept)) {
                            wrong = Some(format!("sample {b}, gene entry {entry}, head {head}: {e}"));
                        }
                    }
                }
            }
        }
        (differing, wrong)
    }

    /// Is the list of pairs by peak what follows from the members?
    fn pairs(&self, member: &[u32]) -> Option<String> {
        let (heads, k) = (self.config.heads, self.config.top_k);
        let ptr = self.words(self.after, "pair_ptr", 2 * self.peaks.nnz() * heads);
        let pair = self.words(self.after, "pair", member.len());
        for b in 0..self.batch.len() {
            for &(chrom, p0, p1) in &self.peaks.segments[b] {
                let genes =
                    self.genes.segments[b].iter().find(|s| s.0 == chrom && self.features.unknown != Some(chrom));
                let (g0, g1) = genes.map_or((0, 0), |s| (s.1, s.2));
                for head in 0..heads {
                    let mut by_peak: Vec<Vec<u32>> = vec![Vec::new(); p1 - p0];
                    for gene in g0..g1 {
                        let slots = (gene * heads + head) * k..(gene * heads + head + 1) * k;
                        for m in slots.filter(|&m| member[m] != NONE) {
                            by_peak.get_mut((member[m] as usize).wrapping_sub(p0))?.push(m as u32);
                        }
                    }
                    let mut next = (g0 * heads + head * (g1 - g0)) * k;
                    for (p, want) in (p0..p1).zip(&by_peak) {
                        let at = 2 * (p * heads + head);
                        if ptr[at] as usize != next || ptr[at + 1] as usize != next + want.len() {
                            let (from, to) = (ptr[at], ptr[at + 1]);
                            return Some(format!(
                                "peak entry {p}, head {head}: pairs {from}..{to}, should be {next}..{}",
                                next + want.len()
                            ));
                        }
                        if pair[next..next + want.len()] != want[..] {
                            return Some(format!("peak entry {p}, head {head}: other pairs than its members"));
                        }
                        next += want.len();
                    }
                }
            }
        }
        None
    }

    pub(crate) fn attend_backward(&self, out: &mut Sink<'_>) {
        let (h, heads) = (self.config.hidden, self.config.heads);
        let given = self.selections(self.before);
        let [q, uq, k, uk] = self.tables_read();
        let (ng, np) = (self.genes.nnz(), self.peaks.nnz());
        let dr = swap(&self.numbers(self.before, "d_row_sums", ng * heads), ng, heads, 1);
        let dc = swap(&self.numbers(self.before, "d_col_sums", np * heads), np, heads, 1);
        let mut d = [vec![0.0; q.len()], vec![0.0; h], vec![0.0; k.len()], vec![0.0; h]];
        let [dq, duq, dk, duk] = &mut d;
        let tables = [Table { rows: &q, u: &uq }, Table { rows: &k, u: &uk }];
        let add = [TableGrad { rows: dq, u: duq }, TableGrad { rows: dk, u: duk }];
        gradients(&given, (&dr, &dc), (&self.genes, &self.peaks), h / heads, tables, add);
        for (name, want) in ["d_q", "d_uq", "d_k", "d_uk"].into_iter().zip(&d) {
            out.tensor(name, &self.get(name, want.len()), want, F32);
        }
    }
}

/// A peak that may take a place; masked ones have entry `NONE` and logit 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub logit: f64,
    /// How wrong the device may be about the logit.
    pub free: f64,
    pub index: u32,
    pub entry: u32,
}

impl Candidate {
    /// Comes before in the exact order.
    pub(crate) fn ahead(&self, other: &Candidate) -> bool {
        self.logit > other.logit || (self.logit == other.logit && self.index < other.index)
    }

    /// May come before, for all that the device can know. Logits that are equal, of equal keys, are equal there too.
    pub(crate) fn may_precede(&self, other: &Candidate) -> bool {
        if self.logit == other.logit {
            return self.index < other.index;
        }
        self.logit > other.logit - self.free - other.free
    }
}

/// The places of one gene.
pub(crate) struct Choice<'a> {
    pub all: &'a [Candidate],
    pub pads: &'a [Candidate],
    pub places: usize,
    pub limit: f64,
}

impl Choice<'_> {
    /// Exactly the members, in the order and on the side of the threshold that f64 gives?
    pub(crate) fn is_best(&self, chosen: &[u32], kept: &[bool]) -> bool {
        let mut list: Vec<&Candidate> =
            self.all.iter().chain(if self.all.is_empty() { &[] } else { self.pads }).collect();
        list.sort_by(|a, b| b.ahead(a).cmp(&a.ahead(b)));
        list.truncate(self.places);
        list.retain(|c| c.entry != NONE);
        if !list.iter().any(|c| c.logit > self.limit) {
            return chosen.is_empty();
        }
        let same = |(c, (&m, &k)): (&&Candidate, (&u32, &bool))| c.entry == m && k == (c.logit > self.limit);
        list.len() == chosen.len() && list.iter().zip(chosen.iter().zip(kept)).all(same)
    }

    /// Is it a choice that rounding explains?
    pub(crate) fn may_be(&self, chosen: &[u32], kept: &[bool]) -> Result<(), String> {
        let near = |c: &Candidate| (c.logit - self.limit).abs() <= c.free + 1e-5;
        if chosen.is_empty() {
            let missed = self.all.iter().filter(|c| c.logit > self.limit && !near(c));
            return match missed.max_by(|a, b| a.logit.total_cmp(&b.logit)) {
                Some(c) => Err(format!("no member, but peak {} has logit {:.5}", c.index, c.logit)),
                None => Ok(()),
            };
        }
        let find = |m: u32| self.all.iter().find(|c| c.entry == m);
        let mut taken: Vec<&Candidate> = Vec::new();
        for &m in chosen {
            let Some(c) = find(m) else {
                return Err(format!("member {m} is no peak entry of its chromosome and sample"));
            };
            if taken.iter().any(|t| t.entry == m) {
                return Err(format!("peak {} is a member twice", c.index));
            }
            taken.push(c);
        }
        let pads = match self.places.checked_sub(taken.len()).and_then(|n| self.pads.get(..n)) {
            Some(pads) => pads,
            None => return Err(format!("{} members for {} places", taken.len(), self.places)),
        };
        let said = |c: &Candidate| format!("peak {} (logit {:.6})", c.index, c.logit);
        if let Some(w) = taken.windows(2).find(|w| !w[0].may_precede(w[1])) {
            return Err(format!("{} is listed before {}", said(w[0]), said(w[1])));
        }
        let excluded = self.all.iter().filter(|c| !chosen.contains(&c.entry)).chain(&self.pads[pads.len()..]);
        for x in excluded {
            if let Some(c) = taken.iter().copied().chain(pads).find(|c| !c.may_precede(x)) {
                return Err(format!("{} has a place that belongs to {}", said(c), said(x)));
            }
        }
        if !kept.contains(&true) {
            return Err("has members though no score is above tau".into());
        }
        match taken.iter().zip(kept).find(|(c, k)| **k != (c.logit > self.limit) && !near(c)) {
            Some((c, k)) => Err(format!("{} is said to be {} tau", said(c), if *k { "above" } else { "not above" })),
            None => Ok(()),
        }
    }
}
