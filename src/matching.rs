//! Matching proper: for the RNA of some cells, which ATAC of others belongs to it (or the other way round), ranked.
//!
//! The model scores a pair only by a pass over both its profiles; ten thousand cells against ten thousand are 10⁸ passes.
//! So candidates are found first, in up to three stages, each a closer look at fewer pairs:
//!
//! 1. *Anchors* (only where there are more pairs than [`Options::dense`]): the score of stage 2 for all pairs is completed
//!    from its rows and columns at up to 256 random cells of each side (a low-rank completion); the best 20 × candidates go on.
//! 2. *Halves*: the two halves of z, each from its own modality alone ([`Model::halves`](crate::model::Model::halves)),
//!    through the matching head.
//! 3. *The model*: the best candidates of each query, each pair passed through the whole model.
//!
//! Probabilities and the order of what is listed are exact, as those of `evaluate`. What stages 1 and 2 may do is to miss a
//! partner: where cells of one name are on both sides, [`Metrics`] say how often. With [`Options::exact`] every pair
//! goes through the model, and nothing is missed.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::device::Runner;
use crate::error::{Error, Result};
use crate::graph::{Cell, DataSet};
use crate::model::{Batch, Model, Want};
use crate::ops::matmul::{View, product, product_into};
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

/// How partners are looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Which side asks.
    pub query: Query,
    /// Partners listed of each query.
    pub top: usize,
    /// Candidates of each query that go through the model; at least `top`.
    pub candidates: usize,
    /// Every pair goes through the model.
    pub exact: bool,
    /// Pairs up to which stage 2 looks at all of them.
    pub dense: u64,
    /// Pairs a forward pass.
    pub batch_size: usize,
    /// Seed of the anchors.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            query: Query::Rna,
            top: 10,
            candidates: 50,
            exact: false,
            dense: 4_000_000,
            batch_size: 64,
            seed: crate::cli::DEFAULT_SEED,
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
pub struct Metrics {
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
    /// Share of them among the candidates that went through the model: what stages 1 and 2 left of 1.
    pub candidates: f64,
    /// Probability of the true partner, as a share of that of all listed; 0 where it is not listed. The mean; by chance.
    pub match_score: [f64; 2],
    /// Fraction of samples closer than the true match, by the score of stage 2: the mean share of other cells that score
    /// higher than the true partner, over all targets (0.5 by chance). With `exact`, by the model.
    pub foscttm: Option<f64>,
    /// The same by Euclidean distance between the two halves, each from its own modality.
    pub foscttm_distance: Option<f64>,
}

/// What [`rank`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Matches {
    /// Of each query its partners, best first.
    pub partners: Vec<Vec<Partner>>,
    /// Pairs that went through the model.
    pub scored: u64,
    /// Was stage 1 needed?
    pub anchored: bool,
    /// Where cells of one name are on both sides.
    pub metrics: Option<Metrics>,
}

/// Both sides, as seen from the query.
struct Sides<'a> {
    query: Query,
    queries: &'a DataSet,
    targets: &'a DataSet,
}

impl Sides<'_> {
    fn batch(&self, pairs: &[(u32, u32)]) -> Batch<f32> {
        let (mut r, mut a) = (Cell::default(), Cell::default());
        let mut batch = Batch::new();
        for &(q, t) in pairs {
            let (rna, atac) = match self.query {
                Query::Rna => ((self.queries, q), (self.targets, t)),
                Query::Atac => ((self.targets, t), (self.queries, q)),
            };
            rna.0.rna_into(rna.1 as usize, &mut r);
            atac.0.atac_into(atac.1 as usize, &mut a);
            let genes = r.genes.iter().enumerate().map(|(i, &g)| (g, r.expr.get(i)));
            let peaks = a.peaks.iter().enumerate().map(|(i, &p)| (p, a.acc.get(i)));
            batch.push(0, u64::from(q), genes, peaks);
        }
        batch
    }
}

