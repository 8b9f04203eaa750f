//! Kinds of cells between which profiles are compared: cell types, or neighbourhoods of cells alike in RNA.

use super::options::MIN_KIND_CELLS;
use crate::rng::Rng;
use crate::vocabulary::Vocabulary;

/// No kind.
pub const NO_KIND: u16 = u16::MAX;
/// Cells a neighbourhood holds, about.
const NEIGHBOURS: usize = 80;
/// Most neighbourhoods.
const MOST: usize = 30;
/// Rounds of k-means.
const ROUNDS: usize = 50;
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
        let of = k_means(scores, width, k, seed);
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

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Lloyd's rounds from centres drawn with chances that go with squared distance (k-means++).
fn k_means(points: &[f64], width: usize, k: usize, seed: u64) -> Vec<u16> {
    let n = points.len() / width;
    let point = |i: usize| &points[i * width..][..width];
    let mut rng = Rng::new(seed, START);
    let mut centres = point(rng.below(n)).to_vec();
    let mut nearest = vec![f64::INFINITY; n];
    while centres.len() < k * width {
        let last = &centres[centres.len() - width..];
        (0..n).for_each(|i| nearest[i] = nearest[i].min(apart(point(i), last)));
        let mut left = rng.uniform() * nearest.iter().sum::<f64>();
        let drawn = nearest.iter().position(|d| {
            left -= d;
            left < 0.0
        });
        centres.extend_from_slice(point(drawn.unwrap_or(n - 1)));
    }
    let mut of = vec![0u16; n];
    for _ in 0..ROUNDS {
        let closest = |i: usize| {
            let far = |c: &usize| apart(point(i), &centres[c * width..][..width]);
            (0..k).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap_or(0) as u16
        };
        let now: Vec<u16> = (0..n).map(closest).collect();
        let same = now == of;
        of = now;
        if same {
            break;
        }
        let mut sizes = vec![0.0; k];
        let mut sums = vec![0.0; k * width];
        for (i, &c) in of.iter().enumerate() {
            let c = usize::from(c);
            sizes[c] += 1.0;
            sums[c * width..][..width].iter_mut().zip(point(i)).for_each(|(s, x)| *s += x);
        }
        for (c, &size) in sizes.iter().enumerate().filter(|(_, s)| **s > 0.0) {
            let sum = sums[c * width..][..width].iter().map(|s| s / size);
            centres[c * width..][..width].iter_mut().zip(sum).for_each(|(c, s)| *c = s);
        }
    }
    of
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
