//! The towers: what they find, that nothing but the data and the seed decides it, and what the verbs write of them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use assert_cmd::Command;
use sccrossrec::dataset::DataSet;
use sccrossrec::evaluate::{Part, PartCells, TowerEvaluationOptions, evaluate_towers};
use sccrossrec::model::ModelConfig;
use sccrossrec::predict::towers::doubts;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::progress::Progress;
use sccrossrec::simulate::{SimulateConfig, Simulation};
use sccrossrec::train::{Observer, Run, TowerSettings, TrainConfig, recipe, resume, train};

/// Cells with regulation planted, prepared.
fn data(dir: &Path, cells: usize) -> DataSet {
    let small = SimulateConfig { cells, genes: 120, peaks: 400, chromosomes: 4, cell_types: 5, ..Default::default() };
    let files = Simulation::new(small).unwrap().write(dir, &()).unwrap();
    prepare(&PrepareConfig::new(&files.rna, &files.atac), &dir.join("data"), &()).unwrap();
    DataSet::open(&dir.join("data")).unwrap()
}

/// One epoch of a small attention model behind the towers.
fn config(towers: TowerSettings) -> TrainConfig {
    let base = recipe("default").unwrap();
    let model = ModelConfig { hidden: 8, embedding_dim: 8, ..base.model };
    TrainConfig { epochs: 1, model, towers, ..base }
}

fn kept(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoints/towers.safetensors")).unwrap()
}

#[test]
fn they_find_partners_and_tell_expression() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path(), 700);
    let set = data.samples("default").unwrap();
    let run = dir.path().join("run");
    train(&data, &set, &config(TowerSettings::default()), &run, &mut ()).unwrap();
    let run = Run::open(&run).unwrap();
    let towers = run.towers(&data).unwrap().unwrap();
    let options = TowerEvaluationOptions { baselines: true, seed: 1 };
    let e = evaluate_towers(&towers, &data, &set, Part::Test, options, &()).unwrap();
    assert_eq!(e.cells, 70);
    // Chance is 0.5; far below it, and above the mean of each gene.
    assert!(e.partners.foscttm.unwrap() < 0.3, "{:?}", e.partners);
    assert!(e.partners.auroc_same_type.unwrap() > 0.55, "{:?}", e.partners);
    let (told, b) = (e.expression.unwrap(), e.baselines.clone().unwrap());
    assert!(told.pearson_gene.unwrap() > 0.1 && told.r2.unwrap() > b.gene_mean.r2.unwrap(), "{told:?}");
    assert!(told.rmse.unwrap() < b.gene_mean.rmse.unwrap());
    assert!(e.labels_atac.unwrap().accuracy.unwrap() > 0.5);
    assert_eq!(e.spaces.len(), 3);
    // Every number that is worse than a baseline is named, no other.
    let worse = e.partners.foscttm > b.cca_partners.foscttm;
    assert_eq!(e.below.iter().any(|w| w.starts_with("FOSCTTM:") && w.contains("CCA")), worse, "{:?}", e.below);
    let c = towers.calibration().unwrap();
    assert!(c.slope > 0.0 && c.pair(0.99) > c.pair(0.1) && c.cells == 70);
    // The records are of every epoch, the best one marked last of its kind.
    let log = std::fs::read_to_string(run.dir().join("towers.jsonl")).unwrap();
    let scores: Vec<(f64, bool)> = log
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
        .map(|r| (r["score"].as_f64().unwrap(), r["best"].as_bool().unwrap()))
        .collect();
    let most = scores.iter().map(|s| s.0).fold(f64::MIN, f64::max);
    assert_eq!(scores.iter().rev().find(|s| s.1).unwrap().0, most);
    assert!(!run.dir().join("checkpoints/towers-state.safetensors").exists());
}

/// Says stop at the n-th question.
struct Stop {
    left: AtomicU64,
}

impl Progress for Stop {
    fn stop(&self) -> Option<i32> {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(1)));
        (before == Ok(0)).then_some(130)
    }
}

impl Observer for Stop {}

