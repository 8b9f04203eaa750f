//! Cells in a plane: uniform manifold approximation and projection.
//!
//! L. McInnes, J. Healy, J. Melville: UMAP, arXiv:1802.03426 (2018). Bandwidths, the fuzzy union and the descent are those of the
//! paper's algorithms 2 to 5 on exact neighbours; it begins at the first two principal components. The descent is of one thread, in
//! the order of the cells, with random numbers by place: one seed gives one layout, whatever the threads.

use rayon::prelude::*;

use super::linear::{eigen, inner};
use super::neighbours::{Points, apart, nearest};
use crate::error::Result;
use crate::progress::Progress;
use crate::rng::Rng;

/// Cells that are laid out by descent, at most: others are placed among the nearest of these.
const MOST: usize = 40_000;
/// Cells up to which there are more epochs.
const FEW: usize = 10_000;
/// Pairs that repel, a pair that attracts.
const REPELLED: f32 = 5.0;
/// Largest step of a coordinate.
const STEP: f32 = 4.0;
/// Half of the side of the square that it begins in.
const SIDE: f64 = 10.0;
/// Least bandwidth, in mean distances.
const LEAST: f64 = 1e-3;
/// Rows of a block of sums.
const BLOCK: usize = 1024;
/// Streams of random numbers: where cells begin, and what repels.
const BEGIN: u64 = 0x756D_6170_0000;
const DESCENT: u64 = 0x756D_6170_0001;

/// How cells are laid out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UmapOptions {
    /// Neighbours that a cell is held by, itself among them.
    pub neighbours: usize,
    /// Distance of cells in the plane that count as together.
    pub min_dist: f64,
    /// Rounds of descent; `None`: 500 up to 10,000 cells, else 200.
    pub epochs: Option<usize>,
    /// Seed.
    pub seed: u64,
}

impl Default for UmapOptions {
    /// 15 neighbours, a least distance of 0.3.
    fn default() -> Self {
        UmapOptions { neighbours: 15, min_dist: 0.3, epochs: None, seed: crate::rng::DEFAULT_SEED }
    }
}

/// Places `[n]` of points in the plane; NaN where a row is not finite. Of more than 40,000 points evenly spread ones are laid out,
/// and the others placed among their nearest neighbours of these. `progress` is told the epochs, as stage `umap`.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn umap(points: Points<'_>, options: &UmapOptions, progress: &dyn Progress) -> Result<Vec<[f32; 2]>> {
    placed(points, options, MOST, progress)
}

/// [`umap`] with at most `most` points laid out.
fn placed(points: Points<'_>, options: &UmapOptions, most: usize, progress: &dyn Progress) -> Result<Vec<[f32; 2]>> {
    let finite: Vec<u32> =
        (0..points.len() as u32).filter(|&i| points.row(i as usize).iter().all(|x| x.is_finite())).collect();
    let every = finite.len().div_ceil(most).max(1);
    let shown: Vec<u32> = finite.iter().copied().step_by(every).collect();
    let rows = points.some(&shown);
    let some = Points { rows: &rows, width: points.width };
    let laid = layout(some, options, progress)?;
    let mut out = vec![[f32::NAN; 2]; points.len()];
    shown.iter().zip(&laid).for_each(|(&i, &at)| out[i as usize] = at);
    let others: Vec<u32> = finite.iter().enumerate().filter(|x| x.0 % every != 0).map(|x| *x.1).collect();
    for block in others.chunks(BLOCK) {
        progress.check("nothing was written")?;
        let rows = points.some(block);
        let query = Points { rows: &rows, width: points.width };
        let found = nearest(some, query, options.neighbours.max(1), false);
        let weights = bandwidths(some, query, &found);
        for (k, &i) in block.iter().enumerate() {
            let sum: f64 = weights[k].iter().sum();
            let mean = |c: usize| {
                found[k].iter().zip(&weights[k]).map(|(&j, w)| w * f64::from(laid[j as usize][c])).sum::<f64>() / sum
            };
            out[i as usize] = [mean(0) as f32, mean(1) as f32];
        }
    }
    Ok(out)
}

