//! Evidence for links: which peaks near a gene go with its expression from cell to cell once depth and programmes of many
//! genes are taken out, weighed against what distance and the data as a whole let expect.
//!
//! Three steps, none of which looks at known links:
//! * *Adjustment.* Expression and accessibility are regressed (least squares) on the log numbers of genes and peaks of a
//!   cell and on the leading components of RNA, found by subspace iteration over standardised expression. What is left of a
//!   gene and a peak gives their partial correlation, and the relative effect `β = slope / mean expression` with its
//!   standard error `σ`. Where both are rare, a single cell with both lies many standard errors from what is expected and
//!   is no surprise: sums of products of what is rare are as skewed as the counts of a Poisson law. `σ` of a positive effect
//!   is widened until `β / σ` is as rare under the normal law as it is under a law of that skewness ([`tempered`]).
//! * *Mixture.* Of the pairs of a distance bin a share π(bin) are links. A link's effect is drawn from N(m, t²), any other's
//!   is 0; both are seen with variance `s² σ²`. π, m, t and s are those of greatest likelihood (EM), so the prior of a
//!   distance is learned from the data at hand, and a gene whose effects are measured well must show a large one.
//! * *Posterior.* The log odds that a pair is a link, given β, σ and its distance. Effects below 0 count as none.
//!
//! A covariance of expression with accessibility is no proof of regulation: probabilities are those of the mixture.

use std::io::Write;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::links::Link;
use super::maps::{LINK_COLUMNS, LinkStat, PLACE, PairColumns, field, place, read_pairs};
use super::recovery::{ReadCell, distance};
use crate::error::Result;
use crate::graph::{Cell, CisGraph, Vocabulary};
use crate::ops::attend::sigmoid;
use crate::rng::{Rng, philox};
use crate::simd::axpy;
use crate::train::files::write_atomic;

/// Leading components of RNA that are taken out, where there are at least ten cells for each.
pub const COMPONENTS: usize = 20;
/// Upper ends of the distance bins of the mixture, in bases; then pairs beyond, then those of unknown distance.
pub const ENDS: [f64; 9] = [1e3, 5e3, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6];
/// Distance bins of the mixture.
pub const BINS: usize = ENDS.len() + 2;
/// Pairs of a gene drawn from its whole chromosome for the fit of the mixture.
const FAR: usize = 60;
/// Portions of the cells whose sums are kept apart and added in order, so that threads do not change the result.
const PORTIONS: usize = 8;
/// Rounds of subspace iteration.
const ROUNDS: usize = 8;
/// Random streams.
const START: u64 = 0xE51D_0000;
const DRAW: u32 = 0x6661_7221;

/// Bin of a distance.
pub fn bin(distance: Option<f64>) -> usize {
    distance.map_or(BINS - 1, |d| ENDS.partition_point(|&end| end < d))
}

/// What is kept of a discovery that is stopped at its tables.
pub(super) const KEPT: &str = "all attention is there; the same command with --resume makes the tables";

/// An error once it has been asked to stop.
pub(super) fn go_on() -> Result<()> {
    crate::interrupt::check(KEPT)
}

/// Adds up over cells: `add(sums, place among the cells, cell)`, portion by portion.
fn over_cells<A: Send>(
    cells: &[u32],
    read: &ReadCell<'_>,
    zero: impl Fn() -> A + Sync,
    add: impl Fn(&mut A, usize, &Cell) + Sync,
    merge: impl Fn(&mut A, A),
) -> Result<A> {
    let size = cells.len().div_ceil(PORTIONS).max(1);
    let portions: Vec<A> = cells
        .par_chunks(size)
        .enumerate()
        .map(|(i, some)| {
            let (mut sums, mut cell) = (zero(), Cell::default());
            for (j, &c) in some.iter().enumerate() {
                if crate::interrupt::requested() {
                    break; // the sums are not used
                }
                read(c, &mut cell);
                add(&mut sums, i * size + j, &cell);
            }
            sums
        })
        .collect();
    go_on()?;
    let mut portions = portions.into_iter();
    let mut total = portions.next().unwrap_or_else(&zero);
    portions.for_each(|p| merge(&mut total, p));
    Ok(total)
}

