//! Ranked partners against brute force.

use std::path::Path;

use assert_cmd::Command;
use sccrossrec::dataset::DataSet;
use sccrossrec::model::output::Want;
use sccrossrec::model::{Batch, Model, ModelConfig};
use sccrossrec::predict::partners::{MatchOptions, Matches, Partner, Query, rank};
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::simulate::{SimulateConfig, Simulation};
use sccrossrec::train::{Checkpoint, Run, Schedule, TrainConfig, recipe, train};

const CELLS: usize = 150;

fn trained(dir: &Path) -> (DataSet, Model<f32>) {
    let small =
        SimulateConfig { cells: CELLS, genes: 40, peaks: 160, chromosomes: 3, cell_types: 3, ..Default::default() };
    let files = Simulation::new(small).unwrap().write(dir, &()).unwrap();
    prepare(&PrepareConfig::new(&files.rna, &files.atac), &dir.join("data"), &()).unwrap();
    let data = DataSet::open(&dir.join("data")).unwrap();
    let set = data.samples("default").unwrap();
    // 1e-3 whatever the batch size.
    let schedule = Schedule::default();
    let base = recipe("large-batch").unwrap();
    let model = ModelConfig { hidden: 16, embedding_dim: 8, ..base.model };
    let config = TrainConfig { epochs: 12, batch_size: 16, model, schedule, ..base };
    train(&data, &set, &config, &dir.join("run"), &mut ()).unwrap();
    let model = Run::open(&dir.join("run")).unwrap().model(&data, Checkpoint::Last).unwrap();
    (data, model)
}

/// Logit of label 1 less that of label 0 of every pair, `[rna][atac]`, one pair a pass.
fn brute(model: &Model<f32>, data: &DataSet) -> Vec<Vec<f32>> {
    let n = data.n_cells() as u32;
    (0..n)
        .map(|r| {
            let pairs: Vec<(u32, u32)> = (0..n).map(|a| (r, a)).collect();
            let out = model.forward(&data.batch_of_pairs(&pairs), Want::default()).unwrap();
            out.logits.chunks(2).map(|l| l[1] - l[0]).collect()
        })
        .collect()
}

fn found(model: &Model<f32>, data: &DataSet, options: MatchOptions) -> Matches {
    rank(model, data, data, &options, &()).unwrap()
}

#[test]
fn exact_is_brute_force_and_candidates_are_its_best() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model) = trained(dir.path());
    let scores = brute(&model, &data);
    let n = data.n_cells();
    for query in [Query::Rna, Query::Atac] {
        let score = |i: usize, j: usize| if query == Query::Rna { scores[i][j] } else { scores[j][i] };
        let exact = found(&model, &data, MatchOptions { query, exact: true, top: n, ..MatchOptions::default() });
        assert_eq!((exact.scored, exact.exact), ((n * n) as u64, true));
        for (i, partners) in exact.partners.iter().enumerate() {
            assert_eq!(partners.len(), n);
            assert!(partners.is_sorted_by(|a, b| a.logit >= b.logit));
            for p in partners {
                assert!((p.logit - score(i, p.cell as usize)).abs() < 1e-4, "{query:?}");
                assert!((p.probability - 1.0 / (1.0 + (-p.logit).exp())).abs() < 1e-6);
            }
        }
        // Metrics by hand.
        let m = exact.metrics.unwrap();
        let place = |i: usize| (0..n).filter(|&j| score(i, j) > score(i, i) + 1e-4).count();
        let loose = |i: usize| (0..n).filter(|&j| score(i, j) > score(i, i) - 1e-4).count() - 1;
        let between = |x: f64, lo: &dyn Fn(usize) -> f64, hi: &dyn Fn(usize) -> f64| {
            let mean = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
            assert!(x >= mean(lo) - 1e-9 && x <= mean(hi) + 1e-9, "{x} {} {}", mean(lo), mean(hi));
        };
        let first = |k: usize| move |r: usize| if r < k { 1.0 } else { 0.0 };
        between(m.top1[0], &|i| first(1)(loose(i)), &|i| first(1)(place(i)));
        between(m.top5[0], &|i| first(5)(loose(i)), &|i| first(5)(place(i)));
        let share = n as f64 - 1.0;
        between(m.foscttm.unwrap(), &|i| place(i) as f64 / share, &|i| loose(i) as f64 / share);
        assert_eq!((m.known, m.targets, m.candidates), (n as u64, n as u64, 1.0));
        assert!((m.top5[1] - 5.0 / n as f64).abs() < 1e-12);
        let p = |i: usize, j: usize| 1.0 / (1.0 + f64::from(-score(i, j)).exp());
        let mass = (0..n).map(|i| p(i, i) / (0..n).map(|j| p(i, j)).sum::<f64>()).sum::<f64>() / n as f64;
        assert!((m.match_score[0] - mass).abs() < 1e-4);

        // Fewer candidates: what is listed is scored and ranked as before, and is a part of it.
        let few = found(
            &model,
            &data,
            MatchOptions { query, candidates: 30, anchors: 16, top: 5, ..MatchOptions::default() },
        );
        assert_eq!((few.scored, few.exact), ((n * 30 + 16 * 2 * n) as u64, false));
        for (i, partners) in few.partners.iter().enumerate() {
            assert_eq!(partners.len(), 5);
            assert!(partners.is_sorted_by(|a, b| a.logit >= b.logit));
            assert!(partners.iter().all(|p| (p.logit - score(i, p.cell as usize)).abs() < 1e-4));
        }
        let all = found(&model, &data, MatchOptions { query, candidates: n, top: 5, ..MatchOptions::default() });
        for (a, b) in all.partners.iter().zip(&exact.partners) {
            assert!(a.iter().zip(b).all(|(a, b)| (a.logit - b.logit).abs() < 1e-4));
        }
    }
}

