//! What a link is worth: z-scores, p-values and q-values against attention where there should be none.
//!
//! Two nulls:
//! * **matched peaks** ([`Null::Matched`]): a pair is tested where peak and TSS are at most a window apart, against
//!   all pairs of one chromosome that are further apart, whose gene is detected about as often and whose peak is about
//!   as accessible, as wide and as rich in GC. It asks: is there more attention here than at a distance? It costs
//!   nothing.
//! * **shuffled pairings** ([`Null::Shuffled`]): every pair of one chromosome is tested, against the attention of the
//!   same model on RNA and ATAC of different cells, among pairs alike in gene and peak. It asks: is there more
//!   attention than where a cell's RNA knows nothing of its ATAC? It costs a pass over the cells each time.
//!
//! Pairs without attention count with score 0, in the null and among the tests. In a stratum of N null pairs,
//! p = (1 + those that score at least as high) / (N + 1), and z = (score − mean) / standard deviation (NaN where all null
//! pairs score the same, as where none has attention). A stratum with fewer
//! than [`LEAST`] null pairs is widened: first over width and GC, then over accessibility, then over genes.
//! q is Benjamini and Hochberg's over all pairs tested.
//!
//! See docs/model.md, section 8.4, eq. 70.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::links::Link;
use super::maps::LinkStat;
use crate::vocabulary::{Vocabulary, distance};

/// Null pairs a stratum needs.
pub const LEAST: u64 = 200;

/// What links are tested against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Null {
    /// Pairs beyond the window, alike in gene and peak.
    #[default]
    Matched,
    /// Attention on shuffled pairings of RNA and ATAC.
    Shuffled,
    /// Nothing: no statistics.
    None,
}

/// Genes and peaks of some cells in classes of their like.
pub(crate) struct Strata<'a> {
    v: &'a Vocabulary,
    /// Class of each gene; none where no cell has it.
    gene: Vec<Option<u32>>,
    /// Classes of each peak: (accessibility; width and GC).
    peak: Vec<Option<(u32, u32)>>,
    /// Genes and peaks of each chromosome.
    genes_of: Vec<Vec<u32>>,
    peaks_of: Vec<Vec<u32>>,
}

/// Levels of strata, from narrow to wide.
const LEVELS: usize = 4;
type Key = (u8, u32, u32, u32);

/// Classes of genes by cells, and of peaks by accessibility.
const CLASSES: u32 = 10;
/// Classes of peaks by width and GC, three of each and one for the unknown.
const SHAPES: u32 = 16;

fn keys(gene: u32, access: u32, shape: u32) -> [Key; LEVELS] {
    [(0, gene, access, shape), (1, gene, access, 0), (2, gene, 0, 0), (3, 0, 0, 0)]
}

/// Scores of null pairs of a stratum.
#[derive(Default)]
struct Stratum {
    /// All, those without attention included.
    pairs: u64,
    /// Of those with attention, sorted.
    scores: Vec<f64>,
}

impl Stratum {
    fn statistics(&self) -> (f64, f64) {
        let n = self.pairs.max(1) as f64;
        let mean = self.scores.iter().sum::<f64>() / n;
        let square = self.scores.iter().map(|s| s * s).sum::<f64>() / n;
        (mean, (square - mean * mean).max(0.0).sqrt())
    }

    fn p(&self, score: f64) -> f64 {
        let above = self.scores.len() - self.scores.partition_point(|&s| s < score);
        let above = if score > 0.0 { above as u64 } else { self.pairs };
        (1 + above) as f64 / (1 + self.pairs) as f64
    }
}

/// Number of the class of each value among `classes` of about equal size; equal values share one.
pub(super) fn classes(values: &[Option<f64>], classes: u32) -> Vec<Option<u32>> {
    let mut sorted: Vec<f64> = values.iter().copied().flatten().collect();
    sorted.sort_by(f64::total_cmp);
    let class = |x: f64| {
        let below = sorted.partition_point(|&s| s < x);
        (below * classes as usize / sorted.len().max(1)) as u32
    };
    values.iter().map(|v| v.map(class)).collect()
}

