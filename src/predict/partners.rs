//! Partners of cells: for the RNA of some cells, which ATAC of others belongs to it (or the other way round), ranked.
//!
//! The model scores a pair only by a pass over both its profiles; ten thousand cells against ten thousand are 10⁸ passes.
//! So candidates are found first:
//!
//! 1. *Anchors*: every cell is scored by the model against a few random cells of the other side. Scores of pairs are of low
//!    rank (on SNARE-seq cortex, five dimensions hold 98.8 % of their squares), so those of all other pairs are completed from
//!    these by ridge regression: an approximation.
//! 2. *The model*: the best candidates of each query, each pair passed through the whole model: exact.
//!
//! Probabilities and the order of what is listed are exact, as those of `evaluate`. What the completion may do is to miss a
//! partner. On 516 cells of SNARE-seq cortex, where all pairs were scored as well, 50 candidates held 91 % of the ten
//! best of all (32 anchors; 16: 86 %; the halves of the embedding, each from its own modality, found 43 %).
//! Where cells of one name are on both sides, [`PartnerMetrics`] say how many partners were among the candidates. With
//! [`MatchOptions::exact`], or where it costs no more, every pair goes through the model.
//!
//! See docs/model.md, section 8.1.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::{Cell, DataSet};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::model::output::Want;
use crate::model::{Batch, Model};
use crate::ops::matmul::{View, product_into};
use crate::progress::Progress;
use crate::rng::Rng;

/// Which side asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Query {
    /// For each RNA profile, ATAC profiles are ranked.
    #[default]
    Rna,
    /// For each ATAC profile, RNA profiles are ranked.
    Atac,
}

/// How [`rank`] looks for partners.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchOptions {
    /// Which side asks.
    pub query: Query,
    /// Partners listed of each query.
    pub top: usize,
    /// Candidates of each query that go through the model; at least `top`.
    pub candidates: usize,
    /// Every pair goes through the model.
    pub exact: bool,
    /// Anchors of each side.
    pub anchors: usize,
    /// Pairs a forward pass; 0 counts as 1.
    pub batch_size: usize,
    /// Seed of the anchors.
    pub seed: u64,
}

impl Default for MatchOptions {
    fn default() -> Self {
        MatchOptions {
            query: Query::Rna,
            top: 10,
            candidates: 50,
            exact: false,
            anchors: 32,
            batch_size: 64,
            seed: crate::rng::DEFAULT_SEED,
        }
    }
}

/// A ranked partner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Partner {
    /// Number of the cell among those of the other side.
    pub cell: u32,
    /// The model's probability that both are one cell.
    pub probability: f32,
    /// Logit of label 1 less that of label 0.
    pub logit: f32,
}

/// How well cells of one name on both sides were found; `None` where a number is undefined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartnerMetrics {
    /// Queries whose cell is on the other side.
    pub known: u64,
    /// Cells of the other side.
    pub targets: u64,
    /// Share of them listed first, and by chance.
    pub top1: [f64; 2],
    /// Share of them listed among the first five, and by chance.
    pub top5: [f64; 2],
    /// Share of them listed at all, and by chance.
    pub listed: [f64; 2],
    /// Share of them among the candidates that went through the model.
    pub candidates: f64,
    /// Probability of the true partner, as a share of that of all listed; 0 where it is not listed. The mean; by chance.
    pub match_score: [f64; 2],
    /// Fraction of samples closer than the true match, by score: the mean share of other cells that score higher than the
    /// true partner, over all targets (0.5 by chance). Of completed scores, unless all pairs went through the model.
    pub foscttm: Option<f64>,
    /// The same by Euclidean distance between the two halves of z, each from its own modality
    /// ([`Model::halves`](crate::model::Model::halves)).
    pub foscttm_distance: Option<f64>,
}

/// What [`rank`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Matches {
    /// Of each query its partners, best first.
    pub partners: Vec<Vec<Partner>>,
    /// Pairs that went through the model, those with anchors included.
    pub scored: u64,
    /// Did every pair?
    pub exact: bool,
    /// Where cells of one name are on both sides.
    pub metrics: Option<PartnerMetrics>,
}

/// Both sides, as seen from the query.
struct Sides<'a> {
    query: Query,
    queries: &'a DataSet,
    targets: &'a DataSet,
}

