//! `train --profile`: the table, and a trace that viewers of Chrome traces can read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::program::alone;
use sccrossrec::dataset::DataSet;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::simulate::{SimulateConfig, Simulation};
use serde_json::Value;

/// A prepared data set of so many simulated cells.
fn simulated(dir: &Path, cells: usize) -> PathBuf {
    let size = SimulateConfig { cells, genes: 120, peaks: 600, chromosomes: 4, ..Default::default() };
    let files = Simulation::new(size).unwrap().write(dir, &()).unwrap();
    let data = dir.join("data");
    prepare(&PrepareConfig::new(&files.rna, &files.atac), &data, &()).unwrap();
    data
}

#[test]
fn spans_account_for_the_steps() {
    let dir = tempfile::tempdir().unwrap();
    let data = simulated(dir.path(), 400);
    let run = dir.path().join("run");
    let program = |more: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sccrossrec"))
            .args(["train", "--recipe", "large-batch", "--device", "cpu", "--epochs", "2", "--json", "--data"])
            .arg(&data)
            .arg("--out")
            .arg(&run)
            .args(more)
            .output()
            .unwrap()
    };
    let out = program(&["--profile"]);
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{told}");
    assert!(told.contains("% ceiling") && told.contains("waiting for the loader"), "{told}");
    let result: Value = serde_json::from_slice(&out.stdout).unwrap();
    let rows = result["profile"]["rows"].as_array().unwrap();
    let sum = |op: &str, pass: &str, what: &str| -> f64 {
        rows.iter().filter(|r| r["op"] == op && r["pass"] == pass).map(|r| r[what].as_f64().unwrap()).sum()
    };
    let steps = result["steps"].as_f64().unwrap();
    assert_eq!(sum("step", "", "calls"), steps);
    // Two projections a step, queries and keys; in validation, forward only.
    assert_eq!(sum("project", "backward", "calls"), 2.0 * steps);
    assert!(sum("project", "forward", "calls") > 2.0 * steps);
    for op in ["project", "attend", "pool", "translate"] {
        for pass in ["forward", "backward"] {
            assert!(sum(op, pass, "seconds") > 0.0, "{op} {pass}");
            assert!(sum(op, pass, "flops") > 0.0 && sum(op, pass, "bytes") > 0.0, "{op} {pass}");
        }
    }
    // The optimiser passes over all parameters: four arenas read and written.
    let set = DataSet::open(&data).unwrap();
    let config = sccrossrec::train::recipe("large-batch").unwrap().model_for(&set);
    let parameters = sccrossrec::model::ParamLayout::new(&config).len() as f64;
    assert_eq!(sum("adam", "", "bytes"), 32.0 * parameters * steps);

    // The trace: spans of a thread nest, and those of the ops lie inside a step or the validation.
    let trace: Value = serde_json::from_slice(&std::fs::read(run.join("trace.json")).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut threads: HashMap<u64, Vec<(f64, f64, &str)>> = HashMap::new();
    for e in events {
        assert_eq!(e["ph"], "X");
        let (at, long) = (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap());
        assert!(at >= 0.0 && long >= 0.0);
        let thread = e["tid"].as_u64().unwrap();
        threads.entry(thread).or_default().push((at, at + long, e["name"].as_str().unwrap()));
    }
    assert!(threads.len() >= 2, "the loader has a thread of its own");
    let mut inside: f64 = 0.0;
    let mut in_steps = 0.0;
    for spans in threads.values_mut() {
        spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<(f64, f64, &str)> = Vec::new();
        for &span in spans.iter() {
            while open.last().is_some_and(|o| o.1 <= span.0 + 1e-3) {
                open.pop();
            }
            if let Some(outer) = open.last() {
                assert!(span.1 <= outer.1 + 1e-3, "{} ends after {}, in which it began", span.2, outer.2);
                if outer.2 == "step" {
                    inside += span.1 - span.0;
                }
            }
            if span.2 == "step" {
                in_steps += span.1 - span.0;
            }
            open.push(span);
        }
    }
    assert!(in_steps > 0.0 && inside > 0.5 * in_steps, "ops are {inside} of {in_steps} µs in steps");
    let of_rows: f64 = sum("step", "", "seconds") * 1e6 + inside;
    assert!((of_rows - in_steps).abs() < 0.02 * in_steps, "rows say {of_rows}, the trace {in_steps} µs");

    // Without the flag there is neither.
    let out = program(&["--force"]);
    assert!(out.status.success() && !run.join("trace.json").exists());
    let result: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(result["profile"].is_null());
}

#[test]
fn counted_flops_are_those_of_the_model() {
    use sccrossrec::model::Dropout;
    use sccrossrec::profile;

    // The recorder takes note of all that the process computes.
    if !alone(module_path!(), "counted_flops_are_those_of_the_model") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = simulated(dir.path(), 200);
    let data = DataSet::open(&path).unwrap();
    let set = data.samples("default").unwrap();
    let config = sccrossrec::train::recipe("large-batch").unwrap();
    let model = sccrossrec::model::Model::new(config.model_for(&data), data.features(), config.init(), 1).unwrap();
    let batch = data.batch(&set, &set.train[..48]);
    let counted = model.flops(&batch).unwrap();
    let mut grads = vec![0.0; model.params.layout().len()];
    let recording = profile::start();
    model.train_step(&batch, None::<Dropout>, &mut grads).unwrap();
    let p = recording.finish();
    let of =
        |op: &str, pass: &str| -> f64 { p.rows.iter().filter(|r| r.op == op && r.pass == pass).map(|r| r.flops).sum() };
    assert_eq!(of("project", "forward") + of("project", "backward"), counted.project);
    assert_eq!(of("translate", "forward"), counted.translate);
    assert_eq!(of("translate", "backward"), counted.translate_backward);
    assert!(counted.translate_backward > 0.0);
    // Members below the threshold take part in the backward pass, too; the model counts the kept ones.
    assert!(of("attend", "forward") + of("attend", "backward") >= counted.attend);
    assert!(p.ceiling.flops > 1e8 && p.ceiling.bytes > 1e8);
    assert!(!profile::is_on());
}
