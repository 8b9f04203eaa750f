//! The steps from cells to scored pairs.

use rayon::prelude::*;

use super::adjust::Adjusted;
use super::bins::{NEARER, evidence_bin};
use super::cells::Cells;
use super::combine::{Choice, Scores};
use super::components::{components, orthonormalise};
use super::draws::{Draws, NullLaw, Strata};
use super::kinds::Kinds;
use super::law::upper_tail;
use super::mixture::{Mixture, Seen};
use super::options::{CANDIDATES, EvidenceOptions};
use super::pair_list::PairList;
use super::power::Power;
use super::profiles::Profiles;
use super::rates::rates;
use super::readings::Readings;
use super::replicates::Replicates;
use super::tables::{Counts, tables};
use crate::dataset::Cell;
use crate::error::Result;
use crate::model::CisGraph;
use crate::progress::Progress;
use crate::vocabulary::{Vocabulary, distance};

/// Components that neighbourhoods are told by.
const OF_NEIGHBOURHOODS: usize = 10;
/// Fewest cells among which kinds are told apart.
pub const LEAST_CELLS: usize = 50;

/// What passes over the cells find, before any pair is looked at.
pub(super) struct Cellwise {
    pub readings: Readings,
    pub kinds: Option<Kinds>,
    pub profiles: Option<Profiles>,
    /// Of all cells by kind; empty without kinds.
    pub counts: Counts,
    pub of_replicates: Vec<Counts>,
    pub adjusted: Adjusted,
}

/// Scores without what the numbers of genes and peaks of a cell explain.
fn without_depth(mut scores: Vec<f64>, width: usize, cells: Cells<'_>) -> Vec<f64> {
    let n = cells.numbers.len();
    let mut q = vec![0.0; n * 3];
    q.par_chunks_exact_mut(3).zip(cells.numbers).for_each_init(Cell::default, |cell, (q, &c)| {
        (cells.read)(c, cell);
        q.copy_from_slice(&[1.0, (1.0 + cell.genes.len() as f64).ln(), (1.0 + cell.peaks.len() as f64).ln()]);
    });
    orthonormalise(&mut q, 3);
    for k in 0..width {
        for j in 0..3 {
            let dot: f64 = (0..n).map(|i| q[i * 3 + j] * scores[i * width + k]).sum();
            (0..n).for_each(|i| scores[i * width + k] -= dot * q[i * 3 + j]);
        }
    }
    scores
}

impl Cellwise {
    pub fn new(
        v: &Vocabulary,
        cells: Cells<'_>,
        options: &EvidenceOptions,
        replicates: Option<&Replicates>,
    ) -> Result<Self> {
        let n = cells.numbers.len();
        let readings = Readings::new(v, cells)?;
        let enough = n >= LEAST_CELLS;
        let typed = if enough { Kinds::of_types(v, cells.numbers) } else { None };
        let most = options.components.unwrap_or(CANDIDATES[CANDIDATES.len() - 1]);
        let wanted = if typed.is_none() && enough { most.max(OF_NEIGHBOURHOODS) } else { most };
        let width = wanted.min(n / 10).min(v.genes.len());
        let found = if width > 0 { components(cells, &readings, width, options.seed)? } else { Vec::new() };
        let kinds = match typed {
            Some(kinds) => Some(kinds),
            None if enough && width > 0 => {
                Kinds::of_scores(&without_depth(found.clone(), width, cells), width, options.seed)
            }
            None => None,
        };
        let used = most.min(width);
        let used: Vec<f64> = found.chunks_exact(width.max(1)).flat_map(|row| row[..used].iter().copied()).collect();
        let candidates = match options.components {
            Some(k) => vec![k],
            None => CANDIDATES.to_vec(),
        };
        let mut candidates: Vec<usize> = candidates.into_iter().map(|c| c.min(width)).collect();
        candidates.dedup();
        let adjusted = Adjusted::new(cells, &readings, kinds.as_ref(), &used, &candidates)?;
        let none = Counts { genes: Vec::new(), peaks: Vec::new(), cells: Vec::new() };
        let (profiles, counts, of_replicates) = match &kinds {
            Some(kinds) => {
                let (halves, each) = tables(cells, &readings, kinds, replicates, options.seed)?;
                (Some(Profiles::new(&halves)), halves[0].plus(&halves[1]), each)
            }
            None => (None, none, Vec::new()),
        };
        cells.go_on()?;
        Ok(Cellwise { readings, kinds, profiles, counts, of_replicates, adjusted })
    }
}