impl Sides<'_> {
    fn batch(&self, pairs: &[(u32, u32)]) -> Result<Batch<f32>> {
        let (mut r, mut a) = (Cell::default(), Cell::default());
        let mut batch = Batch::new();
        for &(q, t) in pairs {
            let (rna, atac) = match self.query {
                Query::Rna => ((self.queries, q), (self.targets, t)),
                Query::Atac => ((self.targets, t), (self.queries, q)),
            };
            rna.0.rna_into(rna.1 as usize, &mut r);
            atac.0.atac_into(atac.1 as usize, &mut a);
            batch.push(0, u64::from(q), r.rna(), a.atac());
        }
        self.queries.check().and_then(|()| self.targets.check()).map(|()| batch)
    }
}

/// What an interruption leaves.
const NOTHING: &str = "nothing was written";
/// Cells a pass over halves.
const HALVES: usize = 512;

/// The half of z of every cell, `[N, H]`, from one modality alone.
fn halves(model: &Model<f32>, data: &DataSet, rna: bool, progress: &dyn Progress) -> Result<Vec<f32>> {
    let mut out = Vec::with_capacity(data.n_cells() * model.config.hidden);
    let mut cell = Cell::default();
    for from in (0..data.n_cells()).step_by(HALVES) {
        progress.check(NOTHING)?;
        let mut batch = Batch::new();
        for c in from..(from + HALVES).min(data.n_cells()) {
            // The other modality is not looked at: one entry stands in.
            if rna {
                data.rna_into(c, &mut cell);
                batch.push(0, c as u64, cell.rna(), [(0, 1.0)]);
            } else {
                data.atac_into(c, &mut cell);
                batch.push(0, c as u64, [(0, 1.0)], cell.atac());
            }
        }
        data.check()?;
        let (r, a) = model.halves(&batch);
        out.extend(if rna { r } else { a });
    }
    Ok(out)
}

/// Passes pairs through the model and counts them.
struct Scorer<'s, 'm, 'p> {
    runner: Runner<'m>,
    sides: &'s Sides<'s>,
    batch_size: usize,
    done: u64,
    total: u64,
    progress: &'p dyn Progress,
}

impl Scorer<'_, '_, '_> {
    /// Logit of label 1 less that of label 0 of each pair (query, target).
    fn score(&mut self, pairs: impl Iterator<Item = (u32, u32)>) -> Result<Vec<f32>> {
        let mut logits = Vec::new();
        let mut pending = Vec::with_capacity(self.batch_size);
        let mut pairs = pairs.peekable();
        while let Some(pair) = pairs.next() {
            pending.push(pair);
            if pending.len() == self.batch_size || pairs.peek().is_none() {
                self.progress.check(NOTHING)?;
                let out = self.runner.forward(&self.sides.batch(&pending)?, Want::default())?;
                logits.extend(out.logits.chunks_exact(2).map(|l| l[1] - l[0]));
                self.done += pending.len() as u64;
                self.progress.at("match", self.done, self.total);
                pending.clear();
            }
        }
        Ok(logits)
    }
}

/// Numbers of the `n` highest scores, highest first; of equals the lower number first.
fn best(scores: &[f32], n: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let mut index: Vec<u32> = (0..scores.len() as u32).collect();
    if n < index.len() {
        index.select_nth_unstable_by(n, order);
        index.truncate(n);
    }
    index.sort_unstable_by(order);
    index
}

/// Ridge of the completion, as a share of the mean eigenvalue.
const RIDGE: f64 = 1e-2;

/// Solves (wᵀ w + λ) x = wᵀ r for x `[n, m]`, by Cholesky in f64; `w` is `[n, n]`, `r` `[n, m]`.
fn ridge(w: &[f32], r: &[f32], n: usize, m: usize) -> Vec<f32> {
    let mut a = vec![0.0f64; n * n];
    for row in w.chunks_exact(n) {
        for i in 0..n {
            for j in 0..=i {
                a[i * n + j] += f64::from(row[i]) * f64::from(row[j]);
            }
        }
    }
    let trace: f64 = (0..n).map(|i| a[i * n + i]).sum();
    let lambda = RIDGE * trace / n as f64 + 1e-12;
    (0..n).for_each(|i| a[i * n + i] += lambda);
    for j in 0..n {
        for k in 0..j {
            let f = a[j * n + k];
            for i in j..n {
                a[i * n + j] -= a[i * n + k] * f;
            }
        }
        let d = a[j * n + j].max(1e-300).sqrt();
        (j..n).for_each(|i| a[i * n + j] /= d);
    }
    // Columns of r, in parallel.
    let columns: Vec<Vec<f32>> = (0..m)
        .into_par_iter()
        .map(|c| {
            let mut x: Vec<f64> =
                (0..n).map(|i| (0..n).map(|k| f64::from(w[k * n + i]) * f64::from(r[k * m + c])).sum()).collect();
            for i in 0..n {
                let s: f64 = (0..i).map(|k| a[i * n + k] * x[k]).sum();
                x[i] = (x[i] - s) / a[i * n + i];
            }
            for i in (0..n).rev() {
                let s: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k]).sum();
                x[i] = (x[i] - s) / a[i * n + i];
            }
            x.into_iter().map(|x| x as f32).collect()
        })
        .collect();
    (0..n).flat_map(|i| columns.iter().map(move |c| c[i])).collect()
}

