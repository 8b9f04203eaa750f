//! How well two parts of the cells agree on the pairs.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::cells::Cells;
use super::options::EvidenceOptions;
use super::replicates::Replicates;
use super::scored::{Cellwise, LEAST_CELLS, Near, Scored};
use crate::error::Result;
use crate::evaluate::ranking::ranks;
use crate::rng::Rng;
use crate::vocabulary::Vocabulary;

/// Cells with both that a pair needs in both parts to be compared.
const BOTH: u32 = 10;
/// Pairs from the top that are compared.
const FIRST: usize = 500;
/// Local false discovery rate up to which a pair counts as claimed.
const CLAIMED: f64 = 0.1;
/// Stream of halves drawn at random.
const HALVES: u64 = 0x6861_6C76;

/// How well two parts of the cells agree, each looked at alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// What parts them: a column of replicates, or `random halves`.
    pub by: String,
    /// Cells of each part.
    pub cells: [u64; 2],
    /// Pairs with ten cells that have both, in both parts.
    pub pairs: u64,
    /// Spearman correlation of their scores.
    pub spearman: Option<f64>,
    /// Of the first 500 of both, how many are in both.
    pub first_500_shared: u64,
    /// Pairs of local false discovery rate 0.1 and below in one part that the other tests, and those of them whose score is
    /// above 0 there.
    pub claimed: [u64; 2],
}

struct Part {
    pairs: Vec<(u32, u32)>,
    cells: Vec<u32>,
    z: Vec<f64>,
    lfdr: Vec<f64>,
    first: HashSet<(u32, u32)>,
}

impl Part {
    fn new(v: &Vocabulary, cells: Cells<'_>, options: &EvidenceOptions) -> Result<Option<Self>> {
        let of = Cellwise::new(v, cells, options, None)?;
        let near = Near::new(v, cells, &of.readings, options)?;
        let Some(scored) = Scored::new(v, cells, &of, &near, options)? else { return Ok(None) };
        let mut order: Vec<usize> = (0..near.tested.len()).collect();
        order.sort_by(|&a, &b| scored.log_odds[b].total_cmp(&scored.log_odds[a]).then(a.cmp(&b)));
        let first = order.into_iter().take(FIRST).map(|i| near.tested[i]).collect();
        Ok(Some(Part { pairs: near.tested, cells: near.cells, z: scored.z, lfdr: scored.lfdr, first }))
    }
}

fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    let (a, b) = (ranks(a).0, ranks(b).0);
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let sum = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    Some(sum(&a, &b) / (sum(&a, &a) * sum(&b, &b)).sqrt()).filter(|r| r.is_finite())
}

/// Compares two parts of the cells, by replicates or at random; `None` where a part is too small to be looked at.
pub(super) fn agreement(
    v: &Vocabulary,
    cells: Cells<'_>,
    replicates: Option<&Replicates>,
    options: &EvidenceOptions,
) -> Result<Option<Agreement>> {
    let second: Vec<Option<bool>> = match replicates {
        Some(r) => r.parts(),
        None => {
            let mut order: Vec<usize> = (0..cells.numbers.len()).collect();
            Rng::new(options.seed, HALVES).shuffle(&mut order);
            let mut second = vec![Some(false); order.len()];
            order[..order.len() / 2].iter().for_each(|&i| second[i] = Some(true));
            second
        }
    };
    let part = |which: bool| -> Vec<u32> {
        cells.numbers.iter().zip(&second).filter(|(_, s)| **s == Some(which)).map(|x| *x.0).collect()
    };
    let numbers = [part(false), part(true)];
    if numbers.iter().any(|n| n.len() < LEAST_CELLS) {
        return Ok(None);
    }
    let of = |i: usize| Part::new(v, Cells { numbers: &numbers[i], ..cells }, options);
    let (Some(a), Some(b)) = (of(0)?, of(1)?) else { return Ok(None) };
    let (mut z, mut claimed, mut at) = ([Vec::new(), Vec::new()], [0u64; 2], 0);
    for (i, pair) in a.pairs.iter().enumerate() {
        at += b.pairs[at..].partition_point(|p| p < pair);
        if b.pairs.get(at) != Some(pair) {
            continue;
        }
        if a.cells[i] >= BOTH && b.cells[at] >= BOTH {
            z[0].push(a.z[i]);
            z[1].push(b.z[at]);
        }
        for (own, other) in [(a.lfdr[i], b.z[at]), (b.lfdr[at], a.z[i])] {
            if own <= CLAIMED {
                claimed = [claimed[0] + 1, claimed[1] + u64::from(other > 0.0)];
            }
        }
    }
    Ok(Some(Agreement {
        by: replicates.map_or_else(|| "random halves".into(), |r| r.column.clone()),
        cells: [numbers[0].len() as u64, numbers[1].len() as u64],
        pairs: z[0].len() as u64,
        spearman: spearman(&z[0], &z[1]),
        first_500_shared: a.first.intersection(&b.first).count() as u64,
        claimed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_of_ranks() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[2.0, 9.0, 11.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(spearman(&[1.0, 1.0], &[3.0, 2.0]), None);
    }
}
