//! Comparison of a pass over a batch with a golden file, whatever computed it.

use std::collections::BTreeMap;

use sccrossrec::model::Decisions;
use sccrossrec::model::output::Output;
use sccrossrec::real::Real;

use super::golden::{self, Golden, error, f64s};

/// What a pass brought back.
pub struct Pass<T> {
    pub output: Output<T>,
    pub grads: Vec<T>,
    pub orders: Vec<[Vec<usize>; 2]>,
}

/// Attention as a map (sample, head, gene row, peak row) → weight, in golden's rows.
pub fn attention<T: Real>(p: &Pass<T>) -> BTreeMap<[usize; 4], f64> {
    let mut map = BTreeMap::new();
    for (i, (a, [genes, peaks])) in p.output.attention.iter().zip(&p.orders).enumerate() {
        for n in 0..a.weight.len() {
            let key = [i, usize::from(a.head[n]), genes[a.gene_row[n] as usize], peaks[a.peak_row[n] as usize]];
            assert!(map.insert(key, a.weight[n].f64()).is_none(), "a pair twice");
        }
    }
    map
}

/// Everything the file holds; `worst` keeps the largest error.
pub fn check<T: Real>(g: &Golden, p: &Pass<T>, tolerance: f64, worst: &mut f64) {
    let mut near = |what: &str, got: &[f64], want: &[f64]| {
        let e = error(got, want);
        *worst = worst.max(e);
        assert!(e <= tolerance, "{}: {what} is off by {e:.2e} of its largest magnitude", g.name);
    };
    let o = &p.output;
    near("loss", &[o.loss.f64()], &g.f64("out.loss"));
    near("match loss", &[o.match_loss.f64()], &g.f64("out.match_loss"));
    near("translation loss", &[o.translation_loss.f64()], &g.f64("out.translation_loss"));
    near("logits", &f64s(&o.logits), &g.f64("out.logits"));
    near("embedding", &f64s(&o.embedding), &g.f64("out.embedding"));
    let index = g.usize("out.attention_index");
    let weight = g.f64("out.attention_weight");
    let want: BTreeMap<[usize; 4], f64> =
        index.chunks_exact(4).zip(weight).map(|(k, w)| ([k[0], k[1], k[2], k[3]], w)).collect();
    let got = attention(p);
    assert!(got.keys().eq(want.keys()), "{}: other pairs pass ({} against {})", g.name, got.len(), want.len());
    let list = |m: &BTreeMap<[usize; 4], f64>| m.values().copied().collect::<Vec<f64>>();
    near("attention", &list(&got), &list(&want));
    let label = g.usize("data.label");
    for (i, &l) in label.iter().enumerate() {
        let got: Vec<f64> = o.translation[i].iter().map(|&x| f64::from(x)).collect();
        if l == 1 {
            assert_eq!(got, g.f64(&format!("out.translation.{i}")), "{}: translation of sample {i}", g.name);
        } else {
            assert!(got.is_empty() && !g.has(&format!("out.translation.{i}")));
        }
    }
    let model = g.model::<f64>();
    for e in model.params.layout().entries() {
        near(&format!("gradient of {}", e.name), &f64s(&p.grads[e.range.clone()]), &g.f64(&format!("grad.{}", e.name)));
    }
    // Node outputs are not in the files; their means are.
    let h = g.config().hidden;
    let mut means = Vec::new();
    for n in &o.nodes {
        for side in [&n.gene, &n.peak] {
            let rows = (side.len() / h) as f64;
            means.extend((0..h).map(|j| side.iter().skip(j).step_by(h).map(|x| x.f64()).sum::<f64>() / rows));
        }
    }
    if !o.nodes.is_empty() {
        near("mean of the node outputs", &means, &g.f64("out.embedding"));
    }
}

/// The files of single batches.
pub fn vectors() -> Vec<Golden> {
    golden::all().into_iter().filter(|g| g.has("out.loss")).collect()
}

/// Genes of f32 that chose otherwise than f64 (whose choices are the oracle's: `f64_equals_the_oracle`); each must hang on
/// a logit or a score within 1e-5 of its limit.
pub fn deciding(g: &Golden, a: &Decisions<f64>, b: &Decisions<f32>) -> usize {
    const NEAR: f64 = 1e-5;
    let model = g.model::<f64>();
    let all: Vec<usize> = (0..g.usize("data.label").len()).collect();
    let (batch, _) = g.batch(&model, &all);
    let reference = model.reference(&batch).unwrap();
    let c = g.config();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut differing = 0;
    for (i, (sa, sb)) in a.attend.iter().zip(&b.attend).enumerate() {
        let table = |rows: &[(u8, u32)], start: &[u32], peak: &[u32], kept: &[bool]| {
            let mut map: BTreeMap<(u8, u32), Vec<(u32, bool)>> = BTreeMap::new();
            for (r, &k) in rows.iter().enumerate() {
                let range = start[r] as usize..start[r + 1] as usize;
                let mut v: Vec<(u32, bool)> =
                    peak[range.clone()].iter().copied().zip(kept[range].iter().copied()).collect();
                v.sort_unstable();
                map.insert(k, v);
            }
            map
        };
        let ta = table(&sa.rows, &sa.start, &sa.peak, &sa.kept);
        let tb = table(&sb.rows, &sb.start, &sb.peak, &sb.kept);
        let keys: std::collections::BTreeSet<_> = ta.keys().chain(tb.keys()).copied().collect();
        for key in keys {
            if ta.get(&key) == tb.get(&key) {
                continue;
            }
            differing += 1;
            let row = key.1 as usize - batch.rna.indptr[i];
            let logits = reference.samples[i].logit[usize::from(key.0)].row(row).to_vec();
            let mut sorted = logits.clone();
            sorted.sort_by(|x, y| y.total_cmp(x));
            let threshold = logits.iter().any(|&l| (sigmoid(l) - c.tau).abs() <= NEAR);
            let place = sorted.len() > c.top_k && {
                let (last, next) = (sorted[c.top_k - 1], sorted[c.top_k]);
                (last - next).abs() <= NEAR * last.abs().max(1.0)
            };
            assert!(threshold || place, "{}: sample {i}, {key:?} chose otherwise, and nothing is near a limit", g.name);
        }
    }
    let positives: Vec<usize> = (0..batch.len()).filter(|&i| batch.label[i] == 1).collect();
    for (n, (&x, &y)) in a.translate.iter().zip(&b.translate).enumerate() {
        if x != y {
            differing += 1;
            let (row, gene) = (n / c.genes, n % c.genes);
            let logits = &reference.samples[positives[row / c.heads]].translation_logit[row % c.heads];
            let near = logits.row(gene).iter().any(|&l| (sigmoid(l) - c.tau).abs() <= NEAR);
            assert!(near, "{}: translation {row}, gene {gene} chose otherwise, and no score is near tau", g.name);
        }
    }
    differing
}
