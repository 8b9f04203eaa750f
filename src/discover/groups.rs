//! The cells that are looked at, type by type, and what is found in them.

use rayon::prelude::*;

use crate::dataset::draw::names_of;
use crate::dataset::{Cell, DataSet};
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// The cells of one type.
pub(super) struct Group {
    /// `None` where the data have no cell types.
    pub cell_type: Option<String>,
    /// Data set numbers.
    pub cells: Vec<u32>,
}

/// The cells to look at, of `n`, types in the order of the data set.
pub(super) fn groups(v: &Vocabulary, n: usize, wanted: Option<&[String]>) -> Result<Vec<Group>> {
    if v.cell_types.is_empty() {
        return match wanted {
            Some(_) => Err(Error::usage("--cell-types: the data have no cell types; leave it out")),
            None => Ok(vec![Group { cell_type: None, cells: (0..n as u32).collect() }]),
        };
    }
    let wanted = wanted.map(|w| names_of(w, &v.cell_types));
    if let Some(unknown) = wanted.iter().flatten().find(|w| !v.cell_types.contains(w)) {
        return Err(Error::usage(format!(
            "--cell-types {unknown}: the data have no such cell type; there are {}",
            v.cell_types.join(", ")
        )));
    }
    let mut all: Vec<Vec<u32>> = vec![Vec::new(); v.cell_types.len()];
    v.cell_type.iter().enumerate().for_each(|(c, &t)| all[t as usize].push(c as u32));
    let is_wanted = |t: &String| wanted.as_ref().is_none_or(|w| w.contains(t));
    let groups: Vec<Group> = (v.cell_types.iter().zip(all))
        .filter(|(t, cells)| !cells.is_empty() && is_wanted(t))
        .map(|(t, cells)| Group { cell_type: Some(t.clone()), cells })
        .collect();
    match groups.is_empty() {
        false => Ok(groups),
        true => Err(Error::usage("--cell-types: no cell is of these types; choose others")),
    }
}

/// The share of G and C of each peak, where its sequence is known: `[P]`.
pub(super) fn gc(data: &DataSet) -> Vec<Option<f64>> {
    let features = data.features();
    let length = features.dna_length();
    if length == 0 {
        return vec![None; data.vocabulary().peaks.len()];
    }
    let share = |codes: &[u8]| {
        let known = codes.iter().filter(|&&c| c > 0).count();
        let gc = codes.iter().filter(|&&c| c >= 3).count(); // G 3, C 4
        (known > 0).then(|| gc as f64 / known as f64)
    };
    features.peak_dna.chunks_exact(length).map(share).collect()
}

/// Of some cells, how many have each gene and each peak.
pub(super) struct Detected {
    /// `[G]`.
    pub genes: Vec<u32>,
    /// `[P]`.
    pub peaks: Vec<u32>,
}

impl Detected {
    /// Of no cells.
    pub fn none(v: &Vocabulary) -> Self {
        Detected { genes: vec![0; v.genes.len()], peaks: vec![0; v.peaks.len()] }
    }

    /// Of `cells`.
    pub fn of(data: &DataSet, cells: &[u32]) -> Self {
        let none = || Detected::none(data.vocabulary());
        let count = |mut sum: Detected, cells: &[u32]| {
            let mut cell = Cell::default();
            for &c in cells {
                data.cell_into(c as usize, &mut cell);
                cell.genes.iter().for_each(|&g| sum.genes[g as usize] += 1);
                cell.peaks.iter().for_each(|&p| sum.peaks[p as usize] += 1);
            }
            sum
        };
        let both = |mut a: Detected, b: Detected| {
            a.add(&b);
            a
        };
        cells.par_chunks(1024).fold(none, count).reduce(none, both)
    }

    /// Adds other cells.
    pub fn add(&mut self, other: &Detected) {
        self.genes.iter_mut().zip(&other.genes).for_each(|(a, b)| *a += b);
        self.peaks.iter_mut().zip(&other.peaks).for_each(|(a, b)| *a += b);
    }
}