fn plus(a: &mut [f64], b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

/// Makes the columns of `m` `[rows, width]` orthonormal, from the left, twice over; one that depends on those before it
/// becomes 0.
fn orthonormalise(m: &mut [f64], width: usize) {
    for k in 0..width {
        let before: f64 = m.chunks_exact(width).map(|r| r[k] * r[k]).sum();
        for _ in 0..2 {
            for j in 0..k {
                let dot: f64 = m.chunks_exact(width).map(|r| r[j] * r[k]).sum();
                m.chunks_exact_mut(width).for_each(|r| r[k] -= dot * r[j]);
            }
        }
        let after: f64 = m.chunks_exact(width).map(|r| r[k] * r[k]).sum();
        let scale = if after > 1e-20 * before { 1.0 / after.sqrt() } else { 0.0 };
        m.chunks_exact_mut(width).for_each(|r| r[k] *= scale);
    }
}

/// Sums over cells of each gene and each peak.
struct Sums {
    /// `[G]` and `[P]`.
    sum: [Vec<f64>; 2],
    square: [Vec<f64>; 2],
    cube: [Vec<f64>; 2],
}

impl Sums {
    /// Skewness over `n` cells of gene or peak `i`; 0 of a constant.
    fn skewness(&self, side: usize, i: usize, n: f64) -> f64 {
        let [mean, square, cube] = [&self.sum, &self.square, &self.cube].map(|x| x[side][i] / n);
        let variance = square - mean * mean;
        if variance <= 1e-9 * square {
            return 0.0;
        }
        (cube - 3.0 * mean * square + 2.0 * mean.powi(3)) / variance.powf(1.5)
    }
}

fn sums(v: &Vocabulary, cells: &[u32], read: &ReadCell<'_>) -> Result<Sums> {
    let zero = || {
        let of = || [vec![0.0; v.genes.len()], vec![0.0; v.peaks.len()]];
        Sums { sum: of(), square: of(), cube: of() }
    };
    let add = |s: &mut Sums, _: usize, cell: &Cell| {
        let mut one = |side: usize, i: u32, x: f32| {
            let (i, x) = (i as usize, f64::from(x));
            s.sum[side][i] += x;
            s.square[side][i] += x * x;
            s.cube[side][i] += x * x * x;
        };
        cell.rna().for_each(|(g, x)| one(0, g, x));
        cell.atac().for_each(|(p, x)| one(1, p, x));
    };
    over_cells(cells, read, zero, add, |a, b| {
        for side in 0..2 {
            plus(&mut a.sum[side], &b.sum[side]);
            plus(&mut a.square[side], &b.square[side]);
            plus(&mut a.cube[side], &b.cube[side]);
        }
    })
}

/// The leading components of standardised expression: `[cells, width]`, orthonormal, span of the leading subspace.
fn components(
    v: &Vocabulary,
    cells: &[u32],
    read: &ReadCell<'_>,
    s: &Sums,
    width: usize,
    seed: u64,
) -> Result<Vec<f64>> {
    let (n, genes) = (cells.len(), v.genes.len());
    let mean: Vec<f64> = s.sum[0].iter().map(|x| x / n as f64).collect();
    let scale: Vec<f64> = (mean.iter().zip(&s.square[0]))
        .map(|(m, q)| Some(q / n as f64 - m * m).filter(|v| *v > 1e-12 * q / n as f64).map_or(0.0, |v| 1.0 / v.sqrt()))
        .collect();
    let mut rng = Rng::new(seed, START);
    let mut loading: Vec<f64> = (0..genes * width).map(|_| rng.normal()).collect();
    let mut scores = vec![0.0; n * width];
    for round in 0..ROUNDS {
        // Of each gene its loading over its spread, and what the means add to every cell.
        loading.chunks_exact_mut(width).zip(&scale).for_each(|(l, s)| l.iter_mut().for_each(|l| *l *= s));
        let mut shift = vec![0.0; width];
        loading.chunks_exact(width).zip(&mean).for_each(|(l, &m)| axpy(&mut shift, m, l));
        scores.par_chunks_mut(width).zip(cells).for_each_init(Cell::default, |cell, (out, &c)| {
            read(c, cell);
            out.iter_mut().zip(&shift).for_each(|(o, s)| *o = -s);
            cell.rna().for_each(|(g, x)| axpy(out, f64::from(x), &loading[g as usize * width..][..width]));
        });
        go_on()?;
        orthonormalise(&mut scores, width);
        if round + 1 == ROUNDS {
            break;
        }
        let mut back = over_cells(
            cells,
            read,
            || vec![0.0; genes * width],
            |sum, at, cell| {
                let of_cell = &scores[at * width..][..width];
                cell.rna().for_each(|(g, x)| axpy(&mut sum[g as usize * width..][..width], f64::from(x), of_cell));
            },
            |a, b| plus(a, &b),
        )?;
        let mut total = vec![0.0; width];
        scores.chunks_exact(width).for_each(|row| plus(&mut total, row));
        for ((l, &m), &s) in back.chunks_exact_mut(width).zip(&mean).zip(&scale) {
            axpy(l, -m, &total);
            l.iter_mut().for_each(|l| *l *= s);
        }
        orthonormalise(&mut back, width);
        loading = back;
    }
    Ok(scores)
}

/// How a gene and a peak go together over cells once covariates are taken out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Association {
    /// Partial correlation; 0 where nothing is left of either.
    pub partial: f64,
    /// β: what one unit of accessibility adds to expression, over the gene's mean expression.
    pub effect: f64,
    /// σ, its standard error, widened where few cells decide; infinite where nothing is left of either.
    pub error: f64,
}

