//! How samples are drawn, and data prepared like those of a trained model.

use std::collections::HashSet;
use std::path::Path;

use crate::common::toy::Toy;
use assert_cmd::Command;
use sccrossrec::csr::Csr;
use sccrossrec::data::anndata::{AnnData, Axis, Column, Frame, MatrixKind, Streaming};
use sccrossrec::dataset::{DataSet, Negatives, SampleConfig, SplitBy, draw_samples};
use sccrossrec::prepare::{Met, PrepareConfig, prepare};
use sccrossrec::vocabulary::{ObsColumn, Vocabulary};

fn cli(dir: &Path) -> Command {
    let mut c = Command::cargo_bin("sccrossrec").unwrap();
    c.current_dir(dir);
    c
}

fn fails(dir: &Path, args: &[&str], parts: &[&str]) {
    let out = cli(dir).args(args).assert().code(2);
    let text = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
    parts.iter().for_each(|p| assert!(text.contains(p), "{args:?}: {p:?} is missing in: {text}"));
}

/// Cells of `types` types in these batches (by size).
fn vocabulary(types: usize, batches: &[usize]) -> Vocabulary {
    let n: usize = batches.iter().sum();
    let codes = batches.iter().enumerate().flat_map(|(b, &size)| vec![b as u32; size]).collect();
    Vocabulary {
        cells: (0..n).map(|i| format!("c{i}")).collect(),
        cell_types: (0..types).map(|t| format!("t{t}")).collect(),
        cell_type: (0..n).map(|i| ((i * 7) % types) as u32).collect(),
        obs: vec![ObsColumn {
            name: "donor".into(),
            categories: (0..batches.len()).map(|b| format!("d{b}")).collect(),
            codes,
        }],
        ..Vocabulary::default()
    }
}

#[test]
fn whole_batches_are_held_out() {
    for (sizes, seed) in [
        (vec![500, 90, 110, 60, 140, 100], 1),
        (vec![500, 90, 110, 60, 140, 100], 2),
        (vec![10, 10, 10], 3),
        (vec![20; 13], 4),
        (vec![300, 300, 300], 5),
    ] {
        let v = vocabulary(4, &sizes);
        let n = v.cells.len();
        let config = SampleConfig { split: SplitBy::Batch("donor".into()), seed, ..SampleConfig::default() };
        let set = draw_samples(&v, &config).unwrap();
        assert_eq!(draw_samples(&v, &config).unwrap(), set, "the seed decides");
        assert_eq!(set.samples.len(), 2 * n);
        let batch = |c: u32| v.obs[0].codes[c as usize];
        let part = |numbers: &[u32]| -> HashSet<u32> {
            let cells = numbers.iter().flat_map(|&k| [set.samples[k as usize].rna, set.samples[k as usize].atac]);
            cells.map(batch).collect()
        };
        let parts = [part(&set.train), part(&set.val), part(&set.test)];
        for (i, a) in parts.iter().enumerate() {
            assert!(!a.is_empty(), "{sizes:?}");
            parts[i + 1..].iter().for_each(|b| assert!(a.is_disjoint(b), "{sizes:?}: {parts:?}"));
        }
        assert_eq!(parts.iter().map(HashSet::len).sum::<usize>(), sizes.len());
        if sizes.len() > 3 {
            // Near a tenth each: at least that, and less than a batch more.
            for numbers in [&set.val, &set.test] {
                let cells = numbers.len() / 2;
                assert!(cells >= n / 10 && cells <= n / 10 + n / 5, "{sizes:?}: {cells} of {n}");
            }
            assert!(!sizes.contains(&500) || parts[0].contains(&0), "the largest batch is for training");
        }
        assert_eq!(set.recipe["split"], "batch:donor");
        let back: SampleConfig = serde_json::from_value(set.recipe.clone()).unwrap();
        assert_eq!(back, config);
    }
}

