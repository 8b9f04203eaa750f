//! Discovery as a whole: statistics, tracks, stops and going on, what cannot be done.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use sccrossrec::dataset::DataSet;
use sccrossrec::discover::maps::Maps;
use sccrossrec::discover::null::Null;
use sccrossrec::discover::{DiscoverOptions, Source, discover};
use sccrossrec::model::ModelConfig;
use sccrossrec::prepare::{PrepareConfig, prepare};
use sccrossrec::progress::Progress;
use sccrossrec::simulate::{SimulateConfig, Simulation};
use sccrossrec::train::{Checkpoint, Run, TrainConfig, recipe, train};

fn cli(dir: &Path) -> Command {
    let mut c = Command::cargo_bin("sccrossrec").unwrap();
    c.current_dir(dir);
    c
}

/// A small data set and a run of a few steps, in `data` and `run`.
fn trained(dir: &Path, cells: usize) -> (DataSet, PathBuf) {
    let small = SimulateConfig { cells, genes: 60, peaks: 300, chromosomes: 3, cell_types: 3, ..Default::default() };
    let files = Simulation::new(small).unwrap().write(dir, &()).unwrap();
    let config = PrepareConfig::new(&files.rna, &files.atac);
    prepare(&config, &dir.join("data"), &()).unwrap();
    let data = DataSet::open(&dir.join("data")).unwrap();
    let set = data.samples("default").unwrap();
    let base = recipe("large-batch").unwrap();
    let model = ModelConfig { hidden: 16, embedding_dim: 16, ..base.model };
    let config = TrainConfig { epochs: 1, model, batch_size: 32, ..base };
    train(&data, &set, &config, &dir.join("run"), &mut ()).unwrap();
    (data, dir.join("run"))
}

/// Breaks off at 2,500 cells.
struct Enough;

impl Progress for Enough {
    fn at(&self, _: &'static str, done: u64, _: u64) {
        assert!(done < 2500, "enough");
    }
}

#[test]
fn what_was_stopped_goes_on_to_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    // More cells than one part of each type.
    let (data, run) = trained(dir.path(), 3300);
    let model = Run::open(&run).unwrap().model(&data, Checkpoint::Best).unwrap();
    for null in [Null::Matched, Null::Shuffled] {
        let at = |name: &str| {
            let path = dir.path().join(format!("{name}-{null:?}"));
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let options = DiscoverOptions { null, ..DiscoverOptions::default() };
        let whole = discover(&model, &data, &options, &at("whole"), &()).unwrap();
        let whole = whole.attention.unwrap();
        assert_eq!(whole.resumed, 0);
        assert!(!at("whole").join(".attention").exists(), "parts go when all is done");

        // Stopped as by kill -9: some parts are there, one of them cut, one of another model.
        let parts = at("stopped").join(".attention/cells");
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            discover(&model, &data, &options, &at("stopped"), &Enough).unwrap();
        }));
        assert!(stopped.is_err());
        let mut files: Vec<PathBuf> = std::fs::read_dir(&parts).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 2, "{files:?}");
        let bytes = std::fs::read(&files[1]).unwrap();
        std::fs::write(&files[1], &bytes[..bytes.len() / 2]).unwrap();
        let resume = DiscoverOptions { resume: true, ..options.clone() };
        let resumed = discover(&model, &data, &resume, &at("stopped"), &()).unwrap().attention.unwrap();
        assert!(resumed.resumed > 0 && resumed.resumed < 2500, "{}", resumed.resumed);
        assert_eq!(resumed.pairs, whole.pairs);
        let mut tables: Vec<PathBuf> = whole.cell_types.iter().map(|t| t.file.clone()).collect();
        assert_eq!(tables.len(), 3);
        tables.extend(["attention.tsv", "attention-peaks.tsv", "attention-genes.tsv"].map(PathBuf::from));
        tables.extend(
            ["links.tsv", "links-untested.tsv", "links/type1.tsv", "peaks.tsv", "genes.tsv"].map(PathBuf::from),
        );
        for file in tables {
            let read = |d: PathBuf| std::fs::read(d.join(&file)).unwrap();
            assert!(read(at("whole")) == read(at("stopped")), "{}: {null:?}", file.display());
        }

        // Parts of another model are not taken.
        let kept = at("other").join(".attention/cells");
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("000000.part"), &bytes).unwrap();
        let mut other = model.clone();
        other.params.as_mut_slice()[0] += 1.0;
        let found = discover(&other, &data, &resume, &at("other"), &()).unwrap();
        assert_eq!(found.attention.unwrap().resumed, 0);
    }
}

