//! Tissue: lineages and types, regulators shared by peaks and genes, promoter peaks, links that act in some types.
//!
//! A regulator stands for a transcription factor or a state of the cell. It opens peaks all over the genome and raises genes
//! by ways that are no peak's doing; so peaks and genes that have nothing to do with each other go together, most of all
//! between cell types. Peaks near a gene tend to follow the regulator of its enhancers, linked or not, and genes that of their
//! neighbours.

use super::config::SimulateConfig;
use super::genome::Chromosome;
use super::plan::{Placed, PlantedLink, SimulatedGene, SimulatedPeak, settle, sigmoid};
use super::settings::{REACH, Tissue};
use super::streams::{ACTIVITIES, REGULATORS, TISSUE_GENES, TISSUE_OPEN, TISSUE_PEAKS};
use crate::rng::Rng;

/// Most links of a gene.
const MOST_LINKS: usize = 4;
/// Farthest a promoter's middle is drawn from the TSS.
const PROMOTER: usize = 300;
/// Standard deviation within a type of the activity of a regulator that types differ in; 1 for the others.
const WITHIN: f64 = 0.3;
/// Standard deviation between types of what is a peak's or a gene's own: logit and log level.
const OWN: [f64; 2] = [0.3, 0.2];
/// Chance of a gene's regulators, and of its links, to be the gene's main one.
const MAIN: f64 = 0.6;
/// Chance of a gene right beside another to have the same main regulator; it falls with distance as `domain` does.
const NEIGHBOUR: f64 = 0.5;
/// Share of a regulator's effects on genes that lower them.
const LOWERED: f64 = 0.15;
/// A link at a peak of some types acts where the peak is open at least so often, relative to its foremost type.
const ACTS: f64 = 0.4;

/// Regulators: activities of types, and how they vary within.
struct Regulators {
    /// `[K][cell_types]` mean activity.
    mean: Vec<Vec<f64>>,
    /// `[K]` standard deviation within a type.
    within: Vec<f64>,
    /// The first so many are those that types differ in.
    patterned: usize,
}

impl Regulators {
    fn draw(c: &SimulateConfig, t: &Tissue, lineage: &[usize]) -> Self {
        let mut rng = Rng::new(c.seed, REGULATORS);
        let continuous = (t.continuous * t.regulators as f64).round() as usize;
        let patterned = t.regulators.saturating_sub(continuous).max(1);
        let mean = (0..t.regulators).map(|k| activity(&mut rng, k, patterned, lineage)).collect();
        let within = (0..t.regulators).map(|k| if k < patterned { WITHIN } else { 1.0 }).collect();
        Regulators { mean, within, patterned }
    }

    fn any(&self, rng: &mut Rng) -> usize {
        rng.below(self.mean.len())
    }
}

/// The activity of regulator `k` in each type: of a third of the patterned ones high in a lineage, of the others in one to
/// three types, mostly of one lineage; near 0 in all types for those that are not patterned.
fn activity(rng: &mut Rng, k: usize, patterned: usize, lineage: &[usize]) -> Vec<f64> {
    let types = lineage.len();
    let first = rng.below(types);
    let active: Vec<bool> = match k {
        _ if k >= patterned => vec![false; types],
        _ if k.is_multiple_of(3) => lineage.iter().map(|&l| l == lineage[first]).collect(),
        _ => {
            let more = rng.below(3);
            let mut active = vec![false; types];
            active[first] = true;
            for _ in 0..more {
                let other = rng.below(types);
                active[other] |= lineage[other] == lineage[first] || rng.uniform() < 0.3;
            }
            active
        }
    };
    active.iter().map(|&a| f64::from(u8::from(a)) + 0.15 * rng.normal()).collect()
}

/// What regulators do to genes or to peaks: of each the regulators and their effects.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Loadings {
    start: Vec<u32>,
    of: Vec<(u32, f32)>,
}