/// All points by descent.
fn layout(points: Points<'_>, options: &UmapOptions, progress: &dyn Progress) -> Result<Vec<[f32; 2]>> {
    let n = points.len();
    let mut at = begin(points, options.seed);
    if n < 3 {
        return Ok(at);
    }
    progress.check("nothing was written")?;
    let near = nearest(points, points, options.neighbours.saturating_sub(1).clamp(1, n - 1), true);
    let edges = union(&near, &bandwidths(points, points, &near));
    let epochs = options.epochs.unwrap_or(if n <= FEW { 500 } else { 200 });
    descend(&mut at, edges, epochs, curve(options.min_dist), options.seed, progress)?;
    Ok(at)
}

/// Membership of the neighbours of each query: exp(−(d − ρ)/σ), where ρ is the distance of the nearest that is not the same, and σ
/// makes the sum log₂ of the neighbours and the cell itself.
fn bandwidths(points: Points<'_>, query: Points<'_>, near: &[Vec<u32>]) -> Vec<Vec<f64>> {
    let distances: Vec<Vec<f64>> = near
        .par_iter()
        .enumerate()
        .map(|(i, near)| near.iter().map(|&j| apart(query.row(i), points.row(j as usize)).sqrt()).collect())
        .collect();
    let count: usize = distances.iter().map(Vec::len).sum();
    let mean = distances.iter().map(|d| d.iter().sum::<f64>()).sum::<f64>() / count.max(1) as f64;
    let of = |d: &Vec<f64>| {
        let target = ((d.len() + 1) as f64).log2();
        let rho = d.iter().copied().find(|&x| x > 0.0).unwrap_or(0.0);
        let weight = |x: f64, sigma: f64| if x <= rho { 1.0 } else { (-(x - rho) / sigma).exp() };
        let (mut lo, mut hi, mut sigma) = (0.0, f64::INFINITY, 1.0);
        for _ in 0..64 {
            let sum: f64 = d.iter().map(|&x| weight(x, sigma)).sum();
            if (sum - target).abs() < 1e-5 {
                break;
            }
            if sum > target {
                hi = sigma;
                sigma = f64::midpoint(lo, hi);
            } else {
                lo = sigma;
                sigma = if hi.is_finite() { f64::midpoint(lo, hi) } else { sigma * 2.0 };
            }
        }
        let own = d.iter().sum::<f64>() / d.len().max(1) as f64;
        let least = LEAST * if rho > 0.0 { own } else { mean };
        let sigma = sigma.max(least).max(f64::MIN_POSITIVE);
        d.iter().map(|&x| weight(x, sigma)).collect()
    };
    distances.par_iter().map(of).collect()
}

/// A pair that attracts, and how much.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Edge {
    from: u32,
    to: u32,
    weight: f64,
}

/// The fuzzy union a + b − a b of both directions, each pair in both, sorted.
fn union(near: &[Vec<u32>], weights: &[Vec<f64>]) -> Vec<Edge> {
    let mut all: Vec<(u32, u32, f64)> = Vec::with_capacity(2 * near.len() * near.first().map_or(0, Vec::len));
    for (i, (near, weights)) in near.iter().zip(weights).enumerate() {
        for (&j, &w) in near.iter().zip(weights) {
            all.push((i as u32, j, w));
            all.push((j, i as u32, w));
        }
    }
    all.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
    let mut edges: Vec<Edge> = Vec::with_capacity(all.len());
    for (from, to, w) in all {
        match edges.last_mut() {
            Some(e) if (e.from, e.to) == (from, to) => e.weight += w - e.weight * w,
            _ => edges.push(Edge { from, to, weight: w }),
        }
    }
    edges
}