#[test]
fn maps_read_back_and_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _) = trained(dir.path(), 400);
    let json = |args: &[&str]| -> serde_json::Value {
        let out = cli(dir.path()).args(args).arg("--json").assert().success();
        serde_json::from_slice(&out.get_output().stdout).unwrap()
    };
    let j = json(&["discover", "--run", "run", "--out", "links"]);
    let v = data.vocabulary();
    let maps = Maps::read(&dir.path().join("links"), v, Source::Attention).unwrap();
    assert_eq!(maps.types.iter().map(|t| t.cells).sum::<u64>(), maps.all.cells);
    assert_eq!(maps.types.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), v.cell_types);
    for m in maps.iter() {
        assert!(m.links.is_sorted_by(|a, b| a.score >= b.score) && !m.links.is_empty());
        let (mut genes, mut peaks) = (vec![0.0; v.genes.len()], vec![0.0; v.peaks.len()]);
        for l in &m.links {
            genes[l.gene as usize] += l.score;
            peaks[l.peak as usize] += l.score;
            assert_eq!(v.genes[l.gene as usize].chrom, v.peaks[l.peak as usize].chrom);
            assert!(l.pvalue.is_nan() == l.qvalue.is_nan());
            assert!(
                l.pvalue.is_nan() || (l.pvalue > 0.0 && l.pvalue <= 1.0 && l.qvalue >= l.pvalue && l.qvalue <= 1.0)
            );
        }
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-9 * b.abs().max(1.0));
        assert!(close(&genes, &m.genes) && close(&peaks, &m.peaks), "{}", m.name);
    }
    assert!(maps.all.links.iter().any(|l| !l.pvalue.is_nan()), "something was tested");
    assert_eq!(j["attention"]["all"]["links"], maps.all.links.len());
    let significant = maps.all.links.iter().filter(|l| l.qvalue < 0.05).count();
    assert_eq!(j["attention"]["all"]["significant"], significant);
    // The same of links: tracks are sums of probabilities, of a type over the links active in it.
    let links = Maps::read(&dir.path().join("links"), v, Source::Links).unwrap();
    assert_eq!((links.all.links.len(), links.all.cells), (j["links"]["pairs"].as_u64().unwrap() as usize, 400));
    for (i, m) in links.iter().enumerate() {
        assert!(m.links.is_sorted_by(|a, b| a.score >= b.score));
        let (mut genes, mut peaks) = (vec![0.0; v.genes.len()], vec![0.0; v.peaks.len()]);
        for l in &m.links {
            genes[l.gene as usize] += l.score;
            peaks[l.peak as usize] += l.score;
            assert!((0.0..=1.0).contains(&l.score) && l.pvalue > 0.0 && l.pvalue <= 1.0 && l.qvalue <= 1.0);
        }
        // Tables hold four digits.
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs() + 1e-6);
        assert!(close(&genes, &m.genes) && close(&peaks, &m.peaks), "{}", m.name);
        if let Some(at) = i.checked_sub(1) {
            assert_eq!(j["links"]["cell_types"][at]["active"], m.links.len(), "{}", m.name);
        }
    }
    // Moved elsewhere, it reads the same.
    std::fs::rename(dir.path().join("links"), dir.path().join("moved")).unwrap();
    let moved = Maps::read(&dir.path().join("moved"), v, Source::Attention).unwrap();
    assert!(format!("{moved:?}") == format!("{maps:?}"), "NaN included");
    assert_eq!(Maps::read(&dir.path().join("moved"), v, Source::Links).unwrap().types.len(), 3);

    // The same bits with one thread, and without statistics the same scores.
    json(&["discover", "--run", "run", "--out", "one", "--threads", "1"]);
    let read = |d: &str, file: &str| std::fs::read(dir.path().join(d).join(file)).unwrap();
    assert!(["attention.tsv", "links.tsv", "links/type1.tsv"].iter().all(|f| read("moved", f) == read("one", f)));
    json(&["discover", "--run", "run", "--out", "plain", "--null", "none"]);
    let plain = Maps::read(&dir.path().join("plain"), v, Source::Attention).unwrap();
    let scores = |m: &Maps| m.all.links.iter().map(|l| (l.gene, l.peak, l.score)).collect::<Vec<_>>();
    assert_eq!(scores(&plain), scores(&maps));
    assert!(plain.all.links.iter().all(|l| l.pvalue.is_nan() && l.zscore.is_nan()));
}