/// Pairs within the window, by gene, then peak.
pub(super) struct Near {
    /// With enough cells that have both, with what the cells' products sum to.
    pub tested: Vec<(u32, u32)>,
    pub cells: Vec<u32>,
    sums: Vec<f64>,
    /// The others, with the cells that have both.
    pub untested: Vec<(u32, u32, u32)>,
}

impl Near {
    pub fn new(v: &Vocabulary, cells: Cells<'_>, readings: &Readings, options: &EvidenceOptions) -> Result<Self> {
        let graph = CisGraph::new(v, options.window);
        let near = |p: u32| graph.of_peak(p as usize).0.iter().map(move |&g| (p, g));
        let within = |(p, g): &(u32, u32)| distance(v, *g, *p).is_some_and(|d| d <= options.window as f64);
        let mut pairs: Vec<(u32, u32)> = (0..v.peaks.len() as u32).flat_map(near).filter(within).collect();
        let list = PairList::new(pairs.clone(), v.peaks.len());
        let found = list.products(readings, cells)?;
        pairs.par_sort_unstable_by_key(|&(p, g)| (g, p));
        let mut near = Near { tested: Vec::new(), cells: Vec::new(), sums: Vec::new(), untested: Vec::new() };
        for (p, g) in pairs {
            let Some(at) = list.find(g, p) else { continue };
            let both = found.both[at];
            if both >= options.min_cells && both > 0 {
                near.tested.push((g, p));
                near.cells.push(both);
                near.sums.push(found.sum[at]);
            } else {
                near.untested.push((g, p, both));
            }
        }
        Ok(near)
    }
}

/// Scores of pairs, in the order of [`Near::tested`].
pub(super) struct Scored {
    pub z_between: Vec<f32>,
    pub z_within: Vec<f32>,
    pub z: Vec<f64>,
    pub log_odds: Vec<f64>,
    pub q: Vec<f64>,
    pub q_within: Vec<f64>,
    pub lfdr: Vec<f64>,
    pub mixture: Mixture,
    pub choice: Choice,
    pub power: Power,
    /// Draws, and the strata that effects are compared in; none where all lies on one chromosome or there is no kind.
    pub null: Option<(Draws, Strata)>,
    pub draws: usize,
}

/// Half of the chromosomes, 0 or 1, of each chromosome: about as many of these pairs in both.
fn halves(v: &Vocabulary, pairs: &[(u32, u32)]) -> Vec<u8> {
    let mut sizes = vec![0usize; v.chromosomes.len()];
    pairs.iter().for_each(|&(g, _)| sizes[v.genes[g as usize].chrom as usize] += 1);
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&c| std::cmp::Reverse(sizes[c]));
    let (mut of, mut total) = (vec![0; sizes.len()], [0, 0]);
    for c in order {
        of[c] = u8::from(total[1] < total[0]);
        total[usize::from(of[c])] += sizes[c];
    }
    of
}

/// Transcription starts nearer to a peak than a gene's, of all genes that have a place.
pub(super) struct Starts(Vec<Vec<i64>>);

impl Starts {
    pub fn new(v: &Vocabulary) -> Self {
        let mut of_chrom = vec![Vec::new(); v.chromosomes.len()];
        v.genes.iter().for_each(|g| of_chrom[g.chrom as usize].extend(g.tss));
        of_chrom.iter_mut().for_each(|s| s.sort_unstable());
        Starts(of_chrom)
    }

    pub fn nearer(&self, v: &Vocabulary, gene: u32, peak: u32) -> u8 {
        let (Some(far), p) = (distance(v, gene, peak), &v.peaks[peak as usize]) else { return 0 };
        let (starts, middle) = (&self.0[p.chrom as usize], (p.start as f64 + p.end as f64) / 2.0);
        let from = starts.partition_point(|&s| s as f64 <= middle - far);
        let to = starts.partition_point(|&s| (s as f64) < middle + far);
        to.saturating_sub(from).min(NEARER) as u8
    }
}

