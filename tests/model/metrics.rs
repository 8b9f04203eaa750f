//! Metrics against numbers worked out by hand and against plain brute force.

use proptest::prelude::*;
use sccrossrec::evaluate::{
    BitRows, MatchingTally, Ranking, Translation, TranslationMetrics, foscttm, majority_baseline, ranking,
};

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => (a - b).abs() <= 1e-12,
        _ => false,
    }
}

/// Rank-sum form of the AUROC, ranks averaged over ties by counting.
fn brute_auroc(s: &[f64], y: &[u8]) -> Option<f64> {
    let np = y.iter().filter(|&&l| l == 1).count() as f64;
    let nn = y.len() as f64 - np;
    let rank = |x: f64| {
        let below = s.iter().filter(|&&v| v < x).count() as f64;
        let same = s.iter().filter(|&&v| v == x).count() as f64;
        below + (same + 1.0) / 2.0
    };
    let sum: f64 = s.iter().zip(y).filter(|&(_, &l)| l == 1).map(|(&x, _)| rank(x)).sum();
    (np > 0.0 && nn > 0.0).then(|| (sum - np * (np + 1.0) / 2.0) / (np * nn))
}

/// Sum over distinct thresholds of (recall gained) × (precision there).
fn brute_auprc(s: &[f64], y: &[u8]) -> Option<f64> {
    let np = y.iter().filter(|&&l| l == 1).count() as f64;
    let mut cuts = s.to_vec();
    cuts.sort_by(|a, b| b.total_cmp(a));
    cuts.dedup();
    let (mut last, mut ap) = (0.0, 0.0);
    for c in cuts {
        let taken = s.iter().filter(|&&v| v >= c).count() as f64;
        let hit = s.iter().zip(y).filter(|&(&v, &l)| v >= c && l == 1).count() as f64;
        ap += (hit / np - last) * (hit / taken);
        last = hit / np;
    }
    (np > 0.0).then_some(ap)
}

#[test]
fn ranking_by_hand() {
    // Descending: 1 (0.9), 0 (0.8), 1 and 0 tied (0.5), 0 (0.1).
    let (s, y) = ([0.9, 0.8, 0.5, 0.5, 0.1], [1, 0, 1, 0, 0]);
    let m = ranking(&s, &y);
    // Pairs: 0.9 beats all three; 0.5 loses to 0.8, ties with 0.5, beats 0.1: (3 + 1.5) / 6.
    assert_eq!(m.auroc, Some(0.75));
    // At 0.9: 1/2 × 1; at 0.5: 1/2 × 2/4.
    assert_eq!(m.auprc, Some(0.75));
    assert_eq!((m.positives, m.negatives), (2, 3));
    assert_eq!(m.chance(), Some(0.4));
    assert_eq!(m.lift(), Some(0.75 / 0.4));
}