/// The number of standard deviations of a normal law whose upper tail is that of `z` standard deviations under a Pearson
/// type III (gamma) law of this skewness; `z` itself where that is no less.
///
/// Of shape k = 4 / skewness². For k ≥ 1 by Wilson and Hilferty's cube root; else by `Q(k, x) ≈ k xᵏ e⁻ˣ ln (1 + 1/x)`, which
/// is within a fifth of the tail where it is small. So no count of cells with both is more surprising than under a
/// Poisson law of that many expected.
pub fn tempered(z: f64, skewness: f64) -> f64 {
    if z <= 0.0 || skewness <= 0.0 {
        return z;
    }
    if skewness <= 2.0 {
        let cube_root = (1.0 + skewness * z / 2.0).cbrt() - 1.0;
        return (6.0 / skewness * cube_root + skewness / 6.0).min(z);
    }
    let shape = 4.0 / (skewness * skewness);
    let x = shape + 2.0 * z / skewness;
    // −ln of the tail.
    let tail = x - shape.ln() - shape * x.ln() - (1.0 / x).ln_1p().ln();
    if tail < 1.0 {
        return z;
    }
    let mut normal = (2.0 * tail).sqrt();
    for _ in 0..4 {
        // Mills' ratio: the tail is φ(t) / (t + 1/t), nearly.
        let near = tail - 0.5 * std::f64::consts::TAU.ln() - (normal + 1.0 / normal).ln();
        normal = (2.0 * near.max(0.1)).sqrt();
    }
    normal.min(z)
}

/// Genes and peaks, with what covariates explain taken out.
#[derive(Debug, Clone)]
pub struct Adjusted {
    n: f64,
    width: usize,
    /// `[G, width]` and `[P, width]` projections on the covariates.
    on: [Vec<f64>; 2],
    /// `[G]` and `[P]` sums of squares left.
    rest: [Vec<f64>; 2],
    /// `[G]` and `[P]` skewness over cells.
    skewness: [Vec<f64>; 2],
    /// `[G]` mean expression.
    mean: Vec<f64>,
}

