//! Partners among many: is the ATAC of a cell the one that its RNA scores highest, and the other way round?
//!
//! Row i of a matrix of scores is RNA i against every ATAC; the true partner is on the diagonal. Both directions come of one
//! pass over blocks of rows, with memory of a few numbers a cell beside a block. See docs/model.md, eq. 77 to 79.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::matching::share;
use super::ranking::Ranking;
use crate::ops::matmul::{View, product_into};

/// Portions of the rows whose sums are kept apart and added in order, so that threads do not change the result.
const PORTIONS: usize = 16;
/// Most rows of a block.
const ROWS: usize = 64;

/// Scores of all pairs of N RNA profiles and the N ATAC profiles of the same cells, in the same order. Higher: rather one
/// cell. What is no number counts as the lowest score.
pub trait PairScores: Sync {
    /// N.
    fn cells(&self) -> usize;

    /// Scores of the RNA of cells `range` against every ATAC, into `out` `[range, N]`.
    fn rows(&self, range: Range<usize>, out: &mut [f32]);

    /// `[N]` scores of true pairs, bit by bit those that [`PairScores::rows`] brings for the same blocks of rows. This one asks
    /// for all rows; give another where the diagonal can be had for less.
    fn own(&self) -> Vec<f32> {
        let n = self.cells();
        let mut own = vec![0.0; n];
        own.par_chunks_mut(ROWS).enumerate().for_each(|(b, own)| {
            let mut block = vec![0.0; own.len() * n];
            self.rows(b * ROWS..b * ROWS + own.len(), &mut block);
            own.iter_mut().enumerate().for_each(|(i, o)| *o = block[i * n + b * ROWS + i]);
        });
        own
    }
}

/// Scores that are dot products of two embeddings: cosines, where the rows have length 1.
#[derive(Debug, Clone, Copy)]
pub struct Dot<'a> {
    /// `[N, width]` of RNA.
    pub rna: &'a [f32],
    /// `[N, width]` of ATAC.
    pub atac: &'a [f32],
    /// Numbers of a cell.
    pub width: usize,
}

impl PairScores for Dot<'_> {
    fn cells(&self) -> usize {
        self.rna.len().min(self.atac.len()).checked_div(self.width).unwrap_or(0)
    }

    fn rows(&self, range: Range<usize>, out: &mut [f32]) {
        let (n, w, len) = (self.cells(), self.width, range.len());
        let a = View::new(&self.rna[range.start * w..], len, w);
        product_into(out, n, a, View::new(self.atac, n, w).t(), false);
    }
}

/// Scores that are held as a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// `[N, N]`, a row an RNA profile.
    pub scores: &'a [f32],
    /// N.
    pub cells: usize,
}

impl PairScores for Stored<'_> {
    fn cells(&self) -> usize {
        self.cells
    }

    fn rows(&self, range: Range<usize>, out: &mut [f32]) {
        out.copy_from_slice(&self.scores[range.start * self.cells..range.end * self.cells]);
    }

    fn own(&self) -> Vec<f32> {
        (0..self.cells).map(|i| self.scores[i * self.cells + i]).collect()
    }
}

/// How well partners are found among N cells; `None` is what is undefined. Means are over cells and both directions (RNA that
/// asks for its ATAC, ATAC that asks for its RNA), unless said otherwise. The definitions: docs/model.md, eq. 77 to 79.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct PartnerMetrics {
    /// N.
    pub cells: u64,
    /// Fraction of samples closer than the true match: share of the other cells that score above the partner, those that score
    /// the same by half. 0 is best, 0.5 chance.
    pub foscttm: Option<f64>,
    /// The same where RNA asks.
    pub foscttm_rna: Option<f64>,
    /// The same where ATAC asks.
    pub foscttm_atac: Option<f64>,
    /// The same among the cells of the cell's own type, over cells that are not alone in theirs.
    pub foscttm_same_type: Option<f64>,
    /// Share of partners of rank below 1 ...
    pub first: Option<f64>,
    /// ... below 5 ...
    pub among_5: Option<f64>,
    /// ... below 10 ...
    pub among_10: Option<f64>,
    /// ... and below 50: the rank is how many score above, with half of those that score the same.
    pub among_50: Option<f64>,
    /// Mean probability given to the partner by a softmax over all cells of scores × scale; `None` without a scale.
    pub match_score: Option<f64>,
    /// AUROC of true pairs against all other pairs.
    pub auroc_any: Option<f64>,
    /// Against those whose cells are of different types.
    pub auroc_other_type: Option<f64>,
    /// Against those whose cells are of one type; true pairs of cells that are alone in their type are left out.
    pub auroc_same_type: Option<f64>,
    /// Share of cells whose first-ranked partner (the first of equal ones) has their type.
    pub type_of_first: Option<f64>,
}