/// The matching head over halves: its first layer is a sum of what each half gives.
struct Head {
    hidden: usize,
    /// `[Q, H]` and `[T, H]`: what each side gives to the first layer, bias with the queries.
    query: Vec<f32>,
    target: Vec<f32>,
    /// The halves themselves, for distances.
    query_half: Vec<f32>,
    target_half: Vec<f32>,
    w2: Vec<f32>,
    b2: Vec<f32>,
    /// Last layer, label 1 less label 0.
    w3: Vec<f32>,
    b3: f32,
}

impl Head {
    fn new(model: &Model<f32>, sides: &Sides<'_>) -> Result<Self> {
        let h = model.config.hidden;
        let get = |name: &str| {
            let found = model.params.get(name).map(<[f32]>::to_vec);
            found.ok_or_else(|| Error::Internal(format!("no tensor {name}")))
        };
        let (w1, b1, w3, b3) = (get("fc1.weight")?, get("fc1.bias")?, get("fc3.weight")?, get("fc3.bias")?);
        let n = model.params.get("fc2.bias").map_or(0, <[f32]>::len);
        let halves = |data: &DataSet, rna: bool| -> Result<Vec<f32>> {
            let mut out = Vec::with_capacity(data.n_cells() * h);
            for from in (0..data.n_cells()).step_by(HALVES) {
                crate::interrupt::check("nothing was written")?;
                let mut cell = Cell::default();
                let mut batch = Batch::new();
                for c in from..(from + HALVES).min(data.n_cells()) {
                    // The other modality is not looked at: one entry stands in.
                    let (mut genes, mut peaks) = (vec![(0, 1.0)], vec![(0, 1.0)]);
                    if rna {
                        data.rna_into(c, &mut cell);
                        genes = cell.genes.iter().enumerate().map(|(i, &g)| (g, cell.expr.get(i))).collect();
                    } else {
                        data.atac_into(c, &mut cell);
                        peaks = cell.peaks.iter().enumerate().map(|(i, &p)| (p, cell.acc.get(i))).collect();
                    }
                    batch.push(0, c as u64, genes, peaks);
                }
                let (r, a) = model.halves(&batch);
                out.extend(if rna { r } else { a });
            }
            Ok(out)
        };
        let query_is_rna = sides.query == Query::Rna;
        let (query_half, target_half) = (halves(sides.queries, query_is_rna)?, halves(sides.targets, !query_is_rna)?);
        // fc1 is [H, 2H]: its left half meets the RNA.
        let first = |half: &[f32], rna: bool| {
            let rows = half.len() / h;
            let mut out = vec![0.0; rows * h];
            let w = View::strided(&w1[if rna { 0 } else { h }..], h, h, 2 * h);
            product(&mut out, View::new(half, rows, h), w.t(), false);
            out
        };
        let mut query = first(&query_half, query_is_rna);
        for row in query.chunks_exact_mut(h) {
            row.iter_mut().zip(&b1).for_each(|(x, b)| *x += b);
        }
        Ok(Head {
            hidden: h,
            query,
            target: first(&target_half, !query_is_rna),
            query_half,
            target_half,
            w2: get("fc2.weight")?,
            b2: get("fc2.bias")?,
            w3: (0..n).map(|i| w3[n + i] - w3[i]).collect(),
            b3: b3[1] - b3[0],
        })
    }

    fn queries(&self) -> usize {
        self.query.len() / self.hidden
    }

    fn targets(&self) -> usize {
        self.target.len() / self.hidden
    }