impl Adjusted {
    /// Over `cells`, read by `read`: the constant, the logs of the numbers of genes and peaks of a cell, and the leading
    /// `most` components of RNA are taken out (fewer than `most` where cells are few). Passes over the cells: 18.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`].
    pub fn new(v: &Vocabulary, cells: &[u32], read: &ReadCell<'_>, most: usize, seed: u64) -> Result<Self> {
        let n = cells.len();
        let s = sums(v, cells, read)?;
        let leading = most.min(n / 10).min(v.genes.len());
        let found = if leading > 0 { components(v, cells, read, &s, leading, seed)? } else { Vec::new() };
        let width = 3 + leading;
        let mut q = vec![0.0; n * width];
        q.par_chunks_mut(width).zip(cells).enumerate().for_each_init(Cell::default, |cell, (i, (q, &c))| {
            read(c, cell);
            q[0] = 1.0;
            q[1] = (1.0 + cell.genes.len() as f64).ln();
            q[2] = (1.0 + cell.peaks.len() as f64).ln();
            q[3..].copy_from_slice(&found[i * leading..][..leading]);
        });
        orthonormalise(&mut q, width);
        let zero = || [vec![0.0; v.genes.len() * width], vec![0.0; v.peaks.len() * width]];
        let add = |on: &mut [Vec<f64>; 2], at: usize, cell: &Cell| {
            let q = &q[at * width..][..width];
            cell.rna().for_each(|(g, x)| axpy(&mut on[0][g as usize * width..][..width], f64::from(x), q));
            cell.atac().for_each(|(p, x)| axpy(&mut on[1][p as usize * width..][..width], f64::from(x), q));
        };
        let on = over_cells(cells, read, zero, add, |a, b| (0..2).for_each(|side| plus(&mut a[side], &b[side])))?;
        let rest = [0, 1].map(|side| {
            let squares = on[side].chunks_exact(width).map(|p| p.iter().map(|x| x * x).sum::<f64>());
            // What rounding leaves of something that the covariates explain wholly counts as nothing.
            let left = squares.zip(&s.square[side]).map(|(p, &q)| if q - p > 1e-9 * q { q - p } else { 0.0 });
            left.collect::<Vec<f64>>()
        });
        let mean = s.sum[0].iter().map(|x| x / n as f64).collect();
        let n = n as f64;
        let skewness = [0, 1].map(|side| (0..s.sum[side].len()).map(|i| s.skewness(side, i, n)).collect());
        Ok(Adjusted { n, width, on, rest, skewness, mean })
    }

    /// Of a gene and a peak whose products over cells sum to `product`.
    pub fn association(&self, gene: u32, peak: u32, product: f64) -> Association {
        let (g, p, w) = (gene as usize, peak as usize, self.width);
        let (a, b, mean) = (self.rest[0][g], self.rest[1][p], self.mean[g]);
        if a == 0.0 || b == 0.0 || mean <= 0.0 {
            return Association { partial: 0.0, effect: 0.0, error: f64::INFINITY };
        }
        let explained: f64 = self.on[0][g * w..][..w].iter().zip(&self.on[1][p * w..][..w]).map(|(x, y)| x * y).sum();
        let left = product - explained;
        let partial = left / (a * b).sqrt();
        let z = partial * self.n.sqrt();
        // The third cumulant of a sum over cells that are matched at random is the product of both sides'.
        let believed = tempered(z, self.skewness[0][g] * self.skewness[1][p] / self.n.sqrt());
        let error = (a / b / self.n).sqrt() / mean;
        Association { partial, effect: left / b / mean, error: if believed < z { error * z / believed } else { error } }
    }
}

/// The mixture of links and other pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mixture {
    /// π: share of links among the pairs of each distance bin.
    pub shares: Vec<f64>,
    /// m: mean relative effect of a link.
    pub effect: f64,
    /// t: standard deviation of the relative effects of links.
    pub spread: f64,
    /// s: how many times as wide as their standard errors effects of other pairs lie; at least 1, as those of rare pairs lie
    /// narrow but for few.
    pub inflation: f64,
    /// Rounds of EM.
    pub rounds: u32,
}

/// What one round of EM adds up.
#[derive(Clone, Copy)]
struct Round {
    pairs: [f64; BINS],
    links: [f64; BINS],
    /// Over links, by weight: 1 / variance, effect / variance.
    precision: f64,
    pull: f64,
    /// Over links: square of what is expected of an effect less m, with its variance.
    square: f64,
    /// Over others: weight, and square of effect over error.
    others: f64,
    null: f64,
}

impl Round {
    const ZERO: Round = Round {
        pairs: [0.0; BINS],
        links: [0.0; BINS],
        precision: 0.0,
        pull: 0.0,
        square: 0.0,
        others: 0.0,
        null: 0.0,
    };

    fn merge(mut self, o: Round) -> Round {
        plus(&mut self.pairs, &o.pairs);
        plus(&mut self.links, &o.links);
        self.precision += o.precision;
        self.pull += o.pull;
        self.square += o.square;
        self.others += o.others;
        self.null += o.null;
        self
    }
}