impl Loadings {
    fn push(&mut self, of: &[(usize, f64)]) {
        if self.start.is_empty() {
            self.start.push(0);
        }
        self.of.extend(of.iter().map(|&(k, x)| (k as u32, x as f32)));
        self.start.push(self.of.len() as u32);
    }

    /// What the regulators in these states, as deviations from the mean of the type, multiply by.
    pub(super) fn factor(&self, i: usize, states: &[f64]) -> Option<f64> {
        let of = &self.of[self.start[i] as usize..self.start[i + 1] as usize];
        (!of.is_empty()).then(|| of.iter().map(|&(k, x)| f64::from(x) * states[k as usize]).sum::<f64>().exp())
    }
}

/// What tissue has and other simulations do not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TissuePlan {
    /// `[cell_types]`.
    pub lineage: Vec<usize>,
    /// `[K]` standard deviation of a regulator within a type.
    within: Vec<f64>,
    /// Of genes: log level.
    pub genes: Loadings,
    /// Of peaks: logit.
    pub peaks: Loadings,
    /// `[P]` the gene at whose TSS the peak is.
    pub promoter_of: Vec<Option<usize>>,
    /// `[links][cell_types]`.
    pub acts: Vec<Vec<bool>>,
}

impl TissuePlan {
    /// Regulators of cell `i`, as deviations from the mean of its type.
    pub(super) fn activities(&self, seed: u64, i: usize) -> Vec<f64> {
        let mut rng = Rng::new(seed, ACTIVITIES + i as u64);
        self.within.iter().map(|sd| sd * rng.normal()).collect()
    }
}

/// A tissue, drawn.
pub(super) struct Made {
    pub placed: Placed,
    pub level: Vec<Vec<f64>>,
    pub link_factor: Vec<[f64; 2]>,
    pub plan: TissuePlan,
}

/// What a peak is drawn as.
#[derive(Clone, Copy)]
enum Role {
    Promoter(usize),
    Linked(usize, f64),
    Other,
}

/// Chromosome, start, width, role.
type Draft = (usize, i64, i64, Role);

/// Size of an effect of mean `mean`: skewed, at most three times as much.
fn size(rng: &mut Rng, mean: f64) -> f64 {
    mean * (0.4 - 0.6 * (1.0 - rng.uniform()).ln()).min(3.0)
}

/// Distance of a link or peak from the TSS: log-normal, drawn again where it is out of reach.
fn distance(rng: &mut Rng, median: f64, sd: f64) -> i64 {
    let draws = (0..64).map(|_| median * (sd * rng.normal()).exp());
    let found = draws.into_iter().find(|x| (REACH[0]..REACH[1]).contains(x)).unwrap_or(median);
    if rng.below(2) == 1 { found as i64 } else { -(found as i64) }
}