#[test]
fn ranking_extremes() {
    assert_eq!(ranking(&[1.0, 2.0], &[1, 1]).auroc, None);
    assert_eq!(ranking(&[1.0, 2.0], &[1, 1]).auprc, Some(1.0));
    assert_eq!(ranking(&[1.0, 2.0], &[0, 0]).auprc, None);
    let all_tied = ranking(&[3.0; 8], &[1, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!((all_tied.auroc, all_tied.auprc), (Some(0.5), Some(0.25)));
    let zeros = ranking(&[0.0, -0.0], &[1, 0]);
    assert_eq!(zeros.auroc, Some(0.5), "-0 and 0 are one score");
    let nan = ranking(&[f64::NAN, 1.0, -5.0], &[1, 0, 0]);
    assert_eq!(nan.auroc, Some(0.0), "NaN ranks last");
}

proptest! {
    #[test]
    fn ranking_equals_brute_force(items in prop::collection::vec((0u8..12, 0u8..2), 1..80)) {
        let s: Vec<f64> = items.iter().map(|x| f64::from(x.0) / 4.0 - 1.0).collect();
        let y: Vec<u8> = items.iter().map(|x| x.1).collect();
        let m = ranking(&s, &y);
        prop_assert!(close(m.auroc, brute_auroc(&s, &y)), "{:?} {:?}", m.auroc, brute_auroc(&s, &y));
        prop_assert!(close(m.auprc, brute_auprc(&s, &y)), "{:?} {:?}", m.auprc, brute_auprc(&s, &y));

        // Streamed in two parts, all items counted as negatives and the positives taken out again.
        let positives = || s.iter().zip(&y).filter(|&(_, &l)| l == 1).map(|(&s, _)| s);
        let mut whole = Ranking::new(positives().collect());
        let (mut a, mut b) = (whole.fork(), whole.fork());
        for (i, &x) in s.iter().enumerate() {
            if i % 3 == 0 { a.add_negative(x) } else { b.add_negatives(x, 1) }
        }
        whole.merge(&b);
        whole.merge(&a);
        positives().for_each(|x| whole.remove_negative(x));
        prop_assert_eq!(whole.finish(), m);
    }

    #[test]
    fn translation_equals_brute_force(
        cells in prop::collection::vec(prop::collection::vec((0u8..2, 0u8..4), 9), 1..12)
    ) {
        let n = (cells.len() * 9) as f64;
        let mut t = Translation::new(9);
        let (mut p_bits, mut t_bits) = (BitRows::new(9), BitRows::new(9));
        let (mut sq, mut ab, mut sq_e, mut ab_e) = (0.0, 0.0, 0.0, 0.0);
        let (mut tp, mut fp, mut fneg) = (0.0, 0.0, 0.0);
        let mut r = vec![];
        for cell in &cells {
            let entries: Vec<(u32, f32)> =
                cell.iter().enumerate().filter(|(_, c)| c.1 > 0).map(|(g, c)| (g as u32, f32::from(c.1) * 0.5)).collect();
            let index: Vec<u32> = entries.iter().map(|e| e.0).collect();
            t.add_cell(|g| f64::from(cell[g].0), &index, |i| entries[i].1);
            p_bits.push((0..9).filter(|&g| cell[g].0 == 1)).unwrap();
            t_bits.push(index.iter().map(|&g| g as usize)).unwrap();
            for c in cell {
                let (p, on, e) = (f64::from(c.0), f64::from(u8::from(c.1 > 0)), f64::from(c.1) * 0.5);
                sq += (p - on).powi(2);
                ab += (p - on).abs();
                sq_e += (p - e).powi(2);
                ab_e += (p - e).abs();
                tp += p * on;
                fp += p * (1.0 - on);
                fneg += (1.0 - p) * on;
            }
            // Two-pass Pearson.
            let x: Vec<f64> = cell.iter().map(|c| f64::from(c.0)).collect();
            let y: Vec<f64> = cell.iter().map(|c| f64::from(u8::from(c.1 > 0))).collect();
            let (mx, my) = (x.iter().sum::<f64>() / 9.0, y.iter().sum::<f64>() / 9.0);
            let cov: f64 = x.iter().zip(&y).map(|(a, b)| (a - mx) * (b - my)).sum();
            let (vx, vy): (f64, f64) =
                (x.iter().map(|a| (a - mx).powi(2)).sum(), y.iter().map(|b| (b - my).powi(2)).sum());
            if vx > 1e-9 && vy > 1e-9 {
                r.push(cov / (vx * vy).sqrt());
            }
        }
        let m = t.finish();
        prop_assert!(close(m.rmse, Some((sq / n).sqrt())));
        prop_assert!(close(m.mae, Some(ab / n)));
        prop_assert!(close(m.rmse_expression, Some((sq_e / n).sqrt())));
        prop_assert!(close(m.mae_expression, Some(ab_e / n)));
        prop_assert!(close(m.precision, (tp + fp > 0.0).then_some(tp / (tp + fp))));
        prop_assert!(close(m.recall, (tp + fneg > 0.0).then_some(tp / (tp + fneg))));
        prop_assert!(close(m.f1, (tp + fp + fneg > 0.0).then_some(2.0 * tp / (2.0 * tp + fp + fneg))));
        prop_assert!(close(m.pearson, (!r.is_empty()).then(|| r.iter().sum::<f64>() / r.len() as f64)));
        prop_assert_eq!(m.pearson_undefined, (cells.len() - r.len()) as u64);

        // FOSCTTM by its formula, on real vectors.
        let distance = |i: usize, j: usize| {
            (0..9)
                .map(|g| (f64::from(u8::from(cells[i][g].1 > 0)) - f64::from(cells[j][g].0)).powi(2))
                .sum::<f64>()
                .sqrt()
        };
        let k = cells.len();
        let expected = (k >= 2).then(|| {
            let of = |i: usize| (0..k).filter(|&j| distance(i, j) < distance(i, i)).count() as f64 / (k - 1) as f64;
            (0..k).map(of).sum::<f64>() / k as f64
        });
        prop_assert!(close(foscttm(&p_bits, &t_bits).map(|f| f.0), expected));
    }
}

#[test]
fn matching_by_hand() {
    let mut m = MatchingTally::new();
    // label, logits: hit, miss, hit, and a tie, which is class 0.
    for (label, logits) in [(1, [0.0, 2.0]), (1, [1.0, 0.5]), (0, [3.0, -1.0]), (0, [0.25, 0.25])] {
        m.add_logits(label, logits);
    }
    let m = m.finish();
    assert_eq!((m.samples, m.positives), (4, 2));
    assert_eq!(m.accuracy, Some(0.75));
    assert_eq!((m.precision_0, m.recall_0), (Some(2.0 / 3.0), Some(1.0)));
    assert_eq!((m.precision_1, m.recall_1), (Some(1.0), Some(0.5)));
    // Scores 2, -0.5 | -4, 0: three of four pairs in order; AP = (1 + 2/3) / 2.
    assert_eq!(m.auroc, Some(0.75));
    assert!(close(m.auprc, Some(5.0 / 6.0)));
}

#[test]
fn undefined_is_null() {
    let m = majority_baseline([1, 1, 0], 1);
    assert_eq!((m.precision_0, m.recall_0), (None, Some(0.0)));
    assert!(close(m.precision_1, Some(2.0 / 3.0)));
    assert_eq!((m.auroc, m.recall_1), (Some(0.5), Some(1.0)));
    let json = serde_json::to_value(m).unwrap();
    assert!(json["precision_0"].is_null());
    assert_eq!(majority_baseline([], 0).accuracy, None);
    let t = Translation::new(5).finish();
    assert_eq!((t.rmse, t.f1, t.pearson), (None, None, None));
}

#[test]
fn heads_are_averaged() {
    let a = TranslationMetrics { cells: 3, rmse: Some(0.2), f1: None, pearson_undefined: 1, ..Default::default() };
    let b = TranslationMetrics { cells: 3, rmse: Some(0.4), f1: Some(0.5), pearson_undefined: 2, ..Default::default() };
    let m = TranslationMetrics::mean(&[a, b]);
    assert!(close(m.rmse, Some(0.3)));
    assert_eq!((m.f1, m.cells, m.pearson_undefined, m.mae), (Some(0.5), 3, 2, None));
}

#[test]
fn foscttm_by_hand() {
    // Truths 1100, 0011; predictions swapped: each cell has the other one closer.
    let rows = |rows: &[&[usize]]| {
        let mut b = BitRows::new(70);
        rows.iter().for_each(|r| b.push(r.iter().copied()).unwrap());
        b
    };
    let t = rows(&[&[0, 69], &[2, 3]]);
    assert_eq!(foscttm(&rows(&[&[2, 3], &[0, 69]]), &t), Some((1.0, 0.0)));
    assert_eq!(foscttm(&t.clone(), &t), Some((0.0, 0.0)));
    assert_eq!(foscttm(&rows(&[&[], &[]]), &t), Some((0.0, 1.0)));
    assert_eq!(foscttm(&rows(&[&[]]), &rows(&[&[1]])), None);
    assert!(BitRows::new(3).push([3]).is_err());
}