impl Mixture {
    /// Fits to pairs (bin, association); those without an error are left out. Ends early once it has been asked to stop.
    pub fn fit(pairs: &[(usize, Association)]) -> Mixture {
        let mut m = Mixture { shares: vec![0.02; BINS], effect: 0.5, spread: 0.3, inflation: 1.0, rounds: 0 };
        for _ in 0..500 {
            if crate::interrupt::requested() {
                break;
            }
            let before = m.clone();
            m.rounds += 1;
            let portions: Vec<Round> =
                pairs.par_chunks(1 << 14).map(|some| some.iter().fold(Round::ZERO, |r, p| m.add(r, p))).collect();
            let r = portions.into_iter().fold(Round::ZERO, Round::merge);
            let links: f64 = r.links.iter().sum();
            for (share, (l, n)) in m.shares.iter_mut().zip(r.links.iter().zip(&r.pairs)) {
                *share = (l + 0.01) / (n + 2.0);
            }
            if links < 1.0 || r.others == 0.0 {
                break; // nothing stands out: shares say so
            }
            m.effect = (r.pull / r.precision).max(0.0);
            m.spread = (r.square / links).sqrt();
            m.inflation = (r.null / r.others).sqrt().max(1.0);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-7 * b.abs().max(1e-4);
            let same = close(m.effect, before.effect) && close(m.spread, before.spread);
            if same && m.shares.iter().zip(&before.shares).all(|(&a, &b)| close(a, b)) {
                break;
            }
        }
        m
    }

    fn add(&self, mut r: Round, &(bin, a): &(usize, Association)) -> Round {
        if !a.error.is_finite() {
            return r;
        }
        let w = sigmoid(self.log_odds(bin, &a));
        r.pairs[bin] += 1.0;
        r.links[bin] += w;
        let seen = (self.inflation * a.error).powi(2);
        let all = seen + self.spread * self.spread;
        r.precision += w / all;
        r.pull += w * a.effect / all;
        // Given the effect that was seen: variance and mean of the true one.
        let variance = seen * self.spread * self.spread / all;
        let mean = (self.effect * seen + a.effect * self.spread * self.spread) / all;
        r.square += w * ((mean - self.effect).powi(2) + variance);
        r.others += 1.0 - w;
        r.null += (1.0 - w) * (a.effect / a.error).powi(2);
        r
    }

    /// Log odds that a pair of this bin is a link. They rise with the effect: below the effect that speaks most against a
    /// link they stay, but for what orders such pairs among each other.
    pub fn log_odds(&self, bin: usize, a: &Association) -> f64 {
        let share = self.shares[bin].clamp(1e-12, 1.0 - 1e-12);
        let prior = share.ln() - (-share).ln_1p();
        if !a.error.is_finite() {
            return prior;
        }
        let null = (self.inflation * a.error).powi(2);
        let link = null + self.spread * self.spread;
        let lowest = -self.effect * null / (link - null).max(f64::MIN_POSITIVE);
        let x = a.effect.max(lowest);
        let ratio = 0.5 * (x * x / null - (x - self.effect).powi(2) / link + (null / link).ln());
        prior + ratio + 1e-9 * (a.effect - x) / a.error
    }
}

/// A pair near its gene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairEvidence {
    /// Data set index of the gene.
    pub gene: u32,
    /// Data set index of the peak.
    pub peak: u32,
    /// Cells that have both.
    pub cells: u32,
    /// How they go together.
    pub association: Association,
    /// Log odds that the pair is a link.
    pub log_odds: f64,
}

impl PairEvidence {
    /// Probability that the pair is a link.
    pub fn probability(&self) -> f64 {
        sigmoid(self.log_odds)
    }
}

/// Evidence for the pairs of a data set.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Genes and peaks without covariates.
    pub adjusted: Adjusted,
    /// The mixture fitted to them.
    pub mixture: Mixture,
    /// All pairs within the window, by falling log odds, then gene and peak.
    pub pairs: Vec<PairEvidence>,
}

/// Pairs by peak, `ptr` `[P + 1]`, genes ascending.
struct PairList {
    ptr: Vec<usize>,
    gene: Vec<u32>,
}

impl PairList {
    fn new(mut pairs: Vec<(u32, u32)>, peaks: usize) -> Self {
        pairs.par_sort_unstable();
        pairs.dedup();
        let ptr = (0..=peaks as u32).map(|p| pairs.partition_point(|x| x.0 < p)).collect();
        PairList { ptr, gene: pairs.into_iter().map(|x| x.1).collect() }
    }