impl<'a> Strata<'a> {
    /// `genes` and `peaks` are the cells in which each is detected; `gc` the share of G and C of each peak, where known.
    pub(super) fn new(v: &'a Vocabulary, genes: &[u32], peaks: &[u32], gc: &[Option<f64>]) -> Self {
        let counted = |n: &[u32]| n.iter().map(|&n| (n > 0).then_some(f64::from(n))).collect::<Vec<_>>();
        let gene = classes(&counted(genes), CLASSES);
        let access = classes(&counted(peaks), CLASSES);
        let width: Vec<_> = v.peaks.iter().map(|p| (p.start >= 0).then_some((p.end - p.start) as f64)).collect();
        let (width, gc) = (classes(&width, 3), classes(gc, 3));
        let peak = access
            .iter()
            .zip(width.iter().zip(&gc))
            .map(|(a, (w, g))| a.map(|a| (a, w.map_or(3, |w| w) * 4 + g.map_or(3, |g| g))))
            .collect();
        let mut genes_of = vec![Vec::new(); v.chromosomes.len()];
        let mut peaks_of = genes_of.clone();
        let known = |c: u32| Some(c) != v.unknown;
        for (i, g) in (0..).zip(&v.genes).filter(|(_, g)| known(g.chrom)) {
            genes_of[g.chrom as usize].push(i);
        }
        for (i, p) in (0..).zip(&v.peaks).filter(|(_, p)| known(p.chrom)) {
            peaks_of[p.chrom as usize].push(i);
        }
        Strata { v, gene, peak, genes_of, peaks_of }
    }

    /// Keys of a pair, from narrow to wide; none where a gene or peak of it is never detected.
    fn keys(&self, gene: u32, peak: u32) -> Option<[Key; LEVELS]> {
        let (g, (a, w)) = (self.gene[gene as usize]?, self.peak[peak as usize]?);
        Some(keys(g, a, w))
    }

    /// Counts the pairs of one chromosome, both detected, for which `counts` holds, into `strata` at all levels; returns
    /// the number of the others.
    fn count(&self, strata: &mut HashMap<Key, Stratum>, counts: impl Fn(u32, u32) -> bool + Sync) -> u64 {
        let at = |g: u32, a: u32, w: u32| ((g * CLASSES + a) * SHAPES + w) as usize;
        let zero = || (vec![0u64; at(CLASSES, 0, 0)], 0u64);
        let genes: Vec<(u32, u32, usize)> = (0..)
            .zip(&self.genes_of)
            .flat_map(|(chrom, genes)| genes.iter().map(move |&g| (g, chrom)))
            .filter_map(|(g, chrom)| self.gene[g as usize].map(|class| (g, class, chrom)))
            .collect();
        let (found, others) = genes
            .par_iter()
            .fold(zero, |(mut found, mut others), &(g, class, chrom)| {
                for &p in &self.peaks_of[chrom] {
                    match self.peak[p as usize] {
                        Some((a, w)) if counts(g, p) => found[at(class, a, w)] += 1,
                        Some(_) => others += 1,
                        None => {}
                    }
                }
                (found, others)
            })
            .reduce(zero, |(mut a, n), (b, m)| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                (a, n + m)
            });
        for g in 0..CLASSES {
            for a in 0..CLASSES {
                for w in 0..SHAPES {
                    let n = found[at(g, a, w)];
                    if n > 0 {
                        keys(g, a, w).into_iter().for_each(|k| strata.entry(k).or_default().pairs += n);
                    }
                }
            }
        }
        others
    }

    /// Links, and the number of pairs tested, against the pairs beyond `window` bases. Memory: the scores of the links.
    pub(super) fn matched(&self, links: &[Link], window: f64) -> (Vec<LinkStat>, u64) {
        let far = |g: u32, p: u32| distance(self.v, g, p).is_some_and(|d| d > window);
        let near = |g: u32, p: u32| distance(self.v, g, p).is_some_and(|d| d <= window);
        let mut strata = HashMap::new();
        // Pairs of unknown distance are neither tested nor null.
        let all_but_far = self.count(&mut strata, far);
        let unknown = self.unplaced();
        let tested = all_but_far - unknown;
        self.fill(&mut strata, links.iter().filter(|l| far(l.gene, l.peak)));
        (self.judge(links, &strata, tested, near), tested)
    }

    /// Links, and the number of pairs tested, against the links of `times` passes over shuffled pairings.
    pub(super) fn shuffled(&self, links: &[Link], null: &[Link], times: u64) -> (Vec<LinkStat>, u64) {
        let mut strata = HashMap::new();
        self.count(&mut strata, |_, _| true);
        let tested = strata.get(&(3, 0, 0, 0)).map_or(0, |s: &Stratum| s.pairs);
        strata.values_mut().for_each(|s| s.pairs *= times);
        self.fill(&mut strata, null.iter());
        (self.judge(links, &strata, tested, |_, _| true), tested)
    }

    /// Detected pairs of one chromosome whose distance is unknown.
    fn unplaced(&self) -> u64 {
        let pairs = self.genes_of.iter().zip(&self.peaks_of).map(|(genes, peaks)| {
            let genes: Vec<u32> = genes.iter().copied().filter(|&g| self.gene[g as usize].is_some()).collect();
            let peaks: Vec<u32> = peaks.iter().copied().filter(|&p| self.peak[p as usize].is_some()).collect();
            let placed_genes = genes.iter().filter(|&&g| self.v.genes[g as usize].tss.is_some()).count() as u64;
            let placed_peaks = peaks.iter().filter(|&&p| self.v.peaks[p as usize].start >= 0).count() as u64;
            genes.len() as u64 * peaks.len() as u64 - placed_genes * placed_peaks
        });
        pairs.sum()
    }

    fn fill<'l>(&self, strata: &mut HashMap<Key, Stratum>, links: impl Iterator<Item = &'l Link>) {
        for l in links {
            for key in self.keys(l.gene, l.peak).into_iter().flatten() {
                strata.entry(key).or_default().scores.push(l.weight);
            }
        }
        strata.par_iter_mut().for_each(|(_, s)| s.scores.sort_by(f64::total_cmp));
    }

    fn judge(
        &self,
        links: &[Link],
        strata: &HashMap<Key, Stratum>,
        tested: u64,
        test: impl Fn(u32, u32) -> bool + Sync,
    ) -> Vec<LinkStat> {
        let statistics: HashMap<Key, (f64, f64)> = strata.par_iter().map(|(k, s)| (*k, s.statistics())).collect();
        let mut out: Vec<LinkStat> = links
            .par_iter()
            .map(|l| {
                let mut stat = plain(l);
                let keys = self.keys(l.gene, l.peak).filter(|_| test(l.gene, l.peak));
                let found = keys.into_iter().flatten().find(|k| strata.get(k).is_some_and(|s| s.pairs >= LEAST));
                if let Some(key) = found {
                    let (mean, sd) = statistics[&key];
                    stat.zscore = if sd > 0.0 { (l.weight - mean) / sd } else { f64::NAN };
                    stat.pvalue = strata[&key].p(l.weight);
                }
                stat
            })
            .collect();
        benjamini_hochberg(&mut out, tested);
        out
    }
}

