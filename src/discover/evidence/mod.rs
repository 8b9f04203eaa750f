//! Evidence for links: which peaks near a gene go with its expression from cell to cell once depth and programmes of many
//! genes are taken out, weighed against what distance and the data as a whole let expect.
//!
//! Three steps, none of which looks at known links:
//! * *Adjustment.* Expression and accessibility are regressed (least squares) on the log numbers of genes and peaks of a
//!   cell and on the leading components of RNA, found by subspace iteration over standardised expression. What is left of a
//!   gene and a peak gives their partial correlation, and the relative effect `β = slope / mean expression` with its
//!   standard error `σ`. Where both are rare, a single cell with both lies many standard errors from what is expected and
//!   is no surprise: sums of products of what is rare are as skewed as the counts of a Poisson law. `σ` of a positive effect
//!   is widened until `β / σ` is as rare under the normal law as it is under a law of that skewness
//!   ([`tempered`](adjust::tempered)).
//! * *Mixture.* Of the pairs of a distance bin a share π(bin) are links. A link's effect is drawn from N(m, t²), any other's
//!   is 0; both are seen with variance `s² σ²`. π, m, t and s are those of greatest likelihood (EM), so the prior of a
//!   distance is learned from the data at hand, and a gene whose effects are measured well must show a large one.
//! * *Posterior.* The log odds that a pair is a link, given β, σ and its distance. Effects below 0 count as none.
//!
//! A covariance of expression with accessibility is no proof of regulation: probabilities are those of the mixture.
//!
//! See docs/model.md, section 8.5.

pub mod adjust;
pub(crate) mod bins;
pub(crate) mod cells;
pub(crate) mod mixture;

use std::io::Write;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::links::Link;
use super::maps::{LINK_COLUMNS, LinkStat, PLACE, PairColumns, field, place, read_pairs};
use crate::dataset::Cell;
use crate::error::Result;
use crate::files::atomic::write_atomic;
use crate::model::CisGraph;
use crate::real::sigmoid;
use crate::rng::philox;
use crate::vocabulary::{Vocabulary, distance};
use adjust::{Adjusted, Association};
use bins::evidence_bin;
use cells::plus;
use mixture::Mixture;

pub use cells::Cells;

/// Leading components of RNA that are taken out, where there are at least ten cells for each.
pub const COMPONENTS: usize = 20;
/// Pairs of a gene drawn from its whole chromosome for the fit of the mixture.
const FAR: usize = 60;
/// Stream of the draws of [`FAR`] pairs.
const DRAW: u32 = 0x6661_7221;

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
    /// Log odds (natural) that the pair is a link: docs/model.md, eq. 73.
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
    fn products(&self, genes: usize, cells: Cells<'_>) -> Result<(Vec<f64>, Vec<u32>)> {
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
        let (sum, both, _) = cells.sum(zero, add, |a, b| {
            plus(&mut a.0, &b.0);
            a.1.iter_mut().zip(b.1).for_each(|(a, b)| *a += b);
        })?;
        Ok((sum, both))
    }
}

/// Cells with both, for each link, in the order of the links, which are sorted by (gene, peak).
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn co_occurrence(v: &Vocabulary, links: &[Link], cells: Cells<'_>) -> Result<Vec<u32>> {
    let list = PairList::new(links.iter().map(|l| (l.peak, l.gene)).collect(), v.peaks.len());
    let (_, both) = list.products(v.genes.len(), cells)?;
    let of = |l: &Link| {
        let range = list.ptr[l.peak as usize]..list.ptr[l.peak as usize + 1];
        list.gene[range.clone()].binary_search(&l.gene).map_or(0, |at| both[range.start + at])
    };
    Ok(links.iter().map(of).collect())
}