    /// Sums over cells of expression × accessibility, and cells with both.
    fn products(&self, genes: usize, cells: &[u32], read: &ReadCell<'_>) -> Result<(Vec<f64>, Vec<u32>)> {
        let zero = || (vec![0.0; self.gene.len()], vec![0u32; self.gene.len()], vec![0.0f64; genes]);
        let add = |(sum, both, expr): &mut (Vec<f64>, Vec<u32>, Vec<f64>), _: usize, cell: &Cell| {
            cell.rna().for_each(|(g, x)| expr[g as usize] = f64::from(x));
            for (p, a) in cell.atac() {
                for e in self.ptr[p as usize]..self.ptr[p as usize + 1] {
                    let x = expr[self.gene[e] as usize];
                    sum[e] += x * f64::from(a);
                    both[e] += u32::from(x != 0.0);
                }
            }
            cell.genes.iter().for_each(|&g| expr[g as usize] = 0.0);
        };
        let (sum, both, _) = over_cells(cells, read, zero, add, |a, b| {
            plus(&mut a.0, &b.0);
            a.1.iter_mut().zip(b.1).for_each(|(a, b)| *a += b);
        })?;
        Ok((sum, both))
    }
}

/// Cells with both, for each link; the links are sorted by (gene, peak).
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub fn co_occurrence(v: &Vocabulary, links: &[Link], cells: &[u32], read: &ReadCell<'_>) -> Result<Vec<u32>> {
    let list = PairList::new(links.iter().map(|l| (l.peak, l.gene)).collect(), v.peaks.len());
    let (_, both) = list.products(v.genes.len(), cells, read)?;
    let of = |l: &Link| {
        let range = list.ptr[l.peak as usize]..list.ptr[l.peak as usize + 1];
        list.gene[range.clone()].binary_search(&l.gene).map_or(0, |at| both[range.start + at])
    };
    Ok(links.iter().map(of).collect())
}

impl Evidence {
    /// Of `cells`, read by `read`: `window` in bases says which pairs are listed; `most` components are taken out
    /// ([`COMPONENTS`]). The mixture is fitted to the pairs within 500 kb and to some of every gene's whole chromosome.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`].
    pub fn new(
        v: &Vocabulary,
        cells: &[u32],
        read: &ReadCell<'_>,
        window: i64,
        most: usize,
        seed: u64,
    ) -> Result<Evidence> {
        let adjusted = Adjusted::new(v, cells, read, most, seed)?;
        let graph = CisGraph::new(v, window.max(500_000));
        let mut pairs: Vec<(u32, u32)> =
            (0..v.peaks.len() as u32).flat_map(|p| graph.of_peak(p as usize).0.iter().map(move |&g| (p, g))).collect();
        let mut of_chrom = vec![Vec::new(); v.chromosomes.len()];
        (0..).zip(&v.peaks).for_each(|(i, p): (u32, _)| of_chrom[p.chrom as usize].push(i));
        for (g, gene) in (0u32..).zip(&v.genes) {
            let peaks: &[u32] = &of_chrom[gene.chrom as usize];
            if Some(gene.chrom) == v.unknown {
                continue;
            }
            if peaks.len() <= FAR {
                pairs.extend(peaks.iter().map(|&p| (p, g)));
                continue;
            }
            let draw = |i: usize| philox([g, i as u32, DRAW, 0], [seed as u32, (seed >> 32) as u32])[0];
            pairs.extend((0..FAR).map(|i| (peaks[((u64::from(draw(i)) * peaks.len() as u64) >> 32) as usize], g)));
        }
        let list = PairList::new(pairs, v.peaks.len());
        let (sums, both) = list.products(v.genes.len(), cells, read)?;
        let mut found = Vec::new();
        let mut fitted = Vec::with_capacity(sums.len());
        for p in 0..v.peaks.len() as u32 {
            for e in list.ptr[p as usize]..list.ptr[p as usize + 1] {
                let (g, far) = (list.gene[e], distance(v, list.gene[e], p));
                let association = adjusted.association(g, p, sums[e]);
                fitted.push((bin(far), association));
                if far.is_some_and(|d| d <= window as f64) {
                    found.push(PairEvidence { gene: g, peak: p, cells: both[e], association, log_odds: 0.0 });
                }
            }
        }
        let mixture = Mixture::fit(&fitted);
        go_on()?;
        for p in &mut found {
            p.log_odds = mixture.log_odds(bin(distance(v, p.gene, p.peak)), &p.association);
        }
        found.par_sort_by(|a, b| b.log_odds.total_cmp(&a.log_odds).then((a.gene, a.peak).cmp(&(b.gene, b.peak))));
        Ok(Evidence { adjusted, mixture, pairs: found })
    }