/// Promoters, then linked peaks, then others, until each chromosome has its share; promoters are at most a third, and linked
/// peaks at most half of what is left.
fn draft(c: &SimulateConfig, t: &Tissue, chromosomes: &[Chromosome], genes: &[SimulatedGene]) -> Vec<Draft> {
    let mut rng = Rng::new(c.seed, TISSUE_PEAKS);
    let mut left: Vec<usize> = chromosomes.iter().map(|k| k.peaks).collect();
    let mut drafts: Vec<Draft> = Vec::with_capacity(c.peaks);
    let mut add = |rng: &mut Rng, k: usize, middle: i64, role| {
        let width = 400 + rng.below(601) as i64;
        drafts.push((k, middle - width / 2, width, role));
    };
    let mut order: Vec<usize> = (0..genes.len()).collect();
    rng.shuffle(&mut order);
    let mut spare: Vec<usize> = left.iter().map(|n| n / 3).collect();
    for &g in &order[..(t.promoters * genes.len() as f64).round() as usize] {
        let k = genes[g].chrom;
        if spare[k] > 0 {
            spare[k] -= 1;
            left[k] -= 1;
            let middle = genes[g].tss + rng.below(2 * PROMOTER + 1) as i64 - PROMOTER as i64;
            add(&mut rng, k, middle, Role::Promoter(g));
        }
    }
    rng.shuffle(&mut order);
    let mut spare: Vec<usize> = left.iter().map(|n| n / 2).collect();
    for &g in &order[..(c.linked_genes * genes.len() as f64).round() as usize] {
        let k = genes[g].chrom;
        let wanted = (1 + rng.below(MOST_LINKS)).min(spare[k]);
        spare[k] -= wanted;
        left[k] -= wanted;
        for _ in 0..wanted {
            let middle = genes[g].tss + distance(&mut rng, t.distance[0], t.distance[1]);
            let effect = c.effect[0] + rng.uniform() * (c.effect[1] - c.effect[0]);
            add(&mut rng, k, middle, Role::Linked(g, effect));
        }
    }
    for (k, &n) in left.iter().enumerate() {
        let first = genes.partition_point(|g| g.chrom < k);
        let here = &genes[first..genes.partition_point(|g| g.chrom <= k)];
        for _ in 0..n {
            let middle = if !here.is_empty() && rng.uniform() < t.around_genes {
                here[rng.below(here.len())].tss + distance(&mut rng, 2.0 * t.distance[0], t.distance[1])
            } else {
                chromosomes[k].place(&mut rng)
            };
            add(&mut rng, k, middle, Role::Other);
        }
    }
    drafts.sort_by_key(|d| (d.0, d.1, d.2));
    drafts
}

/// Genes: main regulators, log levels `[cell_types][G]` before links, and effects of regulators.
struct Levels {
    main: Vec<usize>,
    log: Vec<Vec<f64>>,
    loadings: Loadings,
}

fn levels(c: &SimulateConfig, t: &Tissue, genes: &[SimulatedGene], regulators: &Regulators) -> Levels {
    let mut rng = Rng::new(c.seed, TISSUE_GENES);
    let (mut main, mut loadings): (Vec<usize>, _) = (Vec::with_capacity(c.genes), Loadings::default());
    let mut log = vec![Vec::with_capacity(c.genes); c.cell_types];
    for (i, gene) in genes.iter().enumerate() {
        let (drawn, u) = (rng.below(regulators.patterned), rng.uniform());
        let own = match i.checked_sub(1).map(|left| (&genes[left], main[left])) {
            Some((left, same)) if left.chrom == gene.chrom && u < NEIGHBOUR * t.nearness(gene.tss - left.tss) => same,
            _ => drawn,
        };
        main.push(own);
        let base = c.gene_sd * rng.normal();
        let n = if rng.uniform() < t.regulated { 1 + rng.below(3) } else { 0 };
        let mut of: Vec<(usize, f64)> = Vec::with_capacity(n);
        for _ in 0..n {
            let k = if rng.uniform() < MAIN { own } else { regulators.any(&mut rng) };
            let x = size(&mut rng, t.regulator_effect[1]);
            if of.iter().all(|o| o.0 != k) {
                of.push((k, if rng.uniform() < LOWERED { -x } else { x }));
            }
        }
        // What varies within types is 1 on average.
        let spread: f64 = of.iter().map(|&(k, x)| (x * regulators.within[k]).powi(2)).sum::<f64>() / 2.0;
        for (t, log) in log.iter_mut().enumerate() {
            let between: f64 = of.iter().map(|&(k, x)| x * regulators.mean[k][t]).sum();
            log.push(base + between + OWN[1] * rng.normal() - spread);
        }
        loadings.push(&of);
    }
    Levels { main, log, loadings }
}

/// The main regulator and the distance of the gene nearest to a place.
fn nearest(genes: &[SimulatedGene], main: &[usize], chrom: usize, at: i64) -> Option<(usize, i64)> {
    let right = genes.partition_point(|g| (g.chrom, g.tss) < (chrom, at));
    [right.checked_sub(1), Some(right)]
        .into_iter()
        .flatten()
        .filter_map(|i| genes.get(i).filter(|g| g.chrom == chrom).map(|g| (main[i], (g.tss - at).abs())))
        .min_by_key(|x| x.1)
}