/// a and b of 1 / (1 + a d^2b), by least squares near 1 up to the least distance and exp(−(d − least)) beyond it.
fn curve(min_dist: f64) -> [f64; 2] {
    let x: Vec<f64> = (1..300).map(|i| 3.0 * f64::from(i) / 299.0).collect();
    let wanted = |x: f64| if x < min_dist { 1.0 } else { (min_dist - x).exp() };
    let of = |x: f64, [a, b]: [f64; 2]| 1.0 / (1.0 + a * x.powf(2.0 * b));
    let loss = |p: [f64; 2]| x.iter().map(|&x| (of(x, p) - wanted(x)).powi(2)).sum::<f64>();
    let (mut p, mut damping) = ([1.0, 1.0], 1e-3);
    for _ in 0..200 {
        let (mut h, mut g) = ([0.0; 3], [0.0; 2]);
        for &x in &x {
            let (y, power) = (of(x, p), x.powf(2.0 * p[1]));
            let d = [-y * y * power, -y * y * p[0] * power * 2.0 * x.ln()];
            let r = wanted(x) - y;
            (h[0], h[1], h[2]) = (h[0] + d[0] * d[0], h[1] + d[0] * d[1], h[2] + d[1] * d[1]);
            (g[0], g[1]) = (g[0] + d[0] * r, g[1] + d[1] * r);
        }
        let (u, v) = (h[0] * (1.0 + damping), h[2] * (1.0 + damping));
        let det = u * v - h[1] * h[1];
        let next = [p[0] + (g[0] * v - g[1] * h[1]) / det, p[1] + (g[1] * u - g[0] * h[1]) / det];
        if next[0] > 0.0 && next[1] > 0.0 && loss(next) < loss(p) {
            (p, damping) = (next, damping / 3.0);
        } else {
            damping *= 4.0;
        }
    }
    p
}

/// The first two principal components, the largest at a distance of 10, each coordinate moved by a little.
fn begin(points: Points<'_>, seed: u64) -> Vec<[f32; 2]> {
    let (n, w) = (points.len(), points.width);
    let mut mean = vec![0.0f64; w];
    points.rows.chunks_exact(w.max(1)).for_each(|r| mean.iter_mut().zip(r).for_each(|(m, &x)| *m += f64::from(x)));
    mean.iter_mut().for_each(|m| *m /= n.max(1) as f64);
    let centred = |rows: &[f32]| -> Vec<f64> {
        rows.chunks_exact(w.max(1)).flat_map(|r| r.iter().zip(&mean).map(|(&x, m)| f64::from(x) - m)).collect()
    };
    let mut covariance = vec![0.0; w * w];
    for block in points.rows.chunks((BLOCK * w).max(1)) {
        let block = centred(block);
        covariance.iter_mut().zip(inner(&block, w, &block, w)).for_each(|(c, x)| *c += x);
    }
    let axes = if w > 0 { eigen(&covariance, w).1 } else { Vec::new() };
    let axis = |k: usize| -> Vec<f64> {
        let mut v = axes.get(k * w..(k + 1) * w).map_or(vec![0.0; w], <[f64]>::to_vec);
        let largest = v.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
        if largest < 0.0 {
            v.iter_mut().for_each(|x| *x = -*x);
        }
        v
    };
    let (first, second) = (axis(0), axis(1));
    let along = |axis: &[f64], r: &[f32]| -> f64 {
        r.iter().zip(&mean).zip(axis).map(|((&x, m), a)| (f64::from(x) - m) * a).sum()
    };
    let at: Vec<[f64; 2]> =
        points.rows.par_chunks_exact(w.max(1)).map(|r| [along(&first, r), along(&second, r)]).collect();
    let largest = at.iter().flatten().fold(0.0f64, |a, x| a.max(x.abs())).max(1e-300);
    let mut rng = Rng::new(seed, BEGIN);
    at.iter().map(|p| p.map(|x| (x / largest * SIDE + 1e-4 * rng.normal()) as f32)).collect()
}