    /// `[peaks]`: how many genes each peak is expected to be linked to, the sum of its pairs' probabilities.
    pub fn by_peak(&self, peaks: usize) -> Vec<f64> {
        let mut sums = vec![0.0; peaks];
        // In an order of its own: pairs are sorted by what is summed.
        let mut order: Vec<&PairEvidence> = self.pairs.iter().collect();
        order.par_sort_unstable_by_key(|p| (p.peak, p.gene));
        order.into_iter().for_each(|p| sums[p.peak as usize] += p.probability());
        sums
    }

    /// In short.
    pub fn summary(&self, file: &Path) -> Summary {
        Summary {
            pairs: self.pairs.len() as u64,
            expected: self.pairs.iter().map(PairEvidence::probability).sum(),
            likely: self.pairs.iter().filter(|p| p.log_odds > 0.0).count() as u64,
            mixture: self.mixture.clone(),
            file: file.to_path_buf(),
        }
    }

    /// Writes the pairs: place as in [`LINK_COLUMNS`], the columns of [`COLUMNS`], then those of `more` (spaces become `_`), whose links are sorted by (gene,
    /// peak); 0 for pairs that these lack, `.` where a coordinate is unknown.
    pub fn write(&self, path: &Path, v: &Vocabulary, more: &[(&str, &[Link])]) -> Result<()> {
        write_atomic(path, |out| {
            write!(out, "{}", [&LINK_COLUMNS[..PLACE], &COLUMNS].concat().join("\t"))?;
            for (name, _) in more {
                write!(out, "\t{}", name.replace(' ', "_"))?;
            }
            writeln!(out)?;
            for x in &self.pairs {
                let a = &x.association;
                write!(
                    out,
                    "{}\t{:.6}\t{:.4}\t{:.6}\t{:.6}\t{:.3}\t{:.6}\t{}\t{}",
                    place(v, x.gene, x.peak),
                    x.probability(),
                    x.log_odds,
                    a.effect,
                    a.error,
                    a.effect / a.error,
                    a.partial,
                    x.cells,
                    field(&v.peaks[x.peak as usize].name),
                )?;
                for (_, links) in more {
                    let at = links.binary_search_by_key(&(x.gene, x.peak), |l| (l.gene, l.peak));
                    write!(out, "\t{:.6}", at.map_or(0.0, |at| links[at].weight))?;
                }
                writeln!(out)?;
            }
            Ok(())
        })
    }
}

/// Columns of `evidence.tsv` that follow the place of a pair.
pub const COLUMNS: [&str; 8] =
    ["probability", "log_odds", "effect", "error", "zscore", "partial_correlation", "n_cells", "peak"];

/// Reads a table that [`Evidence::write`] wrote: pairs by falling probability, which is their score, with its z-score and the
/// cells that have both; no p-values.
///
/// # Errors
/// [`crate::Error::Input`] with the line of what cannot be read, or of a name that the vocabulary lacks.
pub fn read(path: &Path, v: &Vocabulary) -> Result<Vec<LinkStat>> {
    let at =
        PairColumns { score: PLACE, zscore: PLACE + 4, pvalue: None, qvalue: None, cells: PLACE + 6, peak: PLACE + 7 };
    read_pairs(path, v, &[&LINK_COLUMNS[..PLACE], &COLUMNS].concat(), true, &at)
}

