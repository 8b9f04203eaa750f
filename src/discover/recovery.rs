//! Link recovery: how well scores of gene–peak pairs find known links, over all pairs of equal chromosome or those tested.

use std::io::Write;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::scores::PairScorer;
use super::truth::Truth;
use crate::error::Result;
use crate::evaluate::{Ranking, RankingMetrics};
use crate::files::atomic::write_atomic;
use crate::progress::Progress;
use crate::vocabulary::{Vocabulary, distance};

/// Pairs scored at a time, a thread.
const BLOCK: usize = 1 << 20;
/// Blocks whose cells are read together: as many as there are threads, within these.
const TOGETHER: (usize, usize) = (8, 32);

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
    /// Whether the pairs are those that were tested, links and negatives, and not all of equal chromosome.
    #[serde(default)]
    pub tested: bool,
    /// Gene–peak pairs of equal chromosome; those tested, where the file of links has tested negatives.
    pub pairs: u64,
    /// Known links among them.
    pub links: u64,
    /// AUPRC of a random order: links / pairs.
    pub chance: Option<f64>,
    /// Known links (and tested negatives) left out: the data lack their gene or peak.
    pub links_missing: u64,
    /// Known links (and tested negatives) left out: not on one chromosome.
    pub links_off_chromosome: u64,
    /// Lines left out: they do not say whether they are a link or a tested negative.
    #[serde(default)]
    pub untested: u64,
    /// Lines left out: they cannot be read.
    #[serde(default)]
    pub unread: u64,
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
/// Bins of [`RECOVERY_BINS`] that [`Recovery::near`] joins: all that end at [`NEAR`] or before.
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