/// Normal scores of a statistic of pairs and of null pairs.
fn ranked(strata: [&[u32]; 2], values: [&[f32]; 2], weights: &[f32], count: usize) -> [Vec<f32>; 2] {
    let null =
        strata[1].iter().zip(values[1]).zip(weights).map(|((&s, &x), &w)| (s as usize, f64::from(x), f64::from(w)));
    let law = NullLaw::new(count, null);
    let score = |side: usize| -> Vec<f32> {
        let z = |(&s, &x): (&u32, &f32)| law.z(s as usize, f64::from(x)) as f32;
        strata[side].par_iter().zip(values[side].par_iter()).map(z).collect()
    };
    [score(0), score(1)]
}

/// Normal scores of what lies between kinds: of the sum of those of covariance and correlation.
fn between_kinds(
    profiles: &Profiles,
    sides: [&Vec<(u32, u32)>; 2],
    strata: [Vec<u32>; 2],
    weights: &[f32],
    count: usize,
) -> [Vec<f32>; 2] {
    let strata = [strata[0].as_slice(), strata[1].as_slice()];
    let seen = sides.map(|pairs| {
        let both = pairs.par_iter().map(|&(g, p)| profiles.together(g, p));
        both.map(|(a, b)| (a as f32, b as f32)).unzip::<_, _, Vec<f32>, Vec<f32>>()
    });
    let covariance = ranked(strata, [&seen[0].0, &seen[1].0], weights, count);
    let correlation = ranked(strata, [&seen[0].1, &seen[1].1], weights, count);
    let add =
        |side: usize| -> Vec<f32> { covariance[side].iter().zip(&correlation[side]).map(|(a, b)| a + b).collect() };
    ranked(strata, [&add(0), &add(1)], weights, count)
}

/// What the mixture is told of pairs of these scores, and what it makes of them; power goes with how many cells have each gene
/// and each peak (`by`).
fn likelihoods(
    v: &Vocabulary,
    pairs: &[(u32, u32)],
    z: &[f64],
    by: [&[f64]; 2],
    progress: &dyn Progress,
) -> (Vec<Seen>, Power, Mixture) {
    let starts = Starts::new(v);
    let told = |(&(g, p), &z): (&(u32, u32), &f64)| Seen {
        z,
        power: 1.0,
        bin: evidence_bin(distance(v, g, p)) as u8,
        nearer: starts.nearer(v, g, p),
    };
    let mut seen: Vec<Seen> = pairs.par_iter().zip(z).map(told).collect();
    let with_z: Vec<(u32, u32, usize, f64)> =
        pairs.iter().zip(&seen).map(|(&(g, p), s)| (g, p, usize::from(s.bin), s.z)).collect();
    let power = Power::fit(by, &with_z);
    seen.iter_mut().zip(pairs).for_each(|(s, &(g, p))| s.power = power.pair(g, p));
    let mixture = Mixture::fit(&seen, progress);
    (seen, power, mixture)
}