    /// Scores of a query against these targets.
    fn scores(&self, query: usize, targets: &[u32]) -> Vec<f32> {
        let (h, n) = (self.hidden, self.b2.len());
        let q = &self.query[query * h..][..h];
        let mut out = Vec::with_capacity(targets.len());
        for chunk in targets.chunks(256) {
            let mut x = Vec::with_capacity(chunk.len() * h);
            for &t in chunk {
                x.extend(q.iter().zip(&self.target[t as usize * h..][..h]).map(|(a, b)| (a + b).max(0.0)));
            }
            let mut y = self.b2.repeat(chunk.len());
            product_into(&mut y, n, View::new(&x, chunk.len(), h), View::new(&self.w2, n, h).t(), true);
            let score = |y: &[f32]| y.iter().zip(&self.w3).map(|(y, w)| y.max(0.0) * w).sum::<f32>() + self.b3;
            out.extend(y.chunks_exact(n).map(score));
        }
        out
    }
}

/// Cells a pass over halves.
const HALVES: usize = 512;
/// Anchors a side.
const ANCHORS: usize = 256;
/// How many times the candidates stage 1 hands on.
const WIDER: usize = 20;

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
    let lambda = 1e-6 * trace / n as f64 + 1e-12;
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

/// Stage 1: the score of every pair, nearly, from those of the anchors: a factor a query and a factor a target.
struct Completion {
    rank: usize,
    query: Vec<f32>,
    target: Vec<f32>,
}

