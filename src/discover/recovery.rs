//! Link recovery: how well scores of gene–peak pairs find known links, over all pairs of equal chromosome.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::evidence::{self, Evidence, go_on};
use super::links::Link;
pub use super::truth::Truth;
use super::truth::{BINS, RecoveryBin, bin};
use crate::error::Result;
use crate::evaluate::{Ranking, RankingMetrics};
use crate::graph::{Cell, Vocabulary};
use crate::model::Csr;
use crate::ops::matmul::{View, product_into};
use crate::rng::philox;

/// Pairs scored at a time, a thread.
const BLOCK: usize = 1 << 20;
/// Blocks whose cells are read together: as many as there are threads, within these.
const TOGETHER: (usize, usize) = (8, 32);
/// Cells read by one thread at a time.
const CELLS: usize = 512;

/// Scores pairs of one chromosome, block by block.
pub trait PairScorer: Sync {
    /// Name in tables and JSON.
    fn name(&self) -> &'static str;
    /// Scores of `genes` × `peaks`, row-major, into `out`. Both are ascending and of one chromosome; `genes` are
    /// neighbours among the genes of that chromosome. Higher means: rather a link.
    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]);
    /// A scorer that has read what these blocks (genes, peaks) need, if there is anything to read.
    fn read(&self, _blocks: &[(&[u32], &[u32])]) -> Option<Box<dyn PairScorer + '_>> {
        None
    }
}

/// Summed attention; 0 where there is none.
#[derive(Debug)]
pub struct BySum<'a>(
    /// Sorted by (gene, peak).
    pub &'a [Link],
);

impl PairScorer for BySum<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        for (&g, row) in genes.iter().zip(out.chunks_mut(peaks.len())) {
            row.fill(0.0);
            let start = self.0.partition_point(|l| l.gene < g);
            let mut at = 0;
            for l in self.0[start..].iter().take_while(|l| l.gene == g) {
                at += peaks[at..].partition_point(|&p| p < l.peak);
                if peaks.get(at) == Some(&l.peak) {
                    row[at] = l.weight;
                }
            }
        }
    }
}

/// −|TSS − peak midpoint|; −∞ where either is unknown.
#[derive(Debug)]
pub struct ByDistance<'a>(
    /// Names and coordinates.
    pub &'a Vocabulary,
);

/// |TSS − peak midpoint| in bases, halves included; `None` where either is unknown.
pub fn distance(v: &Vocabulary, gene: u32, peak: u32) -> Option<f64> {
    let (g, p) = (v.genes.get(gene as usize)?, v.peaks.get(peak as usize)?);
    let tss = g.tss?;
    (p.start >= 0 && p.end >= 0).then(|| (tss as f64 - (p.start as f64 + p.end as f64) / 2.0).abs())
}

impl PairScorer for ByDistance<'_> {
    fn name(&self) -> &'static str {
        "distance"
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        for (&g, row) in genes.iter().zip(out.chunks_mut(peaks.len())) {
            for (&p, x) in peaks.iter().zip(row) {
                *x = distance(self.0, g, p).map_or(f64::NEG_INFINITY, |d| -d);
            }
        }
    }
}

/// A number of (seed, gene, peak).
#[derive(Debug)]
pub struct ByChance {
    /// Seed.
    pub seed: u64,
}

impl PairScorer for ByChance {
    fn name(&self) -> &'static str {
        "random"
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        for (&g, row) in genes.iter().zip(out.chunks_mut(peaks.len())) {
            for (&p, x) in peaks.iter().zip(row) {
                let r = philox([g, p, 0x7061_6972, 0], key);
                *x = f64::from(r[0]) * 2f64.powi(32) + f64::from(r[1]);
            }
        }
    }
}

/// A score of some pairs; 0 for others.
#[derive(Debug)]
pub struct ByTable {
    /// Name in tables and JSON.
    pub name: &'static str,
    /// Sorted by (gene, peak); `weight` is the score.
    pub links: Vec<Link>,
}

impl PairScorer for ByTable {
    fn name(&self) -> &'static str {
        self.name
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        BySum(&self.links).block(genes, peaks, out);
    }
}

/// Query · key of the model, for an expression and an accessibility of 1 and summed over heads.
pub struct ByProduct {
    /// `[G, H]`.
    pub queries: Vec<f32>,
    /// `[P, H]`.
    pub keys: Vec<f32>,
    /// H.
    pub width: usize,
}

