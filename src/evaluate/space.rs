//! Embeddings by what users do with them: types from neighbours, clusters beside types, batches, and what depth explains.
//!
//! See docs/model.md, eq. 82 to 86.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::clusters::{agreement, best_k_means};
use super::linear::{function, inner};
use super::louvain::{SharedNeighbours, best_louvain};
use super::matching::share;
use super::neighbours::{Points, apart, nearest};
use crate::rng::Rng;

/// Neighbours asked for labels and batches.
pub const NEIGHBOURS: usize = 15;
/// Most cells that widths of silhouettes are taken of.
const SILHOUETTES: usize = 3000;
/// Stream of random numbers that draws them.
const DRAW: u64 = 0x7369_6C68;

/// Types told from neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LabelTransfer {
    /// Cells that were asked for.
    pub cells: u64,
    /// Share of them told rightly.
    pub accuracy: Option<f64>,
    /// Mean over types, of those that occur or are told, of 2 TP / (2 TP + FP + FN).
    pub macro_f1: Option<f64>,
}

/// Tells the type of each of `query` from its 15 nearest of `reference`: that of most of them, of types with as many the one
/// that comes first. `labels` are of `reference`, `truth` of `query`.
pub fn label_transfer(reference: Points<'_>, labels: &[u32], query: Points<'_>, truth: &[u32]) -> LabelTransfer {
    if reference.is_empty() || query.is_empty() {
        return LabelTransfer::default();
    }
    let types = labels.iter().chain(truth).max().map_or(0, |&t| t as usize + 1);
    let told: Vec<u32> = nearest(reference, query, NEIGHBOURS, false)
        .iter()
        .map(|near| {
            let votes = |t: u32| near.iter().filter(|&&j| labels[j as usize] == t).count();
            let of = near.iter().map(|&j| labels[j as usize]);
            // `max_by_key` keeps the last of equals.
            of.rev().max_by_key(|&t| votes(t)).unwrap_or(0)
        })
        .collect();
    let mut counts = vec![[0u64; 3]; types];
    for (&t, &told) in truth.iter().zip(&told) {
        if t == told {
            counts[t as usize][0] += 1;
        } else {
            counts[told as usize][1] += 1;
            counts[t as usize][2] += 1;
        }
    }
    let right: u64 = counts.iter().map(|c| c[0]).sum();
    let f1: Vec<f64> = counts.iter().filter_map(|[tp, fp, lost]| share(2 * tp, 2 * tp + fp + lost)).collect();
    LabelTransfer {
        cells: truth.len() as u64,
        accuracy: share(right, truth.len() as u64),
        macro_f1: Some(f1.iter().sum::<f64>() / f1.len() as f64),
    }
}

/// Mean silhouette width of types, from −1..1 to 0..1, of at most 3,000 cells drawn by `seed`. Cells alone in their type
/// have width 0. `None` with fewer than two types.
pub fn silhouette(points: Points<'_>, types: &[u32], seed: u64) -> Option<f64> {
    let mut chosen: Vec<u32> = (0..points.len() as u32).collect();
    if chosen.len() > SILHOUETTES {
        Rng::new(seed, DRAW).shuffle(&mut chosen);
        chosen.truncate(SILHOUETTES);
        chosen.sort_unstable();
    }
    let of: Vec<usize> = chosen.iter().map(|&i| types[i as usize] as usize).collect();
    let mut sizes = vec![0u32; of.iter().max()? + 1];
    of.iter().for_each(|&t| sizes[t] += 1);
    if sizes.iter().filter(|&&s| s > 0).count() < 2 {
        return None;
    }
    let width = |i: usize| {
        if sizes[of[i]] == 1 {
            return 0.0;
        }
        let mut sums = vec![0.0; sizes.len()];
        let own = points.row(chosen[i] as usize);
        chosen.iter().zip(&of).for_each(|(&j, &t)| sums[t] += apart(own, points.row(j as usize)).sqrt());
        let within = sums[of[i]] / f64::from(sizes[of[i]] - 1);
        let others = (0..sizes.len()).filter(|&t| t != of[i] && sizes[t] > 0);
        let nearest = others.map(|t| sums[t] / f64::from(sizes[t])).fold(f64::INFINITY, f64::min);
        let most = within.max(nearest);
        if most > 0.0 { (nearest - within) / most } else { 0.0 }
    };
    let widths: Vec<f64> = (0..chosen.len()).into_par_iter().map(width).collect();
    Some((widths.iter().sum::<f64>() / widths.len() as f64 + 1.0) / 2.0)
}

