//! Clusters of points, and how far two ways to part the same cells agree.

use rayon::prelude::*;

use crate::rng::Rng;

/// Rounds of k-means, at most.
const ROUNDS: usize = 50;
/// Starts of which the best is kept.
const STARTS: u64 = 10;
/// Stream of random numbers of the first start.
const START: u64 = 0x636C_7573_0000;

/// Points in clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    /// Cluster of each point, below k.
    pub of: Vec<u16>,
    /// Sum of squared distances to the centres.
    pub inertia: f64,
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// Lloyd's rounds over `points` `[n, width]` from k centres drawn with chances that go with squared distance (k-means++).
pub(crate) fn k_means(points: &[f64], width: usize, k: usize, rng: &mut Rng) -> Clusters {
    let n = points.len() / width;
    let point = |i: usize| &points[i * width..][..width];
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
            let far = |c: usize| apart(point(i), &centres[c * width..][..width]);
            (0..k).map(|c| (c, far(c))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |c| c.0 as u16)
        };
        let now: Vec<u16> = (0..n).into_par_iter().map(closest).collect();
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
    let inertia =
        of.iter().enumerate().map(|(i, &c)| apart(point(i), &centres[usize::from(c) * width..][..width])).sum();
    Clusters { of, inertia }
}

/// The best of ten starts of k-means (k-means++) on `points` `[n, width]`, by the sum of squared distances to the centres;
/// `None` without points or with k = 0.
pub fn best_k_means(points: &[f64], width: usize, k: usize, seed: u64) -> Option<Clusters> {
    if points.is_empty() || width == 0 || k == 0 {
        return None;
    }
    let k = k.min(points.len() / width).min(usize::from(u16::MAX));
    let start = |s| k_means(points, width, k, &mut Rng::new(seed, START + s));
    let made: Vec<Clusters> = (0..STARTS).into_par_iter().map(start).collect();
    made.into_iter().min_by(|a, b| a.inertia.total_cmp(&b.inertia))
}

/// How far two ways to part the same cells agree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Adjusted Rand index: 1 where they are the same, 0 by chance.
    pub ari: f64,
    /// Mutual information over the mean of both entropies: 0 to 1.
    pub nmi: f64,
}