/// What opens a peak that is no promoter: logit without regulators, regulators and their effects, and whether it is open in
/// some types only.
fn opening(
    rng: &mut Rng,
    (c, t): (&SimulateConfig, &Tissue),
    regulators: &Regulators,
    (own, near): (usize, f64),
    linked: bool,
) -> (f64, Vec<(usize, f64)>, bool) {
    let base = c.openness[0] + c.openness[1] * rng.normal();
    let specific = linked && rng.uniform() < t.specific_links;
    let strength = t.regulator_effect[0];
    if specific {
        let k = if rng.uniform() < MAIN { own } else { rng.below(regulators.patterned) };
        let x = strength * (1.2 + 0.8 * rng.uniform());
        return (base.min(c.openness[0] + 1.0) - 0.3 * x, vec![(k, x)], true);
    }
    if rng.uniform() >= c.programmes {
        return (base, Vec::new(), false);
    }
    let follows = if linked { MAIN } else { near };
    let first = if rng.uniform() < follows { own } else { regulators.any(rng) };
    let mut of = vec![(first, size(rng, strength))];
    let second = regulators.any(rng);
    if rng.uniform() < 0.4 && second != first {
        of.push((second, size(rng, strength)));
    }
    (base, of, false)
}

/// The types that a link acts in.
fn acting(open: &[f64], specific: bool) -> Vec<bool> {
    let most = open.iter().copied().fold(0.0, f64::max);
    open.iter().map(|&o| !specific || o >= ACTS * most).collect()
}

/// What a link multiplies its gene by while its peak is [closed or without effect, open]: 1 on average over types.
fn factor(effect: f64, open: &[f64], acts: &[bool]) -> [f64; 2] {
    let fold = effect.exp();
    let mean = open.iter().zip(acts).map(|(o, &a)| if a { 1.0 + o * (fold - 1.0) } else { 1.0 }).sum::<f64>();
    let mean = mean / open.len() as f64;
    [1.0 / mean, fold / mean]
}

/// Peaks, and what follows from their opening, as they are drawn.
struct Opened {
    open: Vec<Vec<f32>>,
    loadings: Loadings,
    /// Link, where it acts, and its factors.
    links: Vec<(PlantedLink, Vec<bool>, [f64; 2])>,
    promoter_of: Vec<Option<usize>>,
    /// `[P]` logits of promoters.
    promoter: Vec<f64>,
}

fn open_peaks(
    (c, t): (&SimulateConfig, &Tissue),
    regulators: &Regulators,
    (genes, levels): (&[SimulatedGene], &Levels),
    drafts: &[Draft],
    peaks: &mut [SimulatedPeak],
) -> Opened {
    let mut rng = Rng::new(c.seed, TISSUE_OPEN);
    let mut made = Opened {
        open: vec![Vec::with_capacity(peaks.len()); c.cell_types],
        loadings: Loadings::default(),
        links: Vec::new(),
        promoter_of: vec![None; peaks.len()],
        promoter: vec![0.0; peaks.len()],
    };
    for (i, (draft, peak)) in drafts.iter().zip(peaks).enumerate() {
        let at = (peak.start + peak.end) / 2;
        let (own, link) = match draft.3 {
            Role::Promoter(g) => {
                made.promoter_of[i] = Some(g);
                made.promoter[i] = t.promoter_openness[0] + t.promoter_openness[1] * rng.normal();
                made.loadings.push(&[]);
                made.open.iter_mut().for_each(|o| o.push(0.0));
                continue;
            }
            Role::Linked(g, effect) => ((levels.main[g], 0.0), Some((g, effect))),
            Role::Other => {
                let near = nearest(genes, &levels.main, peak.chrom, at);
                (near.map_or((0, 0.0), |(k, d)| (k, t.domain[0] * t.nearness(d))), None)
            }
        };
        let (base, of, specific) = opening(&mut rng, (c, t), regulators, own, link.is_some());
        let open: Vec<f64> = (0..c.cell_types)
            .map(|k| {
                let between: f64 = of.iter().map(|&(r, x)| x * regulators.mean[r][k]).sum();
                sigmoid(base + between + OWN[0] * rng.normal())
            })
            .collect();
        if !of.is_empty() {
            peak.opened_by = (0..open.len()).max_by(|&a, &b| open[a].total_cmp(&open[b]));
        }
        made.loadings.push(&of);
        made.open.iter_mut().zip(&open).for_each(|(all, &o)| all.push(o as f32));
        if let Some((gene, effect)) = link {
            let acts = acting(&open, specific);
            let factor = factor(effect, &open, &acts);
            made.links.push((PlantedLink { gene, peak: i, effect }, acts, factor));
        }
    }
    made.links.sort_by_key(|l| (l.0.gene, l.0.peak));
    made
}