/// Of two batches one is for testing, chosen or named; validation takes cells of the other.
#[test]
fn two_batches_are_enough() {
    let v = vocabulary(3, &[60, 40]);
    for named in [None, Some("d0"), Some("d1")] {
        let test_batches = named.map(String::from).into_iter().collect();
        let config = SampleConfig { split: SplitBy::Batch("donor".into()), test_batches, ..SampleConfig::default() };
        let set = draw_samples(&v, &config).unwrap();
        let cells = |numbers: &[u32]| -> HashSet<u32> {
            numbers.iter().flat_map(|&k| [set.samples[k as usize].rna, set.samples[k as usize].atac]).collect()
        };
        let [train, val, test] = [&set.train, &set.val, &set.test].map(|part| cells(part));
        let batch = |c: &u32| v.obs[0].codes[*c as usize];
        let of_test: HashSet<u32> = test.iter().map(batch).collect();
        assert_eq!(of_test.len(), 1);
        assert!(named.is_none_or(|n| of_test.contains(&u32::from(n == "d1"))));
        assert!(train.iter().chain(&val).all(|c| !of_test.contains(&batch(c))));
        assert!(train.is_disjoint(&val) && test.len() + train.len() + val.len() == 100);
        let other = 100 - test.len();
        assert_eq!((val.len(), train.len()), (other / 10, other - other / 10), "{named:?}");
        set.check(&v).unwrap();
    }
    let one = SampleConfig { split: SplitBy::Batch("donor".into()), ..SampleConfig::default() };
    assert!(draw_samples(&vocabulary(3, &[50]), &one).unwrap_err().to_string().contains("needs batches"));
}

#[test]
fn chosen_batches_are_held_out() {
    let mut v = vocabulary(3, &[30, 30, 30, 30]);
    // Two cells whose donor is not known: for training.
    v.obs[0].codes[40] = ObsColumn::MISSING;
    v.obs[0].codes[41] = ObsColumn::MISSING;
    let named = |val: &[&str], test: &[&str]| SampleConfig {
        split: SplitBy::Batch("donor".into()),
        val_batches: val.iter().map(|s| s.to_string()).collect(),
        test_batches: test.iter().map(|s| s.to_string()).collect(),
        negative_ratio: 0.0,
        ..SampleConfig::default()
    };
    let set = draw_samples(&v, &named(&["d1"], &["d3"])).unwrap();
    let cells = |part: &[u32]| {
        let mut c: Vec<u32> = part.iter().map(|&k| set.samples[k as usize].rna).collect();
        c.sort_unstable();
        c
    };
    assert_eq!(cells(&set.test), (90..120).collect::<Vec<_>>());
    assert_eq!(cells(&set.val), (30..60).filter(|c| ![40, 41].contains(c)).collect::<Vec<_>>());
    assert!(cells(&set.train).contains(&40) && set.train.len() == 62);
    let set = draw_samples(&v, &named(&[], &["d0", "d2"])).unwrap();
    assert_eq!((set.test.len(), set.val.len() + set.train.len()), (60, 60));
    for (config, part) in [
        (named(&["d9"], &[]), "d0, d1, d2, d3"),
        (named(&["d1"], &["d1"]), "both"),
        (named(&["d0", "d1"], &["d2", "d3"]), "needs batches"),
        (SampleConfig { split: SplitBy::Batch("site".into()), ..named(&[], &[]) }, "keeps donor"),
        (SampleConfig { split: SplitBy::Cell, ..named(&["d1"], &[]) }, "--split batch:COLUMN"),
    ] {
        let e = draw_samples(&v, &config).unwrap_err().to_string();
        assert!(e.contains(part), "{part}: {e}");
    }
    assert!("batch:".parse::<SplitBy>().is_err() && "donor".parse::<SplitBy>().is_err());
}

