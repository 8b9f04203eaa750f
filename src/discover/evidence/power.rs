//! How well a pair's data would show a link: λ, which rises with what is known of its gene and of its peak.

use super::bins::EVIDENCE_BINS;
use super::law::{falling, quantile_classes, rising};

/// Classes of genes and of peaks.
const CLASSES: usize = 10;
/// Rounds of alternating least squares.
const ROUNDS: usize = 20;
/// Least power of a class.
const FLOOR: f64 = 0.02;

/// Power of classes of genes and of peaks: λ = b(gene) c(peak), with mean squares of 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Power {
    /// `[G]` and `[P]`.
    pub of: [Vec<f32>; 2],
}

impl Power {
    /// The same of all.
    pub fn flat(genes: usize, peaks: usize) -> Self {
        Power { of: [vec![1.0; genes], vec![1.0; peaks]] }
    }

    /// Fitted: z = a(distance bin) b(class of gene) c(class of peak), b and c rising with `by` `[G]` and `[P]`, to
    /// `pairs` (gene, peak, bin, z).
    pub fn fit(by: [&[f64]; 2], pairs: &[(u32, u32, usize, f64)]) -> Self {
        let class = |side: usize| {
            // Classes of equal numbers of pairs.
            let of = |p: &(u32, u32, usize, f64)| by[side][if side == 0 { p.0 } else { p.1 } as usize];
            let values: Vec<f64> = pairs.iter().map(of).collect();
            let classes = quantile_classes(&values, CLASSES);
            let mut sorted = values;
            sorted.sort_unstable_by(f64::total_cmp);
            let of_item =
                |x: &f64| (sorted.partition_point(|s| s < x) * CLASSES / sorted.len().max(1)).min(CLASSES - 1);
            (classes, by[side].iter().map(of_item).collect::<Vec<usize>>())
        };
        let ((genes, gene), (peaks, peak)) = (class(0), class(1));
        let mut near = [1.0; EVIDENCE_BINS];
        let mut power = [[1.0; CLASSES]; 2];
        for _ in 0..ROUNDS {
            let fitted = |near: &[f64; EVIDENCE_BINS], power: &[[f64; CLASSES]; 2], which: usize| {
                let (mut up, mut down) = (vec![0.0; EVIDENCE_BINS.max(CLASSES)], vec![0.0; EVIDENCE_BINS.max(CLASSES)]);
                for (i, &(_, _, bin, z)) in pairs.iter().enumerate() {
                    let (g, p) = (usize::from(genes[i]), usize::from(peaks[i]));
                    let (at, x) = match which {
                        0 => (bin, power[0][g] * power[1][p]),
                        1 => (g, near[bin] * power[1][p]),
                        _ => (p, near[bin] * power[0][g]),
                    };
                    up[at] += z * x;
                    down[at] += x * x;
                }
                let values: Vec<f64> = up.iter().zip(&down).map(|(u, d)| u / d.max(1e-9)).collect();
                (values, down)
            };
            let (mut values, weights) = fitted(&near, &power, 0);
            falling(&mut values[..EVIDENCE_BINS - 1], &weights[..EVIDENCE_BINS - 1]);
            near.iter_mut().zip(values).for_each(|(n, v)| *n = v.max(0.0));
            if near.iter().all(|n| *n == 0.0) {
                return Power::flat(by[0].len(), by[1].len());
            }
            for side in 0..2 {
                let (mut values, weights) = fitted(&near, &power, side + 1);
                rising(&mut values[..CLASSES], &weights[..CLASSES]);
                power[side].iter_mut().zip(values).for_each(|(p, v)| *p = v.max(FLOOR));
                let of = if side == 0 { &genes } else { &peaks };
                let square = of.iter().map(|&c| power[side][usize::from(c)].powi(2)).sum::<f64>() / of.len() as f64;
                power[side].iter_mut().for_each(|p| *p = (*p / square.sqrt()).max(FLOOR));
            }
        }
        let spread = |side: usize, of: Vec<usize>| of.into_iter().map(|c| power[side][c] as f32).collect();
        Power { of: [spread(0, gene), spread(1, peak)] }
    }

    /// λ of a pair.
    pub fn pair(&self, gene: u32, peak: u32) -> f64 {
        f64::from(self.of[0][gene as usize]) * f64::from(self.of[1][peak as usize])
    }
}
