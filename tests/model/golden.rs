//! Every golden file, in f64 and f32: loss, logits, embedding, attention, translation, every gradient, thirty Adam steps.
//! Tolerances and the rule for decisions are those of `tests/golden/README.md`.

use crate::common::compare::{Pass, attention, check, deciding, vectors};
use crate::common::golden::{self, Golden, error, f64s};
use crate::common::program::{one_test, passed};
use sccrossrec::engine::PassOptions;
use sccrossrec::model::Decisions;
use sccrossrec::model::output::Want;
use sccrossrec::ops::adam;
use sccrossrec::ops::adam::AdamConfig;
use sccrossrec::real::Real;

const WANT: Want = Want { attention: true, translation: true, counts: false, nodes: true, decisions: true, cis: false };

fn pass<T: Real>(g: &Golden, given: Option<&Decisions<T>>) -> Pass<T> {
    let model = g.model::<T>();
    let all: Vec<usize> = (0..g.usize("data.label").len()).collect();
    let (batch, orders) = g.batch(&model, &all);
    let mut grads = vec![T::of(0.0); model.params.layout().len()];
    let output = model
        .run(&batch, PassOptions { grads: Some(&mut grads), want: WANT, given, ..PassOptions::default() })
        .unwrap();
    Pass { output, grads, orders }
}

#[test]
fn f64_equals_the_oracle() {
    for g in vectors() {
        let mut worst = 0.0;
        check(&g, &pass::<f64>(&g, None), 1e-9, &mut worst);
        println!("{:<22} f64 worst {worst:.1e}", g.name);
    }
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
    for isa in ["scalar", "avx2", "avx512"] {
        passed(one_test(module_path!(), "f32_equals_the_oracle").env("SCCROSSREC_ISA", isa));
    }
}