impl Evidence {
    /// Of `cells`: `window` in bases says which pairs are listed; `most` components are taken out ([`COMPONENTS`]). The
    /// mixture is fitted to the pairs within 500 kb and to some of every gene's whole chromosome.
    ///
    /// # Errors
    /// [`crate::error::Error::Interrupted`].
    pub fn new(v: &Vocabulary, cells: Cells<'_>, window: i64, most: usize, seed: u64) -> Result<Evidence> {
        let adjusted = Adjusted::new(v, cells, most, seed)?;
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
        let (sums, both) = list.products(v.genes.len(), cells)?;
        let mut found = Vec::new();
        let mut fitted = Vec::with_capacity(sums.len());
        for p in 0..v.peaks.len() as u32 {
            for e in list.ptr[p as usize]..list.ptr[p as usize + 1] {
                let (g, far) = (list.gene[e], distance(v, list.gene[e], p));
                let association = adjusted.association(g, p, sums[e]);
                fitted.push((evidence_bin(far), association));
                if far.is_some_and(|d| d <= window as f64) {
                    found.push(PairEvidence { gene: g, peak: p, cells: both[e], association, log_odds: 0.0 });
                }
            }
        }
        let mixture = Mixture::fit(&fitted, cells.progress);
        cells.go_on()?;
        for p in &mut found {
            p.log_odds = mixture.log_odds(evidence_bin(distance(v, p.gene, p.peak)), &p.association);
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
    pub fn summary(&self, file: &Path) -> EvidenceSummary {
        EvidenceSummary {
            pairs: self.pairs.len() as u64,
            expected: self.pairs.iter().map(PairEvidence::probability).sum(),
            likely: self.pairs.iter().filter(|p| p.log_odds > 0.0).count() as u64,
            mixture: self.mixture.clone(),
            file: file.to_path_buf(),
        }
    }

    /// Writes the pairs: place as in [`LINK_COLUMNS`], the columns of [`COLUMNS`], then those of `more` (spaces become `_`),
    /// whose links are sorted by (gene, peak); 0 for pairs that these lack, `.` where a coordinate is unknown.
    ///
    /// # Errors
    /// A file that cannot be written.
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
/// [`crate::error::Error::Input`] with the line of what cannot be read, or of a name that the vocabulary lacks.
pub fn read(path: &Path, v: &Vocabulary) -> Result<Vec<LinkStat>> {
    let at =
        PairColumns { score: PLACE, zscore: PLACE + 4, pvalue: None, qvalue: None, cells: PLACE + 6, peak: PLACE + 7 };
    read_pairs(path, v, &[&LINK_COLUMNS[..PLACE], &COLUMNS].concat(), true, &at)
}

/// Evidence in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceSummary {
    /// Pairs within the window.
    pub pairs: u64,
    /// Sum of their probabilities: links expected among them.
    pub expected: f64,
    /// Pairs rather a link than not.
    pub likely: u64,
    /// The mixture; `shares` by the distance bins of `evidence::bins`, then beyond, then unknown.
    pub mixture: Mixture,
    /// The table, in the folder of the discovery.
    pub file: std::path::PathBuf,
}

#[cfg(test)]
mod tests {
    use super::adjust::orthonormalise;
    use super::bins::EVIDENCE_BINS;
    use super::*;
    use crate::rng::Rng;

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
        let m = Mixture::fit(&pairs, &());
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
                (i % EVIDENCE_BINS, Association { partial: 0.0, effect: error * rng.normal(), error })
            })
            .collect();
        let m = Mixture::fit(&pairs, &());
        let expected: f64 = pairs.iter().map(|(b, a)| 1.0 / (1.0 + (-m.log_odds(*b, a)).exp())).sum();
        assert!(expected < 0.01 * pairs.len() as f64, "{expected}: {m:?}");
        assert!(pairs.iter().filter(|(b, a)| m.log_odds(*b, a) > 0.0).count() < 10);
    }

    #[test]
    fn odds_rise_with_the_effect_and_need_an_error() {
        let m = Mixture { shares: vec![0.1; EVIDENCE_BINS], effect: 0.5, spread: 0.3, inflation: 1.0, rounds: 1 };
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
        assert_eq!(
            (
                evidence_bin(Some(0.0)),
                evidence_bin(Some(1000.0)),
                evidence_bin(Some(1000.5)),
                evidence_bin(Some(1e9)),
                evidence_bin(None)
            ),
            (0, 0, 1, 9, 10)
        );
    }
}