/// Evidence in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Pairs within the window.
    pub pairs: u64,
    /// Sum of their probabilities: links expected among them.
    pub expected: f64,
    /// Pairs rather a link than not.
    pub likely: u64,
    /// The mixture; `shares` by the distance bins of [`ENDS`], then beyond, then unknown.
    pub mixture: Mixture,
    /// The table, in the folder of the discovery.
    pub file: std::path::PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_orthonormal() {
        let mut rng = Rng::new(1, 1);
        let (rows, width) = (50, 5);
        let mut m: Vec<f64> = (0..rows * width).map(|_| rng.normal()).collect();
        // The fourth depends on the first two.
        m.chunks_exact_mut(width).for_each(|r| r[3] = 2.0 * r[0] - r[1]);
        let first = m[0];
        orthonormalise(&mut m, width);
        assert!(first * m[0] > 0.0);
        for i in 0..width {
            for j in 0..width {
                let dot: f64 = m.chunks_exact(width).map(|r| r[i] * r[j]).sum();
                let want = f64::from(u8::from(i == j && i != 3));
                assert!((dot - want).abs() < 1e-12, "{i} {j}: {dot}");
            }
        }
    }

    /// Pairs drawn from the mixture: its numbers are found again, and probabilities are as frequent as they say.
    #[test]
    fn a_mixture_is_found_again() {
        let mut rng = Rng::new(906, 3);
        let shares = [0.5, 0.3, 0.1, 0.03, 0.01, 0.003];
        let mut pairs = Vec::new();
        let mut truth = Vec::new();
        for (bin, &share) in shares.iter().enumerate() {
            for _ in 0..if bin < 3 { 2_000 } else { 40_000 } {
                let error = 0.05 + 0.6 * rng.uniform() * rng.uniform();
                let link = rng.uniform() < share;
                let effect = if link { 0.6 + 0.25 * rng.normal() } else { 0.0 } + 1.2 * error * rng.normal();
                pairs.push((bin, Association { partial: 0.0, effect, error }));
                truth.push(link);
            }
        }
        let m = Mixture::fit(&pairs);
        assert!((m.effect - 0.6).abs() < 0.03 && (m.spread - 0.25).abs() < 0.03, "{m:?}");
        assert!((m.inflation - 1.2).abs() < 0.01 && m.rounds < 500, "{m:?}");
        for (bin, &share) in shares.iter().enumerate() {
            assert!((m.shares[bin] - share).abs() < 0.25 * share + 0.0005, "{bin}: {} of {share}", m.shares[bin]);
        }
        let mut by_tenth = [(0.0, 0.0, 0.0); 10];
        for ((bin, a), &link) in pairs.iter().zip(&truth) {
            let p = 1.0 / (1.0 + (-m.log_odds(*bin, a)).exp());
            let t = &mut by_tenth[((p * 10.0) as usize).min(9)];
            *t = (t.0 + p, t.1 + f64::from(u8::from(link)), t.2 + 1.0);
        }
        for (expected, found, n) in by_tenth {
            assert!(
                n > 50.0 && (expected - found).abs() < 4.0 * expected.sqrt() + 0.03 * n,
                "{expected} {found} of {n}"
            );
        }
    }

    /// Without links nothing is likely.
    #[test]
    fn nothing_is_found_in_noise() {
        let mut rng = Rng::new(906, 4);
        let pairs: Vec<_> = (0..60_000)
            .map(|i| {
                let error = 0.05 + 0.5 * rng.uniform();
                (i % BINS, Association { partial: 0.0, effect: error * rng.normal(), error })
            })
            .collect();
        let m = Mixture::fit(&pairs);
        let expected: f64 = pairs.iter().map(|(b, a)| 1.0 / (1.0 + (-m.log_odds(*b, a)).exp())).sum();
        assert!(expected < 0.01 * pairs.len() as f64, "{expected}: {m:?}");
        assert!(pairs.iter().filter(|(b, a)| m.log_odds(*b, a) > 0.0).count() < 10);
    }

    #[test]
    fn odds_rise_with_the_effect_and_need_an_error() {
        let m = Mixture { shares: vec![0.1; BINS], effect: 0.5, spread: 0.3, inflation: 1.0, rounds: 1 };
        let of = |effect, error| m.log_odds(2, &Association { partial: 0.0, effect, error });
        let mut last = f64::NEG_INFINITY;
        for i in -400..400 {
            let x = of(f64::from(i) * 0.01, 0.1);
            assert!(x > last, "{i}: {x} after {last}");
            last = x;
        }
        let prior = (0.1f64 / 0.9).ln();
        assert!((of(1.0, f64::INFINITY) - prior).abs() < 1e-12);
        // An effect measured badly says little; the same effect measured well says more, either way.
        assert!((of(0.2, 5.0) - prior).abs() < 0.1 && of(0.0, 0.05) < prior - 1.0 && of(0.6, 0.05) > prior + 5.0);
        assert_eq!((bin(Some(0.0)), bin(Some(1000.0)), bin(Some(1000.5)), bin(Some(1e9)), bin(None)), (0, 0, 1, 9, 10));
    }
}