impl PartnerMetrics {
    /// What scores that say nothing bring among `n` cells of these types; `match_score` is that of equal scores.
    pub fn chance(n: usize, types: Option<&[u32]>) -> PartnerMetrics {
        let half = |defined: bool| defined.then_some(0.5);
        let among = |k: usize| (n > 0).then(|| k.min(n) as f64 / n as f64);
        let sizes = types.map(sizes);
        let same = sizes.as_ref().is_some_and(|s| s.iter().any(|&s| s > 1));
        let other = sizes.as_ref().is_some_and(|s| s.iter().filter(|&&s| s > 0).count() > 1);
        let squares = sizes.map(|s| s.iter().map(|&s| f64::from(s) * f64::from(s)).sum::<f64>());
        PartnerMetrics {
            cells: n as u64,
            foscttm: half(n > 1),
            foscttm_rna: half(n > 1),
            foscttm_atac: half(n > 1),
            foscttm_same_type: half(same),
            first: among(1),
            among_5: among(5),
            among_10: among(10),
            among_50: among(50),
            match_score: among(1),
            auroc_any: half(n > 1),
            auroc_other_type: half(other),
            auroc_same_type: half(same),
            type_of_first: squares.filter(|_| n > 0).map(|s| s / (n as f64 * n as f64)),
        }
    }
}

/// Cells of each type.
fn sizes(types: &[u32]) -> Vec<u32> {
    let mut sizes = vec![0u32; types.iter().max().map_or(0, |&t| t as usize + 1)];
    types.iter().for_each(|&t| sizes[t as usize] += 1);
    sizes
}

/// A number for every score, so that all comparisons are decided.
fn finite(x: f32) -> f32 {
    if x.is_nan() { f32::MIN } else { x.clamp(f32::MIN, f32::MAX) }
}

/// What is known of each query of one direction: plain sums, so that portions add up.
struct Queries {
    /// `[N]` scores above the partner's, and equal ones.
    above: Vec<u32>,
    tied: Vec<u32>,
    /// The same among cells of one type; empty without types.
    above_same: Vec<u32>,
    tied_same: Vec<u32>,
    /// The highest score, and whose it is.
    best: Vec<f32>,
    first: Vec<u32>,
    /// Σ exp(scale (score − the partner's)); empty without a scale.
    mass: Vec<f64>,
}

impl Queries {
    fn new(n: usize, types: bool, scale: bool) -> Self {
        let (of_types, of_scale) = (if types { n } else { 0 }, if scale { n } else { 0 });
        Queries {
            above: vec![0; n],
            tied: vec![0; n],
            above_same: vec![0; of_types],
            tied_same: vec![0; of_types],
            best: vec![f32::NEG_INFINITY; n],
            first: vec![0; n],
            mass: vec![0.0; of_scale],
        }
    }

    /// Adds what a later portion of the other side says of the same queries.
    fn merge(&mut self, other: &Queries) {
        let add = |a: &mut [u32], b: &[u32]| a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        add(&mut self.above, &other.above);
        add(&mut self.tied, &other.tied);
        add(&mut self.above_same, &other.above_same);
        add(&mut self.tied_same, &other.tied_same);
        self.mass.iter_mut().zip(&other.mass).for_each(|(a, b)| *a += b);
        for (i, &b) in other.best.iter().enumerate() {
            if b > self.best[i] {
                (self.best[i], self.first[i]) = (b, other.first[i]);
            }
        }
    }

    /// Appends the queries of a later portion.
    fn append(&mut self, other: Queries) {
        self.above.extend(other.above);
        self.tied.extend(other.tied);
        self.above_same.extend(other.above_same);
        self.tied_same.extend(other.tied_same);
        self.best.extend(other.best);
        self.first.extend(other.first);
        self.mass.extend(other.mass);
    }
}