/// Share of each cell's neighbours that are of another batch, over what it would be were batches mixed within its type: the
/// ratio of both means. 1: mixed; 0: apart. `None` where no type has cells of two batches.
fn mixing(near: &[Vec<u32>], batches: &[u32], types: Option<&[u32]>) -> Option<f64> {
    let type_of = |i: usize| types.map_or(0, |t| t[i]);
    let mut sizes = std::collections::HashMap::<(u32, Option<u32>), f64>::new();
    for (i, &b) in batches.iter().enumerate() {
        *sizes.entry((type_of(i), Some(b))).or_default() += 1.0;
        *sizes.entry((type_of(i), None)).or_default() += 1.0;
    }
    let (mut seen, mut expected) = (0.0, 0.0);
    for (i, near) in near.iter().enumerate() {
        let (all, own) = (sizes[&(type_of(i), None)], sizes[&(type_of(i), Some(batches[i]))]);
        if all < 2.0 || near.is_empty() {
            continue;
        }
        let other = near.iter().filter(|&&j| batches[j as usize] != batches[i]).count();
        seen += other as f64 / near.len() as f64;
        expected += (all - own) / (all - 1.0);
    }
    (expected > 0.0).then(|| seen / expected)
}

/// Mixing of batches among the 15 nearest neighbours of every cell (docs/model.md, eq. 85); `types`: within which cells would
/// mix.
pub fn batch_mixing(points: Points<'_>, batches: &[u32], types: Option<&[u32]>) -> Option<f64> {
    mixing(&nearest(points, points, NEIGHBOURS, true), batches, types)
}

/// Share of the variance of `depth` (one number a cell, in logarithms) among the cells `query` that a linear regression on the
/// embedding explains, fitted on the cells `reference`. Below 0 where the mean is nearer; `None` where depth does not vary.
pub fn depth_r2(points: Points<'_>, depth: &[f64], reference: &[u32], query: &[u32]) -> Option<f64> {
    let w = points.width;
    let mean_of = |cells: &[u32]| cells.iter().map(|&i| depth[i as usize]).sum::<f64>() / cells.len() as f64;
    if reference.is_empty() || query.is_empty() || w == 0 {
        return None;
    }
    let rows = |cells: &[u32]| points.some(cells).into_iter().map(f64::from).collect::<Vec<f64>>();
    let mut x = rows(reference);
    let mut middle = vec![0.0; w];
    x.chunks_exact(w).for_each(|r| middle.iter_mut().zip(r).for_each(|(m, x)| *m += x));
    middle.iter_mut().for_each(|m| *m /= reference.len() as f64);
    x.chunks_exact_mut(w).for_each(|r| r.iter_mut().zip(&middle).for_each(|(x, m)| *x -= m));
    let mean = mean_of(reference);
    let y: Vec<f64> = reference.iter().map(|&i| depth[i as usize] - mean).collect();
    let products = inner(&x, w, &x, w);
    let largest = (0..w).map(|i| products[i * w + i]).fold(0.0, f64::max);
    // Directions in which nothing varies take no part.
    let inverse = function(&products, w, |v| if v > 1e-10 * largest { 1.0 / v } else { 0.0 });
    let weights = inner(&inverse, w, &inner(&x, w, &y, 1), 1);
    let about = mean_of(query);
    let (mut left, mut all) = (0.0, 0.0);
    for (r, &i) in rows(query).chunks_exact(w).zip(query) {
        let told: f64 = r.iter().zip(&middle).zip(&weights).map(|((x, m), b)| (x - m) * b).sum();
        let d = depth[i as usize];
        left += (d - mean - told).powi(2);
        all += (d - about).powi(2);
    }
    (all > 0.0).then(|| 1.0 - left / all)
}