/// Where RNA and ATAC of a cell know nothing of each other, shuffling the pairings changes nothing: p-values against
/// shuffled pairings are uniform, and nothing is found.
#[test]
fn nothing_is_found_where_pairings_mean_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, run) = trained(dir.path(), 600);
    // The same cells, their ATAC dealt out at random among them.
    let mut order: Vec<u32> = (0..600).collect();
    sccrossrec::rng::Rng::new(3, 3).shuffle(&mut order);
    let atac = sccrossrec::data::anndata::AnnData::open(&dir.path().join("atac.h5ad")).unwrap();
    use sccrossrec::data::anndata::{AnnDataWriter, Axis, Column, Frame, Streaming};
    let (obs, var) = (atac.names(Axis::Obs).unwrap(), atac.names(Axis::Var).unwrap());
    let mut all = sccrossrec::csr::Csr::<f32>::new();
    let matrix = atac.matrix(None, "--atac-layer").unwrap();
    matrix
        .for_each_block(Streaming::default(), dir.path(), &obs, &var, |b| {
            (0..b.rows()).for_each(|i| all.push_row(b.row(i).0.iter().copied().zip(b.row(i).1.iter().copied())));
            Ok(())
        })
        .unwrap();
    let path = dir.path().join("dealt.h5ad");
    let frame = |index: Vec<String>| Frame { index, columns: Vec::<(String, Column)>::new() };
    let mut w = AnnDataWriter::create(&path, &frame(obs), &frame(var.clone())).unwrap();
    let mut x = w.csr("X", var.len()).unwrap();
    let mut dealt = sccrossrec::csr::Csr::<f32>::new();
    for &c in &order {
        let (i, v) = all.row(c as usize);
        dealt.push_row(i.iter().copied().zip(v.iter().copied()));
    }
    x.append(&dealt).unwrap();
    x.finish().unwrap();
    w.finish().unwrap();
    let config =
        PrepareConfig { like: Some(dir.path().join("data")), ..PrepareConfig::new(dir.path().join("rna.h5ad"), &path) };
    prepare(&config, &dir.path().join("like"), &()).unwrap();
    let like = DataSet::open(&dir.path().join("like")).unwrap();
    assert_eq!(like.n_cells(), data.n_cells());
    let model = Run::open(&run).unwrap().model(&like, Checkpoint::Best).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let options = DiscoverOptions { null: Null::Shuffled, permutations: 3, ..DiscoverOptions::default() };
    discover(&model, &like, &options, &out, &()).unwrap();
    let maps = Maps::read(&out, like.vocabulary(), Source::Attention).unwrap();
    let links = &maps.all.links;
    assert!(links.len() > 1000, "{}", links.len());
    let v = like.vocabulary();
    let pairs: usize = (0..3)
        .map(|c| v.genes.iter().filter(|g| g.chrom == c).count() * v.peaks.iter().filter(|p| p.chrom == c).count())
        .sum();
    for level in [0.01, 0.05, 0.1] {
        let share = links.iter().filter(|l| l.pvalue <= level).count() as f64 / pairs as f64;
        assert!((share - level).abs() < 0.3 * level, "{share} of the p-values are at most {level}");
    }
    let found = links.iter().filter(|l| l.qvalue < 0.05).count();
    assert!(found <= links.len() / 1000, "{found} of {} links", links.len());
}

