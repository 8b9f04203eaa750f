//! Links by cell type: in which types a link is active, and how strongly.

use serde::{Deserialize, Serialize};

use super::cells::{Cells, plus};
use super::draws::{Draws, NullLaw, Strata};
use super::kinds::{Kinds, NO_KIND};
use super::law::upper_tail;
use super::profiles::Profiles;
use super::readings::Readings;
use super::tables::Counts;
use crate::error::Result;
use crate::evaluate::ranking::benjamini_hochberg;

/// A link in a type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InType {
    /// Number of the pair among those of the evidence.
    pub pair: u32,
    /// Does it stand out, at the q that links are listed by, with gene and peak above their mean over types?
    pub active: bool,
    /// Gene and peak above their mean over types, both shrunk: product of natural log ratios; below 0 where either is below
    /// its mean.
    pub activity: f64,
    /// Normal score of it among pairs that are no links, in this type.
    pub zscore: f64,
    /// One-sided.
    pub pvalue: f64,
    /// Benjamini–Hochberg over the links of this type.
    pub qvalue: f64,
    /// Natural log ratio of the gene's share of counts in this type to that over all types.
    pub gene_log_ratio: f64,
    /// The same of the peak.
    pub peak_log_ratio: f64,
    /// Counts of the gene in 10,000.
    pub gene_cp10k: f64,
    /// Share of the type's cells in which the peak is open.
    pub peak_open: f64,
    /// Correlation over the cells of the type, in standard errors.
    pub z_within: f64,
    /// Its difference from that over the cells of all other types, in standard errors.
    pub z_interaction: f64,
    /// Cells of the type that have both.
    pub cells: u32,
}

/// The links of one type.
#[derive(Debug, Clone, PartialEq)]
pub struct OfType {
    /// Its name.
    pub cell_type: String,
    /// Cells.
    pub cells: u32,
    /// Links, by falling score.
    pub links: Vec<InType>,
}

/// In short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TypeSummary {
    /// Its name.
    pub cell_type: String,
    /// Cells.
    pub cells: u64,
    /// Links looked at.
    pub links: u64,
    /// Of these, active in this type.
    pub active: u64,
    /// The table, in the folder of the discovery.
    pub file: std::path::PathBuf,
}

/// Sums over the cells of each kind.
struct Sums {
    /// `[links, K]` levels where the peak is open, and cells with both.
    product: Vec<f64>,
    both: Vec<u32>,
    /// `[genes of links, K]` levels and their squares.
    level: Vec<f64>,
    square: Vec<f64>,
    buffer: Vec<f32>,
}

/// What links are looked at by type with.
pub(super) struct ByType<'a> {
    pub kinds: &'a Kinds,
    pub profiles: &'a Profiles,
    pub counts: &'a Counts,
    pub readings: &'a Readings,
    pub tested: &'a [(u32, u32)],
    pub draws: &'a Draws,
    pub strata: &'a Strata,
}

/// Correlation of n cells from sums, in standard errors (Fisher's z), with its weight; 0 where there is nothing to correlate.
fn fisher(n: f64, xy: f64, x: f64, xx: f64, open: f64) -> (f64, f64) {
    let (sx, sy) = (xx - x * x / n.max(1.0), open - open * open / n.max(1.0));
    if n < 8.0 || sx <= 1e-9 * xx || sy <= 1e-9 * open {
        return (0.0, 0.0);
    }
    let r = ((xy - x * open / n) / (sx * sy).sqrt()).clamp(-0.999, 0.999);
    (r.atanh(), n - 3.0)
}