/// What is known of the cells of an embedding.
#[derive(Debug, Clone, Copy)]
pub struct SpaceInput<'a> {
    /// The embedding of all cells.
    pub points: Points<'a>,
    /// Type of each cell.
    pub types: Option<&'a [u32]>,
    /// Batch of each cell.
    pub batches: Option<&'a [u32]>,
    /// Logarithm of the depth of each cell.
    pub depth: Option<&'a [f64]>,
    /// Cells that labels are taken from, and the regression of depth is fitted on.
    pub reference: &'a [u32],
    /// Cells whose labels and depth are told.
    pub query: &'a [u32],
    /// Seed of clusters and of what is drawn.
    pub seed: u64,
}

/// An embedding by what users do with it; `None` is what is undefined or was not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SpaceMetrics {
    /// Cells.
    pub cells: u64,
    /// Types of the query cells told from the reference cells ([`label_transfer`]).
    pub labels: Option<LabelTransfer>,
    /// Silhouette width of types, 0 to 1 ([`silhouette`]).
    pub silhouette: Option<f64>,
    /// Clusters of k-means, as many as types, beside the types: adjusted Rand index ...
    pub ari: Option<f64>,
    /// ... and normalised mutual information.
    pub nmi: Option<f64>,
    /// The same of clusters by Louvain's method in the graph of shared neighbours, at the resolution that gives as many
    /// clusters of ten cells or more as there are types, or next to as many.
    pub ari_louvain: Option<f64>,
    /// As `ari_louvain`.
    pub nmi_louvain: Option<f64>,
    /// Clusters of ten cells or more that Louvain's method gave.
    pub clusters_louvain: Option<u64>,
    /// Mixing of batches ([`batch_mixing`]).
    pub batch_mixing: Option<f64>,
    /// Share of the variance of depth that is explained ([`depth_r2`]).
    pub depth_r2: Option<f64>,
}