#[test]
fn what_cannot_be_discovered_is_told() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path(), 120);
    let fails = |args: &[&str], parts: &[&str]| {
        let out = cli(dir.path()).args(args).assert().code(2);
        let text = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
        parts.iter().for_each(|p| assert!(text.contains(p), "{args:?}: {p:?} is missing in {text}"));
        assert_eq!(text.trim_end().lines().filter(|l| l.starts_with("error")).count(), 1, "{text}");
    };
    let base = ["discover", "--run", "run", "--out", "x"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    fails(&with(&["--cell-types", "Neuron"]), &["Neuron", "type1, type2, type3"]);
    fails(&with(&["--resume", "--force"]), &["--force"]);
    fails(&with(&["--window", "0"]), &["--window"]);
    // A model of other genes.
    let mut toy = crate::common::toy::Toy::new();
    toy.genes.iter_mut().for_each(|g| g.push_str("-other"));
    let (rna, atac) = toy.write(dir.path());
    prepare(&PrepareConfig::new(&rna, &atac), &dir.path().join("other"), &()).unwrap();
    fails(&with(&["--data", "other"]), &["other", "no gene name in common"]);
    assert!(!dir.path().join("x").exists());
}

/// What is there is written over only where it is an older discovery, and then as a whole.
#[test]
fn other_things_are_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path(), 150);
    let ok = |args: &[&str]| {
        let out = cli(dir.path()).args(args).arg("--json").assert().success();
        serde_json::from_slice::<serde_json::Value>(&out.get_output().stdout).unwrap()
    };
    let refused = |args: &[&str], part: &str| {
        let out = cli(dir.path()).args(args).assert().code(2);
        let text = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
        assert!(text.contains(part), "{args:?}: {part:?} is missing in {text}");
    };
    let with_types =
        |more: &[&'static str]| [&["discover", "--run", "run", "--min-type-cells", "15"][..], more].concat();
    let genes = std::fs::read(dir.path().join("data/genes.tsv")).unwrap();
    for way in ["--force", "--resume"] {
        refused(&["discover", "--run", "run", "--out", "data", way], "a prepared data set");
        refused(&["discover", "--run", "run", "--out", "run", way], "holds a run");
    }
    assert!(std::fs::read(dir.path().join("data/genes.tsv")).unwrap() == genes);
    let j = ok(&with_types(&["--out", "out", "--export", "bedpe,bedgraph,bedpe"]));
    assert_eq!(j["exports"].as_array().unwrap().len(), 8, "four maps in two forms, once each");
    let all = &j["attention"]["all"];
    assert!(all["tests"].as_u64().unwrap() > all["tested"].as_u64().unwrap());
    assert!(Path::new(j["run"].as_str().unwrap()).is_absolute());
    refused(&["discover", "--run", "run", "--out", "out", "--resume"], "a finished discovery");
    std::fs::write(dir.path().join("out/links/notes.tsv"), "mine").unwrap();
    std::fs::write(dir.path().join("out/attention/notes.tsv"), "mine").unwrap();
    let there = |f: &str| dir.path().join("out").join(f).exists();
    assert!((1..=3).all(|t| there(&format!("links/type{t}.tsv")) && there(&format!("attention/type{t}.tsv"))));
    ok(&with_types(&["--out", "out", "--force", "--cell-types", "type1,type2"]));
    for folder in ["links", "attention"] {
        assert!(there(&format!("{folder}/type1.tsv")) && there(&format!("{folder}/notes.tsv")), "{folder}");
        assert!(there(&format!("{folder}.tsv")) && !there(&format!("{folder}/type3.tsv")), "{folder}");
    }
    assert!(!there("exports"), "results of other cells are gone");
    // Without a model there is no attention, and that of a model goes.
    ok(&["discover", "--data", "data", "--out", "out", "--force", "--gzip"]);
    assert!(there("links.tsv.gz") && there("links/notes.tsv") && there("attention/notes.tsv"));
    for gone in ["links.tsv", "attention.h5", "attention.tsv", "attention-peaks.tsv", "attention/type1.tsv"] {
        assert!(!there(gone), "{gone}");
    }
    std::fs::create_dir_all(dir.path().join("begun/.attention")).unwrap();
    refused(&["discover", "--run", "run", "--out", "begun"], "--resume");
    ok(&["discover", "--run", "run", "--out", "begun", "--resume"]);
    std::fs::create_dir(dir.path().join("photos")).unwrap();
    std::fs::write(dir.path().join("photos/a.jpg"), "x").unwrap();
    refused(&["discover", "--run", "run", "--out", "photos", "--resume"], "no discovery to go on with");
}

