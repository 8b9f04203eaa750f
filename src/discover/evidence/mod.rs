//! Evidence for links: which peaks near a gene go with its expression, weighed against pairs that are no links.
//!
//! It needs no model and no known links. In steps:
//! * *Between kinds.* Counts of genes and peaks are added up over cell types (neighbourhoods of cells alike in RNA, where no
//!   types are given). Log ratios over kinds are shrunk by what random halves of the cells agree on ([`profiles`]).
//! * *Within kinds.* Partial correlation over cells, once kinds, depth and leading components of RNA are taken out ([`adjust`]).
//! * *Null.* Each pair's gene with peaks of other chromosomes that are open as often: a statistic counts by its rank among
//!   these, in strata of accessibility and of the gene ([`draws`]). What types are there, and how many, is the same for both.
//! * *Weights* of both parts, and the number of components, are those by which pairs near a promoter stand out most from
//!   the null, learned on the other half of the chromosomes ([`combine`]).
//! * *Mixture.* A share of pairs that falls with distance, and with the number of transcription starts nearer to the peak,
//!   are links ([`mixture`]); how well a link would show depends on gene and peak ([`power`]).
//! * *Rates.* q and the local false discovery rate count null pairs that score as high ([`rates`]).
//!
//! A covariance of expression with accessibility is no proof of regulation.
//!
//! See docs/model.md, section 8.5.

pub mod adjust;
pub mod agreement;
pub(crate) mod bins;
pub mod by_type;
pub(crate) mod cells;
pub mod combine;
pub(crate) mod components;
pub mod draws;
pub mod effects;
pub mod kinds;
pub(crate) mod law;
pub mod mixture;
pub mod options;
pub(crate) mod pair_list;
pub mod power;
pub mod profiles;
pub mod rates;
pub mod readings;
pub mod replicates;
pub(crate) mod scored;
pub mod table;
pub(crate) mod tables;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::links::Link;
use crate::error::Result;
use crate::real::sigmoid;
use crate::vocabulary::{Vocabulary, distance};
use agreement::{Agreement, agreement};
use bins::evidence_bin;
use by_type::{ByType, OfType};
use combine::Choice;
use effects::{Effect, Source};
use mixture::{Mixture, Seen};
use pair_list::PairList;
use readings::Readings;
use replicates::{ReplicateSummary, Replicates};
use scored::{Cellwise, LEAST_CELLS, Near, Scored, Starts};

pub use cells::Cells;
pub use options::{EvidenceOptions, ReplicateColumn};

/// A pair near its gene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairEvidence {
    /// Data set index of the gene.
    pub gene: u32,
    /// Data set index of the peak.
    pub peak: u32,
    /// Cells that have both.
    pub cells: u32,
    /// Correlation of the profiles of gene and peak between kinds; NaN without kinds.
    pub score: f64,
    /// Normal score among pairs that are no links: between kinds, within kinds, and both.
    pub z_between: f64,
    /// As `z_between`.
    pub z_within: f64,
    /// As `z_between`.
    pub zscore: f64,
    /// One-sided, of `zscore`.
    pub pvalue: f64,
    /// Log odds (natural) that the pair is a link: docs/model.md, eq. 75.
    pub log_odds: f64,
    /// False discovery rate of all pairs as likely or likelier.
    pub qvalue: f64,
    /// The same by what lies within kinds alone, whatever the distance.
    pub q_within: f64,
    /// Local false discovery rate: of pairs about as likely.
    pub lfdr: f64,
    /// Effect, with its error and what replicates say.
    pub effect: Effect,
}

impl PairEvidence {
    /// Probability that the pair is a link.
    pub fn probability(&self) -> f64 {
        sigmoid(self.log_odds)
    }
}

/// Which pairs count as links.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Largest q.
    pub max_q: f64,
    /// Least probability.
    pub min_probability: f64,
}

impl Default for Selection {
    fn default() -> Self {
        Selection { max_q: 0.1, min_probability: 0.0 }
    }
}

impl Selection {
    /// Does a pair of this q and probability count?
    pub fn holds(&self, q: f64, probability: f64) -> bool {
        q <= self.max_q && probability >= self.min_probability
    }
}

/// Evidence for the pairs of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Pairs within the window that enough cells have both of, by falling log odds, then gene and peak.
    pub pairs: Vec<PairEvidence>,
    /// The others: their log odds are those of their distance alone, and nothing else is known. By gene, then peak.
    pub untested: Vec<PairEvidence>,
    /// The mixture; none without pairs.
    pub mixture: Option<Mixture>,
    /// Weights and components, and why; none without pairs.
    pub choice: Option<Choice>,
    /// Names and cells of the kinds that are compared, and whether these are cell types.
    pub kinds: Vec<(String, u32)>,
    /// Are kinds cell types? Else neighbourhoods.
    pub typed: bool,
    /// Cell types too small to be a kind.
    pub small_types: Vec<String>,
    /// Replicates.
    pub replicates: Option<ReplicateSummary>,
    /// `[pairs, R]` effects in each, in the order of `pairs`; NaN where there is nothing to tell.
    pub replicate_effects: Vec<f32>,
    /// How well parts of the cells agree.
    pub agreement: Option<Agreement>,
    /// Draws of pairs that are no links.
    pub draws: u64,
    /// Links by cell type; none where kinds are no types.
    pub by_type: Vec<OfType>,
    /// What was done otherwise than a user might expect, a line each.
    pub notes: Vec<String>,
}