/// Log levels with what links add on average.
fn with_links(log: &[Vec<f64>], made: &Opened) -> Vec<Vec<f64>> {
    let mut linked = log.to_vec();
    for (link, acts, factor) in &made.links {
        for (k, log) in linked.iter_mut().enumerate() {
            let open = if acts[k] { f64::from(made.open[k][link.peak]) } else { 0.0 };
            log[link.gene] += (factor[0] + open * (factor[1] - factor[0])).ln();
        }
    }
    linked
}

/// Promoters open a little more where their gene is higher, links included.
fn open_promoters(c: &SimulateConfig, t: &Tissue, linked: &[Vec<f64>], made: &mut Opened) {
    for (i, gene) in made.promoter_of.iter().enumerate() {
        let Some(g) = *gene else { continue };
        let mean = linked.iter().map(|l| l[g]).sum::<f64>() / c.cell_types as f64;
        for (k, open) in made.open.iter_mut().enumerate() {
            open[i] = sigmoid(made.promoter[i] + t.promoter_coupling * (linked[k][g] - mean)) as f32;
        }
    }
}

/// Draws a tissue around genes in their places.
pub(super) fn draw(c: &SimulateConfig, t: &Tissue, chromosomes: &[Chromosome], genes: &[SimulatedGene]) -> Made {
    let lineages = t.lineages.min(c.cell_types);
    let lineage: Vec<usize> = (0..c.cell_types).map(|k| k * lineages / c.cell_types).collect();
    let regulators = Regulators::draw(c, t, &lineage);
    let levels = levels(c, t, genes, &regulators);
    let drafts = draft(c, t, chromosomes, genes);
    let mut peaks = settle(chromosomes, drafts.iter().map(|d| (d.0, d.1, d.2)));
    let mut opened = open_peaks((c, t), &regulators, (genes, &levels), &drafts, &mut peaks);
    let linked = with_links(&levels.log, &opened);
    open_promoters(c, t, &linked, &mut opened);
    // Levels become shares of the cell: with what links add, each type's sum to 1, so that `rna_depth` is the depth.
    let level = levels
        .log
        .iter()
        .zip(&linked)
        .map(|(log, linked)| {
            let sum: f64 = linked.iter().map(|x| x.exp()).sum();
            log.iter().map(|x| x.exp() / sum).collect()
        })
        .collect();
    let (mut links, mut acts, mut link_factor) = (Vec::new(), Vec::new(), Vec::new());
    for (link, a, f) in opened.links {
        links.push(link);
        acts.push(a);
        link_factor.push(f);
    }
    let plan = TissuePlan {
        lineage,
        within: regulators.within,
        genes: levels.loadings,
        peaks: opened.loadings,
        promoter_of: opened.promoter_of,
        acts,
    };
    Made { placed: Placed { peaks, open: opened.open, links }, level, link_factor, plan }
}