/// Measures an embedding. Rows that are not finite have no place in it: the caller leaves them out.
pub fn space(input: &SpaceInput<'_>) -> SpaceMetrics {
    let SpaceInput { points, types, batches, depth, reference, query, seed } = *input;
    let n = points.len();
    let mut found = SpaceMetrics { cells: n as u64, ..Default::default() };
    if n == 0 {
        return found;
    }
    let near = nearest(points, points, NEIGHBOURS, true);
    if let Some(types) = types {
        let of = |cells: &[u32]| cells.iter().map(|&i| types[i as usize]).collect::<Vec<u32>>();
        let (from, to) = (points.some(reference), points.some(query));
        let some = |rows| Points { rows, width: points.width };
        found.labels = (!reference.is_empty() && !query.is_empty())
            .then(|| label_transfer(some(&from), &of(reference), some(&to), &of(query)));
        found.silhouette = silhouette(points, types, seed);
        let mut kinds = types.to_vec();
        kinds.sort_unstable();
        kinds.dedup();
        let rows: Vec<f64> = points.rows.iter().map(|&x| f64::from(x)).collect();
        if let Some(clusters) = best_k_means(&rows, points.width, kinds.len(), seed) {
            let of: Vec<u32> = clusters.of.iter().map(|&c| u32::from(c)).collect();
            let g = agreement(&of, types);
            (found.ari, found.nmi) = (Some(g.ari), Some(g.nmi));
        }
        let (of, clusters) = best_louvain(&SharedNeighbours::new(&near), kinds.len(), seed);
        let g = agreement(&of, types);
        (found.ari_louvain, found.nmi_louvain) = (Some(g.ari), Some(g.nmi));
        found.clusters_louvain = Some(clusters as u64);
    }
    found.batch_mixing = batches.and_then(|b| mixing(&near, b, types));
    found.depth_r2 = depth.and_then(|d| depth_r2(points, d, reference, query));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: Option<f64>, want: f64, what: &str) {
        assert!((got.unwrap() - want).abs() < 1e-9, "{what}: {got:?} {want}");
    }

    fn line(rows: &[f32]) -> Points<'_> {
        Points { rows, width: 1 }
    }

    #[test]
    fn labels_by_hand() {
        // Eight of type 0 at 0, eight of type 1 at 10, one of type 2 at 5: of 15 neighbours 8 and 7 but for the middle.
        let mut rows = vec![0.0f32; 8];
        rows.extend([10.0; 8]);
        rows.push(5.0);
        let labels: Vec<u32> = [vec![0; 8], vec![1; 8], vec![2]].concat();
        let m = label_transfer(line(&rows), &labels, line(&[-1.0, 11.0, 12.0, 9.0]), &[0, 1, 0, 2]);
        // Told 0, 1, 1, 1.
        assert_eq!((m.cells, m.accuracy), (4, Some(0.5)));
        // F1: type 0 2/(2 + 0 + 1), type 1 2/(2 + 2 + 0), type 2 0.
        close(m.macro_f1, (2.0 / 3.0 + 0.5) / 3.0, "F1");
        // Two neighbours of two types: the nearer one counts.
        let m = label_transfer(line(&[0.0, 1.0]), &[4, 3], line(&[0.1, 0.9]), &[4, 3]);
        assert_eq!((m.accuracy, m.macro_f1), (Some(1.0), Some(1.0)));
        assert_eq!(label_transfer(line(&[]), &[], line(&[1.0]), &[0]).accuracy, None);
    }

    #[test]
    fn labels_equal_a_second_computation() {
        let mut rng = Rng::new(10, 1);
        let points = |rng: &mut Rng, n: usize| (0..3 * n).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
        let (a, b) = (points(&mut rng, 200), points(&mut rng, 60));
        let label = |r: &[f32]| r.chunks_exact(3).map(|r| u32::from(r[0] > 0.0) + u32::from(r[1] > 0.5)).collect();
        let (la, lb): (Vec<u32>, Vec<u32>) = (label(&a), label(&b));
        let m = label_transfer(Points { rows: &a, width: 3 }, &la, Points { rows: &b, width: 3 }, &lb);
        let (mut right, mut matrix) = (0, [[0.0f64; 3]; 3]);
        for (q, &t) in b.chunks_exact(3).zip(&lb) {
            let mut all: Vec<(f64, u32)> = a.chunks_exact(3).zip(&la).map(|(r, &l)| (apart(q, r), l)).collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0));
            let votes = |l: u32| all[..15].iter().filter(|x| x.1 == l).count();
            let most = (0..3).map(votes).max().unwrap();
            let told = all[..15].iter().find(|x| votes(x.1) == most).unwrap().1;
            right += u32::from(told == t);
            matrix[t as usize][told as usize] += 1.0;
        }
        close(m.accuracy, f64::from(right) / 60.0, "accuracy");
        let f1 = (0..3).map(|t| {
            let (row, column) = (matrix[t].iter().sum::<f64>(), (0..3).map(|s| matrix[s][t]).sum::<f64>());
            2.0 * matrix[t][t] / (row + column)
        });
        close(m.macro_f1, f1.sum::<f64>() / 3.0, "F1");
    }

    #[test]
    fn widths_by_hand() {
        // 0 and 2 of one type, 10 of another, 13 and 14 of a third; distances on a line.
        let m = silhouette(line(&[0.0, 2.0, 10.0, 13.0, 14.0]), &[0, 0, 3, 1, 1], 906);
        let s = |a: f64, b: f64| (b - a) / a.max(b);
        let mean = (s(2.0, 10.0) + s(2.0, 8.0) + 0.0 + s(1.0, 3.0) + s(1.0, 4.0)) / 5.0;
        close(m, (mean + 1.0) / 2.0, "widths");
        assert_eq!(silhouette(line(&[0.0, 1.0]), &[2, 2], 906), None);
        // Of more cells than are looked at: two clouds far apart.
        let far: Vec<f32> = (0..4000).map(|i| (i % 2) as f32 * 1e4 + (i / 2) as f32 * 1e-3).collect();
        let types: Vec<u32> = (0..4000).map(|i| i % 2).collect();
        let some = silhouette(line(&far), &types, 1).unwrap();
        assert!(some > 0.999 && some < 1.0 && some == silhouette(line(&far), &types, 1).unwrap());
    }

    #[test]
    fn batches_by_hand() {
        // Three cells, each the neighbour of both others; batches 0 0 1.
        let m = batch_mixing(line(&[0.0, 1.0, 2.0]), &[0, 0, 1], None);
        // Seen ½, ½, 1; expected ½, ½, 1.
        close(m, 1.0, "mixed");
        // Two types far apart, a batch of each its own: nothing could mix.
        assert_eq!(batch_mixing(line(&[0.0, 1.0, 50.0, 51.0]), &[0, 0, 1, 1], Some(&[0, 0, 1, 1])), None);
        // Batches as two clouds of 20 of one type: none of the neighbours is of the other.
        let rows: Vec<f32> = (0..40).map(|i| (i % 2) as f32 * 100.0 + i as f32 * 0.1).collect();
        let batches: Vec<u32> = (0..40).map(|i| i % 2).collect();
        assert_eq!(batch_mixing(line(&rows), &batches, None), Some(0.0));
        // At random, in two types of other shares.
        let mut rng = Rng::new(11, 1);
        let types: Vec<u32> = (0..2000).map(|i| i % 2).collect();
        let rows: Vec<f32> = types.iter().flat_map(|&t| [t as f32 * 40.0 + rng.normal() as f32, 0.0]).collect();
        let batches: Vec<u32> = types.iter().map(|&t| u32::from(rng.below(5) < 1 + 2 * t as usize)).collect();
        let m = batch_mixing(Points { rows: &rows, width: 2 }, &batches, Some(&types)).unwrap();
        assert!((m - 1.0).abs() < 0.03, "{m}");
    }

    #[test]
    fn depth_by_hand() {
        // Fitted on 0, 1, 2: depth 1 + 2 x; told for 3 and 4: 7, 9; measured 8, 10.
        let rows = [0.0f32, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0];
        let p = Points { rows: &rows, width: 2 };
        let depth = [1.0, 3.0, 5.0, 8.0, 10.0];
        close(depth_r2(p, &depth, &[0, 1, 2], &[3, 4]), 1.0 - 2.0 / 2.0, "R²");
        close(depth_r2(p, &depth, &[0, 1, 2], &[0, 2]), 1.0, "R²");
        assert_eq!(depth_r2(p, &[1.0; 5], &[0, 1], &[2, 3]), None);
    }

    #[test]
    fn clouds_of_types_are_found() {
        let mut rng = Rng::new(12, 1);
        let types: Vec<u32> = (0..600).map(|i| i % 4).collect();
        let rows: Vec<f32> =
            types.iter().flat_map(|&t| [t as f32 * 12.0 + rng.normal() as f32, rng.normal() as f32]).collect();
        let batches: Vec<u32> = (0..600).map(|_| rng.below(2) as u32).collect();
        let depth: Vec<f64> = rows.chunks_exact(2).map(|r| f64::from(r[1]) + rng.normal()).collect();
        let (reference, query): (Vec<u32>, Vec<u32>) = ((0..500).collect(), (500..600).collect());
        let input = SpaceInput {
            points: Points { rows: &rows, width: 2 },
            types: Some(&types),
            batches: Some(&batches),
            depth: Some(&depth),
            reference: &reference,
            query: &query,
            seed: 906,
        };
        let m = space(&input);
        assert_eq!((m.cells, m.labels.unwrap().cells, m.labels.unwrap().accuracy), (600, 100, Some(1.0)));
        close(m.ari, 1.0, "ARI");
        close(m.nmi, 1.0, "NMI");
        close(m.ari_louvain, 1.0, "ARI, Louvain");
        assert_eq!(m.clusters_louvain, Some(4));
        // Half of the variance is of the embedding.
        assert!((m.depth_r2.unwrap() - 0.5).abs() < 0.15, "{m:?}");
        assert!((m.batch_mixing.unwrap() - 1.0).abs() < 0.05 && m.silhouette.unwrap() > 0.85, "{m:?}");
        let bare = space(&SpaceInput { types: None, batches: None, depth: None, ..input });
        assert_eq!(bare, SpaceMetrics { cells: 600, ..Default::default() });
    }

    /// On a grid, where distances are often equal: each number a second time, by its definition.
    #[test]
    fn equal_second_computations() {
        let mut rng = Rng::new(13, 1);
        let (n, width) = (120usize, 3);
        let rows: Vec<f32> = (0..n * width).map(|_| rng.below(5) as f32).collect();
        let types: Vec<u32> = (0..n).map(|i| if i == 0 { 7 } else { rng.below(3) as u32 }).collect();
        let batches: Vec<u32> = types.iter().map(|&t| rng.below(2 + t as usize) as u32).collect();
        let p = Points { rows: &rows, width };
        let d = |i: usize, j: usize| {
            (0..width).map(|k| f64::from(rows[i * width + k] - rows[j * width + k]).powi(2)).sum::<f64>().sqrt()
        };
        let mean = |x: Vec<f64>| x.iter().sum::<f64>() / x.len() as f64;
        let to = |i: usize, t: u32| mean((0..n).filter(|&j| j != i && types[j] == t).map(|j| d(i, j)).collect());
        let widths: Vec<f64> = (0..n)
            .map(|i| {
                if types[i] == 7 {
                    return 0.0;
                }
                let a = to(i, types[i]);
                let b = [0, 1, 2, 7].into_iter().filter(|&t| t != types[i]).map(|t| to(i, t)).fold(1e9, f64::min);
                (b - a) / a.max(b)
            })
            .collect();
        close(silhouette(p, &types, 906), (mean(widths) + 1.0) / 2.0, "widths");

        // Neighbours by all distances, the lower number first.
        let (mut seen, mut expected) = (0.0, 0.0);
        for i in 0..n {
            let mut all: Vec<usize> = (0..n).filter(|&j| j != i).collect();
            all.sort_by(|&a, &b| d(i, a).total_cmp(&d(i, b)));
            let peers: Vec<usize> = (0..n).filter(|&j| j != i && types[j] == types[i]).collect();
            if peers.is_empty() {
                continue;
            }
            let other =
                |of: &[usize]| of.iter().filter(|&&j| batches[j] != batches[i]).count() as f64 / of.len() as f64;
            seen += other(&all[..15]);
            expected += other(&peers);
        }
        close(batch_mixing(p, &batches, Some(&types)), seen / expected, "mixing");

        // Least squares by descent along coordinates.
        let depth: Vec<f64> = (0..n).map(|i| f64::from(rows[i * width]) + rng.normal()).collect();
        let (reference, query): (Vec<u32>, Vec<u32>) = ((0..90).collect(), (90..120).collect());
        let mut b = [0.0; 4];
        let x = |i: usize, k: usize| if k == width { 1.0 } else { f64::from(rows[i * width + k]) };
        let left = |b: &[f64; 4], i: usize| depth[i] - (0..4).map(|k| b[k] * x(i, k)).sum::<f64>();
        for _ in 0..500 {
            for k in 0..4 {
                let step =
                    (0..90).map(|i| left(&b, i) * x(i, k)).sum::<f64>() / (0..90).map(|i| x(i, k).powi(2)).sum::<f64>();
                b[k] += step;
            }
        }
        let middle = mean(depth[90..].to_vec());
        let all: f64 = depth[90..].iter().map(|d| (d - middle).powi(2)).sum();
        let want = 1.0 - (90..n).map(|i| left(&b, i).powi(2)).sum::<f64>() / all;
        close(depth_r2(p, &depth, &reference, &query), want, "R²");
    }

    #[test]
    fn threads_change_nothing() {
        let mut rng = Rng::new(14, 1);
        let n = 700;
        let rows: Vec<f32> = (0..n * 6).map(|_| rng.normal() as f32).collect();
        let types: Vec<u32> = (0..n).map(|i| u32::from(rows[i * 6] > 0.3)).collect();
        let depth: Vec<f64> = (0..n).map(|i| f64::from(rows[i * 6 + 1]) + rng.normal()).collect();
        let (reference, query): (Vec<u32>, Vec<u32>) = ((0..500).collect(), (500..700).collect());
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                space(&SpaceInput {
                    points: Points { rows: &rows, width: 6 },
                    types: Some(&types),
                    batches: Some(&types),
                    depth: Some(&depth),
                    reference: &reference,
                    query: &query,
                    seed: 906,
                })
            })
        };
        assert_eq!(of(1), of(5));
    }
}