impl PairScorer for ByProduct {
    fn name(&self) -> &'static str {
        "query · key"
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        let rows = |table: &[f32], which: &[u32]| -> Vec<f32> {
            which.iter().flat_map(|&i| &table[i as usize * self.width..][..self.width]).copied().collect()
        };
        let (q, k) = (rows(&self.queries, genes), rows(&self.keys, peaks));
        let mut scores = vec![0.0f32; out.len()];
        let keys = View::new(&k, peaks.len(), self.width);
        product_into(&mut scores, peaks.len(), View::new(&q, genes.len(), self.width), keys.t(), false);
        out.iter_mut().zip(scores).for_each(|(o, s)| *o = f64::from(s));
    }
}

/// Decodes a cell into the memory of another.
pub type ReadCell<'a> = dyn Fn(u32, &mut Cell) + Sync + 'a;

/// What [`ByCorrelation`] makes of the products of expression and accessibility.
#[derive(Clone, Copy)]
pub enum Measure<'a> {
    /// Pearson correlation; 0 where either is constant.
    Correlation,
    /// The same once covariates are taken out.
    Partial(&'a Evidence),
    /// Log odds of [`Evidence`], of a vocabulary.
    Evidence(&'a Evidence, &'a Vocabulary),
}

/// Correlation of expression and accessibility over cells, or another measure of how they go together.
#[derive(Clone)]
pub struct ByCorrelation<'a> {
    measure: Measure<'a>,
    cell: &'a ReadCell<'a>,
    cells: &'a [u32],
    gene_chrom: Vec<u32>,
    peak_chrom: Vec<u32>,
    /// `[G]` place of the gene among those of its chromosome.
    gene_place: Vec<u32>,
    /// `[P]` place of the peak among those of its chromosome.
    peak_place: Vec<u32>,
    /// `[G]` sum and sum of squares.
    gene_sums: Vec<[f64; 2]>,
    /// `[P]` sum and sum of squares.
    peak_sums: Vec<[f64; 2]>,
}

/// The correlation, with the entries that some blocks need at hand.
struct Correlation<'a> {
    of: &'a ByCorrelation<'a>,
    /// Genes and peaks of the cells, [`CELLS`] of these at a time.
    cells: Vec<[Csr<f32>; 2]>,
}

/// Place of each item among those of its chromosome.
fn places(chrom: &[u32], chromosomes: usize) -> Vec<u32> {
    let mut next = vec![0; chromosomes];
    let place = |&c: &u32| {
        next[c as usize] += 1;
        next[c as usize] - 1
    };
    chrom.iter().map(place).collect()
}

impl<'a> ByCorrelation<'a> {
    /// Over `cells`, read by `cell`: a pass over them for the sums of genes and peaks.
    pub fn new(v: &Vocabulary, cells: &'a [u32], cell: &'a ReadCell<'a>) -> Self {
        let gene_chrom: Vec<u32> = v.genes.iter().map(|g| g.chrom).collect();
        let peak_chrom: Vec<u32> = v.peaks.iter().map(|p| p.chrom).collect();
        let (mut gene_sums, mut peak_sums) = (vec![[0.0; 2]; gene_chrom.len()], vec![[0.0; 2]; peak_chrom.len()]);
        let mut buffer = Cell::default();
        for &c in cells {
            cell(c, &mut buffer);
            for (index, values, sums) in
                [(&buffer.genes, &buffer.expr, &mut gene_sums), (&buffer.peaks, &buffer.acc, &mut peak_sums)]
            {
                for (i, &k) in index.iter().enumerate() {
                    let x = f64::from(values.get(i));
                    sums[k as usize][0] += x;
                    sums[k as usize][1] += x * x;
                }
            }
        }
        ByCorrelation {
            measure: Measure::Correlation,
            cell,
            cells,
            gene_place: places(&gene_chrom, v.chromosomes.len()),
            peak_place: places(&peak_chrom, v.chromosomes.len()),
            gene_chrom,
            peak_chrom,
            gene_sums,
            peak_sums,
        }
    }

    /// The same cells, another measure.
    pub fn measuring(&self, measure: Measure<'a>) -> Self {
        ByCorrelation { measure, ..self.clone() }
    }