#[test]
fn hard_negatives_need_no_list_of_pairs() {
    // 10^11 pairs of one type; a list of them would take 800 GB.
    let v = vocabulary(2, &[300_000]);
    let config = SampleConfig { negatives: Negatives::Hard, ..SampleConfig::default() };
    let start = std::time::Instant::now();
    let set = draw_samples(&v, &config).unwrap();
    let negative: Vec<_> = set.samples.iter().filter(|s| s.label == 0).collect();
    assert_eq!(negative.len(), 300_000);
    for s in negative {
        assert!(s.rna != s.atac && v.cell_type[s.rna as usize] == v.cell_type[s.atac as usize]);
    }
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn easy_negatives_with_one_type_left_are_refused_clearly() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    toy.write(dir.path());
    let base = ["prepare", "--rna", "rna.h5ad", "--atac", "atac.h5ad", "--out", "d"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    fails(dir.path(), &with(&["--cell-types", "B"]), &["at least two types", "--negatives hard"]);
    fails(dir.path(), &with(&["--cell-types", "B,Tx"]), &["no cell type \"Tx\"", "B, NK, T"]);
    fails(dir.path(), &with(&["--split", "batch:nothing"]), &["batch:nothing", "nothing"]);
    assert!(!dir.path().join("d").exists());
    cli(dir.path()).args(with(&["--cell-types", "B", "--negatives", "hard"])).assert().success();
    let samples = |name: &'static str, more: &[&'static str]| {
        cli(dir.path()).args(["samples", "--data", "d", "--name", name]).args(more).assert().success();
        DataSet::open(&dir.path().join("d")).unwrap().samples(name).unwrap()
    };
    let set = samples("discovery", &["--discovery", "--cell-types", "B,NK"]);
    assert!(set.samples.len() == 40 && set.samples.iter().all(|s| s.label == 1));
    let set = samples("mixed", &["--negatives", "mixed", "--negative-ratio", "2", "--seed", "7"]);
    assert_eq!(set.samples.iter().filter(|s| s.label == 0).count(), 120);
}

/// The toy pair with the cells `cells`, features in another order and named otherwise, one gene less, one peak more.
fn changed(toy: &Toy, cells: std::ops::Range<usize>) -> Toy {
    let mut t = toy.clone();
    t.barcodes = toy.barcodes[cells.clone()].iter().map(|b| format!("new-{b}")).collect();
    t.types = toy.types[cells.clone()].to_vec();
    let genes: Vec<usize> = (0..toy.genes.len()).rev().filter(|&g| g != 3).collect();
    let peaks: Vec<usize> = (0..toy.peaks.len()).map(|i| (i * 7) % toy.peaks.len()).collect();
    t.genes = genes.iter().map(|&g| toy.genes[g].clone()).collect();
    t.gene_chrom = genes.iter().map(|&g| toy.gene_chrom[g].clone()).collect();
    t.peaks = peaks.iter().map(|&p| toy.peaks[p].replacen("chr", "", 1).replacen('-', ":", 1)).collect();
    t.peaks.push("7:5-9".into());
    t.rna = toy.rna[cells.clone()].iter().map(|r| genes.iter().map(|&g| r[g]).collect()).collect();
    let atac = |r: &Vec<f32>| peaks.iter().map(|&p| r[p]).chain([1.0]).collect();
    t.atac = toy.atac[cells].iter().map(atac).collect();
    t
}