/// Cells with both, for each link, in the order of the links, which are sorted by (gene, peak).
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn co_occurrence(v: &Vocabulary, links: &[Link], cells: Cells<'_>) -> Result<Vec<u32>> {
    let list = PairList::new(links.iter().map(|l| (l.peak, l.gene)).collect(), v.peaks.len());
    let found = list.products(&Readings::new(v, cells)?, cells)?;
    Ok(links.iter().map(|l| list.find(l.gene, l.peak).map_or(0, |at| found.both[at])).collect())
}

impl Evidence {
    /// Of `cells`. Passes over them: near 40, with those over parts of them.
    ///
    /// # Errors
    /// A column of replicates that the data lack or that tells no replicates; [`crate::error::Error::Interrupted`].
    pub fn new(v: &Vocabulary, cells: Cells<'_>, options: &EvidenceOptions, selection: Selection) -> Result<Evidence> {
        let (replicates, note) = Replicates::choose(v, cells.numbers, &options.replicates)?;
        let mut notes: Vec<String> = note.into_iter().collect();
        let of = Cellwise::new(v, cells, options, replicates.as_ref())?;
        let near = Near::new(v, cells, &of.readings, options)?;
        let scored = Scored::new(v, cells, &of, &near, options)?;
        notes.extend(notes_on(cells.numbers.len(), v, &of, &near, scored.as_ref()));
        let mut made = Evidence {
            pairs: Vec::new(),
            untested: Vec::new(),
            mixture: None,
            choice: None,
            kinds: of.kinds.iter().flat_map(|k| k.names.iter().cloned().zip(k.sizes.iter().copied())).collect(),
            typed: of.kinds.as_ref().is_some_and(|k| k.typed),
            small_types: of.kinds.iter().flat_map(|k| k.small.clone()).collect(),
            replicates: replicates.as_ref().map(|r| r.summary(options.replicates == ReplicateColumn::Auto)),
            replicate_effects: Vec::new(),
            agreement: None,
            draws: scored.as_ref().map_or(0, |s| s.draws as u64),
            by_type: Vec::new(),
            notes,
        };
        let Some(scored) = scored else {
            // Nothing is known of them, not even how many links there are at such a distance.
            let tested = near.tested.iter().zip(&near.cells).map(|(&(g, p), &n)| (g, p, n));
            made.untested = tested.chain(near.untested.iter().copied()).map(|x| unknown(x, f64::NAN)).collect();
            made.untested.sort_unstable_by_key(|p| (p.gene, p.peak));
            return Ok(made);
        };
        made.list(v, &of, &near, &scored);
        made.look_by_type(cells, &of, &near, &scored, options, selection)?;
        made.mixture = Some(scored.mixture);
        made.choice = Some(scored.choice);
        made.agreement = agreement(v, cells, replicates.as_ref(), options)?;
        Ok(made)
    }

    /// Lists the pairs.
    fn list(&mut self, v: &Vocabulary, of: &Cellwise, near: &Near, scored: &Scored) {
        let effects = scored.null.as_ref().zip(of.profiles.as_ref()).map(|((draws, strata), profiles)| {
            Source { profiles, pairs: &near.tested, draws, strata }.effects(&of.of_replicates)
        });
        let of_pair = |i: usize| {
            let (gene, peak) = near.tested[i];
            PairEvidence {
                gene,
                peak,
                cells: near.cells[i],
                score: of.profiles.as_ref().map_or(f64::NAN, |p| {
                    let (a, b) = p.shrunk(gene, peak);
                    let lengths = p.genes.signal[gene as usize] * p.peaks.signal[peak as usize];
                    if lengths > 0.0 { profiles::dot(a, b) / lengths } else { 0.0 }
                }),
                z_between: f64::from(scored.z_between[i]),
                z_within: f64::from(scored.z_within[i]),
                zscore: scored.z[i],
                pvalue: scored.p(i),
                log_odds: scored.log_odds[i],
                qvalue: scored.q[i],
                q_within: scored.q_within[i],
                lfdr: scored.lfdr[i],
                effect: effects.as_ref().map_or(NO_EFFECT, |e| e.combined[i]),
            }
        };
        let mut order: Vec<usize> = (0..near.tested.len()).collect();
        order.par_sort_unstable_by(|&a, &b| scored.log_odds[b].total_cmp(&scored.log_odds[a]).then(a.cmp(&b)));
        self.pairs = order.iter().map(|&i| of_pair(i)).collect();
        let r = of.of_replicates.len();
        if let Some(e) = effects.filter(|_| r > 0) {
            self.replicate_effects = order.iter().flat_map(|&i| e.of_replicate[i * r..][..r].iter().copied()).collect();
        }
        let starts = Starts::new(v);
        let by_distance = |&(gene, peak, cells): &(u32, u32, u32)| {
            let bin = evidence_bin(distance(v, gene, peak)) as u8;
            let seen = Seen { z: 0.0, power: scored.power.pair(gene, peak), bin, nearer: starts.nearer(v, gene, peak) };
            unknown((gene, peak, cells), scored.mixture.prior_log_odds(&seen))
        };
        self.untested = near.untested.iter().map(by_distance).collect();
    }

