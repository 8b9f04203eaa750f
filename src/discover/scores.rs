//! Scores of gene–peak pairs, from attention and from the data alone.

use rayon::prelude::*;

use super::evidence::{Evidence, PairEvidence};
use super::groups::Detected;
use super::links::Link;
use crate::csr::Csr;
use crate::dataset::{Cell, ReadCell};
use crate::ops::matmul::{View, product_into};
use crate::rng::philox;
use crate::simd::dot;
use crate::vocabulary::{Vocabulary, distance};

/// Cells read by one thread at a time.
const CELLS: usize = 512;

/// Queries and keys of a model, of all genes and peaks at an expression and an accessibility of 1.
pub(super) fn by_product(model: &crate::model::Model<f32>) -> ByProduct {
    let (queries, keys) = model.queries_and_keys();
    ByProduct { queries, keys, width: model.config.hidden }
}

/// Of a model with a cis term: the weight of each peak on each gene near it, and what it contributes, the weight times the
/// share of cells whose peak is open times how far the prediction follows its logit, rate × (1 − rate) of the gene.
/// `detected` are the cells of `n` that have each. Sorted by (gene, peak); empty without a cis term.
pub(super) fn by_cis(
    model: &crate::model::Model<f32>,
    product: &ByProduct,
    Detected { genes, peaks }: &Detected,
    n: usize,
) -> Vec<ByTable> {
    let (Some(graph), Some(decay)) = (&model.cis, model.params.get("cis.decay")) else { return Vec::new() };
    let (h, n) = (product.width, n.max(1) as f64);
    let mut weights: Vec<Link> = (0..peaks.len())
        .into_par_iter()
        .flat_map_iter(|p| {
            let (near, bins) = graph.of_peak(p);
            let key = &product.keys[p * h..][..h];
            near.iter().zip(bins).map(move |(&gene, &bin)| {
                let raw = dot(&product.queries[gene as usize * h..][..h], key) / (h as f32).sqrt();
                let weight = f64::from(decay[bin as usize].exp() * raw);
                Link { gene, peak: p as u32, weight, cells: peaks[p] }
            })
        })
        .collect();
    weights.par_sort_unstable_by_key(|l| (l.gene, l.peak));
    let rate = |g: u32| f64::from(genes[g as usize]) / n;
    let contribution = |l: &Link| {
        let open = f64::from(peaks[l.peak as usize]) / n;
        Link { weight: l.weight * open * rate(l.gene) * (1.0 - rate(l.gene)), ..*l }
    };
    let contributions = weights.iter().map(contribution).collect();
    vec![ByTable { name: "cis weight", links: weights }, ByTable { name: "cis contribution", links: contributions }]
}

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

/// Log odds of [`Evidence`]; pairs that it has not tested come below all others, by distance.
pub struct ByEvidence<'a> {
    table: Vec<Link>,
    below: f64,
    v: &'a Vocabulary,
}

impl<'a> ByEvidence<'a> {
    /// Of what is known of the pairs of a vocabulary.
    pub fn new(evidence: &Evidence, v: &'a Vocabulary) -> Self {
        // Where nothing could be compared, nothing is known of any pair.
        let all = evidence.pairs.iter().chain(&evidence.untested).filter(|p| p.log_odds.is_finite());
        let below = all.clone().map(|p| p.log_odds).fold(0.0, f64::min) - 1.0;
        ByEvidence { table: table_of(all, |p| p.log_odds), below, v }
    }
}

impl PairScorer for ByEvidence<'_> {
    fn name(&self) -> &'static str {
        "evidence"
    }

    fn block(&self, genes: &[u32], peaks: &[u32], out: &mut [f64]) {
        ByDistance(self.v).block(genes, peaks, out);
        out.iter_mut().for_each(|x| *x = self.below + (*x * 1e-9).max(-1.0));
        for (&g, row) in genes.iter().zip(out.chunks_mut(peaks.len())) {
            let start = self.table.partition_point(|l| l.gene < g);
            for l in self.table[start..].iter().take_while(|l| l.gene == g) {
                if let Ok(at) = peaks.binary_search(&l.peak) {
                    row[at] = l.weight;
                }
            }
        }
    }
}

/// A number of each pair, sorted by (gene, peak).
fn table_of<'p>(pairs: impl Iterator<Item = &'p PairEvidence>, of: fn(&PairEvidence) -> f64) -> Vec<Link> {
    let mut table: Vec<Link> =
        pairs.map(|p| Link { gene: p.gene, peak: p.peak, weight: of(p), cells: p.cells }).collect();
    table.sort_unstable_by_key(|l| (l.gene, l.peak));
    table
}

/// What the evidence says between kinds of cells, and within them; 0 for pairs not tested.
pub(super) fn by_part(evidence: &Evidence) -> [ByTable; 2] {
    let of = |name, of: fn(&PairEvidence) -> f64| ByTable { name, links: table_of(evidence.pairs.iter(), of) };
    [of("z between kinds", |p| p.z_between), of("z within kinds", |p| p.z_within)]
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

/// Pearson correlation of expression and accessibility over cells; 0 where either is constant.
#[derive(Clone)]
pub struct ByCorrelation<'a> {
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
        "correlation"
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
                *x = match (of_gene, spread(other)) {
                    (Some(a), Some(b)) => (*x - sums[0] * other[0] / n) / (a * b),
                    _ => 0.0,
                };
            }
        }
    }
}