#[test]
fn data_like_others_have_their_features() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let write = |toy: &Toy, name: &str| {
        std::fs::create_dir(at(name)).unwrap();
        toy.write(&at(name))
    };
    let (rna, atac) = write(&toy, "all");
    prepare(&PrepareConfig::new(&rna, &atac), &at("data"), &()).unwrap();
    let base = DataSet::open(&at("data")).unwrap();
    let (rna, atac) = write(&changed(&toy, 20..45), "some");
    let config = PrepareConfig { like: Some(at("data")), ..PrepareConfig::new(&rna, &atac) };
    let report = prepare(&config, &at("like"), &()).unwrap();
    assert_eq!(report.like_genes, Some(Met { both: 24, absent: 1, dropped: 0 }));
    assert_eq!(report.like_peaks, Some(Met { both: 40, absent: 0, dropped: 1 }));
    let like = DataSet::open(&at("like")).unwrap();
    like.verify().unwrap();
    assert_eq!(like.vocabulary().genes, base.vocabulary().genes);
    assert_eq!(like.vocabulary().peaks, base.vocabulary().peaks);
    assert_eq!(like.features().as_ref(), base.features().as_ref());
    for i in 0..25u32 {
        let (a, b) = (base.batch_of_cells(&[20 + i]), like.batch_of_cells(&[i]));
        assert_eq!(a.atac, b.atac, "cell {i}");
        let without = |m: &Csr<f32>| {
            let (index, values) = m.row(0);
            index.iter().copied().zip(values.iter().copied()).filter(|e| e.0 != 3).collect::<Vec<_>>()
        };
        assert_eq!(without(&a.rna), without(&b.rna), "cell {i}");
    }

    // Values of another kind than the model knows, features that are not the same, flags that contradict.
    let mut fractions = changed(&toy, 0..20);
    fractions.rna.iter_mut().flatten().for_each(|v| *v /= 2.0);
    let (rna, atac) = write(&fractions, "fractions");
    let config = PrepareConfig { like: Some(at("data")), ..PrepareConfig::new(&rna, &atac) };
    let e = prepare(&config, &at("x"), &()).unwrap_err().to_string();
    assert!(e.contains("normalised") && e.contains("raw counts") && e.contains("--rna-values normalised"), "{e}");
    let asked = PrepareConfig { rna_kind: Some(MatrixKind::Normalised), ..config };
    prepare(&asked, &at("asked"), &()).unwrap();
    let mut other = toy.clone();
    other.genes = (0..toy.genes.len()).map(|i| format!("other{i}")).collect();
    let (rna, atac) = write(&other, "other");
    let config = PrepareConfig { like: Some(at("data")), ..PrepareConfig::new(&rna, &atac) };
    let e = prepare(&config, &at("x"), &()).unwrap_err().to_string();
    assert!(e.contains("other0, other1, other2") && e.contains("gene0, gene1, gene2"), "{e}");
    let both = ["prepare", "--rna", "some/rna.h5ad", "--atac", "some/atac.h5ad", "--like", "data", "--out", "x"];
    fails(dir.path(), &[&both[..], &["--gene-features", "present"]].concat(), &["--gene-features", "--like"]);
    fails(dir.path(), &["prepare", "--atac", "some/atac.h5ad", "--out", "x"], &["--like"]);
    assert!(!at("x").exists());
}

