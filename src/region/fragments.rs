//! Coverage from fragments: cut sites of the cells of each type, in steps of equal width.

use std::collections::HashMap;
use std::path::Path;

use super::profiles::Profiles;
use crate::data::barcodes::agreement;
use crate::data::fragments::fragments_in;
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// Steps that a picture has room for.
const STEPS: i64 = 800;
/// Bases that the running mean covers.
const SMOOTH: i64 = 100;

/// Coverage in steps of equal width.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cuts {
    /// Bases a step.
    pub step: i64,
    /// `[T][steps]` cut sites per 1,000 bases in a cell of median depth.
    pub heights: Vec<Vec<f32>>,
    /// What had to be taken off of barcodes, in words; `None` where they agree as they are.
    pub once: Option<String>,
}

/// A running mean over `window` (odd) numbers; at the ends over those there are.
fn smoothed(values: &[f64], window: usize) -> Vec<f64> {
    let half = window / 2;
    let around = |i: usize| &values[i.saturating_sub(half)..(i + half + 1).min(values.len())];
    (0..values.len()).map(|i| around(i).iter().sum::<f64>() / around(i).len() as f64).collect()
}

/// Bases a step, and steps (an odd number) under the running mean, of a region so long.
pub(super) fn steps_of(length: i64) -> (i64, usize) {
    let step = ((length + STEPS - 1) / STEPS).max(10);
    (step, ((SMOOTH / step) | 1).max(1) as usize)
}

/// Cut sites (the first and the last base of each fragment) of the types of `profiles`.
pub(super) fn cuts(path: &Path, v: &Vocabulary, profiles: &Profiles, chrom: &str, place: (i64, i64)) -> Result<Cuts> {
    let (start, end) = place;
    let (step, window) = steps_of(end - start);
    let steps = ((end - start + step - 1) / step).max(1) as usize;
    // Cells are told when all barcodes are known: those that differ by an ending agree only as a list.
    let mut barcodes: HashMap<String, u32> = HashMap::new();
    let mut sites: Vec<(u32, u32)> = Vec::new();
    fragments_in(path, chrom, place, &mut |from, to, barcode| {
        let next = barcodes.len() as u32;
        let b = match barcodes.get(barcode) {
            Some(&b) => b,
            None => *barcodes.entry(barcode.to_string()).or_insert(next),
        };
        for site in [from, to - 1] {
            if (start..end).contains(&site) {
                sites.push((b, ((site - start) / step) as u32));
            }
        }
    })?;
    let mut names = vec![String::new(); barcodes.len()];
    barcodes.iter().for_each(|(name, &b)| names[b as usize].clone_from(name));
    let (cell_of, once) = cells_of(path, &names, &v.cells)?;
    let type_of: HashMap<&str, usize> = profiles.types.iter().enumerate().map(|(t, p)| (p.name.as_str(), t)).collect();
    let row_of = |cell: u32| match v.cell_type.get(cell as usize) {
        Some(&t) => type_of.get(v.cell_types[t as usize].as_str()).copied(),
        None => Some(0),
    };
    let mut counts = vec![vec![0f64; steps]; profiles.types.len()];
    for (b, at) in sites {
        if let Some(row) = cell_of[b as usize].and_then(row_of) {
            counts[row][at as usize] += 1.0;
        }
    }
    let heights = counts.iter().zip(&profiles.types).map(|(counts, of)| {
        let scale = profiles.scale(of) * 1000.0 / step as f64;
        smoothed(counts, window).into_iter().map(|x| (x * scale) as f32).collect()
    });
    Ok(Cuts { step, heights: heights.collect(), once })
}

/// The cell of each barcode, and what had to be taken off for it.
fn cells_of(path: &Path, barcodes: &[String], cells: &[String]) -> Result<(Vec<Option<u32>>, Option<String>)> {
    let place: HashMap<&str, u32> = cells.iter().map(String::as_str).zip(0..).collect();
    let exact: Vec<Option<u32>> = barcodes.iter().map(|b| place.get(b.as_str()).copied()).collect();
    if barcodes.is_empty() || exact.iter().any(Option::is_some) {
        return Ok((exact, None));
    }
    match agreement(barcodes, cells) {
        Some(met) => Ok((met.place, Some(met.once))),
        None => Err(Error::input(
            path,
            format!("has no barcode of these cells here: it has {}, the data {}", barcodes[0], cells[0]),
            "give the fragments of these cells",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fit_the_picture() {
        assert_eq!((steps_of(1000), steps_of(8000), steps_of(80_000)), ((10, 11), (10, 11), (100, 1)));
        assert_eq!(smoothed(&[3.0, 0.0, 0.0, 6.0], 3), [1.5, 1.0, 2.0, 3.0]);
        assert_eq!(smoothed(&[3.0, 1.0], 1), [3.0, 1.0]);
    }
}