impl Scored {
    /// Scores the pairs; `None` where there are none, or no null pairs.
    pub fn new(
        v: &Vocabulary,
        cells: Cells<'_>,
        of: &Cellwise,
        near: &Near,
        options: &EvidenceOptions,
    ) -> Result<Option<Self>> {
        let open: Vec<f64> = of.readings.peaks.iter().map(|&n| f64::from(n)).collect();
        let detected: Vec<f64> = of.readings.genes.iter().map(|&n| f64::from(n)).collect();
        let Some(draws) = Draws::new(v, &near.tested, &open, options.seed) else { return Ok(None) };
        let drawn = draws.null(&near.tested);
        let list = PairList::new(drawn.iter().map(|&(g, p)| (p, g)).collect(), v.peaks.len());
        let products = list.products(&of.readings, cells)?;
        let both = |i: usize| list.find(drawn[i].0, drawn[i].1).map_or(0, |at| products.both[at]);
        let draws = draws.kept(|i| both(i) >= options.min_cells.max(1));
        let null = draws.null(&near.tested);
        if null.is_empty() {
            return Ok(None);
        }
        let weights = draws.weights();
        let sides = [&near.tested, &null];
        let in_strata = |s: &Strata| sides.map(|p| p.iter().map(|&(g, p)| s.of(g, p) as u32).collect::<Vec<u32>>());

        // Between kinds.
        let between_strata = match &of.profiles {
            Some(p) => Strata::new(&open, &p.genes.signal, null.len()),
            None => Strata::new(&open, &detected, null.len()),
        };
        let between = match &of.profiles {
            None => sides.map(|p| vec![0.0f32; p.len()]),
            Some(profiles) => {
                between_kinds(profiles, sides, in_strata(&between_strata), &weights, between_strata.len())
            }
        };
        cells.go_on()?;

        // Within kinds.
        let count = of.adjusted.candidates.len();
        let partial = [0, 1].map(|side| {
            let mut all = vec![0.0f32; sides[side].len() * count];
            all.par_chunks_exact_mut(count).enumerate().for_each(|(i, out)| {
                let (g, p) = sides[side][i];
                let sum = if side == 0 { near.sums[i] } else { list.find(g, p).map_or(0.0, |at| products.sum[at]) };
                of.adjusted.partial(g, p, sum, out);
            });
            all
        });
        let within_strata = Strata::new(&open, &detected, null.len());
        let strata = in_strata(&within_strata);
        let within: Vec<[Vec<f32>; 2]> = (0..count)
            .map(|c| {
                let column = |side: usize| partial[side].iter().skip(c).step_by(count).copied().collect::<Vec<f32>>();
                ranked([&strata[0], &strata[1]], [&column(0), &column(1)], &weights, within_strata.len())
            })
            .collect();
        drop(partial);
        cells.go_on()?;

        let half_of = halves(v, &near.tested);
        let half =
            sides.map(|p| p.iter().map(|&(g, _)| half_of[v.genes[g as usize].chrom as usize]).collect::<Vec<u8>>());
        let far: Vec<f64> = near.tested.iter().map(|&(g, p)| distance(v, g, p).unwrap_or(f64::INFINITY)).collect();
        let choice = Scores {
            candidates: &of.adjusted.candidates,
            between: [&between[0], &between[1]],
            within: &within,
            half: [&half[0], &half[1]],
            distance: &far,
        }
        .choose();
        let chosen =
            choice.weights.map(|w| of.adjusted.candidates.iter().position(|&c| c == w.components).unwrap_or(0));
        let own = |side: usize, i: usize| {
            let h = usize::from(half[side][i]);
            (h, within[chosen[h]][side][i])
        };
        let combine = |side: usize, i: usize| {
            let (h, w) = own(side, i);
            choice.weights[h].combine(f64::from(between[side][i]), f64::from(w))
        };
        let combined = |side: usize| (0..sides[side].len()).map(|i| combine(side, i)).collect::<Vec<f64>>();
        let (z, null_z) = (combined(0), combined(1));
        let z_within = [0, 1].map(|side| (0..sides[side].len()).map(|i| own(side, i).1).collect::<Vec<f32>>());

        // How likely each is a link.
        let (seen, power, mixture) = likelihoods(v, &near.tested, &z, [&detected, &open], cells.progress);
        cells.go_on()?;
        let log_odds: Vec<f64> = seen.par_iter().map(|s| mixture.log_odds(s)).collect();
        // Each pair counts once, by its draws; those of which no draw was kept by those of the others.
        let with_draws = (0..near.tested.len()).filter(|&i| !draws.of(i).is_empty()).count();
        let whole = near.tested.len() as f64 / with_draws.max(1) as f64;
        let of_pair: Vec<usize> =
            (0..near.tested.len()).flat_map(|i| std::iter::repeat_n(i, draws.of(i).len())).collect();
        let weight: Vec<f64> = weights.iter().map(|&w| whole * f64::from(w)).collect();
        let of_null = |i: usize| {
            let (g, p) = null[i];
            mixture.log_odds(&Seen { z: null_z[i], power: power.pair(g, p), ..seen[of_pair[i]] })
        };
        let null_odds: Vec<f64> = (0..null.len()).into_par_iter().map(of_null).collect();
        let (q, lfdr) = rates(&log_odds, &null_odds, &weight);
        let [z_within, of_null] = z_within;
        let plain = |z: &[f32]| z.iter().map(|&z| f64::from(z)).collect::<Vec<f64>>();
        let (q_within, _) = rates(&plain(&z_within), &plain(&of_null), &weight);
        let [z_between, _] = between;
        let made = null.len();
        Ok(Some(Scored {
            z_between,
            z_within,
            z,
            log_odds,
            q,
            q_within,
            lfdr,
            mixture,
            choice,
            power,
            null: of.profiles.is_some().then_some((draws, between_strata)),
            draws: made,
        }))
    }

    /// One-sided p-value of each pair.
    pub fn p(&self, i: usize) -> f64 {
        upper_tail(self.z[i])
    }
}