/// Compares two labellings of the same cells (docs/model.md, eq. 82 and 83). Where both have one part alone, or each cell its
/// own in both, they are the same.
pub fn agreement(a: &[u32], b: &[u32]) -> Agreement {
    assert_eq!(a.len(), b.len(), "labels of the same cells");
    let mut pairs: Vec<(u32, u32)> = a.iter().copied().zip(b.iter().copied()).collect();
    pairs.sort_unstable();
    let runs = |x: &[u32]| {
        let mut x = x.to_vec();
        x.sort_unstable();
        x.chunk_by(|a, b| a == b).map(<[u32]>::len).collect::<Vec<usize>>()
    };
    let (of_a, of_b) = (runs(a), runs(b));
    let both: Vec<usize> = pairs.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
    let n = a.len() as f64;
    let chosen = |x: &[usize]| x.iter().map(|&k| k as f64 * (k as f64 - 1.0) / 2.0).sum::<f64>();
    let (sa, sb, s, all) = (chosen(&of_a), chosen(&of_b), chosen(&both), n * (n - 1.0) / 2.0);
    let expected = if all > 0.0 { sa * sb / all } else { 0.0 };
    let most = (sa + sb) / 2.0;
    let ari = if most == expected { 1.0 } else { (s - expected) / (most - expected) };
    let entropy = |x: &[usize]| -x.iter().map(|&k| k as f64 / n).map(|p| p * p.ln()).sum::<f64>();
    let (ha, hb, h) = (entropy(&of_a), entropy(&of_b), entropy(&both));
    let nmi = if ha + hb > 0.0 { ((ha + hb - h).max(0.0) / ((ha + hb) / 2.0)).min(1.0) } else { 1.0 };
    Agreement { ari, nmi }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_by_hand() {
        // Six cells in 3 + 3 against 2 + 4: pairs together 6, 7; in both (2, 1, 3): 1 + 3 = 4; expected 6 × 7 / 15.
        let g = agreement(&[0, 0, 0, 1, 1, 1], &[4, 4, 9, 9, 9, 9]);
        assert!((g.ari - (4.0 - 2.8) / (6.5 - 2.8)).abs() < 1e-12);
        let h = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
        let (a, b) = (h(&[0.5, 0.5]), h(&[1.0 / 3.0, 2.0 / 3.0]));
        let mutual = a + b - h(&[1.0 / 3.0, 1.0 / 6.0, 0.5]);
        assert!((g.nmi - mutual / ((a + b) / 2.0)).abs() < 1e-12);
        let same = agreement(&[0, 0, 1, 2], &[7, 7, 3, 1]);
        assert!((same.ari - 1.0).abs() < 1e-12 && (same.nmi - 1.0).abs() < 1e-12);
        assert_eq!(agreement(&[0, 0], &[1, 1]), Agreement { ari: 1.0, nmi: 1.0 });
        let none = agreement(&[0, 0, 0, 0], &[0, 1, 0, 1]);
        assert_eq!((none.ari, none.nmi), (0.0, 0.0));
    }

    /// Over all pairs of cells, and over the table of shares.
    #[test]
    fn agreement_equals_a_second_computation() {
        let mut rng = Rng::new(4, 1);
        for _ in 0..20 {
            let n = 50;
            let a: Vec<u32> = (0..n).map(|_| rng.below(4) as u32).collect();
            let b: Vec<u32> = a.iter().map(|&x| if rng.below(3) == 0 { rng.below(5) as u32 } else { x }).collect();
            let g = agreement(&a, &b);
            let (mut t11, mut t10, mut t01, mut t00) = (0.0, 0.0, 0.0, 0.0);
            for i in 0..n {
                for j in 0..i {
                    match (a[i] == a[j], b[i] == b[j]) {
                        (true, true) => t11 += 1.0,
                        (true, false) => t10 += 1.0,
                        (false, true) => t01 += 1.0,
                        (false, false) => t00 += 1.0,
                    }
                }
            }
            let ari = 2.0 * (t11 * t00 - t10 * t01) / ((t11 + t10) * (t10 + t00) + (t11 + t01) * (t01 + t00));
            assert!((g.ari - ari).abs() < 1e-12, "{} {ari}", g.ari);
            let share = |f: &dyn Fn(usize) -> bool| (0..n).filter(|&i| f(i)).count() as f64 / n as f64;
            let (mut mutual, mut ha, mut hb) = (0.0, 0.0, 0.0);
            for x in 0..5 {
                let (pa, pb) = (share(&|i| a[i] == x), share(&|i| b[i] == x));
                ha -= if pa > 0.0 { pa * pa.ln() } else { 0.0 };
                hb -= if pb > 0.0 { pb * pb.ln() } else { 0.0 };
                for y in 0..5 {
                    let (p, q) = (share(&|i| a[i] == x && b[i] == y), share(&|i| b[i] == y));
                    mutual += if p > 0.0 { p * (p / (pa * q)).ln() } else { 0.0 };
                }
            }
            assert!((g.nmi - 2.0 * mutual / (ha + hb)).abs() < 1e-12, "{}", g.nmi);
        }
    }

    /// Of four points on a line the best two clusters are known; the sum is that of the assignment.
    #[test]
    fn the_best_start_is_kept() {
        let made = best_k_means(&[0.0, 1.0, 10.0, 12.0], 1, 2, 906).unwrap();
        assert!(made.of[0] == made.of[1] && made.of[2] == made.of[3] && made.of[0] != made.of[2]);
        assert!((made.inertia - (0.5 + 2.0)).abs() < 1e-12);
        let mut rng = Rng::new(2, 2);
        let points: Vec<f64> = (0..600).flat_map(|i| [f64::from(i % 6) * 4.0 + rng.normal(), rng.normal()]).collect();
        let best = best_k_means(&points, 2, 6, 906).unwrap();
        for s in 0..STARTS {
            assert!(best.inertia <= k_means(&points, 2, 6, &mut Rng::new(906, START + s)).inertia);
        }
        assert_eq!(best_k_means(&[1.0, 2.0], 1, 5, 906).unwrap().inertia, 0.0);
        assert!(best_k_means(&[], 2, 3, 906).is_none());
    }
}