/// Stochastic descent: each edge as often as its weight says, five random cells repelled each time.
fn descend(
    at: &mut [[f32; 2]],
    edges: Vec<Edge>,
    epochs: usize,
    [a, b]: [f64; 2],
    seed: u64,
    progress: &dyn Progress,
) -> Result<()> {
    let n = at.len();
    let largest = edges.iter().map(|e| e.weight).fold(0.0, f64::max);
    let (a, b) = (a as f32, b as f32);
    // Epochs between two turns of an edge; the next turn; and that of what is repelled.
    let mut turns: Vec<(u32, u32, [f32; 3])> = edges
        .iter()
        .filter(|e| e.weight * epochs as f64 >= largest)
        .map(|e| {
            let every = (largest / e.weight) as f32;
            (e.from, e.to, [every, every, every / REPELLED])
        })
        .collect();
    drop(edges);
    let mut rng = Rng::new(seed, DESCENT);
    let cut = |x: f32| x.clamp(-STEP, STEP);
    for epoch in 0..epochs {
        progress.check("nothing was written")?;
        let rate = 1.0 - epoch as f32 / epochs as f32;
        let now = epoch as f32;
        for (i, j, [every, next, repel]) in &mut turns {
            if *next > now {
                continue;
            }
            let (i, j) = (*i as usize, *j as usize);
            let (mut p, q) = (at[i], at[j]);
            let d = [p[0] - q[0], p[1] - q[1]];
            let square = d[0] * d[0] + d[1] * d[1];
            if square > 0.0 {
                let power = square.powf(b);
                let pull = -2.0 * a * b * power / square / (1.0 + a * power);
                for c in 0..2 {
                    let step = cut(pull * d[c]) * rate;
                    p[c] += step;
                    at[j][c] -= step;
                }
            }
            *next += *every;
            let apart = *every / REPELLED;
            let times = ((now - *repel) / apart).max(0.0) as usize;
            for _ in 0..times {
                let k = ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize;
                if k == i {
                    continue;
                }
                let d = [p[0] - at[k][0], p[1] - at[k][1]];
                let square = d[0] * d[0] + d[1] * d[1];
                if square > 0.0 {
                    let push = 2.0 * b / ((0.001 + square) * (1.0 + a * square.powf(b)));
                    (0..2).for_each(|c| p[c] += cut(push * d[c]) * rate);
                }
            }
            *repel += times as f32 * apart;
            at[i] = p;
        }
        progress.at("umap", epoch as u64 + 1, epochs as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trustworthiness of a layout (Venna and Kaski 2001): near 1 where the k nearest in the plane are near in the space.
    fn trustworthiness(points: Points<'_>, at: &[[f32; 2]], k: usize) -> f64 {
        let n = points.len();
        let flat: Vec<f32> = at.iter().flatten().copied().collect();
        let plane = Points { rows: &flat, width: 2 };
        let (there, here) = (nearest(points, points, n - 1, true), nearest(plane, plane, k, true));
        let mut sum = 0.0;
        for (there, here) in there.iter().zip(&here) {
            let mut rank = vec![0usize; n];
            there.iter().enumerate().for_each(|(r, &j)| rank[j as usize] = r + 1);
            sum += here.iter().map(|&j| rank[j as usize].saturating_sub(k) as f64).sum::<f64>();
        }
        let (n, k) = (n as f64, k as f64);
        1.0 - 2.0 / (n * k * (2.0 * n - 3.0 * k - 1.0)) * sum
    }

    /// Share of the 15 nearest in the plane that are of the type.
    fn purity(at: &[[f32; 2]], types: &[u32]) -> f64 {
        let flat: Vec<f32> = at.iter().flatten().copied().collect();
        let plane = Points { rows: &flat, width: 2 };
        let near = nearest(plane, plane, 15, true);
        let same = near.iter().enumerate().flat_map(|(i, n)| n.iter().map(move |&j| types[j as usize] == types[i]));
        same.filter(|&s| s).count() as f64 / (15 * types.len()) as f64
    }

    /// Eight types in ten dimensions, which no plane through them parts.
    fn tissue(n: usize) -> (Vec<f32>, Vec<u32>) {
        let mut rng = Rng::new(5, 2);
        let middles: Vec<f32> = (0..80).map(|_| 3.0 * rng.normal() as f32).collect();
        let types: Vec<u32> = (0..n as u32).map(|i| i % 8).collect();
        let rows = types
            .iter()
            .flat_map(|&t| (0..10).map(move |k| t as usize * 10 + k))
            .map(|k| middles[k])
            .collect::<Vec<f32>>();
        (rows.into_iter().map(|x| x + rng.normal() as f32).collect(), types)
    }

    #[test]
    fn the_curve_is_the_known_one() {
        // As fitted by scipy.optimize.curve_fit on the same points.
        for (least, [a, b]) in [(0.3, [0.992_175_6, 1.112_253_3]), (0.1, [1.576_943_5, 0.895_060_9])] {
            let got = curve(least);
            assert!((got[0] - a).abs() < 5e-3 && (got[1] - b).abs() < 5e-3, "{got:?} {a} {b}");
        }
    }

    #[test]
    fn memberships_sum_to_the_logarithm() {
        let (rows, _) = tissue(200);
        let p = Points { rows: &rows, width: 10 };
        let near = nearest(p, p, 14, true);
        let weights = bandwidths(p, p, &near);
        for w in &weights {
            assert!(
                (w.iter().sum::<f64>() - 15f64.log2()).abs() < 1e-4 && w[0] == 1.0 && w.is_sorted_by(|a, b| a >= b)
            );
        }
        let edges = union(&near, &weights);
        let weight = |i: u32, j: u32| edges.iter().find(|e| (e.from, e.to) == (i, j)).map(|e| e.weight);
        let of = |i: usize, j: u32| near[i].iter().position(|&k| k == j).map_or(0.0, |k| weights[i][k]);
        for &j in &near[0] {
            let (x, y) = (of(0, j), of(j as usize, 0));
            assert!((weight(0, j).unwrap() - (x + y - x * y)).abs() < 1e-12);
            assert_eq!(weight(0, j), weight(j, 0));
        }
    }

    #[test]
    fn neighbours_stay_neighbours() {
        let (rows, types) = tissue(800);
        let p = Points { rows: &rows, width: 10 };
        let at = umap(p, &UmapOptions::default(), &()).unwrap();
        let flat = begin(p, 1);
        let (ours, theirs) = (trustworthiness(p, &at, 15), trustworthiness(p, &flat, 15));
        assert!(ours > theirs + 0.02 && ours > 0.85, "trustworthiness {ours}, of two components {theirs}");
        let (ours, theirs) = (purity(&at, &types), purity(&flat, &types));
        assert!(ours > 0.95 && ours > theirs + 0.05, "purity {ours}, of two components {theirs}");
    }

    #[test]
    fn threads_change_nothing() {
        let (rows, _) = tissue(500);
        let of = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let options = UmapOptions { epochs: Some(60), seed, ..UmapOptions::default() };
            pool.install(|| umap(Points { rows: &rows, width: 10 }, &options, &()).unwrap())
        };
        assert_eq!(of(1, 906), of(4, 906));
        assert_ne!(of(1, 906), of(1, 907));
    }

    #[test]
    fn what_is_odd_has_a_place() {
        let of = |rows: &[f32], width: usize| umap(Points { rows, width }, &UmapOptions::default(), &()).unwrap();
        assert!(of(&[], 3).is_empty());
        assert_eq!(of(&[1.0, 2.0], 2).len(), 1);
        // All the same; one that is no number.
        let mut rows = vec![1.0f32; 120];
        assert!(of(&rows, 3).iter().flatten().all(|x| x.is_finite()));
        rows[4] = f32::NAN;
        let at = of(&rows, 3);
        assert!(at[1][0].is_nan() && at.iter().filter(|p| p[0].is_finite()).count() == 39);
        // One coordinate.
        assert!(of(&(0..50).map(|i| i as f32).collect::<Vec<_>>(), 1).iter().flatten().all(|x| x.is_finite()));
    }

    /// More points than are laid out: the others are among their like.
    #[test]
    fn the_rest_lie_among_their_like() {
        let (rows, types) = tissue(1200);
        let at = placed(Points { rows: &rows, width: 10 }, &UmapOptions::default(), 400, &()).unwrap();
        let own = purity(&at, &types);
        assert!(own > 0.93, "{own}");
    }
}