fn layer(path: &Path, name: Option<&str>) -> (Vec<String>, Csr<f32>) {
    let data = AnnData::open(path).unwrap();
    let (obs, var) = (data.names(Axis::Obs).unwrap(), data.names(Axis::Var).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut out = Csr::new();
    let m = data.matrix(name, "--layer").unwrap();
    m.for_each_block(Streaming::default(), dir.path(), &obs, &var, |b| {
        (0..b.rows()).for_each(|i| out.push_row(b.row(i).0.iter().copied().zip(b.row(i).1.iter().copied())));
        Ok(())
    })
    .unwrap();
    (obs, out)
}

#[test]
fn one_modality_alone_is_enough_for_prediction() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    toy.write(dir.path());
    let run = |args: &[&str]| {
        cli(dir.path()).args(args).assert().success();
    };
    run(&["prepare", "--rna", "rna.h5ad", "--atac", "atac.h5ad", "--out", "data"]);
    let train = ["train", "--data", "data", "--epochs", "2", "--hidden", "8", "--embedding-dim", "8"];
    run(&[&train[..], &["--out", "run"]].concat());
    run(&[&train[..], &["--out", "large-batch", "--recipe", "large-batch"]].concat());
    run(&["prepare", "--atac", "atac.h5ad", "--like", "data", "--out", "atac"]);
    run(&["prepare", "--rna", "rna.h5ad", "--like", "data", "--out", "rna"]);
    let (rna, atac) =
        (DataSet::open(&dir.path().join("rna")).unwrap(), DataSet::open(&dir.path().join("atac")).unwrap());
    assert_eq!(rna.kinds(), (Some(MatrixKind::Counts), None));
    assert_eq!(atac.kinds(), (None, Some(MatrixKind::Counts)));
    assert_eq!((rna.entries().1, atac.entries().0), (0, 0));
    assert!(rna.sample_sets().unwrap().is_empty());
    for (trained, count) in [("run", "probability"), ("large-batch", "count")] {
        run(&["translate", "--run", trained, "--out", "from-both.h5ad", "--force"]);
        run(&["translate", "--run", trained, "--data", "atac", "--out", "from-atac.h5ad", "--force"]);
        for name in [None, Some(count)] {
            let both = layer(&dir.path().join("from-both.h5ad"), name);
            assert_eq!(both, layer(&dir.path().join("from-atac.h5ad"), name));
            assert_eq!(both.0, toy.barcodes);
            assert!(name.is_none() || !both.1.values.is_empty(), "nothing was predicted");
        }
    }
    // The towers place cells by what there is of them.
    for side in ["rna", "atac"] {
        run(&["embed", "--run", "run", "--data", side, "--out", "z.h5ad", "--force"]);
        run(&["embed", "--run", "run", "--out", "both.h5ad", "--force"]);
        let places = |file: &str, name: &str| {
            let f = hdf5::File::open(dir.path().join(file)).unwrap();
            f.dataset(&format!("obsm/X_sccrossrec{name}")).unwrap().read_raw::<f32>().unwrap()
        };
        let own = places("both.h5ad", &format!("_{side}"));
        assert_eq!(places("z.h5ad", ""), own);
        assert_eq!(places("z.h5ad", &format!("_{side}")), own);
    }
    for (args, parts) in [
        (&["translate", "--run", "run", "--data", "rna", "--out", "x.h5ad"][..], ["no ATAC", "--atac"]),
        (&["embed", "--run", "large-batch", "--data", "atac", "--out", "x.h5ad"], ["no RNA", "--rna"]),
        (&["embed", "--run", "large-batch", "--data", "rna", "--out", "x.h5ad"], ["no ATAC", "--rna"]),
        (&["embed", "--run", "run", "--attention", "--data", "rna", "--out", "x.h5ad"], ["no ATAC", "--rna"]),
        (&["discover", "--run", "run", "--data", "rna", "--out", "x"], ["no ATAC", "discovery"]),
        (&["evaluate", "--run", "run", "--data", "atac"], ["no RNA", "evaluation"]),
        (&["train", "--data", "atac", "--out", "x"], ["no RNA", "training"]),
    ] {
        fails(dir.path(), args, &parts);
    }
    assert!(!dir.path().join("x.h5ad").exists());
}

#[test]
fn columns_of_cells_are_kept() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = toy.write(dir.path());
    let n = toy.barcodes.len();
    let obs = Frame {
        index: toy.barcodes.clone(),
        columns: vec![
            ("cell_type".into(), Column::Strings(toy.types.clone())),
            (
                "donor".into(),
                Column::Categorical {
                    codes: (0..n).map(|i| (i % 5) as i32 - 1).collect(),
                    categories: ["d3", "d1", "d2", "d0"].map(String::from).to_vec(),
                },
            ),
            ("age".into(), Column::Ints((0..n).map(|i| 20 + (i % 4) as i64).collect())),
            ("depth".into(), Column::Floats(vec![0.5; n])),
            ("treated".into(), Column::Bools((0..n).map(|i| i % 2 == 0).collect())),
        ],
    };
    let columns = vec![("chrom".to_string(), Column::Strings(toy.gene_chrom.clone()))];
    let var = Frame { index: toy.genes.clone(), columns };
    crate::common::toy::write(&rna, &obs, &var, &toy.rna, crate::common::toy::Store::Csr);
    let config = PrepareConfig {
        samples: SampleConfig { split: SplitBy::Batch("donor".into()), ..SampleConfig::default() },
        ..PrepareConfig::new(&rna, &atac)
    };
    let out = dir.path().join("data");
    prepare(&config, &out, &()).unwrap();
    let data = DataSet::open(&out).unwrap();
    let v = data.vocabulary();
    let names: Vec<&str> = v.obs.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["age", "donor", "treated"], "depth is a measurement");
    for i in 0..n {
        assert_eq!(v.obs[0].value(i), Some(["20", "21", "22", "23"][i % 4]));
        assert_eq!(v.obs[1].value(i), [None, Some("d3"), Some("d1"), Some("d2"), Some("d0")][i % 5]);
        assert_eq!(v.obs[2].value(i), Some(if i % 2 == 0 { "True" } else { "False" }));
    }
    assert_eq!(v.obs[1].categories, ["d0", "d1", "d2", "d3"]);
    // A code that no category has is found out, not looked up.
    let path = out.join("obs.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 0x10;
    std::fs::write(&path, &bytes).unwrap();
    let e = DataSet::open(&out).unwrap_err().to_string();
    assert!(e.contains("obs.bin") && e.contains("checksum"), "{e}");
}

