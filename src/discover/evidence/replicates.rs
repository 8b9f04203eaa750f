//! Replicates: batches, donors, sites.

use serde::{Deserialize, Serialize};

use super::options::{MIN_REPLICATE_CELLS, MOST_REPLICATES, ReplicateColumn};
use crate::error::{Error, Result};
use crate::near::hint;
use crate::vocabulary::{ObsColumn, REPLICATE_COLUMNS, Vocabulary};

/// In no replicate.
pub const NO_REPLICATE: u16 = u16::MAX;

/// Cells by replicate.
#[derive(Debug, Clone, PartialEq)]
pub struct Replicates {
    /// The column that tells them.
    pub column: String,
    /// Names.
    pub names: Vec<String>,
    /// Cells of each.
    pub sizes: Vec<u32>,
    /// Replicate of each cell looked at, or [`NO_REPLICATE`].
    pub of: Vec<u16>,
    /// Those too small to count.
    pub small: Vec<String>,
}

/// What of replicates stands in `discover.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicateSummary {
    /// The column of cells that tells replicates.
    pub column: String,
    /// Was it taken without being asked for?
    pub automatic: bool,
    /// Names.
    pub names: Vec<String>,
    /// Cells of each.
    pub cells: Vec<u32>,
    /// Those left out for having too few cells.
    pub left_out: Vec<String>,
}

impl Replicates {
    /// Cells by this column; small ones are left out, so that none or one may be left.
    fn of_column(column: &ObsColumn, cells: &[u32]) -> Self {
        let mut sizes = vec![0u32; column.categories.len()];
        let code = |c: u32| column.codes.get(c as usize).copied().filter(|&c| c != ObsColumn::MISSING);
        cells.iter().filter_map(|&c| code(c)).for_each(|c| sizes[c as usize] += 1);
        let kept: Vec<u32> = (0u32..).zip(&sizes).filter(|(_, n)| **n >= MIN_REPLICATE_CELLS).map(|x| x.0).collect();
        let number = |c: u32| code(c).and_then(|c| kept.binary_search(&c).ok()).map_or(NO_REPLICATE, |r| r as u16);
        let small = (0..sizes.len()).filter(|&r| sizes[r] > 0 && sizes[r] < MIN_REPLICATE_CELLS);
        Replicates {
            column: column.name.clone(),
            names: kept.iter().map(|&r| column.categories[r as usize].clone()).collect(),
            sizes: kept.iter().map(|&r| sizes[r as usize]).collect(),
            of: cells.iter().map(|&c| number(c)).collect(),
            small: small.map(|r| column.categories[r].clone()).collect(),
        }
    }

    /// The replicates that `wanted` says; `None`, and why, where there are not two of them.
    ///
    /// # Errors
    /// [`Error::Usage`]: no such column, or one whose values are not shared by cells.
    pub fn choose(v: &Vocabulary, cells: &[u32], wanted: &ReplicateColumn) -> Result<(Option<Self>, Option<String>)> {
        let instead = "halves of the cells drawn at random are compared instead";
        match wanted {
            ReplicateColumn::None => Ok((None, None)),
            ReplicateColumn::Auto => {
                let named = |name: &str| v.obs.iter().find(|c| c.name.eq_ignore_ascii_case(name));
                let mut found =
                    REPLICATE_COLUMNS.iter().filter_map(|name| named(name)).map(|c| Self::of_column(c, cells));
                let found = found.find(|r| (2..=MOST_REPLICATES).contains(&r.len()));
                let none = || format!("replicates: no column such as batch or donor (--replicates COLUMN); {instead}");
                Ok(match found {
                    Some(r) => (Some(r), None),
                    None => (None, Some(none())),
                })
            }
            ReplicateColumn::Named(name) => {
                let column = v.obs.iter().find(|c| &c.name == name).ok_or_else(|| {
                    let names = || v.obs.iter().map(|c| c.name.as_str());
                    Error::usage(format!(
                        "--replicates {name}: the data have no such column of cells{}; a column of distinct values is not kept \
                         by `prepare`",
                        if v.obs.is_empty() { ", nor any other".into() } else { format!("; {}", hint(name, names())) }
                    ))
                })?;
                let r = Self::of_column(column, cells);
                if r.len() > MOST_REPLICATES || (r.is_empty() && r.small.len() > 1) {
                    return Err(Error::usage(format!(
                        "--replicates {name}: {} values for {} cells; a replicate needs {MIN_REPLICATE_CELLS} cells, and \
                         there may be {MOST_REPLICATES}: name a column such as batch or donor, or `none`",
                        r.len() + r.small.len(),
                        cells.len()
                    )));
                }
                if r.len() < 2 {
                    let why = format!(
                        "replicates: --replicates {name} tells {} of at least {MIN_REPLICATE_CELLS} cells; {instead}",
                        r.len()
                    );
                    return Ok((None, Some(why)));
                }
                Ok((Some(r), None))
            }
        }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// R.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// For the record.
    pub fn summary(&self, automatic: bool) -> ReplicateSummary {
        ReplicateSummary {
            column: self.column.clone(),
            automatic,
            names: self.names.clone(),
            cells: self.sizes.clone(),
            left_out: self.small.clone(),
        }
    }

    /// Two parts of the replicates of about as many cells: part of each cell, or `None`. Largest first, each to the smaller
    /// part.
    pub fn parts(&self) -> Vec<Option<bool>> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|&r| std::cmp::Reverse(self.sizes[r]));
        let (mut sizes, mut second) = ([0u64; 2], vec![false; self.len()]);
        for r in order {
            second[r] = sizes[1] < sizes[0];
            sizes[usize::from(second[r])] += u64::from(self.sizes[r]);
        }
        self.of.iter().map(|&r| second.get(usize::from(r)).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_even() {
        let r = Replicates {
            column: "batch".into(),
            names: vec!["a".into(), "b".into(), "c".into()],
            sizes: vec![3, 2, 1],
            of: vec![0, 0, 0, 1, 1, 2, NO_REPLICATE],
            small: vec![],
        };
        let parts = r.parts();
        assert_eq!(parts.iter().filter(|p| **p == Some(true)).count(), 3);
        assert_eq!(parts[6], None);
    }
}