/// Scores of those of some pairs that a block holds, with their distance bins.
fn known(v: &Vocabulary, pairs: &[(u32, u32)], genes: &[u32], peaks: &[u32], scores: &[f64]) -> Vec<(f64, usize)> {
    let mut out = Vec::new();
    for (&g, row) in genes.iter().zip(scores.chunks(peaks.len())) {
        let start = pairs.partition_point(|t| t.0 < g);
        for &(_, p) in pairs[start..].iter().take_while(|t| t.0 == g) {
            if let Ok(at) = peaks.binary_search(&p) {
                out.push((row[at], recovery_bin(distance(v, g, p))));
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
            bins: (0..RECOVERY_BINS.len()).map(|bin| of(&|b| b == bin)).collect(),
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

    /// Counts one pair that is no known link.
    fn count(&mut self, x: f64, bin: usize) {
        self.all.add_negative(x);
        self.bins[bin].add_negative(x);
        if bin < NEAR_BINS {
            self.near.add_negative(x);
        }
    }

    /// Counts the pairs of a block that are no known links.
    fn add(&mut self, v: &Vocabulary, truth: &[(u32, u32)], genes: &[u32], peaks: &[u32], scores: &[f64]) {
        for (&g, row) in genes.iter().zip(scores.chunks(peaks.len())) {
            for (&p, &x) in peaks.iter().zip(row) {
                self.count(x, recovery_bin(distance(v, g, p)));
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

/// Genes and peaks of a block.
type Pairs<'a> = (&'a [u32], &'a [u32]);

/// Passes over the pairs in blocks.
struct Passes<'a> {
    v: &'a Vocabulary,
    progress: &'a dyn Progress,
    /// Blocks whose cells are read together.
    together: usize,
}

impl Passes<'_> {
    /// Calls `of` with each block and its scores, and joins what it makes of them.
    fn each<T: Send>(
        &self,
        scorer: &dyn PairScorer,
        blocks: &[Pairs<'_>],
        empty: &(impl Fn() -> T + Sync),
        of: &(impl Fn(&mut T, Pairs<'_>, &[f64]) + Sync),
        join: &(impl Fn(&mut T, T) + Sync),
    ) -> Result<T> {
        let mut whole = empty();
        for chunk in blocks.chunks(self.together) {
            self.progress.check("nothing was written")?;
            let read = scorer.read(chunk);
            let scorer = read.as_deref().unwrap_or(scorer);
            let of_block = |mut t: T, &(genes, peaks): &Pairs<'_>| {
                let mut scores = vec![0.0; genes.len() * peaks.len()];
                scorer.block(genes, peaks, &mut scores);
                of(&mut t, (genes, peaks), &scores);
                t
            };
            let joined = |mut a: T, b: T| {
                join(&mut a, b);
                a
            };
            let of_chunk = chunk.par_iter().fold(empty, of_block).reduce(empty, joined);
            join(&mut whole, of_chunk);
        }
        Ok(whole)
    }

    /// Scores of those of some pairs that these blocks hold, with their distance bins.
    fn some(
        &self,
        scorer: &dyn PairScorer,
        blocks: &[Pairs<'_>],
        pairs: [&[(u32, u32)]; 2],
    ) -> Result<[Vec<(f64, usize)>; 2]> {
        let of = |found: &mut [Vec<(f64, usize)>; 2], (genes, peaks): Pairs<'_>, scores: &[f64]| {
            found.iter_mut().zip(pairs).for_each(|(f, pairs)| f.extend(known(self.v, pairs, genes, peaks, scores)));
        };
        let join = |a: &mut [Vec<(f64, usize)>; 2], b: [Vec<(f64, usize)>; 2]| {
            a.iter_mut().zip(b).for_each(|(a, b)| a.extend(b));
        };
        self.each(scorer, blocks, &Default::default, &of, &join)
    }
}

/// Ranks all pairs of equal chromosome by each score, together and by distance bin; only those that were tested, where
/// the known links say so ([`Truth::tested`]). Two passes over the pairs, in blocks of about a million, so memory does
/// not grow with their number; of tested pairs one pass over the blocks that hold them. The result does not depend on the
/// number of threads. A scorer that reads the cells reads them once for 8 to 32 blocks, and holds the entries of their
/// genes and peaks meanwhile.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn recover(
    v: &Vocabulary,
    truth: &Truth,
    scorers: &[&dyn PairScorer],
    progress: &dyn Progress,
) -> Result<Recovery> {
    let blocks = Blocks::new(v, BLOCK);
    let links = &truth.links;
    let negatives: Option<Vec<(u32, u32)>> = truth
        .tested
        .as_ref()
        .map(|tested| tested.iter().filter(|&p| links.binary_search(p).is_err()).copied().collect());
    let wanted = [links.as_slice(), negatives.as_deref().unwrap_or_default()];
    let all: Vec<Pairs<'_>> = blocks.blocks.iter().map(|b| blocks.parts(b)).collect();
    let any =
        |genes: &[u32]| genes.iter().any(|g| wanted.iter().any(|pairs| pairs.binary_search_by_key(g, |t| t.0).is_ok()));
    let with_wanted: Vec<Pairs<'_>> = all.iter().copied().filter(|b| any(b.0)).collect();
    let passes = Passes { v, progress, together: rayon::current_num_threads().clamp(TOGETHER.0, TOGETHER.1) };
    let none = RankingMetrics { auroc: None, auprc: None, positives: 0, negatives: 0 };
    let mut total = vec![none; 2 + RECOVERY_BINS.len()];
    let mut scores = vec![Vec::new(); 2 + RECOVERY_BINS.len()];
    for &scorer in scorers {
        let [of_links, of_negatives] = passes.some(scorer, &with_wanted, wanted)?;
        let start = Tally::new(&of_links);
        let tally = match &negatives {
            Some(_) => {
                let mut tally = start.fork();
                of_negatives.into_iter().for_each(|(x, bin)| tally.count(x, bin));
                tally
            }
            None => passes.each(
                scorer,
                &all,
                &|| start.fork(),
                &|t: &mut Tally, (genes, peaks), scores| t.add(v, links, genes, peaks, scores),
                &|a: &mut Tally, b: Tally| a.merge(&b),
            )?,
        };
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
    let names = ["0-500kb"].into_iter().chain(RECOVERY_BINS.iter().map(|b| b.0));
    let mut bins = names.zip(parts).map(|(name, (of_bin, scores))| RecoveryBin {
        distance: name.to_string(),
        pairs: of_bin.positives + of_bin.negatives,
        links: of_bin.positives,
        chance: of_bin.chance(),
        scores,
    });
    Ok(Recovery {
        tested: negatives.is_some(),
        pairs: total.positives + total.negatives,
        links: total.positives,
        chance: total.chance(),
        links_missing: truth.missing,
        links_off_chromosome: truth.off_chromosome,
        untested: truth.untested,
        unread: truth.unread,
        scores,
        near: bins.next(),
        bins: bins.collect(),
    })
}

/// Distance bins |TSS − peak midpoint| of [`Recovery::bins`]: name, first distance in bases, first beyond.
pub const RECOVERY_BINS: [(&str, f64, f64); 8] = [
    ("0-10kb", 0.0, 1e4),
    ("10-50kb", 1e4, 5e4),
    ("50-100kb", 5e4, 1e5),
    ("100-250kb", 1e5, 2.5e5),
    ("250-500kb", 2.5e5, 5e5),
    ("500kb-1Mb", 5e5, 1e6),
    (">=1Mb", 1e6, f64::INFINITY),
    ("unknown", f64::NAN, f64::NAN),
];

/// Number of the bin of a distance in bases.
pub fn recovery_bin(distance: Option<f64>) -> usize {
    let Some(d) = distance else { return RECOVERY_BINS.len() - 1 };
    RECOVERY_BINS[..RECOVERY_BINS.len() - 2].iter().position(|b| d < b.2).unwrap_or(RECOVERY_BINS.len() - 2)
}

/// Link recovery among the pairs of one distance bin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryBin {
    /// Name of the bin, as in [`RECOVERY_BINS`].
    pub distance: String,
    /// Gene–peak pairs in it: of equal chromosome, or tested.
    pub pairs: u64,
    /// Known links among them.
    pub links: u64,
    /// AUPRC of a random order: links / pairs.
    pub chance: Option<f64>,
    /// One entry a score.
    pub scores: Vec<Recovered>,
}

/// Writes link recovery as a table parted by tabs, a line a distance bin and score (`all`: every pair): distance,
/// pairs, links, chance, score, auroc, auprc, auprc_over_chance; `NaN` where there is none.
///
/// # Errors
/// A file that cannot be written.
pub fn write_recovery(path: &Path, r: &Recovery) -> Result<()> {
    let number = |x: Option<f64>| x.map_or("NaN".to_string(), |x| format!("{x:.6e}"));
    write_atomic(path, |out| {
        writeln!(out, "distance\tpairs\tlinks\tchance\tscore\tauroc\tauprc\tauprc_over_chance")?;
        let all = ("all", r.pairs, r.links, r.chance, &r.scores);
        let bins = r.near.iter().chain(&r.bins).map(|b| (b.distance.as_str(), b.pairs, b.links, b.chance, &b.scores));
        for (name, pairs, links, chance, scores) in std::iter::once(all).chain(bins) {
            for s in scores {
                let [chance, auroc, auprc, lift] = [chance, s.auroc, s.auprc, s.auprc_over_chance].map(number);
                writeln!(out, "{name}\t{pairs}\t{links}\t{chance}\t{}\t{auroc}\t{auprc}\t{lift}", s.score)?;
            }
        }
        Ok(())
    })
}