    fn correlation(&self, blocks: &[(&[u32], &[u32])]) -> Correlation<'_> {
        let mut wanted = [vec![false; self.gene_chrom.len()], vec![false; self.peak_chrom.len()]];
        for (genes, peaks) in blocks {
            genes.iter().for_each(|&g| wanted[0][g as usize] = true);
            peaks.iter().for_each(|&p| wanted[1][p as usize] = true);
        }
        let read = |cells: &[u32]| {
            let (mut rows, mut cell) = ([Csr::new(), Csr::new()], Cell::default());
            for &c in cells {
                (self.cell)(c, &mut cell);
                let halves = [(&cell.genes, &cell.expr), (&cell.peaks, &cell.acc)];
                for ((rows, (index, values)), wanted) in rows.iter_mut().zip(halves).zip(&wanted) {
                    let entries = index.iter().enumerate().filter(|(_, k)| wanted[**k as usize]);
                    rows.push_row(entries.map(|(i, &k)| (k, values.get(i))));
                }
            }
            rows
        };
        Correlation { of: self, cells: self.cells.par_chunks(CELLS).map(read).collect() }
    }
}

impl PairScorer for ByCorrelation<'_> {
    fn name(&self) -> &'static str {
        match self.measure {
            Measure::Correlation => "correlation",
            Measure::Partial(_) => "partial correlation",
            Measure::Evidence(..) => "evidence",
        }
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        self.correlation(&[(genes, peaks)]).block(genes, peaks, out);
    }

    fn read(&self, blocks: &[(&[u32], &[u32])]) -> Option<Box<dyn PairScorer + '_>> {
        Some(Box::new(self.correlation(blocks)))
    }
}

impl PairScorer for Correlation<'_> {
    fn name(&self) -> &'static str {
        self.of.name()
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        out.fill(0.0);
        let (Some(&first), Some(&last), Some(&any)) = (genes.first(), genes.last(), peaks.first()) else { return };
        let (of, width) = (self.of, peaks.len());
        let chrom = of.gene_chrom[first as usize];
        debug_assert_eq!(chrom, of.peak_chrom[any as usize]);
        let base = of.gene_place[first as usize];
        for [rna, atac] in &self.cells {
            for c in 0..rna.rows() {
                let ((gene, expr), (peak, acc)) = (rna.row(c), atac.row(c));
                let gene_key = |g: u32| (of.gene_chrom[g as usize], g);
                let from = gene.partition_point(|&g| gene_key(g) < (chrom, first));
                let to = gene.partition_point(|&g| gene_key(g) <= (chrom, last));
                let low = peak.partition_point(|&p| of.peak_chrom[p as usize] < chrom);
                let high = peak.partition_point(|&p| of.peak_chrom[p as usize] <= chrom);
                for i in from..to {
                    let e = f64::from(expr[i]);
                    let row = (of.gene_place[gene[i] as usize] - base) as usize * width;
                    for j in low..high {
                        out[row + of.peak_place[peak[j] as usize] as usize] += e * f64::from(acc[j]);
                    }
                }
            }
        }
        let n = of.cells.len() as f64;
        // Variances times n; what rounding leaves of a constant counts as none.
        let spread = |[s, q]: [f64; 2]| Some(q - s * s / n).filter(|&v| v > 1e-12 * q).map(f64::sqrt);
        for (&g, row) in genes.iter().zip(out.chunks_mut(width)) {
            let sums = of.gene_sums[g as usize];
            let of_gene = spread(sums);
            for (&p, x) in peaks.iter().zip(row) {
                let other = of.peak_sums[p as usize];
                *x = match of.measure {
                    Measure::Correlation => match (of_gene, spread(other)) {
                        (Some(a), Some(b)) => (*x - sums[0] * other[0] / n) / (a * b),
                        _ => 0.0,
                    },
                    Measure::Partial(e) => e.adjusted.association(g, p, *x).partial,
                    Measure::Evidence(e, v) => {
                        e.mixture.log_odds(evidence::bin(distance(v, g, p)), &e.adjusted.association(g, p, *x))
                    }
                };
            }
        }
    }
}

/// How well one score finds the links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovered {
    /// The score.
    pub score: String,
    /// Area under the ROC curve, ties by average rank.
    pub auroc: Option<f64>,
    /// Average precision.
    pub auprc: Option<f64>,
    /// AUPRC over its chance level.
    pub auprc_over_chance: Option<f64>,
}