/// The score of every pair, nearly, from those of the anchors: a factor a query and a factor a target.
/// See docs/model.md, eq. 68.
struct Completion {
    rank: usize,
    query: Vec<f32>,
    target: Vec<f32>,
}

impl Completion {
    fn new(scorer: &mut Scorer<'_, '_, '_>, q: usize, t: usize, rank: usize, seed: u64) -> Result<Self> {
        let anchors = |n: usize, stream: u64| {
            let mut all: Vec<u32> = (0..n as u32).collect();
            Rng::new(seed, stream).shuffle(&mut all);
            all.truncate(rank);
            all.sort_unstable();
            all
        };
        let (rows, columns) = (anchors(q, 0x3A7C), anchors(t, 0x3A7D));
        let query = scorer.score((0..q as u32).flat_map(|i| columns.iter().map(move |&j| (i, j))))?;
        let right = scorer.score(rows.iter().flat_map(|&i| (0..t as u32).map(move |j| (i, j))))?;
        let middle: Vec<f32> = rows.iter().flat_map(|&i| query[i as usize * rank..][..rank].to_vec()).collect();
        let factor = ridge(&middle, &right, rank, t); // [rank, T]
        let target = (0..t).flat_map(|j| (0..rank).map(move |i| (i, j))).map(|(i, j)| factor[i * t + j]).collect();
        Ok(Completion { rank, query, target })
    }

    fn scores(&self, query: usize) -> Vec<f32> {
        let t = self.target.len() / self.rank.max(1);
        let mut out = vec![0.0; t];
        let q = &self.query[query * self.rank..][..self.rank];
        product_into(&mut out, 1, View::new(&self.target, t, self.rank), View::new(q, self.rank, 1), false);
        out
    }
}

/// Ranks the partners of every query. `rna` and `atac` have the same genes and peaks (one may be the other); `model` is
/// for them. `progress` is told the pairs that went through the model, as stage `match`. Memory: a score a query and
/// anchor, and a target and anchor, four bytes each; those of the candidates. See docs/model.md, section 8.1.
///
/// # Errors
/// Data sets that differ in genes or peaks, or lack the modality; [`Error::Interrupted`].
pub fn rank<'m>(
    model: impl Into<Runner<'m>>,
    rna: &DataSet,
    atac: &DataSet,
    options: &MatchOptions,
    progress: &dyn Progress,
) -> Result<Matches> {
    let runner = model.into();
    let (a, b) = (rna.vocabulary(), atac.vocabulary());
    if a.genes != b.genes || a.peaks != b.peaks || rna.features() != atac.features() {
        return Err(Error::input(
            atac.dir(),
            format!("has other genes, peaks or features than {}", rna.dir().display()),
            "prepare one with --like the other",
        ));
    }
    for (data, there, flag) in [(rna, rna.kinds().0, "--rna"), (atac, atac.kinds().1, "--atac")] {
        if there.is_none() {
            return Err(Error::input(
                data.dir(),
                format!("lacks what {flag} asks for"),
                format!("prepare it with {flag}"),
            ));
        }
    }
    let (queries, targets) = match options.query {
        Query::Rna => (rna, atac),
        Query::Atac => (atac, rna),
    };
    let sides = Sides { query: options.query, queries, targets };
    let (q, t) = (queries.n_cells(), targets.n_cells());
    let candidates = options.candidates.max(options.top).min(t);
    let anchors = options.anchors.max(1).min(q).min(t);
    let (pairs, cheap) = (q as u64 * t as u64, anchors as u64 * (q + t) as u64 + candidates as u64 * q as u64);
    let exact = options.exact || cheap >= pairs;
    let model = runner.model();
    let total = if exact { pairs } else { cheap };
    let batch_size = options.batch_size.max(1);
    let mut scorer = Scorer { runner, sides: &sides, batch_size, done: 0, total, progress };
    let completion = match exact {
        true => None,
        false => Some(Completion::new(&mut scorer, q, t, anchors, options.seed)?),
    };
    let all: Vec<u32> = (0..t as u32).collect();
    let chosen: Vec<Vec<u32>> = (0..q)
        .into_par_iter()
        .map(|i| completion.as_ref().map_or_else(|| all.clone(), |c| best(&c.scores(i), candidates)))
        .collect();
    let pairs = chosen.iter().enumerate().flat_map(|(i, c)| c.iter().map(move |&t| (i as u32, t)));
    let logits = scorer.score(pairs)?;
    let mut at = 0;
    let scored: Vec<Vec<Partner>> = chosen
        .iter()
        .map(|c| {
            let of = &logits[at..at + c.len()];
            at += c.len();
            let order = best(of, c.len());
            let partner = |k: u32| {
                let logit = of[k as usize];
                Partner { cell: c[k as usize], probability: 1.0 / (1.0 + (-logit).exp()), logit }
            };
            order.into_iter().map(partner).collect()
        })
        .collect();
    let scored_pairs = scorer.done;
    let metrics = metrics(&sides, model, completion.as_ref(), &scored, options.top, progress)?;
    let partners = scored.into_iter().map(|mut p| {
        p.truncate(options.top);
        p
    });
    Ok(Matches { partners: partners.collect(), scored: scored_pairs, exact, metrics })
}

