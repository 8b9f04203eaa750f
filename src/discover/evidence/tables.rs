//! Counts of genes and peaks by kind of cell, in halves of the cells and in replicates.

use std::sync::atomic::{AtomicU32, Ordering};

use super::cells::Cells;
use super::kinds::{Kinds, NO_KIND};
use super::readings::Readings;
use super::replicates::{NO_REPLICATE, Replicates};
use crate::error::Result;
use crate::rng::philox;

/// Stream of the halves of the cells.
const HALVES: u32 = 0x6861_6c66;

/// Counts of some cells: `[G, K]` of genes and `[P, K]` cells in which a peak is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Counts {
    /// Of genes.
    pub genes: Vec<u32>,
    /// Of peaks.
    pub peaks: Vec<u32>,
    /// `[K]` cells.
    pub cells: Vec<u32>,
}

/// Sums that threads may add to in any order.
struct Growing {
    genes: Vec<AtomicU32>,
    peaks: Vec<AtomicU32>,
    cells: Vec<AtomicU32>,
}

impl Growing {
    fn new(genes: usize, peaks: usize, kinds: usize) -> Self {
        let zeros = |n: usize| (0..n).map(|_| AtomicU32::new(0)).collect();
        Growing { genes: zeros(genes * kinds), peaks: zeros(peaks * kinds), cells: zeros(kinds) }
    }

    fn done(self) -> Counts {
        let plain = |v: Vec<AtomicU32>| v.into_iter().map(AtomicU32::into_inner).collect();
        Counts { genes: plain(self.genes), peaks: plain(self.peaks), cells: plain(self.cells) }
    }
}

impl Counts {
    /// Of both together.
    pub fn plus(&self, other: &Counts) -> Counts {
        let add = |a: &[u32], b: &[u32]| a.iter().zip(b).map(|(x, y)| x.saturating_add(*y)).collect();
        Counts {
            genes: add(&self.genes, &other.genes),
            peaks: add(&self.peaks, &other.peaks),
            cells: add(&self.cells, &other.cells),
        }
    }
}

/// Counts of both halves of the cells, and of each replicate. Bytes: 4 (G + P) K (2 + R).
pub(super) fn tables(
    cells: Cells<'_>,
    readings: &Readings,
    kinds: &Kinds,
    replicates: Option<&Replicates>,
    seed: u64,
) -> Result<([Counts; 2], Vec<Counts>)> {
    let (g, p, k) = (readings.genes.len(), readings.peaks.len(), kinds.len());
    let halves = [Growing::new(g, p, k), Growing::new(g, p, k)];
    let of_replicates: Vec<Growing> =
        (0..replicates.map_or(0, Replicates::len)).map(|_| Growing::new(g, p, k)).collect();
    let add = |to: &AtomicU32, n: u32| {
        to.fetch_add(n, Ordering::Relaxed);
    };
    cells.sum(
        Vec::new,
        |counts: &mut Vec<u32>, at, cell| {
            let kind = kinds.of[at];
            if kind == NO_KIND {
                return;
            }
            let kind = usize::from(kind);
            readings.counts(cell, counts);
            let half = philox([cells.numbers[at], HALVES, 0, 0], [seed as u32, (seed >> 32) as u32])[0] & 1;
            let replicate = replicates.map(|r| r.of[at]).filter(|&r| r != NO_REPLICATE);
            let to = std::iter::once(&halves[half as usize]).chain(replicate.map(|r| &of_replicates[usize::from(r)]));
            for to in to {
                add(&to.cells[kind], 1);
                for (&g, &n) in cell.genes.iter().zip(counts.iter()) {
                    add(&to.genes[g as usize * k + kind], n);
                }
                for (p, _) in cell.atac().filter(|(_, a)| *a > 0.0) {
                    add(&to.peaks[p as usize * k + kind], 1);
                }
            }
        },
        |_, _| (),
    )?;
    Ok((halves.map(Growing::done), of_replicates.into_iter().map(Growing::done).collect()))
}