/// Without attention the halves are the embedding; completed scores find what all pairs would give.
#[test]
fn halves_and_anchors() {
    let dir = tempfile::tempdir().unwrap();
    let (data, model) = trained(dir.path());
    let all: Vec<u32> = (0..data.n_cells() as u32).collect();
    let batch: Batch<f32> = data.batch_of_cells(&all);
    let h = model.config().hidden;
    // In f32 this is 1: nothing passes.
    let deaf = ModelConfig { tau: 1.0 - 1e-12, ..model.config().clone() };
    let deaf = model.clone().with_config(deaf).unwrap();
    let z = deaf.forward(&batch, Want::default()).unwrap().embedding;
    let (r, a) = deaf.halves(&batch);
    for (i, z) in z.chunks(2 * h).enumerate() {
        let half = r[i * h..(i + 1) * h].iter().chain(&a[i * h..(i + 1) * h]);
        assert!(z.iter().zip(half).all(|(a, b)| (a - b).abs() < 1e-4), "cell {i}");
    }
    // Completed scores find nearly all of the best, with few anchors; with more, more.
    let exact = found(&model, &data, MatchOptions { exact: true, ..MatchOptions::default() });
    let share = |anchors: usize| {
        let few = found(&model, &data, MatchOptions { candidates: 20, anchors, ..MatchOptions::default() });
        assert!(!few.exact);
        let same =
            |(a, b): (&Vec<Partner>, &Vec<Partner>)| a.iter().filter(|a| b.iter().any(|b| a.cell == b.cell)).count();
        exact.partners.iter().zip(&few.partners).map(same).sum::<usize>() as f64 / (10 * CELLS) as f64
    };
    let (few, more) = (share(2), share(24));
    assert!(more > 0.85 && more > few, "{few} {more}");
    let options = MatchOptions { candidates: 20, anchors: 8, ..MatchOptions::default() };
    assert_eq!(found(&model, &data, options), found(&model, &data, options), "the seed decides");
    // Where that costs no more, every pair goes through the model.
    assert!(found(&model, &data, MatchOptions { candidates: CELLS, ..MatchOptions::default() }).exact);
}

#[test]
fn the_verb() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path());
    let cli = |args: &[&str]| {
        let mut c = Command::cargo_bin("sccrossrec").unwrap();
        c.current_dir(dir.path()).args(args).assert()
    };
    cli(&["prepare", "--like", "data", "--rna", "rna.h5ad", "--out", "r"]).success();
    cli(&["prepare", "--like", "data", "--atac", "atac.h5ad", "--out", "a"]).success();
    let done = cli(&["match", "--run", "run", "--rna", "r", "--atac", "a", "--top", "3", "--out", "m.tsv", "--json"])
        .success();
    let j: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!((&j["queries"], &j["metrics"]["known"]), (&CELLS.into(), &CELLS.into()));
    assert!(j["metrics"]["foscttm"].as_f64().unwrap() < 0.5);
    let text = std::fs::read_to_string(dir.path().join("m.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows[0], ["rna_cell", "rank", "atac_cell", "probability", "logit"]);
    assert_eq!(rows.len(), 1 + 3 * CELLS);
    assert!(rows[1..].chunks(3).all(|c| c[0][0] == c[2][0] && c[0][1] == "1" && c[2][1] == "3"));
    for (args, parts) in [
        (&["--rna", "a", "--atac", "a"][..], ["a: lacks", "--rna"]),
        (&["--rna", "r", "--atac", "r"], ["r: lacks", "--atac"]),
        (&["--rna", "r", "--atac", "nowhere"], ["nowhere", "read"]),
    ] {
        let out = cli(&[&["match", "--run", "run", "--out", "x.tsv"], args].concat()).code(2);
        let text = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
        parts.iter().for_each(|p| assert!(text.contains(p), "{args:?}: {p:?} is missing in {text}"));
    }
    assert!(!dir.path().join("x.tsv").exists());
}