#[test]
fn threads_and_interruptions_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path(), 150);
    let set = data.samples("default").unwrap();
    let settings = TowerSettings { epochs: Some(4), batch_size: Some(16), hard_negatives: 0.4, ..Default::default() };
    let config = config(settings);
    let at = |name: &str| dir.path().join(name);
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    pool(1).install(|| train(&data, &set, &config, &at("one"), &mut ())).unwrap();
    pool(5).install(|| train(&data, &set, &config, &at("five"), &mut ())).unwrap();
    assert_eq!(kept(&at("one")), kept(&at("five")));
    for stop in [0, 3, 17] {
        let name = at(&format!("stopped-{stop}"));
        let e = train(&data, &set, &config, &name, &mut Stop { left: stop.into() }).unwrap_err();
        let text = e.to_string();
        assert!(text.contains(&format!("saved after step {stop} of the towers")), "{text}");
        assert!(text.contains("train --resume --out"), "{text}");
        resume(&data, &set, &config, &name, &mut ()).unwrap();
        assert_eq!(kept(&at("one")), kept(&name), "{stop}");
        let last = |run: &Path| std::fs::read(run.join("checkpoints/last.safetensors")).unwrap();
        assert_eq!(last(&at("one")), last(&name));
    }
    // Another seed, other towers.
    train(&data, &set, &TrainConfig { seed: 7, ..config }, &at("seed"), &mut ()).unwrap();
    assert_ne!(kept(&at("one")), kept(&at("seed")));
}

/// Cells whose RNA and ATAC are exchanged are told from those that are whole, and cells made of two from single ones.
#[test]
fn doubts_find_what_was_planted() {
    let dir = tempfile::tempdir().unwrap();
    let data = data(dir.path(), 800);
    let set = data.samples("default").unwrap();
    let run = dir.path().join("run");
    let settings = TowerSettings { predict: 0.0, ..Default::default() };
    train(&data, &set, &config(settings), &run, &mut ()).unwrap();
    let towers = Run::open(&run).unwrap().towers(&data).unwrap().unwrap();
    assert!(!towers.predicts());
    // The same data with pairs of neighbours in the test part of another type exchanged: pairs as cells of their own.
    let v = data.vocabulary();
    let test = PartCells::new(&data, &set).of(Part::Test);
    let swapped: Vec<(u32, u32)> = (0..test.len() / 2)
        .map(|i| (test[2 * i], test[2 * i + 1]))
        .filter(|(a, b)| v.cell_type[*a as usize] != v.cell_type[*b as usize])
        .collect();
    assert!(swapped.len() > 10);
    let all = doubts(&towers, &data, &test, 1, &()).unwrap();
    assert_eq!(all.len(), test.len());
    let c = towers.calibration().unwrap();
    // Score of each RNA with the ATAC of the other, by the towers' own vectors.
    let vectors = |cells: &[u32]| {
        let b = data.batch_of_cells(cells);
        (towers.of_rna(&b.rna), towers.of_atac(&b.atac))
    };
    let mut lower = 0;
    for &(a, b) in &swapped {
        let (r, t) = vectors(&[a, b]);
        let w = r.len() / 2;
        let score = |i: usize, j: usize| (0..w).map(|k| r[i * w + k] * t[j * w + k]).sum::<f32>();
        let own = all[test.binary_search(&a).unwrap()].own_score;
        assert!((own - score(0, 0)).abs() < 1e-5);
        lower += u32::from(c.as_low(f64::from(score(0, 1))) < c.as_low(f64::from(own)));
    }
    assert!(f64::from(lower) > 0.8 * swapped.len() as f64, "{lower} of {}", swapped.len());
    assert!(all.iter().all(|d| (0.0..=1.0).contains(&d.p_swapped) && d.q_swapped >= d.p_swapped - 1e-6));
    let mean = all.iter().map(|d| f64::from(d.doublet_score)).sum::<f64>() / all.len() as f64;
    assert!(mean > 0.2 && mean < 1.2, "single cells lie among single cells: {mean}");
}