/// What does not change over the pass.
struct Pass<'a> {
    own: &'a [f32],
    types: Option<&'a [u32]>,
    scale: Option<f64>,
}

/// Of a portion of the rows: its RNA, and what it says of every ATAC.
struct Found {
    rna: Queries,
    atac: Queries,
    pairs: Pairs,
}

/// Counts of pairs that are not true, between the scores of true ones.
struct Pairs {
    /// Of one type, and of two (all, without types).
    same: Ranking,
    other: Ranking,
    /// Of one type, against those true pairs whose cell is not alone in its type; `None` where none is alone.
    peers: Option<Ranking>,
}

impl Pairs {
    fn new(own: &[f32], types: Option<&[u32]>) -> Self {
        let all = Ranking::new(own.iter().map(|&x| f64::from(x)).collect());
        let alone = types.map(|t| {
            let sizes = sizes(t);
            t.iter().map(|&t| sizes[t as usize] == 1).collect::<Vec<_>>()
        });
        let some = |alone: Vec<bool>| {
            let kept = own.iter().zip(&alone).filter(|(_, alone)| !**alone).map(|(&x, _)| f64::from(x));
            alone.contains(&true).then(|| Ranking::new(kept.collect()))
        };
        Pairs { same: all.fork(), other: all, peers: alone.and_then(some) }
    }

    fn fork(&self) -> Self {
        Pairs { same: self.same.fork(), other: self.other.fork(), peers: self.peers.as_ref().map(Ranking::fork) }
    }

    fn merge(&mut self, other: &Pairs) {
        self.same.merge(&other.same);
        self.other.merge(&other.other);
        if let (Some(a), Some(b)) = (&mut self.peers, &other.peers) {
            a.merge(b);
        }
    }

    /// Adds row `i`, its own score left out.
    fn add(&mut self, i: usize, row: &[f32], types: Option<&[u32]>) {
        for (j, &x) in row.iter().enumerate().filter(|(j, _)| *j != i) {
            let x = f64::from(x);
            if types.is_some_and(|t| t[i] == t[j]) {
                self.same.add_negative(x);
                if let Some(peers) = &mut self.peers {
                    peers.add_negative(x);
                }
            } else {
                self.other.add_negative(x);
            }
        }
    }
}

impl Found {
    /// Adds row `i`, which is number `at` of its portion and holds `own[i]` at its place.
    fn add(&mut self, i: usize, at: usize, row: &[f32], p: &Pass<'_>) {
        let d = p.own[i];
        let (mut above, mut tied) = (0u32, 0u32);
        for &x in row {
            above += u32::from(x > d);
            tied += u32::from(x == d);
        }
        // The partner equals itself.
        (self.rna.above[at], self.rna.tied[at]) = (above, tied - 1);
        for (a, (&x, &d)) in self.atac.above.iter_mut().zip(row.iter().zip(p.own)) {
            *a += u32::from(x > d);
        }
        for (a, (&x, &d)) in self.atac.tied.iter_mut().zip(row.iter().zip(p.own)) {
            *a += u32::from(x == d);
        }
        self.atac.tied[i] -= 1;
        if let Some(types) = p.types {
            let t = types[i];
            let (mut above, mut tied) = (0u32, 0u32);
            for (j, (&x, &u)) in row.iter().zip(types).enumerate() {
                if t == u {
                    above += u32::from(x > d);
                    tied += u32::from(x == d);
                    self.atac.above_same[j] += u32::from(x > p.own[j]);
                    self.atac.tied_same[j] += u32::from(x == p.own[j]);
                }
            }
            (self.rna.above_same[at], self.rna.tied_same[at]) = (above, tied - 1);
            self.atac.tied_same[i] -= 1;
        }
        let mut best = (f32::NEG_INFINITY, 0);
        for (j, &x) in row.iter().enumerate() {
            if x > best.0 {
                best = (x, j as u32);
            }
            if x > self.atac.best[j] {
                (self.atac.best[j], self.atac.first[j]) = (x, i as u32);
            }
        }
        (self.rna.best[at], self.rna.first[at]) = best;
        if let Some(scale) = p.scale {
            let over = |x: f32, d: f32| (scale * (f64::from(x) - f64::from(d))).exp();
            self.rna.mass[at] = row.iter().map(|&x| over(x, d)).sum();
            self.atac.mass.iter_mut().zip(row.iter().zip(p.own)).for_each(|(m, (&x, &d))| *m += over(x, d));
        }
        self.pairs.add(i, row, p.types);
    }
}