impl ByType<'_> {
    fn sums(&self, cells: Cells<'_>, links: &[u32]) -> Result<(Sums, Vec<u32>)> {
        let k = self.kinds.len();
        // Links by peak; rows of genes.
        let mut by_peak: Vec<(u32, u32)> = (0u32..).zip(links).map(|(i, &l)| (self.tested[l as usize].1, i)).collect();
        by_peak.sort_unstable();
        let mut genes: Vec<u32> = links.iter().map(|&l| self.tested[l as usize].0).collect();
        genes.sort_unstable();
        genes.dedup();
        let mut row = vec![u32::MAX; self.readings.genes.len()];
        (0u32..).zip(&genes).for_each(|(i, &g)| row[g as usize] = i);
        let start: Vec<usize> =
            (0..=self.readings.peaks.len() as u32).map(|p| by_peak.partition_point(|x| x.0 < p)).collect();
        let zero = || {
            let sums = Sums {
                product: vec![0.0; links.len() * k],
                both: vec![0; links.len() * k],
                level: vec![0.0; genes.len() * k],
                square: vec![0.0; genes.len() * k],
                buffer: Vec::new(),
            };
            (sums, vec![0.0f64; genes.len()])
        };
        let (sums, _) = cells.sum(
            zero,
            |(s, expr), at, cell| {
                let kind = usize::from(self.kinds.of[at]);
                if self.kinds.of[at] == NO_KIND {
                    return;
                }
                self.readings.levels(cell, &mut s.buffer);
                let wanted = expr.len();
                let rows = cell.genes.iter().map(|&g| row[g as usize] as usize);
                for (r, &x) in rows.clone().zip(&s.buffer).filter(|(r, _)| *r < wanted) {
                    expr[r] = f64::from(x);
                    s.level[r * k + kind] += f64::from(x);
                    s.square[r * k + kind] += f64::from(x) * f64::from(x);
                }
                for (p, _) in cell.atac().filter(|(_, a)| *a > 0.0) {
                    for &(_, link) in &by_peak[start[p as usize]..start[p as usize + 1]] {
                        let gene = self.tested[links[link as usize] as usize].0;
                        let x = expr[row[gene as usize] as usize];
                        s.product[link as usize * k + kind] += x;
                        s.both[link as usize * k + kind] += u32::from(x != 0.0);
                    }
                }
                rows.filter(|r| *r < wanted).for_each(|r| expr[r] = 0.0);
            },
            |(a, _), (b, _)| {
                plus(&mut a.product, &b.product);
                plus(&mut a.level, &b.level);
                plus(&mut a.square, &b.square);
                a.both.iter_mut().zip(b.both).for_each(|(x, y)| *x += y);
            },
        )?;
        Ok((sums, row))
    }

    /// Looks at `links` (numbers of pairs) in every type of at least `least` cells; also names those with fewer.
    pub fn look(&self, cells: Cells<'_>, links: &[u32], least: u32, max_q: f64) -> Result<(Vec<OfType>, Vec<String>)> {
        let k = self.kinds.len();
        let (sums, row) = self.sums(cells, links)?;
        let counts_of = |all: &[u32]| {
            let mut total = vec![0.0; k];
            all.chunks_exact(k).for_each(|r| total.iter_mut().zip(r).for_each(|(t, &c)| *t += f64::from(c)));
            total
        };
        let (rna, atac) = (counts_of(&self.counts.genes), counts_of(&self.counts.peaks));
        let share = |total: &[f64], kind: usize| total[kind] / total.iter().sum::<f64>().max(1.0);
        let ratio = |counts: &[u32], item: usize, kind: usize, total: &[f64]| {
            let of = &counts[item * k..][..k];
            let all: f64 = of.iter().map(|&c| f64::from(c)).sum();
            ((f64::from(of[kind]) + 1.0) / (all * share(total, kind) + 1.0)).ln()
        };
        let activity = |kind: usize, g: u32, p: u32| {
            let (a, b) = self.profiles.shrunk(g, p);
            let (a, b) = (f64::from(a[kind]), f64::from(b[kind]));
            let both = (a * b).abs() / self.profiles.weights[kind].max(1e-12);
            if a > 0.0 && b > 0.0 { both } else { -both }
        };
        let (null, weights) = (self.draws.null(self.tested), self.draws.weights());
        let (mut found, mut small) = (Vec::new(), self.kinds.small.clone());
        for (kind, name) in self.kinds.names.iter().enumerate() {
            let size = self.kinds.sizes[kind];
            if size < least {
                small.push(name.clone());
                continue;
            }
            cells.go_on()?;
            let law = NullLaw::new(
                self.strata.len(),
                null.iter()
                    .zip(&weights)
                    .map(|(&(g, p), &w)| (self.strata.of(g, p), activity(kind, g, p), f64::from(w))),
            );
            let mut of_type: Vec<InType> = Vec::with_capacity(links.len());
            for (i, &pair) in links.iter().enumerate() {
                let (g, p) = self.tested[pair as usize];
                let (gene, peak, r) = (g as usize, p as usize, row[g as usize] as usize);
                let x = activity(kind, g, p);
                let zscore = law.z(self.strata.of(g, p), x);
                let open = |kind: usize| f64::from(self.counts.peaks[peak * k + kind]);
                let one = |kind: usize| {
                    let n = f64::from(self.kinds.sizes[kind]);
                    fisher(
                        n,
                        sums.product[i * k + kind],
                        sums.level[r * k + kind],
                        sums.square[r * k + kind],
                        open(kind),
                    )
                };
                let (own, weight) = one(kind);
                let others =
                    (0..k).filter(|&o| o != kind).map(one).fold((0.0, 0.0), |s, (f, w)| (s.0 + w * f, s.1 + w));
                let both = weight > 0.0 && others.1 > 0.0;
                let apart = || (own - others.0 / others.1) / (1.0 / weight + 1.0 / others.1).sqrt();
                of_type.push(InType {
                    pair,
                    active: false,
                    activity: x,
                    zscore,
                    pvalue: upper_tail(zscore),
                    qvalue: 1.0,
                    gene_log_ratio: ratio(&self.counts.genes, gene, kind, &rna),
                    peak_log_ratio: ratio(&self.counts.peaks, peak, kind, &atac),
                    gene_cp10k: 1e4 * f64::from(self.counts.genes[gene * k + kind]) / rna[kind].max(1.0),
                    peak_open: open(kind) / f64::from(size.max(1)),
                    z_within: own * weight.sqrt(),
                    z_interaction: if both { apart() } else { 0.0 },
                    cells: sums.both[i * k + kind],
                });
            }
            let p: Vec<f64> = of_type.iter().map(|l| l.pvalue).collect();
            let q = benjamini_hochberg(&p, p.len() as u64);
            for (l, q) in of_type.iter_mut().zip(q) {
                l.qvalue = q;
                l.active = q <= max_q && l.activity > 0.0;
            }
            of_type.sort_by(|a, b| b.zscore.total_cmp(&a.zscore).then(a.pair.cmp(&b.pair)));
            found.push(OfType { cell_type: name.clone(), cells: size, links: of_type });
        }
        Ok((found, small))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_from_sums() {
        let x = [0.0, 1.0, 2.0, 0.0, 3.0, 1.0, 0.0, 2.0, 2.0, 0.0];
        let y = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        let sum = |f: &dyn Fn(usize) -> f64| (0..10).map(f).sum::<f64>();
        let (mx, my) = (sum(&|i| x[i]) / 10.0, sum(&|i| y[i]) / 10.0);
        let r = sum(&|i| (x[i] - mx) * (y[i] - my))
            / (sum(&|i| (x[i] - mx).powi(2)) * sum(&|i| (y[i] - my).powi(2))).sqrt();
        let (z, w) = fisher(10.0, sum(&|i| x[i] * y[i]), mx * 10.0, sum(&|i| x[i] * x[i]), my * 10.0);
        assert!((z - r.atanh()).abs() < 1e-12 && w == 7.0);
        assert_eq!(fisher(10.0, 0.0, 0.0, 0.0, 3.0), (0.0, 0.0));
    }
}