    /// Looks at likely pairs in every cell type.
    fn look_by_type(
        &mut self,
        cells: Cells<'_>,
        of: &Cellwise,
        near: &Near,
        scored: &Scored,
        options: &EvidenceOptions,
        selection: Selection,
    ) -> Result<()> {
        let (Some(kinds), Some(profiles), Some((draws, strata))) = (&of.kinds, &of.profiles, &scored.null) else {
            return Ok(());
        };
        if !kinds.typed {
            return Ok(());
        }
        // Numbers of the pairs, by gene and peak, that are worth a look.
        let wanted = |p: &PairEvidence| p.lfdr <= 0.5 || selection.holds(p.qvalue, p.probability());
        let mut links: Vec<u32> = (self.pairs.iter().filter(|p| wanted(p)))
            .filter_map(|p| near.tested.binary_search(&(p.gene, p.peak)).ok().map(|i| i as u32))
            .collect();
        links.sort_unstable();
        let look =
            ByType { kinds, profiles, counts: &of.counts, readings: &of.readings, tested: &near.tested, draws, strata };
        let max_q = selection.max_q.min(0.5);
        let (mut found, small) = look.look(cells, &links, options.min_type_cells, max_q)?;
        // Numbers are those of the pairs as they are listed.
        let mut place = std::collections::HashMap::new();
        (0u32..).zip(&self.pairs).for_each(|(i, p)| {
            place.insert((p.gene, p.peak), i);
        });
        for t in &mut found {
            t.links.iter_mut().for_each(|l| l.pair = place[&near.tested[l.pair as usize]]);
        }
        self.by_type = found;
        self.small_types = small;
        Ok(())
    }
}

/// Of a pair that cannot be compared.
const NO_EFFECT: Effect = Effect { value: f64::NAN, error: f64::NAN, replicates: 0, agree: 0, heterogeneity: f64::NAN };

/// A pair (gene, peak, cells with both) that was not tested.
fn unknown((gene, peak, cells): (u32, u32, u32), log_odds: f64) -> PairEvidence {
    let nan = f64::NAN;
    PairEvidence {
        gene,
        peak,
        cells,
        score: nan,
        z_between: nan,
        z_within: nan,
        zscore: nan,
        pvalue: nan,
        log_odds,
        qvalue: nan,
        q_within: nan,
        lfdr: nan,
        effect: NO_EFFECT,
    }
}

/// What a user should know of how this was done.
fn notes_on(n: usize, v: &Vocabulary, of: &Cellwise, near: &Near, scored: Option<&Scored>) -> Vec<String> {
    let mut notes = Vec::new();
    if n < LEAST_CELLS {
        notes.push(format!(
            "{n} cells: too few to compare kinds of cells ({LEAST_CELLS}); links are told within all cells"
        ));
    } else if let Some(k) = of.kinds.as_ref().filter(|k| !k.typed) {
        let why = if v.cell_types.is_empty() { "no cell types" } else { "fewer than two cell types of 15 cells" };
        notes.push(format!("{why}: {} neighbourhoods of cells alike in RNA are compared instead", k.len()));
    }
    let pairs = near.tested.len() + near.untested.len();
    if pairs == 0 {
        notes.push(
            "no pair of a gene and a peak lies within --window: genes need a TSS (prepare --gtf) and peaks a place"
                .into(),
        );
    } else if near.tested.is_empty() {
        notes.push(format!("none of {pairs} pairs near a gene is seen in enough cells (--min-cells)"));
    } else if scored.is_none() {
        notes.push(
            "genes and peaks of one chromosome only: there are no pairs to compare with, and no link is told".into(),
        );
    }
    if let Some(s) = scored {
        if s.choice.within_bases.is_none() {
            notes.push(
                "nothing stands out: pairs near a promoter score no higher than pairs that are no links; both parts weigh the \
                 same"
                .into(),
            );
        }
        if !s.mixture.converged {
            notes.push(format!(
                "the mixture had not settled after {} rounds: take probabilities as ranks",
                s.mixture.rounds
            ));
        }
    }
    notes
}