/// Link recovery of several scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// Gene–peak pairs of equal chromosome.
    pub pairs: u64,
    /// Known links among them.
    pub links: u64,
    /// AUPRC of a random order: links / pairs.
    pub chance: Option<f64>,
    /// Known links left out: the data lack their gene or peak.
    pub links_missing: u64,
    /// Known links left out: not on one chromosome.
    pub links_off_chromosome: u64,
    /// One entry a score.
    pub scores: Vec<Recovered>,
    /// The same among the pairs up to [`NEAR`] bases apart.
    #[serde(default)]
    pub near: Option<RecoveryBin>,
    /// The same among the pairs of each distance bin.
    #[serde(default)]
    pub bins: Vec<RecoveryBin>,
}

/// Bases from TSS to peak up to which a pair counts for [`Recovery::near`].
pub const NEAR: f64 = 500_000.0;
/// Bins of [`truth::BINS`](BINS) that [`Recovery::near`] joins: all that end at [`NEAR`] or before.
const NEAR_BINS: usize = 5;

/// Genes and peaks of each chromosome that matches itself, with the blocks of genes to score at a time.
struct Blocks {
    chroms: Vec<(Vec<u32>, Vec<u32>)>,
    blocks: Vec<(usize, Range<usize>)>,
}

impl Blocks {
    fn new(v: &Vocabulary, block: usize) -> Self {
        let mut chroms = vec![(Vec::new(), Vec::new()); v.chromosomes.len()];
        v.genes.iter().enumerate().for_each(|(i, g)| chroms[g.chrom as usize].0.push(i as u32));
        v.peaks.iter().enumerate().for_each(|(i, p)| chroms[p.chrom as usize].1.push(i as u32));
        let mut blocks = Vec::new();
        for (c, (genes, peaks)) in chroms.iter().enumerate() {
            if Some(c as u32) == v.unknown || peaks.is_empty() {
                continue;
            }
            let step = (block / peaks.len()).max(1);
            blocks.extend((0..genes.len()).step_by(step).map(|i| (c, i..(i + step).min(genes.len()))));
        }
        Blocks { chroms, blocks }
    }

    fn parts(&self, block: &(usize, Range<usize>)) -> (&[u32], &[u32]) {
        let (genes, peaks) = &self.chroms[block.0];
        (&genes[block.1.clone()], peaks)
    }
}

/// Scores of the known links of a block, with their distance bins.
fn known(v: &Vocabulary, truth: &[(u32, u32)], genes: &[u32], peaks: &[u32], scores: &[f64]) -> Vec<(f64, usize)> {
    let mut out = Vec::new();
    for (&g, row) in genes.iter().zip(scores.chunks(peaks.len())) {
        let start = truth.partition_point(|t| t.0 < g);
        for &(_, p) in truth[start..].iter().take_while(|t| t.0 == g) {
            if let Ok(at) = peaks.binary_search(&p) {
                out.push((row[at], bin(distance(v, g, p))));
            }
        }
    }
    out
}

/// Counts over all pairs and over those of each distance bin.
#[derive(Clone)]
struct Tally {
    all: Ranking,
    near: Ranking,
    bins: Vec<Ranking>,
}

impl Tally {
    fn new(positives: &[(f64, usize)]) -> Self {
        let of = |which: &dyn Fn(usize) -> bool| {
            Ranking::new(positives.iter().filter(|p| which(p.1)).map(|p| p.0).collect())
        };
        Tally {
            all: of(&|_| true),
            near: of(&|b| b < NEAR_BINS),
            bins: (0..BINS.len()).map(|bin| of(&|b| b == bin)).collect(),
        }
    }

    fn fork(&self) -> Self {
        Tally { all: self.all.fork(), near: self.near.fork(), bins: self.bins.iter().map(Ranking::fork).collect() }
    }

    fn merge(&mut self, other: &Tally) {
        self.all.merge(&other.all);
        self.near.merge(&other.near);
        self.bins.iter_mut().zip(&other.bins).for_each(|(a, b)| a.merge(b));
    }