/// What spoils a result is told or refused, never taken in silence.
#[test]
fn nothing_is_mispaired_or_left_out_in_silence() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let write = |toy: &Toy, name: &str| {
        std::fs::create_dir(at(name)).unwrap();
        toy.write(&at(name))
    };
    let (rna, atac) = write(&toy, "plain");
    let mut turned = toy.clone();
    turned.barcodes.reverse();
    let (_, turned) = write(&turned, "turned");
    let arg = |p: &Path| p.to_str().unwrap().to_string();
    let (rna, atac, turned) = (arg(&rna), arg(&atac), arg(&turned));
    let base = ["prepare", "--out", "d", "--rna", rna.as_str(), "--atac"];
    let with = |more: &[&str]| [&base[..], more].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let refused = |more: &[&str], parts: &[&str]| {
        let args = with(more);
        fails(dir.path(), &args.iter().map(String::as_str).collect::<Vec<_>>(), parts);
    };
    refused(&[&turned, "--pair", "by-position"], &["60 cells", "at another place", "leave out --pair"]);
    refused(&[&rna], &["--atac", "25 features are those of --rna"]);
    let fifo = at("fifo.h5ad");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    refused(&[fifo.to_str().unwrap()], &["fifo.h5ad", "neither a file nor a folder"]);

    // Counts of what has no place, of what has no partner, and of labels that contradict.
    let obs = Frame {
        index: toy.barcodes.clone(),
        columns: vec![("cell_type".into(), Column::Strings(vec!["other".into(); 60]))],
    };
    let chrom = |p: &String| p.split('-').next().unwrap().replace("chr9", "chr77");
    let columns = vec![("chrom".to_string(), Column::Strings(toy.peaks.iter().map(chrom).collect()))];
    let var = Frame { index: (0..40).map(|i| format!("peak{i}")).collect(), columns };
    crate::common::toy::write(&at("unplaced.h5ad"), &obs, &var, &toy.atac, crate::common::toy::Store::Csr);
    let out = cli(dir.path()).args(with(&["unplaced.h5ad"])).assert().success();
    let said = String::from_utf8_lossy(&out.get_output().stderr).into_owned();
    for part in [
        "peaks on a chromosome without a gene, which match nothing: 13 of 40",
        "genes with a chromosome but no TSS: 25 of 25",
        "peaks with a chromosome but no start and end: 40 of 40",
        "`cell_type` of 60 cells differs between the two files; that of the RNA file is taken",
    ] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }

    // `tss` is read; so are places of peaks whose names tell none, also for --like.
    let mut told = toy.clone();
    told.gene_columns = vec![("tss".into(), Column::Ints((0..25).map(|i| 10 * i).collect()))];
    let (rna, _) = write(&told, "told");
    prepare(&PrepareConfig::new(&rna, &atac), &at("told-data"), &()).unwrap();
    let data = DataSet::open(&at("told-data")).unwrap();
    assert_eq!(data.vocabulary().genes[7].tss, Some(70));
    let part = |k: usize| toy.peaks.iter().map(|p| p.split('-').nth(k).unwrap().to_string()).collect::<Vec<_>>();
    let number = |k| Column::Ints(part(k).iter().map(|n| n.parse().unwrap()).collect());
    let columns = vec![
        ("chrom".to_string(), Column::Strings(part(0))),
        ("chromStart".into(), number(1)),
        ("chromEnd".into(), number(2)),
    ];
    let var = Frame { index: (0..40).map(|i| format!("peak{i}")).collect(), columns };
    crate::common::toy::write(&at("placed.h5ad"), &obs, &var, &toy.atac, crate::common::toy::Store::Csr);
    let config = PrepareConfig { like: Some(at("told-data")), ..PrepareConfig::new(&rna, at("placed.h5ad")) };
    let report = prepare(&config, &at("by-place"), &()).unwrap();
    assert_eq!(report.like_peaks, Some(Met { both: 40, absent: 0, dropped: 0 }));
}