/// Measures how well partners are found. `types`: of each cell; `scale`: what scores are multiplied with before the softmax
/// of `match_score`. Time N² × (width + log N), memory O(N) and a block of rows a thread.
///
/// ```
/// use sccrossrec::evaluate::{Stored, partners};
/// // The second RNA likes the third ATAC best.
/// let scores = [0.9, 0.1, 0.2, 0.3, 0.4, 0.8, 0.0, 0.1, 0.7];
/// let m = partners(&Stored { scores: &scores, cells: 3 }, None, None);
/// assert_eq!(m.foscttm_rna, Some(0.5 / 3.0));
/// assert_eq!(m.first, Some(4.0 / 6.0));
/// ```
pub fn partners(scores: &dyn PairScores, types: Option<&[u32]>, scale: Option<f32>) -> PartnerMetrics {
    let n = scores.cells();
    if n == 0 {
        return PartnerMetrics::default();
    }
    assert!(types.is_none_or(|t| t.len() == n), "a type for each cell");
    let own: Vec<f32> = scores.own().into_iter().map(finite).collect();
    let pass = Pass { own: &own, types, scale: scale.map(f64::from) };
    let all = Pairs::new(&own, types);
    // Whole blocks: `own` and the pass ask for the same rows, so that a product gives them the same to the last bit.
    let size = n.div_ceil(PORTIONS).next_multiple_of(ROWS);
    let starts: Vec<usize> = (0..n).step_by(size).collect();
    let portions: Vec<Found> = starts
        .into_par_iter()
        .map(|start| {
            let end = (start + size).min(n);
            let queries = |n| Queries::new(n, types.is_some(), scale.is_some());
            let mut found = Found { rna: queries(end - start), atac: queries(n), pairs: all.fork() };
            let mut block = vec![0.0; ROWS.min(end - start) * n];
            for from in (start..end).step_by(ROWS) {
                let range = from..(from + ROWS).min(end);
                let block = &mut block[..range.len() * n];
                scores.rows(range.clone(), block);
                for (i, row) in range.zip(block.chunks_exact_mut(n)) {
                    row.iter_mut().for_each(|x| *x = finite(*x));
                    row[i] = own[i];
                    found.add(i, i - start, row, &pass);
                }
            }
            found
        })
        .collect();
    let mut portions = portions.into_iter();
    let Some(mut found) = portions.next() else { return PartnerMetrics::default() };
    for p in portions {
        found.rna.append(p.rna);
        found.atac.merge(&p.atac);
        found.pairs.merge(&p.pairs);
    }
    finish(&found, types)
}