/// Peaks of planted links as binding sites: the evidence finds them among alike peaks, and finds nothing in sites that were
/// drawn at random.
#[test]
fn evidence_against_binding_sites() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _) = trained(dir.path(), 2000);
    let v = data.vocabulary();
    let truth = std::fs::read_to_string(dir.path().join("truth.tsv")).unwrap();
    let linked: std::collections::HashSet<&str> = truth
        .lines()
        .skip(1)
        .flat_map(|l| l.split('\t'))
        .filter(|name| v.peaks.iter().any(|p| p.name == *name))
        .collect();
    assert!(linked.len() > 30 && linked.len() < v.peaks.len() / 2, "{}", linked.len());
    let mut rng = sccrossrec::rng::Rng::new(4, 0);
    let write = |name: &str, take: &mut dyn FnMut(&str) -> bool| {
        let own = v.peaks.iter().filter(|p| take(&p.name));
        let lines = own.map(|p| format!("{}\t{}\t{}\n", v.chromosomes[p.chrom as usize], p.start, p.end));
        std::fs::write(dir.path().join(name), lines.collect::<String>()).unwrap();
    };
    write("sites.bed", &mut |name| linked.contains(name));
    write("random.bed", &mut |_| rng.uniform() < 0.2);
    let discover = ["discover", "--run", "run", "--out", "links", "--tf", "sites.bed", "--tf", "random.bed", "--json"];
    let out = cli(dir.path()).args(discover).assert().success();
    let j: serde_json::Value = serde_json::from_slice(&out.get_output().stdout).unwrap();
    let of = |tf: &str, name: &str| {
        let rows = j["tf"]["evidence"].as_array().unwrap();
        let row = rows.iter().find(|r| r["tf"] == tf).unwrap();
        assert_eq!((&row["cell_type"], &row["cells"]), (&"evidence".into(), &2000.into()));
        row["measures"].as_array().unwrap().iter().find(|m| m["measure"] == name).unwrap().clone()
    };
    let (auroc, chance) = (of("sites", "auroc"), of("random", "auroc"));
    let number = |m: &serde_json::Value, key: &str| m[key].as_f64().unwrap();
    assert!(number(&auroc, "value") > 0.75 && number(&auroc, "zscore") > 5.0, "{auroc}");
    assert!(number(&chance, "zscore").abs() < 3.0, "{chance}");
    // The value by hand, from links.tsv: ties count half.
    let table = std::fs::read_to_string(dir.path().join("links/links.tsv")).unwrap();
    let header: Vec<&str> = table.lines().next().unwrap().split('\t').collect();
    let at = |name: &str| header.iter().position(|c| *c == name).unwrap();
    let mut expected: std::collections::HashMap<&str, f64> = v.peaks.iter().map(|p| (p.name.as_str(), 0.0)).collect();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        *expected.get_mut(fields[at("peak")]).unwrap() += fields[at("probability")].parse::<f64>().unwrap();
    }
    let (mut sum, mut pairs) = (0.0, 0.0);
    for (_, x) in expected.iter().filter(|p| linked.contains(p.0)) {
        for (_, y) in expected.iter().filter(|p| !linked.contains(p.0)) {
            sum += if x > y { 1.0 } else { f64::from(u8::from(x == y)) / 2.0 };
            pairs += 1.0;
        }
    }
    assert!((number(&auroc, "value") - sum / pairs).abs() < 1e-3, "{} by hand, {auroc}", sum / pairs);
    let lines = std::fs::read_to_string(dir.path().join("links/tf.tsv")).unwrap();
    assert_eq!(lines.lines().filter(|l| l.split('\t').nth(1) == Some("evidence")).count(), 2 * 6);
}