#[test]
fn names_may_hold_commas_and_numbers_gaps() {
    let mut toy = Toy::new();
    toy.types = toy.types.iter().map(|t| if t == "T" { "T, naive".into() } else { t.clone() }).collect();
    let dir = tempfile::tempdir().unwrap();
    let (rna, _) = toy.write(dir.path());
    let donor = (0..60).map(|i| if i == 7 { f64::NAN } else { (i % 4) as f64 }).collect();
    let obs = Frame {
        index: toy.barcodes.clone(),
        columns: vec![
            ("cell_type".into(), Column::Strings(toy.types.clone())),
            ("donor".into(), Column::Floats(donor)),
        ],
    };
    let columns = vec![("chrom".to_string(), Column::Strings(toy.gene_chrom.clone()))];
    let var = Frame { index: toy.genes.clone(), columns };
    crate::common::toy::write(&rna, &obs, &var, &toy.rna, crate::common::toy::Store::Csr);
    cli(dir.path()).args(["prepare", "--rna", "rna.h5ad", "--atac", "atac.h5ad", "--out", "d"]).assert().success();
    let samples = |name: &str, more: &[&str]| {
        let done = cli(dir.path()).args(["samples", "--data", "d", "--name", name]).args(more).assert().success();
        let said = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
        (DataSet::open(&dir.path().join("d")).unwrap().samples(name).unwrap(), said)
    };
    let (set, _) = samples("two", &["--cell-types", "T, naive,B"]);
    assert_eq!(set.samples.iter().filter(|s| s.label == 1).count(), 40);
    let (_, said) = samples("held", &["--split", "batch:donor", "--test-batches", "3", "--negative-ratio", "0"]);
    assert!(said.contains("1 cells are of no batch"), "{said}");
}

/// Files without columns of cells, as those of 10x, take a table.
#[test]
fn a_table_of_cells_gives_types_and_batches() {
    let toy = Toy::new();
    let dir = tempfile::tempdir().unwrap();
    let case = crate::common::forms::all(dir.path(), &toy).into_iter().find(|c| c.name == "Matrix Market").unwrap();
    let lines = toy.barcodes.iter().zip(&toy.types).enumerate().rev();
    let rows = lines.map(|(i, (b, t))| format!("\"{b}\",\"{t}, sorted\",d{}\n", i % 5)).collect::<String>();
    std::fs::write(dir.path().join("cells.csv"), format!("barcode,cell_type,donor\nSTRANGER-1,Z,d9\n{rows}")).unwrap();
    let mtx = case.rna.to_str().unwrap();
    let base = ["prepare", "--tenx", mtx, "--obs", "cells.csv", "--split", "batch:donor", "--out"];
    cli(dir.path()).args([&base[..], &["d"]].concat()).assert().success();
    let data = DataSet::open(&dir.path().join("d")).unwrap();
    let v = data.vocabulary();
    assert_eq!(v.cell_types, ["B, sorted", "NK, sorted", "T, sorted"]);
    for (i, t) in toy.types.iter().enumerate() {
        assert_eq!(v.cell_types[v.cell_type[i] as usize], format!("{t}, sorted"));
        assert_eq!(v.obs[0].value(i), Some(format!("d{}", i % 5).as_str()));
    }
    assert_eq!(data.samples("default").unwrap().recipe["split"], "batch:donor");
    fails(dir.path(), &[&base[..], &["e", "--cell-type-column", "kind"]].concat(), &["`kind`", "cell_type, donor"]);
    std::fs::write(dir.path().join("cells.csv"), "barcode,cell_type\nSTRANGER-1,Z\n").unwrap();
    fails(dir.path(), &[&base[..], &["e"]].concat(), &["knows none of the cells", "STRANGER-1", "CELL000-1"]);
}