/// Queries over whose targets FOSCTTM is averaged, at most.
const FOSCTTM: usize = 2000;

/// `completion` is `None` where all pairs are among `scored`.
fn metrics(
    sides: &Sides<'_>,
    model: &Model<f32>,
    completion: Option<&Completion>,
    scored: &[Vec<Partner>],
    top: usize,
    progress: &dyn Progress,
) -> Result<Option<PartnerMetrics>> {
    let names = &sides.targets.vocabulary().cells;
    let place: HashMap<&str, u32> = (0..).zip(names).map(|(i, n)| (n.as_str(), i)).collect();
    let queries = &sides.queries.vocabulary().cells;
    let known: Vec<(usize, u32)> =
        queries.iter().enumerate().filter_map(|(i, n)| place.get(n.as_str()).map(|&t| (i, t))).collect();
    if known.is_empty() {
        return Ok(None);
    }
    let query_is_rna = sides.query == Query::Rna;
    let query_half = halves(model, sides.queries, query_is_rna, progress)?;
    let target_half = halves(model, sides.targets, !query_is_rna, progress)?;
    let h = model.config.hidden;
    let n = known.len() as f64;
    let t = names.len() as f64;
    let rank = |&(i, own): &(usize, u32)| scored[i].iter().position(|p| p.cell == own);
    let within = |k: usize| known.iter().filter(|q| rank(q).is_some_and(|r| r < k)).count() as f64 / n;
    let chance = |k: usize| (k as f64 / t).min(1.0);
    let mass = |&(i, own): &(usize, u32)| {
        let listed = &scored[i][..top.min(scored[i].len())];
        let sum: f64 = listed.iter().map(|p| f64::from(p.probability)).sum();
        listed.iter().find(|p| p.cell == own).map_or(0.0, |p| f64::from(p.probability) / sum.max(f64::MIN_POSITIVE))
    };
    // Evenly over the queries, where there are many.
    let step = known.len().div_ceil(FOSCTTM);
    let some: Vec<(usize, u32)> = known.iter().copied().step_by(step).collect();
    let others = (names.len() > 1).then_some(t - 1.0);
    let all: Vec<u32> = (0..names.len() as u32).collect();
    let share = |above: &(dyn Fn(&(usize, u32)) -> usize + Sync)| {
        others.map(|m| some.par_iter().map(|q| above(q) as f64 / m).sum::<f64>() / some.len() as f64)
    };
    let by_score = |&(i, own): &(usize, u32)| match completion {
        None => scored[i].iter().position(|p| p.cell == own).unwrap_or(0),
        Some(completion) => {
            let scores = completion.scores(i);
            scores.iter().filter(|&&s| s > scores[own as usize]).count()
        }
    };
    let by_distance = |&(i, own): &(usize, u32)| {
        let q = &query_half[i * h..][..h];
        let distance =
            |t: u32| target_half[t as usize * h..][..h].iter().zip(q).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let mine = distance(own);
        all.iter().filter(|&&t| distance(t) < mine).count()
    };
    Ok(Some(PartnerMetrics {
        known: known.len() as u64,
        targets: names.len() as u64,
        top1: [within(1), chance(1)],
        top5: [within(5.min(top)), chance(5.min(top))],
        listed: [within(top), chance(top)],
        candidates: known.iter().filter(|q| rank(q).is_some()).count() as f64 / n,
        match_score: [known.iter().map(mass).sum::<f64>() / n, chance(1)],
        foscttm: share(&by_score),
        foscttm_distance: share(&by_distance),
    }))
}