/// A link without statistics.
pub(super) fn plain(l: &Link) -> LinkStat {
    LinkStat {
        gene: l.gene,
        peak: l.peak,
        score: l.weight,
        cells: l.cells,
        zscore: f64::NAN,
        pvalue: f64::NAN,
        qvalue: f64::NAN,
    }
}

/// q-values over `tested` pairs; those that are not among the links have p = 1.
fn benjamini_hochberg(links: &mut [LinkStat], tested: u64) {
    let p: Vec<f64> = links.iter().map(|l| l.pvalue).collect();
    links.iter_mut().zip(crate::evaluate::ranking::benjamini_hochberg(&p, tested)).for_each(|(l, q)| l.qvalue = q);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::vocabulary::{Gene, Peak};

    /// One chromosome of `n` genes a megabase apart, and `m` peaks evenly along it.
    fn genome(n: u32, m: u32) -> Vocabulary {
        Vocabulary {
            chromosomes: vec!["chr1".into()],
            genes: (0..n)
                .map(|i| Gene { name: format!("g{i}"), chrom: 0, tss: Some(i64::from(i) * 1_000_000) })
                .collect(),
            peaks: (0..m)
                .map(|i| {
                    let start = i64::from(i) * i64::from(n) * 1_000_000 / i64::from(m);
                    Peak { name: format!("p{i}"), chrom: 0, start, end: start + 500 + i64::from(i % 3) * 100 }
                })
                .collect(),
            ..Vocabulary::default()
        }
    }

    fn links(n: u32, m: u32, rng: &mut Rng, score: impl Fn(u32, u32, f64) -> f64) -> Vec<Link> {
        let mut out = Vec::new();
        for gene in 0..n {
            for peak in 0..m {
                let weight = score(gene, peak, rng.uniform());
                if weight > 0.0 {
                    out.push(Link { gene, peak, weight, cells: 1 });
                }
            }
        }
        out
    }

    /// Where nearness means nothing, p-values are uniform and next to nothing is found; where it means something, it is
    /// found. The p of a pair is checked against a count by hand.
    #[test]
    fn matched_p_values_are_calibrated_and_have_power() {
        let (n, m) = (60, 600);
        let v = genome(n, m);
        let mut rng = Rng::new(5, 1);
        let genes: Vec<u32> = (0..n).map(|i| 10 + i).collect();
        let peaks: Vec<u32> = (0..m).map(|i| 5 + (i * 7) % 100).collect();
        let gc: Vec<Option<f64>> = (0..m).map(|i| Some(f64::from(i % 10) / 10.0)).collect();
        let strata = Strata::new(&v, &genes, &peaks, &gc);
        // A third of the pairs have attention, more of it where gene and peak are frequent: the strata must see to that.
        let common = |g: u32, p: u32, u: f64| {
            let frequent = f64::from(genes[g as usize] * peaks[p as usize]) / 7000.0;
            if u < 0.33 { frequent * (1.0 + 3.0 * u) } else { 0.0 }
        };
        let all = links(n, m, &mut rng, common);
        let (stats, _) = strata.matched(&all, 500_000.0);
        let tested: Vec<&LinkStat> = stats.iter().filter(|s| !s.pvalue.is_nan()).collect();
        assert!(tested.len() > 100, "{}", tested.len());
        assert!(stats.iter().all(|s| s.pvalue.is_nan() == s.qvalue.is_nan()));
        let pairs = (0..n).flat_map(|g| (0..m).map(move |p| (g, p)));
        let near = pairs.filter(|&(g, p)| distance(&v, g, p).is_some_and(|d| d <= 500_000.0)).count() as f64;
        for level in [0.05, 0.1, 0.2] {
            let share = tested.iter().filter(|s| s.pvalue <= level).count() as f64 / near;
            let sd = (level * (1.0 - level) / near).sqrt();
            assert!((share - level).abs() < 4.0 * sd, "{share} of the p-values are below {level}");
        }
        assert!(tested.iter().all(|s| s.qvalue > 0.05), "nothing is there to be found");
        for s in &tested {
            assert!(distance(&v, s.gene, s.peak).is_some_and(|d| d <= 500_000.0));
        }

        let near_more = |g: u32, p: u32, u: f64| {
            let close = distance(&v, g, p).is_some_and(|d| d < 20_000.0);
            if close { 50.0 } else { common(g, p, u) }
        };
        let all = links(n, m, &mut rng, near_more);
        let (stats, _) = strata.matched(&all, 500_000.0);
        let planted = |s: &&LinkStat| s.score == 50.0;
        assert!(stats.iter().filter(planted).count() > 40);
        assert!(stats.iter().filter(planted).all(|s| s.qvalue < 0.05 && s.zscore > 3.0));
        let false_ones = stats.iter().filter(|s| s.qvalue < 0.05 && s.score != 50.0).count();
        assert!(false_ones < 5, "{false_ones}");
    }

    #[test]
    fn p_by_hand() {
        // 1 gene, 400 peaks of one kind, 20 of them near: strata widen to all.
        let mut v = genome(1, 400);
        for (i, p) in v.peaks.iter_mut().enumerate() {
            p.start = if i < 20 { 1000 } else { 10_000_000 + 1000 * i as i64 };
            p.end = p.start + 500;
        }
        let strata = Strata::new(&v, &[9], &[9; 400], &[None; 400]);
        let link = |peak: u32, weight: f64| Link { gene: 0, peak, weight, cells: 1 };
        // Far: 3 of 380 have attention.
        let all = [link(0, 2.0), link(1, 5.0), link(100, 1.0), link(101, 2.0), link(102, 3.0)];
        let (stats, _) = strata.matched(&all, 500_000.0);
        assert_eq!(stats[0].pvalue, 3.0 / 381.0); // 2 and 3 are as high
        assert_eq!(stats[1].pvalue, 1.0 / 381.0);
        assert!(stats[2..].iter().all(|s| s.pvalue.is_nan() && s.zscore.is_nan() && s.qvalue.is_nan()));
        let mean: f64 = 6.0 / 380.0;
        let sd = (14.0 / 380.0 - mean * mean).sqrt();
        assert!((stats[1].zscore - (5.0 - mean) / sd).abs() < 1e-9);
        // 20 pairs were tested.
        assert!((stats[1].qvalue - 20.0 / 381.0).abs() < 1e-12);
        assert!((stats[0].qvalue - 30.0 / 381.0).abs() < 1e-12);
        // Against two passes over shuffled pairings: 800 null pairs, all 400 tested.
        let (stats, _) = strata.shuffled(&all, &[link(3, 2.0), link(7, 9.0)], 2);
        assert_eq!(stats[0].pvalue, 3.0 / 801.0);
        assert_eq!(stats[1].pvalue, 2.0 / 801.0);
        // Two have p = 2/801, all five at most 3/801: the last decides.
        assert!(stats.iter().all(|s| (s.qvalue - 400.0 * 3.0 / 801.0 / 5.0).abs() < 1e-12));
    }

    #[test]
    fn too_few_pairs_say_nothing() {
        let v = genome(2, 20);
        let strata = Strata::new(&v, &[5; 2], &[5; 20], &[None; 20]);
        let (stats, _) = strata.matched(&[Link { gene: 0, peak: 0, weight: 1.0, cells: 1 }], 500_000.0);
        assert!(stats[0].pvalue.is_nan());
    }
}