    /// Counts the pairs of a block that are no known links.
    fn add(&mut self, v: &Vocabulary, truth: &[(u32, u32)], genes: &[u32], peaks: &[u32], scores: &[f64]) {
        for (&g, row) in genes.iter().zip(scores.chunks(peaks.len())) {
            for (&p, &x) in peaks.iter().zip(row) {
                let bin = bin(distance(v, g, p));
                self.all.add_negative(x);
                self.bins[bin].add_negative(x);
                if bin < NEAR_BINS {
                    self.near.add_negative(x);
                }
            }
        }
        for (x, bin) in known(v, truth, genes, peaks, scores) {
            self.all.remove_negative(x);
            self.bins[bin].remove_negative(x);
            if bin < NEAR_BINS {
                self.near.remove_negative(x);
            }
        }
    }
}

/// Ranks all pairs of equal chromosome by each score, together and by distance bin. Two passes over the pairs, in
/// blocks of about a million, so memory does not grow with their number; the result does not depend on the number of
/// threads. A scorer that reads the cells reads them once for 8 to 32 blocks, and holds the entries of their genes and
/// peaks meanwhile.
///
/// # Errors
/// [`crate::Error::Interrupted`].
pub fn recover(v: &Vocabulary, truth: &Truth, scorers: &[&dyn PairScorer]) -> Result<Recovery> {
    let blocks = Blocks::new(v, BLOCK);
    let links = &truth.links;
    let all: Vec<(&[u32], &[u32])> = blocks.blocks.iter().map(|b| blocks.parts(b)).collect();
    let any_link = |genes: &[u32]| genes.iter().any(|g| links.binary_search_by_key(g, |t| t.0).is_ok());
    let with_links: Vec<(&[u32], &[u32])> = all.iter().copied().filter(|b| any_link(b.0)).collect();
    let together = rayon::current_num_threads().clamp(TOGETHER.0, TOGETHER.1);
    let score = |scorer: &dyn PairScorer, (genes, peaks): (&[u32], &[u32])| {
        let mut out = vec![0.0; genes.len() * peaks.len()];
        scorer.block(genes, peaks, &mut out);
        out
    };
    let none = RankingMetrics { auroc: None, auprc: None, positives: 0, negatives: 0 };
    let mut total = vec![none; 2 + BINS.len()];
    let mut scores = vec![Vec::new(); 2 + BINS.len()];
    for &scorer in scorers {
        let mut positives = Vec::new();
        for chunk in with_links.chunks(together) {
            go_on()?;
            let read = scorer.read(chunk);
            let scorer = read.as_deref().unwrap_or(scorer);
            let found = chunk.par_iter().map(|&b| known(v, links, b.0, b.1, &score(scorer, b)));
            positives.extend(found.collect::<Vec<_>>().concat());
        }
        let start = Tally::new(&positives);
        let mut tally = start.fork();
        for chunk in all.chunks(together) {
            go_on()?;
            let read = scorer.read(chunk);
            let scorer = read.as_deref().unwrap_or(scorer);
            let of_chunk = chunk
                .par_iter()
                .fold(
                    || start.fork(),
                    |mut t, &b| {
                        t.add(v, links, b.0, b.1, &score(scorer, b));
                        t
                    },
                )
                .reduce(
                    || start.fork(),
                    |mut a, b| {
                        a.merge(&b);
                        a
                    },
                );
            tally.merge(&of_chunk);
        }
        tally.merge(&start);
        for (i, ranking) in [&tally.all, &tally.near].into_iter().chain(&tally.bins).enumerate() {
            total[i] = ranking.finish();
            scores[i].push(Recovered {
                score: scorer.name().to_string(),
                auroc: total[i].auroc,
                auprc: total[i].auprc,
                auprc_over_chance: total[i].lift(),
            });
        }
    }
    let mut parts = total.iter().zip(scores);
    let (total, scores) = parts.next().unwrap_or((&none, Vec::new()));
    let names = ["0-500kb"].into_iter().chain(BINS.iter().map(|b| b.0));
    let mut bins = names.zip(parts).map(|(name, (of_bin, scores))| RecoveryBin {
        distance: name.to_string(),
        pairs: of_bin.positives + of_bin.negatives,
        links: of_bin.positives,
        chance: of_bin.chance(),
        scores,
    });
    Ok(Recovery {
        pairs: total.positives + total.negatives,
        links: total.positives,
        chance: total.chance(),
        links_missing: truth.missing,
        links_off_chromosome: truth.off_chromosome,
        scores,
        near: bins.next(),
        bins: bins.collect(),
    })
}
