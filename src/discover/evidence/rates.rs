//! False discovery rates: what is claimed of pairs, counted on pairs that are no links and were scored alike.

use super::law::falling;

/// q and local false discovery rate of `[n]` scores, beside `null` scores that count by their `weight`.
///
/// `q(s)` is the least over thresholds t ≤ s of (1 + null at or above t) / scores at or above t; all scores count as if none were
/// links, so it errs to the safe side. The local rate is null over scores near s, falling
/// with s, and no less than q.
pub fn rates(scores: &[f64], null: &[f64], weight: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut sorted: Vec<(f64, f64)> = null.iter().copied().zip(weight.iter().copied()).collect();
    sorted.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)));
    // Groups of equal scores, from the top: score, how many, and null from here up to the group above.
    let mut groups: Vec<(f64, f64, f64)> = Vec::new();
    let mut at = 0;
    for &i in &order {
        match groups.last_mut() {
            Some(g) if g.0 == scores[i] => g.1 += 1.0,
            _ => {
                let from = at;
                at += sorted[at..].partition_point(|x| x.0 >= scores[i]);
                groups.push((scores[i], 1.0, sorted[from..at].iter().map(|x| x.1).sum()));
            }
        }
    }
    let (mut found, mut false_ones) = (0.0, 1.0);
    let mut q: Vec<f64> = Vec::with_capacity(groups.len());
    for &(_, n, null) in &groups {
        found += n;
        false_ones += null;
        q.push(f64::min(false_ones / found, 1.0));
    }
    for i in (1..q.len()).rev() {
        q[i - 1] = q[i - 1].min(q[i]);
    }
    // Share of null among both, which rises downwards.
    let mut share: Vec<f64> = groups.iter().map(|g| -g.2 / (g.1 + g.2)).collect();
    let both: Vec<f64> = groups.iter().map(|g| g.1 + g.2).collect();
    falling(&mut share, &both);
    let local = |s: f64| if s <= -0.5 { 1.0 } else { (-s / (1.0 + s)).clamp(0.0, 1.0) };
    let (mut of_q, mut of_local) = (vec![1.0; scores.len()], vec![1.0; scores.len()]);
    let mut group = 0;
    for &i in &order {
        if groups[group].0 != scores[i] {
            group += 1;
        }
        of_q[i] = q[group];
        // What holds of all pairs above holds of these at least.
        of_local[i] = local(share[group]).max(q[group]);
    }
    (of_q, of_local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn rates_hold() {
        let mut rng = Rng::new(4, 2);
        let null: Vec<f64> = (0..60_000).map(|_| rng.normal()).collect();
        let links = 1_000;
        let scores: Vec<f64> = (0..20_000).map(|i| rng.normal() + if i < links { 3.5 } else { 0.0 }).collect();
        let (q, local) = rates(&scores, &null, &vec![1.0 / 3.0; null.len()]);
        for level in [0.05, 0.1, 0.2] {
            let called: Vec<usize> = (0..scores.len()).filter(|&i| q[i] <= level).collect();
            let wrong = called.iter().filter(|&&i| i >= links).count() as f64 / called.len() as f64;
            assert!(called.len() > 300 && wrong < 1.3 * level, "{level}: {wrong} of {}", called.len());
            let near: Vec<usize> = (0..scores.len()).filter(|&i| local[i] <= level).collect();
            let wrong = near.iter().filter(|&&i| i >= links).count() as f64 / near.len() as f64;
            assert!(near.len() > 200 && wrong < level, "{level}: {wrong} of {}", near.len());
        }
        let (q, _) = rates(&null[..20_000], &null[20_000..], &[0.5; 40_000]);
        assert!(q.iter().all(|&q| q > 0.1));
    }

    #[test]
    fn few_pairs_claim_nothing() {
        let (q, _) = rates(&[9.0, 8.0, 7.0], &[0.0; 100], &[0.05; 100]);
        assert_eq!(q, [1.0 / 3.0; 3]);
    }
}
