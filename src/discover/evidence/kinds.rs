//! Kinds of cells between which profiles are compared: cell types, or neighbourhoods of cells alike in RNA.

use super::options::MIN_KIND_CELLS;
use crate::evaluate::clusters::k_means;
use crate::rng::Rng;
use crate::vocabulary::Vocabulary;

/// No kind.
pub const NO_KIND: u16 = u16::MAX;
/// Cells a neighbourhood holds, about.
const NEIGHBOURS: usize = 80;
/// Most neighbourhoods.
const MOST: usize = 30;
/// Stream of random numbers of its start.
const START: u64 = 0x6B69_6E64;

/// Cells by kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Kinds {
    /// Are they the cell types of the data? Else neighbourhoods.
    pub typed: bool,
    /// Name of each kind.
    pub names: Vec<String>,
    /// Cells of each kind.
    pub sizes: Vec<u32>,
    /// Kind of each cell looked at, or [`NO_KIND`].
    pub of: Vec<u16>,
    /// Cell types that are too small to be a kind.
    pub small: Vec<String>,
}

impl Kinds {
    /// The cell types with at least [`MIN_KIND_CELLS`] cells among `cells`; `None` where fewer than two have.
    pub fn of_types(v: &Vocabulary, cells: &[u32]) -> Option<Self> {
        if v.cell_types.is_empty() {
            return None;
        }
        let mut sizes = vec![0u32; v.cell_types.len()];
        cells.iter().for_each(|&c| sizes[v.cell_type[c as usize] as usize] += 1);
        let kept: Vec<usize> = (0..sizes.len()).filter(|&t| sizes[t] >= MIN_KIND_CELLS).collect();
        let number = |t: usize| kept.binary_search(&t).map_or(NO_KIND, |k| k as u16);
        let small = (0..sizes.len()).filter(|&t| sizes[t] > 0 && sizes[t] < MIN_KIND_CELLS);
        (kept.len() >= 2).then(|| Kinds {
            typed: true,
            names: kept.iter().map(|&t| v.cell_types[t].clone()).collect(),
            sizes: kept.iter().map(|&t| sizes[t]).collect(),
            of: cells.iter().map(|&c| number(v.cell_type[c as usize] as usize)).collect(),
            small: small.map(|t| v.cell_types[t].clone()).collect(),
        })
    }

    /// Neighbourhoods: k-means over `scores`, `[cells, width]`; `None` for cells too few to part.
    pub fn of_scores(scores: &[f64], width: usize, seed: u64) -> Option<Self> {
        let n = scores.len().checked_div(width)?;
        let k = (n / NEIGHBOURS).clamp(2, MOST);
        if n < 2 * MIN_KIND_CELLS as usize {
            return None;
        }
        let of = k_means(scores, width, k, &mut Rng::new(seed, START)).of;
        let mut sizes = vec![0u32; k];
        of.iter().for_each(|&c| sizes[usize::from(c)] += 1);
        let kept: Vec<usize> = (0..k).filter(|&c| sizes[c] >= MIN_KIND_CELLS).collect();
        let number = |c: u16| kept.binary_search(&usize::from(c)).map_or(NO_KIND, |k| k as u16);
        (kept.len() >= 2).then(|| Kinds {
            typed: false,
            names: (1..=kept.len()).map(|c| format!("neighbourhood {c}")).collect(),
            sizes: kept.iter().map(|&c| sizes[c]).collect(),
            of: of.into_iter().map(number).collect(),
            small: Vec::new(),
        })
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// K.
    pub fn len(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_are_told_apart() {
        let mut rng = Rng::new(3, 1);
        let points: Vec<f64> = (0..300)
            .flat_map(|i| {
                let centre = f64::from(i % 3) * 10.0;
                [centre + rng.normal(), -centre + rng.normal()]
            })
            .collect();
        let kinds = Kinds::of_scores(&points, 2, 906).unwrap();
        assert!(kinds.len() >= 3 && !kinds.typed);
        for i in 0..300 {
            for j in 0..300 {
                if i % 3 != j % 3 {
                    assert_ne!(kinds.of[i], kinds.of[j], "{i} {j}");
                }
            }
        }
        assert!(Kinds::of_scores(&points[..40], 2, 906).is_none());
    }
}