impl Completion {
    fn new(head: &Head, seed: u64) -> Self {
        let (q, t) = (head.queries(), head.targets());
        let rank = ANCHORS.min(q).min(t);
        let anchors = |n: usize, stream: u64| {
            let mut all: Vec<u32> = (0..n as u32).collect();
            Rng::new(seed, stream).shuffle(&mut all);
            all.truncate(rank);
            all.sort_unstable();
            all
        };
        let (rows, columns) = (anchors(q, 0x3A7C), anchors(t, 0x3A7D));
        let all: Vec<u32> = (0..t as u32).collect();
        let query: Vec<f32> = (0..q).into_par_iter().flat_map_iter(|i| head.scores(i, &columns)).collect();
        let right: Vec<f32> = rows.par_iter().flat_map_iter(|&i| head.scores(i as usize, &all)).collect();
        let middle: Vec<f32> = rows.iter().flat_map(|&i| query[i as usize * rank..][..rank].to_vec()).collect();
        let factor = ridge(&middle, &right, rank, t); // [rank, T]
        let target = (0..t).flat_map(|j| (0..rank).map(move |i| (i, j))).map(|(i, j)| factor[i * t + j]).collect();
        Completion { rank, query, target }
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
/// for them. `progress` is told the pairs that went through the model, and how many will.
///
/// # Errors
/// Data sets that differ in genes or peaks, or lack the modality; [`Error::Interrupted`].
pub fn rank<'m>(
    model: impl Into<Runner<'m>>,
    rna: &DataSet,
    atac: &DataSet,
    options: &Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Matches> {
    let mut runner = model.into();
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
    let head = Head::new(runner.model(), &sides)?;
    let candidates = if options.exact { t } else { options.candidates.max(options.top).min(t) };
    let anchored = !options.exact && q as u64 * t as u64 > options.dense;
    let completion = anchored.then(|| Completion::new(&head, options.seed));
    let all: Vec<u32> = (0..t as u32).collect();
    crate::interrupt::check("nothing was written")?;
    let chosen: Vec<Vec<u32>> = (0..q)
        .into_par_iter()
        .map(|i| {
            if candidates == t {
                return all.clone();
            }
            let near = completion.as_ref().map(|c| best(&c.scores(i), candidates * WIDER));
            let near = near.as_deref().unwrap_or(&all);
            best(&head.scores(i, near), candidates).into_iter().map(|k| near[k as usize]).collect()
        })
        .collect();

    let total = chosen.iter().map(Vec::len).sum::<usize>() as u64;
    let pairs = chosen.iter().enumerate().flat_map(|(i, c)| c.iter().map(move |&t| (i as u32, t)));
    let mut logits: Vec<f32> = Vec::with_capacity(total as usize);
    let mut pending: Vec<(u32, u32)> = Vec::with_capacity(options.batch_size.max(1));
    let mut score = |pairs: &mut Vec<(u32, u32)>| -> Result<()> {
        crate::interrupt::check("nothing was written")?;
        let out = runner.forward(&sides.batch(pairs), Want::default())?;
        logits.extend(out.logits.chunks_exact(2).map(|l| l[1] - l[0]));
        pairs.clear();
        progress(logits.len() as u64, total);
        Ok(())
    };
    for pair in pairs {
        pending.push(pair);
        if pending.len() == options.batch_size.max(1) {
            score(&mut pending)?;
        }
    }
    if !pending.is_empty() {
        score(&mut pending)?;
    }
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
    let metrics = metrics(&sides, &head, &scored, options);
    let partners = scored.into_iter().map(|mut p| {
        p.truncate(options.top);
        p
    });
    Ok(Matches { partners: partners.collect(), scored: total, anchored, metrics })
}

/// Queries over whose targets FOSCTTM is averaged, at most.
const FOSCTTM: usize = 2000;

fn metrics(sides: &Sides<'_>, head: &Head, scored: &[Vec<Partner>], options: &Options) -> Option<Metrics> {
    let names = &sides.targets.vocabulary().cells;
    let place: HashMap<&str, u32> = (0..).zip(names).map(|(i, n)| (n.as_str(), i)).collect();
    let queries = &sides.queries.vocabulary().cells;
    let known: Vec<(usize, u32)> =
        queries.iter().enumerate().filter_map(|(i, n)| place.get(n.as_str()).map(|&t| (i, t))).collect();
    if known.is_empty() {
        return None;
    }
    let n = known.len() as f64;
    let t = names.len() as f64;
    let rank = |&(i, own): &(usize, u32)| scored[i].iter().position(|p| p.cell == own);
    let within = |k: usize| known.iter().filter(|q| rank(q).is_some_and(|r| r < k)).count() as f64 / n;
    let chance = |k: usize| (k as f64 / t).min(1.0);
    let mass = |&(i, own): &(usize, u32)| {
        let listed = &scored[i][..options.top.min(scored[i].len())];
        let sum: f64 = listed.iter().map(|p| f64::from(p.probability)).sum();
        listed.iter().find(|p| p.cell == own).map_or(0.0, |p| f64::from(p.probability) / sum.max(f64::MIN_POSITIVE))
    };
    // Evenly over the queries, where there are many.
    let step = known.len().div_ceil(FOSCTTM);
    let some: Vec<(usize, u32)> = known.iter().copied().step_by(step).collect();
    let others = (names.len() > 1).then(|| t - 1.0);
    let all: Vec<u32> = (0..names.len() as u32).collect();
    let share = |above: &(dyn Fn(&(usize, u32)) -> usize + Sync)| {
        others.map(|m| some.par_iter().map(|q| above(q) as f64 / m).sum::<f64>() / some.len() as f64)
    };
    let by_score = |&(i, own): &(usize, u32)| {
        if options.exact {
            return scored[i].iter().position(|p| p.cell == own).unwrap_or(0);
        }
        let scores = head.scores(i, &all);
        scores.iter().filter(|&&s| s > scores[own as usize]).count()
    };
    let by_distance = |&(i, own): &(usize, u32)| {
        let h = head.hidden;
        let q = &head.query_half[i * h..][..h];
        let distance =
            |t: u32| head.target_half[t as usize * h..][..h].iter().zip(q).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let mine = distance(own);
        all.iter().filter(|&&t| distance(t) < mine).count()
    };
    let top = options.top;
    Some(Metrics {
        known: known.len() as u64,
        targets: names.len() as u64,
        top1: [within(1), chance(1)],
        top5: [within(5.min(top)), chance(5.min(top))],
        listed: [within(top), chance(top)],
        candidates: known.iter().filter(|q| rank(q).is_some()).count() as f64 / n,
        match_score: [known.iter().map(mass).sum::<f64>() / n, chance(1)],
        foscttm: share(&by_score),
        foscttm_distance: share(&by_distance),
    })
}
