//! The normal law, monotone least squares, q and classes.

use libm::erfc;

/// Upper tail of the standard normal law, `P(Z > z)`.
pub fn upper_tail(z: f64) -> f64 {
    0.5 * erfc(z * std::f64::consts::FRAC_1_SQRT_2)
}

/// ln Φ(x), the lower tail of the standard normal law, and φ(x) / Φ(x).
pub fn lower_tail(x: f64) -> (f64, f64) {
    let density = -0.5 * x * x - 0.5 * std::f64::consts::TAU.ln();
    // Far out by Mills' ratio, 1 / (|x| + 1 / (|x| + 2 / |x|)).
    let tail = if x > -20.0 { upper_tail(-x).ln() } else { density - (-x + 1.0 / (-x - 2.0 / x)).ln() };
    (tail, (density - tail).exp())
}

/// The z whose upper tail under the standard normal law is `p`, to 1e-12; ±38 beyond what an f64 holds.
///
/// By Newton's steps on the logarithm of the tail, from the tail's leading term.
pub fn upper_quantile(p: f64) -> f64 {
    if p.is_nan() {
        return f64::NAN;
    }
    if p > 0.5 {
        return -upper_quantile(1.0 - p);
    }
    if p < 1e-300 {
        return 38.0;
    }
    let aim = p.ln();
    let mut z = (-2.0 * (2.0 * p).ln()).max(0.0).sqrt();
    for _ in 0..60 {
        let tail = upper_tail(z).max(f64::MIN_POSITIVE);
        let density = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt();
        let step = (tail.ln() - aim) * tail / density;
        z = (z + step.clamp(-2.0, 2.0)).clamp(0.0, 38.0);
        if step.abs() < 1e-13 {
            break;
        }
    }
    z
}

/// Replaces `values`, `[n]`, by the falling sequence that is nearest by least squares with these weights (pool adjacent
/// violators).
pub fn falling(values: &mut [f64], weights: &[f64]) {
    // (sum of weight × value, weight, how many)
    let mut pools: Vec<(f64, f64, usize)> = Vec::with_capacity(values.len());
    for (&x, &w) in values.iter().zip(weights) {
        let w = w.max(1e-12);
        pools.push((x * w, w, 1));
        while let [.., a, b] = pools[..] {
            if a.0 / a.1 >= b.0 / b.1 {
                break;
            }
            pools.truncate(pools.len() - 2);
            pools.push((a.0 + b.0, a.1 + b.1, a.2 + b.2));
        }
    }
    let mut at = 0;
    for (sum, weight, n) in pools {
        values[at..at + n].fill(sum / weight);
        at += n;
    }
}

/// As [`falling`], rising.
pub fn rising(values: &mut [f64], weights: &[f64]) {
    values.iter_mut().for_each(|x| *x = -*x);
    falling(values, weights);
    values.iter_mut().for_each(|x| *x = -*x);
}

/// Class of each value among `classes` of about equal size, from 0; equal values share one.
pub fn quantile_classes(values: &[f64], classes: usize) -> Vec<u16> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let class = |x: &f64| (sorted.partition_point(|s| s < x) * classes / sorted.len().max(1)) as u16;
    values.iter().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_undo_tails() {
        for z in [-6.0, -1.0, 0.0, 0.3, 1.96, 5.0, 9.0, 20.0] {
            assert!((upper_quantile(upper_tail(z)) - z).abs() < 1e-8, "{z}");
        }
        assert!((upper_tail(1.959_963_984_540_054) - 0.025).abs() < 1e-12);
        assert_eq!((upper_quantile(0.0), upper_quantile(1.0)), (38.0, -38.0));
    }

    #[test]
    fn lower_tails_go_on_far_out() {
        for (x, want) in [(0.0, 0.5f64.ln()), (-5.0, -15.064_998_393_988_727), (-30.0, -454.321_243_956_114_3)] {
            assert!((lower_tail(x).0 - want).abs() < 1e-6, "{x}: {:?}", lower_tail(x));
        }
        let all: Vec<f64> = (0..800).map(|i| lower_tail(-40.0 + 0.1 * f64::from(i)).0).collect();
        assert!(all.is_sorted() && (lower_tail(-30.0).1 - 30.033).abs() < 1e-2);
    }

    #[test]
    fn sequences_fall() {
        let mut x = [1.0, 3.0, 2.0, 0.0, 0.5];
        falling(&mut x, &[1.0, 1.0, 1.0, 1.0, 3.0]);
        assert_eq!(x, [2.0, 2.0, 2.0, 0.375, 0.375]);
        let mut y = [2.0, 1.0, 3.0];
        rising(&mut y, &[1.0; 3]);
        assert_eq!(y, [1.5, 1.5, 3.0]);
    }

    #[test]
    fn classes_are_even_and_share_ties() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let of = quantile_classes(&values, 5);
        assert_eq!((0..5).map(|k| of.iter().filter(|&&c| c == k).count()).collect::<Vec<_>>(), [20; 5]);
        assert_eq!(quantile_classes(&[1.0, 1.0, 1.0, 2.0], 2), [0, 0, 0, 1]);
    }
}