/// The metrics of what the pass found.
fn finish(found: &Found, types: Option<&[u32]>) -> PartnerMetrics {
    let both = [&found.rna, &found.atac];
    let n = found.rna.above.len();
    let rank = |above: u32, tied: u32| f64::from(above) + 0.5 * f64::from(tied);
    let foscttm = |q: &Queries| {
        let ranks: f64 = q.above.iter().zip(&q.tied).map(|(&a, &t)| rank(a, t)).sum();
        (n > 1).then(|| ranks / (n as f64 * (n - 1) as f64))
    };
    let mean = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| (a + b) / 2.0);
    let among = |k: f64| {
        let near = |q: &&Queries| q.above.iter().zip(&q.tied).filter(|&(&a, &t)| rank(a, t) < k).count() as u64;
        share(both.iter().map(near).sum(), 2 * n as u64)
    };
    let sizes = types.map(sizes).unwrap_or_default();
    let peers: Vec<(usize, f64)> = types
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(i, &t)| (i, f64::from(sizes[t as usize]) - 1.0))
        .filter(|&(_, others)| others > 0.0)
        .collect();
    let within = |q: &&Queries| peers.iter().map(|&(i, n)| rank(q.above_same[i], q.tied_same[i]) / n).sum::<f64>();
    let same_type: f64 = both.iter().map(within).sum();
    let right = |t: &[u32]| {
        let of = |q: &&Queries| q.first.iter().zip(t).filter(|&(&j, &t_i)| t[j as usize] == t_i).count() as u64;
        both.iter().map(of).sum()
    };
    let scored = !found.rna.mass.is_empty();
    let given: f64 = both.iter().flat_map(|q| &q.mass).map(|m| 1.0 / m).sum();
    let mut any = found.pairs.other.clone();
    any.merge(&found.pairs.same);
    let same = found.pairs.peers.as_ref().unwrap_or(&found.pairs.same);
    let (rna, atac) = (foscttm(&found.rna), foscttm(&found.atac));
    PartnerMetrics {
        cells: n as u64,
        foscttm: mean(rna, atac),
        foscttm_rna: rna,
        foscttm_atac: atac,
        foscttm_same_type: (!peers.is_empty()).then(|| same_type / (2 * peers.len()) as f64),
        first: among(1.0),
        among_5: among(5.0),
        among_10: among(10.0),
        among_50: among(50.0),
        match_score: scored.then(|| given / (2 * n) as f64),
        auroc_any: any.finish().auroc,
        auroc_other_type: types.and_then(|_| found.pairs.other.finish().auroc),
        auroc_same_type: types.and_then(|_| same.finish().auroc),
        type_of_first: types.and_then(|t| share(right(t), 2 * n as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ranking::ranking;
    use super::*;
    use crate::rng::Rng;

    fn close(got: Option<f64>, want: Option<f64>, what: &str) {
        match (got, want) {
            (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "{what}: {a} {b}"),
            _ => assert_eq!(got, want, "{what}"),
        }
    }

    fn mean(x: &[f64]) -> Option<f64> {
        (!x.is_empty()).then(|| x.iter().sum::<f64>() / x.len() as f64)
    }

    /// Rank of the partner of query `i` among `of`, one by one.
    fn rank(s: &dyn Fn(usize, usize) -> f64, i: usize, of: impl Iterator<Item = usize>) -> f64 {
        of.filter(|&j| j != i)
            .map(|j| {
                if s(i, j) > s(i, i) {
                    1.0
                } else if s(i, j) == s(i, i) {
                    0.5
                } else {
                    0.0
                }
            })
            .sum()
    }

    /// All metrics a second time, each by its definition.
    fn naive(scores: &[f32], n: usize, types: Option<&[u32]>, scale: Option<f32>) -> PartnerMetrics {
        let rna = |i: usize, j: usize| f64::from(scores[i * n + j]);
        let atac = |j: usize, i: usize| f64::from(scores[i * n + j]);
        let sides: [&dyn Fn(usize, usize) -> f64; 2] = [&rna, &atac];
        let ranks = sides.map(|s| (0..n).map(|i| rank(s, i, 0..n)).collect::<Vec<_>>());
        let fosc = |r: &[f64]| mean(&r.iter().map(|r| r / (n as f64 - 1.0)).collect::<Vec<_>>()).filter(|_| n > 1);
        let both: Vec<f64> = ranks.iter().flatten().copied().collect();
        let among = |k: f64| mean(&both.iter().map(|&r| f64::from(u8::from(r < k))).collect::<Vec<_>>());
        let pairs = |keep: &dyn Fn(usize, usize) -> bool| {
            let (mut x, mut y) = (Vec::new(), Vec::new());
            for i in 0..n {
                if (0..n).any(|j| j != i && keep(i, j)) {
                    x.push(rna(i, i));
                    y.push(1);
                }
                for j in (0..n).filter(|&j| j != i && keep(i, j)) {
                    x.push(rna(i, j));
                    y.push(0);
                }
            }
            ranking(&x, &y).auroc
        };
        let (mut within, mut right, mut given) = (Vec::new(), Vec::new(), Vec::new());
        for s in sides {
            for i in 0..n {
                if let Some(t) = types {
                    let peers = (0..n).filter(|&j| t[j] == t[i]);
                    if peers.clone().count() > 1 {
                        within.push(rank(s, i, peers.clone()) / (peers.count() as f64 - 1.0));
                    }
                    let most = (0..n).map(|j| s(i, j)).fold(f64::NEG_INFINITY, f64::max);
                    let first = (0..n).find(|&j| s(i, j) == most).unwrap();
                    right.push(f64::from(u8::from(t[first] == t[i])));
                }
                if let Some(k) = scale {
                    let most = (0..n).map(|j| s(i, j)).fold(f64::NEG_INFINITY, f64::max);
                    let of = |j: usize| (f64::from(k) * (s(i, j) - most)).exp();
                    given.push(of(i) / (0..n).map(of).sum::<f64>());
                }
            }
        }
        let type_of = |i: usize| types.map(|t| t[i]);
        PartnerMetrics {
            cells: n as u64,
            foscttm: fosc(&ranks[0]).zip(fosc(&ranks[1])).map(|(a, b)| (a + b) / 2.0),
            foscttm_rna: fosc(&ranks[0]),
            foscttm_atac: fosc(&ranks[1]),
            foscttm_same_type: mean(&within),
            first: among(1.0),
            among_5: among(5.0),
            among_10: among(10.0),
            among_50: among(50.0),
            match_score: mean(&given),
            auroc_any: pairs(&|_, _| true),
            auroc_other_type: types.and_then(|_| pairs(&|i, j| type_of(i) != type_of(j))),
            auroc_same_type: types.and_then(|_| pairs(&|i, j| type_of(i) == type_of(j))),
            type_of_first: mean(&right),
        }
    }

    fn same(a: &PartnerMetrics, b: &PartnerMetrics, what: &str) {
        let (a, b) = (serde_json::to_value(a).unwrap(), serde_json::to_value(b).unwrap());
        assert_eq!(a["cells"], b["cells"]);
        for (name, x) in a.as_object().unwrap() {
            close(x.as_f64(), b[name].as_f64(), &format!("{what}: {name}"));
        }
    }

    #[test]
    fn by_hand() {
        // Rows: RNA. Cells 0 and 1 are of one type, 2 of another.
        let s = [3.0, 1.0, 2.0, 2.0, 2.0, 5.0, 0.0, 0.0, 4.0f32];
        let m = partners(&Stored { scores: &s, cells: 3 }, Some(&[0, 0, 1]), Some(1.0));
        // RNA 0: none above; RNA 1: one tie, one above; RNA 2: none. ATAC 0: none; ATAC 1: none; ATAC 2: one above.
        assert_eq!((m.foscttm_rna, m.foscttm_atac), (Some(1.5 / 6.0), Some(1.0 / 6.0)));
        close(m.foscttm, Some(2.5 / 12.0), "FOSCTTM");
        assert_eq!((m.first, m.among_5), (Some(4.0 / 6.0), Some(1.0)));
        // Within the type: only RNA 1 has a tie with its one peer.
        assert_eq!(m.foscttm_same_type, Some(0.5 / 4.0));
        // True 3, 2, 4 against 1, 2, 2, 5, 0, 0: above 5, 3 and two ties, 5 of six.
        close(m.auroc_any, Some((5.0 + 3.0 + 1.0 + 5.0) / 18.0), "any");
        // Of one type, 1 and 2: above both; above one and a tie. Cell 2 is alone.
        close(m.auroc_same_type, Some((2.0 + 1.5) / 4.0), "same");
        // Of two, 2, 5, 0, 0: 3 of four; 2 and a tie; 3.
        close(m.auroc_other_type, Some((3.0 + 2.5 + 3.0) / 12.0), "other");
        // First: RNA 0 → 0, 1 → 2, 2 → 2; ATAC 0 → 0, 1 → 1, 2 → 1.
        assert_eq!(m.type_of_first, Some(4.0 / 6.0));
        let e = |x: f64| x.exp();
        let rows = [
            e(3.0) / (e(3.0) + e(1.0) + e(2.0)),
            e(2.0) / (2.0 * e(2.0) + e(5.0)),
            e(4.0) / (e(4.0) + 2.0),
            e(3.0) / (e(3.0) + e(2.0) + 1.0),
            e(2.0) / (e(1.0) + e(2.0) + 1.0),
            e(4.0) / (e(2.0) + e(5.0) + e(4.0)),
        ];
        close(m.match_score, mean(&rows), "match score");
        assert_eq!(partners(&Stored { scores: &s, cells: 3 }, None, None).match_score, None);
    }

    #[test]
    fn equals_a_second_computation() {
        let mut rng = Rng::new(5, 1);
        for (case, n) in [1usize, 2, 3, 7, 40, 63, 64, 65, 130, 300].into_iter().enumerate() {
            // Whole numbers: many ties; pairs of one cell a little higher.
            let levels = if case % 2 == 0 { 6 } else { 1000 };
            let mut s: Vec<f32> = (0..n * n).map(|_| rng.below(levels) as f32 / 4.0).collect();
            (0..n).for_each(|i| s[i * n + i] += rng.below(3) as f32 / 2.0);
            let types: Vec<u32> = (0..n).map(|i| if i == 0 { 5 } else { rng.below(4) as u32 }).collect();
            for types in [None, Some(&types[..])] {
                for scale in [None, Some(1.5f32)] {
                    let got = partners(&Stored { scores: &s, cells: n }, types, scale);
                    same(&got, &naive(&s, n, types, scale), &format!("{n} cells, {levels} levels"));
                }
            }
        }
        assert_eq!(partners(&Stored { scores: &[], cells: 0 }, None, None), PartnerMetrics::default());
    }

    #[test]
    fn products_of_embeddings() {
        let mut rng = Rng::new(6, 1);
        for (n, width) in [(1, 3), (5, 2), (64, 16), (150, 33), (300, 64)] {
            let mut random = || (0..n * width).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
            let (rna, atac) = (random(), random());
            let dot = Dot { rna: &rna, atac: &atac, width };
            let mut s = vec![0.0; n * n];
            dot.rows(0..n, &mut s);
            for (at, &x) in s.iter().enumerate() {
                let want: f32 = (0..width).map(|k| rna[at / n * width + k] * atac[at % n * width + k]).sum();
                assert!((x - want).abs() < 1e-4 * width as f32, "{x} {want}");
            }
            same(&partners(&dot, None, Some(2.0)), &naive(&s, n, None, Some(2.0)), &format!("{n} × {width}"));
            // All cells alike: nothing is known, whatever the kernel of the product does at its edges.
            let row: Vec<f32> = (0..width).map(|_| rng.normal() as f32).collect();
            let alike: Vec<f32> = row.iter().copied().cycle().take(n * width).collect();
            let got = partners(&Dot { rna: &alike, atac: &alike, width }, None, Some(7.0));
            let types = vec![0; n];
            let chance = PartnerMetrics::chance(n, Some(&types));
            close(got.foscttm, chance.foscttm, "FOSCTTM");
            close(got.auroc_any, chance.auroc_any, "AUROC");
            close(got.match_score, chance.match_score, "match score");
        }
    }

    #[test]
    fn no_numbers_are_lowest_and_chance_is_met() {
        let s = [f32::NAN, 1.0, f32::NAN, f32::NAN];
        let m = partners(&Stored { scores: &s, cells: 2 }, None, Some(1.0));
        // RNA 0: one above. RNA 1, ATAC 0: a tie. ATAC 1: one above.
        assert_eq!((m.foscttm_rna, m.foscttm_atac), (Some(0.75), Some(0.75)));
        assert_eq!(m.match_score, Some(0.25));
        let n = 1200;
        let mut rng = Rng::new(7, 1);
        let s: Vec<f32> = (0..n * n).map(|_| rng.uniform() as f32).collect();
        let types: Vec<u32> = (0..n).map(|i| [0, 0, 0, 1, 1, 2][i % 6]).collect();
        let (got, chance) =
            (partners(&Stored { scores: &s, cells: n }, Some(&types), None), PartnerMetrics::chance(n, Some(&types)));
        let (a, b) = (serde_json::to_value(got).unwrap(), serde_json::to_value(chance).unwrap());
        for (name, x) in a.as_object().unwrap().iter().filter(|(_, x)| x.is_f64()) {
            let (x, y) = (x.as_f64().unwrap(), b[name].as_f64().unwrap());
            assert!((x - y).abs() < 0.03, "{name}: {x}, by chance {y}");
        }
        close(chance.type_of_first, Some(14.0 / 36.0), "a random first one");
    }

    #[test]
    fn threads_change_nothing() {
        let mut rng = Rng::new(8, 8);
        let (n, width) = (900, 24);
        let rna: Vec<f32> = (0..n * width).map(|_| rng.normal() as f32).collect();
        let atac: Vec<f32> = rna.iter().map(|x| x + rng.normal() as f32).collect();
        let types: Vec<u32> = (0..n).map(|_| rng.below(5) as u32).collect();
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| partners(&Dot { rna: &rna, atac: &atac, width }, Some(&types), Some(0.7)))
        };
        assert_eq!(of(1), of(5));
    }
}
