//! Every golden file, in f64 and f32: loss, logits, embedding, attention, translation, every gradient, thirty Adam steps.
//! Tolerances and the rule for decisions are those of `tests/golden/README.md`.

#[path = "common/golden.rs"]
mod golden;

use std::collections::BTreeMap;

use golden::{Golden, error, f64s};
use sccrossrec::model::{Decisions, Output, Run, Want};
use sccrossrec::ops::adam::{self, AdamConfig};
use sccrossrec::real::Real;

const WANT: Want = Want { attention: true, translation: true, counts: false, nodes: true, decisions: true };

struct Pass<T> {
    output: Output<T>,
    grads: Vec<T>,
    orders: Vec<[Vec<usize>; 2]>,
}

fn pass<T: Real>(g: &Golden, given: Option<&Decisions<T>>) -> Pass<T> {
    let model = g.model::<T>();
    let all: Vec<usize> = (0..g.usize("data.label").len()).collect();
    let (batch, orders) = g.batch(&model, &all);
    let mut grads = vec![T::of(0.0); model.params.layout().len()];
    let output = model.run(&batch, Run { grads: Some(&mut grads), want: WANT, given, ..Run::default() }).unwrap();
    Pass { output, grads, orders }
}

/// Attention as a map (sample, head, gene row, peak row) → weight, in golden's rows.
fn attention<T: Real>(p: &Pass<T>) -> BTreeMap<[usize; 4], f64> {
    let mut map = BTreeMap::new();
    for (i, (a, [genes, peaks])) in p.output.attention.iter().zip(&p.orders).enumerate() {
        for n in 0..a.weight.len() {
            let key = [i, usize::from(a.head[n]), genes[a.gene_row[n] as usize], peaks[a.peak_row[n] as usize]];
            assert!(map.insert(key, a.weight[n].f64()).is_none(), "a pair twice");
        }
    }
    map
}

fn check<T: Real>(g: &Golden, p: &Pass<T>, tolerance: f64, worst: &mut f64) {
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
    near("mean of the node outputs", &means, &g.f64("out.embedding"));
}

fn vectors() -> Vec<Golden> {
    golden::all().into_iter().filter(|g| g.has("out.loss")).collect()
}

#[test]
fn f64_equals_the_oracle() {
    for g in vectors() {
        let mut worst = 0.0;
        check(&g, &pass::<f64>(&g, None), 1e-9, &mut worst);
        println!("{:<22} f64 worst {worst:.1e}", g.name);
    }
}

/// Genes of f32 that chose otherwise than f64 (whose choices are the oracle's: `f64_equals_the_oracle`); each must hang on
/// a logit or a score within 1e-5 of its limit.
fn deciding(g: &Golden, a: &Decisions<f64>, b: &Decisions<f32>) -> usize {
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

#[test]
fn f32_equals_the_oracle() {
    for g in vectors() {
        let own = pass::<f32>(&g, None);
        let oracle = pass::<f64>(&g, None).output.decisions.unwrap();
        let differing = deciding(&g, &oracle, own.output.decisions.as_ref().unwrap());
        let mut worst = 0.0;
        let p = if differing == 0 { own } else { pass::<f32>(&g, Some(&oracle.cast())) };
        check(&g, &p, 1e-4, &mut worst);
        println!("{:<22} f32 worst {worst:.1e}, decisions that differ: {differing}", g.name);
    }
}

/// Following one's own choices changes nothing: the injected path computes what the choosing path does.
#[test]
fn following_own_decisions_changes_nothing() {
    for g in vectors() {
        let own = pass::<f64>(&g, None);
        let again = pass::<f64>(&g, own.output.decisions.as_ref());
        assert!(error(&again.grads, &own.grads) < 1e-12, "{}", g.name);
        assert_eq!(attention(&again).keys().collect::<Vec<_>>(), attention(&own).keys().collect::<Vec<_>>());
    }
}

#[test]
fn reference_path_equals_the_oracle() {
    for g in vectors() {
        let model = g.model::<f64>();
        let all: Vec<usize> = (0..g.usize("data.label").len()).collect();
        let (batch, _) = g.batch(&model, &all);
        let r = model.reference(&batch).unwrap();
        assert!(error(&[r.loss], &g.f64("out.loss")) < 1e-9, "{}: loss", g.name);
        for e in model.params.layout().entries() {
            let off = error(&r.grads[e.range.clone()], &g.f64(&format!("grad.{}", e.name)));
            assert!(off < 1e-9, "{}: gradient of {} off by {off:.1e}", g.name, e.name);
        }
    }
}

fn thirty_steps<T: Real>(g: &Golden) -> (Vec<f64>, Vec<(String, f64)>) {
    let mut model = g.model::<T>();
    let size = g.shape("data.batches")[1];
    let n = model.params.layout().len();
    let zero = || vec![T::of(0.0); n];
    let (mut grads, mut m, mut v) = (zero(), zero(), zero());
    let number = |k: &str| g.config[k].as_f64().unwrap();
    let c = AdamConfig {
        lr: number("lr"),
        beta1: number("beta1"),
        beta2: number("beta2"),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
    };
    let mut losses = Vec::new();
    for (step, which) in g.usize("data.batches").chunks_exact(size).enumerate() {
        let (batch, _) = g.batch(&model, which);
        losses.push(model.train_step(&batch, None, &mut grads).unwrap().loss.f64());
        adam::step(model.params.as_mut_slice(), &mut grads, &mut m, &mut v, &c, step as u64 + 1);
    }
    let entries = model.params.layout().entries().to_vec();
    let off = entries.iter().map(|e| {
        let got = f64s(&model.params.as_slice()[e.range.clone()]);
        (e.name.clone(), error(&got, &g.f64(&format!("final.{}", e.name))))
    });
    (losses, off.collect())
}

fn adam_runs<T: Real>(loss: f64, param: f64) {
    let runs: Vec<Golden> = golden::all().into_iter().filter(|g| g.has("out.losses")).collect();
    if std::env::var_os("SCCROSSREC_GOLDEN").is_none() {
        assert_eq!(runs.len(), 2);
    }
    for g in runs {
        let (losses, params) = thirty_steps::<T>(&g);
        let off = error(&losses, &g.f64("out.losses"));
        assert!(off <= loss, "{}: losses off by {off:.1e}", g.name);
        for (name, e) in &params {
            assert!(*e <= param, "{}: {name} off by {e:.1e} after 30 steps", g.name);
        }
        let worst = params.iter().fold(0.0f64, |m, p| m.max(p.1));
        println!("{:<22} losses {off:.1e}, parameters {worst:.1e}", g.name);
    }
}

#[test]
fn thirty_adam_steps_f64() {
    adam_runs::<f64>(1e-9, 1e-9);
}

#[test]
fn thirty_adam_steps_f32() {
    adam_runs::<f32>(1e-4, 1e-3);
}

/// The kernels of lesser instruction sets give the same numbers: the f32 comparison again, in processes of their own.
#[test]
fn f32_on_lesser_instruction_sets() {
    for isa in ["scalar", "avx2"] {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "f32_equals_the_oracle", "--quiet"])
            .env("SCCROSSREC_ISA", isa)
            .status()
            .unwrap();
        assert!(status.success(), "SCCROSSREC_ISA={isa}");
    }
}