#[test]
fn verbs_write_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let d = dir.path();
    data(d, 160);
    let cli = |args: &[&str]| Command::cargo_bin("sccrossrec").unwrap().current_dir(d).args(args).assert();
    let files = ["prepare", "--rna", "rna.h5ad", "--atac", "atac.h5ad", "--rna-layer", "counts"];
    cli(&[&files[..], &["--out", "data", "--force"]].concat()).success();
    let train = ["train", "--data", "data", "--epochs", "1", "--hidden", "8", "--embedding-dim", "8"];
    let towers = ["--tower-epochs", "6", "--tower-batch-size", "32", "--tower-size", "12"];
    cli(&[&train[..], &towers, &["--out", "run"]].concat()).success();
    cli(&["embed", "--run", "run", "--part", "test", "--attention", "--out", "z.h5ad"]).success();
    let f = hdf5::File::open(d.join("z.h5ad")).unwrap();
    let matrix = |name: &str| {
        let set = f.dataset(&format!("obsm/{name}")).unwrap();
        (set.shape(), set.read_raw::<f32>().unwrap())
    };
    let (shape, joint) = matrix("X_sccrossrec");
    assert_eq!(shape, [16, 12]);
    let ((_, rna), (_, atac)) = (matrix("X_sccrossrec_rna"), matrix("X_sccrossrec_atac"));
    for ((j, r), a) in joint.chunks(12).zip(rna.chunks(12)).zip(atac.chunks(12)) {
        let sum: Vec<f32> = r.iter().zip(a).map(|(x, y)| x + y).collect();
        let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!(j.iter().zip(&sum).all(|(x, y)| (x - y / length).abs() < 1e-5));
    }
    assert_eq!(matrix("X_sccrossrec_attention").0, [16, 16]);
    assert_eq!(matrix("X_sccrossrec_rna_depth").0, [16, 8]);
    let parts = f.group("obs/part").unwrap();
    assert_eq!(parts.dataset("codes").unwrap().read_raw::<i8>().unwrap(), [2; 16]);
    // Partners: products of the vectors, each list falling, probabilities that are shares.
    cli(&[
        "match", "--run", "run", "--rna", "data", "--atac", "data", "--part", "test", "--top", "16", "--out", "m.tsv",
    ])
    .success();
    let text = std::fs::read_to_string(d.join("m.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
    assert_eq!(rows[0].join(" "), "rna_cell rank atac_cell probability pair_probability score part");
    assert_eq!(rows.len(), 1 + 16 * 16);
    for list in rows[1..].chunks(16) {
        let at = |k: usize| list.iter().map(|r| r[k].parse::<f64>().unwrap()).collect::<Vec<_>>();
        assert!((at(3).iter().sum::<f64>() - 1.0).abs() < 1e-4 && at(5).is_sorted_by(|a, b| a >= b));
        assert!(at(4).is_sorted_by(|a, b| a >= b) && list.iter().all(|r| r[6] == "test"));
    }
    // The first score by hand.
    let ((_, rd), (_, ad)) = (matrix("X_sccrossrec_rna_depth"), matrix("X_sccrossrec_atac_depth"));
    let data = DataSet::open(&d.join("data")).unwrap();
    let names = &data.vocabulary().cells;
    let test = PartCells::new(&data, &data.samples("default").unwrap()).of(Part::Test);
    let place = |name: &str| test.iter().position(|&c| names[c as usize] == name).unwrap();
    let (i, j) = (place(rows[1][0]), place(rows[1][2]));
    let dot = |x: &[f32], y: &[f32], w: usize| (0..w).map(|k| x[i * w + k] * y[j * w + k]).sum::<f32>();
    let score: f32 = rows[1][5].parse().unwrap();
    assert!((dot(&rna, &atac, 12) + dot(&rd, &ad, 8) - score).abs() < 1e-4);
    // Expression: what is written is what `evaluate` measures.
    cli(&["translate", "--run", "run", "--out", "t.h5ad"]).success();
    let f = hdf5::File::open(d.join("t.h5ad")).unwrap();
    let layer = |name: &str| f.dataset(&format!("{name}/data")).unwrap().read_raw::<f32>().unwrap();
    let (counts, p) = (layer("layers/counts"), layer("layers/probability"));
    assert!(p.iter().all(|&p| p > 0.0 && p <= 1.0) && counts.iter().all(|&c| c > 0.0));
    assert!(layer("X").iter().all(|&x| x >= 0.001) && layer("layers/detected").iter().all(|&x| x == 1.0));
    let scale = f.dataset("uns/sccrossrec/scale").unwrap().read_scalar::<hdf5::types::VarLenUnicode>().unwrap();
    assert!(scale.as_str().starts_with("log1p of counts scaled to "), "{scale}");
    cli(&["match", "--run", "run", "--rna", "data", "--atac", "data", "--doubts", "q.tsv", "--out", "n.tsv"]).success();
    let text = std::fs::read_to_string(d.join("q.tsv")).unwrap();
    assert_eq!(text.lines().count(), 161);
    // What cannot be done, in a line.
    for (args, part) in [
        (
            &["train", "--data", "data", "--out", "x", "--batch", "nothing"][..],
            "--batch nothing: the data have no such",
        ),
        (&["translate", "--run", "run", "--out", "x.h5ad", "--nodes"], ""),
        (&["translate", "--run", "run", "--out", "y.h5ad", "--nodes", "--translation", "towers"], "--nodes: is of the"),
        (
            &[
                "match", "--run", "run", "--rna", "data", "--atac", "data", "--exact", "--part", "test", "--out",
                "x.tsv",
            ],
            "--part",
        ),
    ] {
        let assert = cli(args);
        let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
        if part.is_empty() {
            assert.success();
        } else {
            assert!(text.starts_with("error: ") && text.contains(part), "{args:?}: {text}");
            assert.failure();
        }
    }
}
