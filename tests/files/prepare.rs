//! From two AnnData files to shards and sample sets: contents, determinism, real data.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::common::python::{python_with_anndata, run_python};
use crate::common::toy::{Store, Toy, replace_dense, write};
use assert_cmd::Command;
use sccrossrec::data::anndata::{Column, Frame, MatrixKind, Streaming};
use sccrossrec::data::cells::Strip;
use sccrossrec::data::source::Select;
use sccrossrec::dataset::{DataSet, Negatives, Sample, SampleConfig, SampleSet, SplitBy, draw_samples};
use sccrossrec::prepare::{GeneFeatures, Pairing, PrepareConfig, prepare};
use sccrossrec::progress::Progress;

/// Keeps the lines of news.
#[derive(Default)]
struct Said(std::sync::Mutex<Vec<String>>);

impl Progress for Said {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_string());
    }
}

fn go(config: &PrepareConfig, out: &Path) -> DataSet {
    prepare(config, out, &()).unwrap();
    let data = DataSet::open(out).unwrap();
    data.verify().unwrap();
    data
}

/// Every file of a data set but the manifest (which tells where the data came from).
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else if path.file_name().unwrap() != "dataset.json" {
                out.insert(path.strip_prefix(root).unwrap().to_path_buf(), std::fs::read(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(dir, dir, &mut out);
    assert!(out.len() >= 6, "{:?}", out.keys());
    out
}

/// The cells of the data set as dense rows.
fn dense(data: &DataSet) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let v = data.vocabulary();
    let (mut rna, mut atac) = (Vec::new(), Vec::new());
    for i in 0..data.n_cells() {
        let cell = data.cell(i);
        let (mut r, mut a) = (vec![0.0; v.genes.len()], vec![0.0; v.peaks.len()]);
        cell.genes.iter().enumerate().for_each(|(k, &g)| r[g as usize] = cell.expr.get(k));
        cell.peaks.iter().enumerate().for_each(|(k, &p)| a[p as usize] = cell.acc.get(k));
        rna.push(r);
        atac.push(a);
    }
    (rna, atac)
}

#[test]
fn contents_are_those_of_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let (rna, atac) = toy.write(dir.path());
    let config = PrepareConfig { shard_cells: 7, ..PrepareConfig::new(rna, atac) };
    let data = go(&config, &dir.path().join("data"));
    let v = data.vocabulary();
    assert_eq!(dense(&data), (toy.rna.clone(), toy.atac.clone()));
    assert_eq!(v.cells, toy.barcodes);
    assert_eq!(v.genes.iter().map(|g| g.name.clone()).collect::<Vec<_>>(), toy.genes);
    assert_eq!(v.chromosomes, ["chr2", "chr1", "chrX", "chr9"], "order of first appearance over genes, then peaks");
    assert_eq!(v.unknown, None);
    assert_eq!((v.peaks[4].start, v.peaks[4].end, v.peaks[4].chrom), (400, 450, 0));
    assert_eq!(v.cell_types, ["B", "NK", "T"]);
    assert!(v.cell_type.iter().zip(&toy.types).all(|(&t, name)| v.cell_types[t as usize] == *name));
    assert_eq!(data.kinds(), (Some(MatrixKind::Counts), Some(MatrixKind::Counts)));
    for i in 0..data.n_cells() {
        let cell = data.cell(i);
        assert!(cell.genes.is_sorted_by_key(|&g| (v.genes[g as usize].chrom, g)));
        assert!(cell.peaks.is_sorted_by_key(|&p| (v.peaks[p as usize].chrom, p)));
    }
    let set = data.samples("default").unwrap();
    let numbers: Vec<u32> = (0..set.samples.len() as u32).collect();
    let batch = data.batch(&set, &numbers);
    batch.validate(&data.features()).unwrap();
    for (k, s) in set.samples.iter().enumerate() {
        assert_eq!(batch.rna.row(k).0, data.cell(s.rna as usize).genes);
        assert_eq!(batch.atac.row(k).0, data.cell(s.atac as usize).peaks);
        assert_eq!((batch.label[k], batch.sample[k]), (s.label, k as u64));
    }
    let batch = data.batch_of_cells(&[3, 1]);
    assert_eq!((batch.label.clone(), batch.sample.clone()), (vec![1, 1], vec![3, 1]));
    assert_eq!(batch.rna.row(1).0, data.cell(1).genes);
}

#[test]
fn layout_block_size_and_threads_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let mut want: Option<(String, BTreeMap<PathBuf, Vec<u8>>)> = None;
    for (k, store) in [Store::Csr, Store::Csc, Store::Dense, Store::OldCsr, Store::UntidyCsr].into_iter().enumerate() {
        let sub = dir.path().join(format!("{store:?}"));
        std::fs::create_dir(&sub).unwrap();
        let (rna, atac) = toy.write_as(&sub, store);
        for (threads, block, bucket) in [(1, 1, 1), (2, 100, 30), (4, 1 << 20, 1 << 20)] {
            let config = PrepareConfig {
                shard_cells: 16,
                streaming: Streaming { block, bucket },
                ..PrepareConfig::new(&rna, &atac)
            };
            let out = sub.join(format!("out{threads}"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let data = pool.install(|| go(&config, &out));
            let got = (data.hash().to_string(), files(&out));
            match &want {
                None => want = Some(got),
                Some(want) => assert!(*want == got, "{k} {store:?}, {threads} threads, block {block}"),
            }
        }
    }
}

#[test]
fn any_number_type_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy::new();
    toy.atac.iter_mut().flatten().for_each(|v| *v = v.min(1.0));
    let (rna, atac) = toy.write_as(dir.path(), Store::Dense);
    let (n, g, p) = (toy.barcodes.len(), toy.genes.len(), toy.peaks.len());
    let (x, y) = (toy.rna.concat(), toy.atac.concat());
    let mut hashes = HashSet::new();
    type Change<'a> = Box<dyn Fn() + 'a>;
    let changes: Vec<(&str, Change)> = vec![
        ("f32", Box::new(|| {})),
        ("f64", Box::new(|| replace_dense::<f64>(&rna, n, g, &x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>()))),
        ("i64", Box::new(|| replace_dense::<i64>(&rna, n, g, &x.iter().map(|&v| v as i64).collect::<Vec<_>>()))),
        ("u8", Box::new(|| replace_dense::<u8>(&rna, n, g, &x.iter().map(|&v| v as u8).collect::<Vec<_>>()))),
        ("i16", Box::new(|| replace_dense::<i16>(&rna, n, g, &x.iter().map(|&v| v as i16).collect::<Vec<_>>()))),
        ("bool", Box::new(|| replace_dense::<bool>(&atac, n, p, &y.iter().map(|&v| v == 1.0).collect::<Vec<_>>()))),
    ];
    for (name, change) in changes {
        change();
        let data = go(&PrepareConfig::new(&rna, &atac), &dir.path().join(name));
        assert_eq!(data.kinds(), (Some(MatrixKind::Counts), Some(MatrixKind::Binary)), "{name}");
        hashes.insert(data.hash().to_string());
        assert_eq!(dense(&data), (toy.rna.clone(), toy.atac.clone()), "{name}");
    }
    assert_eq!(hashes.len(), 1);
}

#[test]
fn cells_are_matched_by_barcode_and_empty_ones_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let (rna, _) = toy.write(dir.path());
    // ATAC in another order, without cells 0 to 9, with five of its own; cell 20 has no peak.
    let mut order: Vec<usize> = (10..60).collect();
    sccrossrec::rng::Rng::new(1, 1).shuffle(&mut order);
    let mut names: Vec<String> = order.iter().map(|&i| toy.barcodes[i].clone()).collect();
    let mut rows: Vec<Vec<f32>> =
        order.iter().map(|&i| if i == 20 { vec![0.0; toy.peaks.len()] } else { toy.atac[i].clone() }).collect();
    for k in 0..5 {
        names.insert(k * 7, format!("OTHER{k}"));
        rows.insert(k * 7, vec![1.0; toy.peaks.len()]);
    }
    let atac = dir.path().join("other.h5ad");
    let obs = Frame { index: names, columns: vec![] };
    let var = Frame { index: toy.peaks.clone(), columns: vec![] };
    write(&atac, &obs, &var, &rows, Store::Csc);
    let said = Said::default();
    let out = dir.path().join("data");
    let report = prepare(&PrepareConfig::new(&rna, &atac), &out, &said).unwrap();
    assert_eq!((report.cells, report.unmatched, report.empty), (49, (10, 5), 1));
    let said = said.0.into_inner().unwrap().join("\n");
    assert!(said.contains("only in the RNA file: 10; only in the ATAC file: 5"), "{said}");
    assert!(said.contains("dropped 1 cells (0 without a gene, 1 without a peak)"), "{said}");
    let data = DataSet::open(&out).unwrap();
    let kept: Vec<usize> = (10..60).filter(|&i| i != 20).collect();
    assert_eq!(data.vocabulary().cells, kept.iter().map(|&i| toy.barcodes[i].clone()).collect::<Vec<_>>());
    let (r, a) = dense(&data);
    for (k, &i) in kept.iter().enumerate() {
        assert_eq!((&r[k], &a[k]), (&toy.rna[i], &toy.atac[i]), "cell {i}");
    }
}

#[test]
fn pairing_by_position_and_its_hint() {
    let dir = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let (rna, _) = toy.write(dir.path());
    let mut other = toy.clone();
    other.barcodes = toy.barcodes.iter().map(|b| format!("{b}_ATAC")).collect();
    let sub = dir.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    let (_, atac) = other.write(&sub);
    let mut config = PrepareConfig::new(&rna, &atac);
    let out = dir.path().join("data");
    config.barcodes = Strip::No;
    let e = prepare(&config, &out, &()).unwrap_err().to_string();
    for part in ["only 0 of 60", "60 of 60 would agree once the ending _ATAC is taken off", "--barcodes strip"] {
        assert!(e.contains(part), "{part}: {e}");
    }
    assert!(!out.exists());
    config.pairing = Pairing::ByPosition;
    let data = go(&config, &out);
    assert_eq!(data.vocabulary().cells, toy.barcodes);
    assert_eq!(dense(&data), (toy.rna, toy.atac));
}

#[test]
fn gene_features_strand_and_missing_values() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy::new();
    let n = toy.genes.len();
    let strand: Vec<String> = (0..n).map(|i| ["+", "-", "nan"][i % 3].to_string()).collect();
    let mut means: Vec<f64> = (0..n).map(|i| i as f64 / 4.0).collect();
    means[2] = f64::NAN;
    toy.gene_columns = vec![
        ("highly_variable".into(), Column::Bools((0..n).map(|i| i % 2 == 0).collect())),
        ("_".into(), Column::Strings(strand)),
        ("means".into(), Column::Floats(means)),
        ("chromStart".into(), Column::Ints((0..n as i64).map(|i| 1000 * i).collect())),
        ("chromEnd".into(), Column::Ints((0..n as i64).map(|i| 1000 * i + 500).collect())),
    ];
    let (rna, atac) = toy.write(dir.path());
    let mut config = PrepareConfig::new(rna, atac);
    let data = go(&config, &dir.path().join("none"));
    assert_eq!(data.features().extra(), 0);
    config.gene_features = GeneFeatures::Present;
    let data = go(&config, &dir.path().join("present"));
    assert_eq!(data.gene_features(), ["means", "strand", "highly_variable"], "in the order of the weights");
    let f = data.features();
    assert_eq!(f.gene_extra[..9], [0.0, 1.0, 1.0, 0.25, 0.0, 0.0, 0.0, 0.5, 1.0]);
    let tss: Vec<Option<i64>> = data.vocabulary().genes[..3].iter().map(|g| g.tss).collect();
    assert_eq!(tss, [Some(0), Some(1499), None]);
    config.gene_features = "strand,means".parse().unwrap();
    let data = go(&config, &dir.path().join("two"));
    assert_eq!(data.gene_features(), ["means", "strand"]);
    config.gene_features = GeneFeatures::Named(vec!["variances_norm".into()]);
    let e = prepare(&config, &dir.path().join("x"), &()).unwrap_err().to_string();
    assert!(e.contains("variances_norm") && e.contains("highly_variable"), "{e}");
    assert!("means,colour".parse::<GeneFeatures>().unwrap_err().contains("colour"));
}

#[test]
fn chromosomes_names_and_unknowns() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy::new();
    toy.gene_chrom = toy.gene_chrom.iter().map(|c| c.trim_start_matches("chr").to_string()).collect();
    toy.gene_chrom[0] = "nan".into();
    toy.peaks[2] = "no place".into();
    toy.peaks[5] = "GL000205.2-5-9".into();
    toy.genes[7] = toy.genes[6].clone();
    toy.peaks[11] = toy.peaks[10].clone();
    toy.peaks[12] = "chrUnknown-5-9".into();
    let (rna, atac) = toy.write(dir.path());
    let data = go(&PrepareConfig::new(rna, atac), &dir.path().join("data"));
    let v = data.vocabulary();
    assert_eq!(v.chromosomes, ["chrUnknown", "chr1", "X", "chr2", "GL000205.2", "chr9"], "as the peaks call them");
    assert_eq!((v.unknown, v.genes[0].chrom, v.peaks[2].chrom, v.peaks[2].start), (Some(0), 0, 0, -1));
    assert_eq!(v.chromosomes[v.peaks[5].chrom as usize], "GL000205.2");
    assert_eq!(data.features().unknown, Some(0));
    assert_eq!(v.genes[7].name, "gene6-1", "a second gene of one name");
    let place = |i: usize| (v.peaks[i].chrom, v.peaks[i].start, v.peaks[i].end);
    assert_eq!(place(11), place(10), "a second peak of one name lies where the first does");
    assert_eq!(v.peaks[11].name, format!("{}-1", v.peaks[10].name));
    assert_eq!(place(12), (0, -1, -1), "what is unknown matches nothing");
}

#[test]
fn sequences_and_their_sums() {
    let dir = tempfile::tempdir().unwrap();
    let toy = Toy::new();
    let (rna, atac) = toy.write(dir.path());
    let fasta = dir.path().join("peaks.fa");
    let mut rng = sccrossrec::rng::Rng::new(3, 3);
    let sequences: Vec<String> = (0..toy.peaks.len())
        .map(|p| (0..20 + p * 10).map(|_| ["A", "c", "G", "t", "N"][rng.below(5)]).collect::<String>())
        .collect();
    let text: String =
        toy.peaks.iter().zip(&sequences).rev().map(|(p, s)| format!(">{}\n{s}\n", p.replacen('-', ":", 1))).collect();
    std::fs::write(&fasta, text).unwrap();
    let config = PrepareConfig { fasta: Some(fasta), shard_cells: 11, ..PrepareConfig::new(rna, atac) };
    let data = go(&config, &dir.path().join("data"));
    let f = data.features();
    assert_eq!(f.dna_length(), 256);
    let code = |b: u8| match b.to_ascii_uppercase() {
        b'A' => 1u8,
        b'T' => 2,
        b'G' => 3,
        b'C' => 4,
        _ => 0,
    };
    for (p, s) in sequences.iter().enumerate() {
        let mut want: Vec<u8> = s.bytes().take(256).map(code).collect();
        want.resize(256, 0);
        assert_eq!(f.peak_dna[p * 256..(p + 1) * 256], want, "peak {p}");
    }
}

fn positives(set: &SampleSet, part: &[u32]) -> usize {
    part.iter().filter(|&&k| set.samples[k as usize].label == 1).count()
}

#[test]
fn sample_sets_keep_their_promises() {
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = Toy::new().write(dir.path());
    let data = go(&PrepareConfig::new(rna, atac), &dir.path().join("data"));
    let v = data.vocabulary();
    let kind = |s: &Sample| v.cell_type[s.rna as usize] == v.cell_type[s.atac as usize];
    let draw = |config: SampleConfig| draw_samples(v, &config).unwrap();

    for (negatives, ratio) in [(Negatives::Easy, 1.0), (Negatives::Hard, 2.0), (Negatives::Mixed, 1.5)] {
        for split in [SplitBy::Cell, SplitBy::Sample] {
            let config =
                SampleConfig { negatives, negative_ratio: ratio, split: split.clone(), ..SampleConfig::default() };
            let set = draw(config.clone());
            assert_eq!(set, draw(config.clone()), "seeded");
            assert_ne!(set, draw(SampleConfig { seed: 907, ..config.clone() }));
            let negative: Vec<&Sample> = set.samples.iter().filter(|s| s.label == 0).collect();
            assert_eq!((set.samples.len() - negative.len(), negative.len()), (60, (60.0 * ratio) as usize));
            assert!(set.samples.iter().all(|s| (s.rna == s.atac) == (s.label == 1)));
            if split == SplitBy::Sample {
                // A part of six cells has too few pairs for this; the whole has enough.
                let distinct = negative.iter().map(|s| (s.rna, s.atac)).collect::<HashSet<_>>().len();
                assert_eq!(distinct, negative.len());
            }
            let same = negative.iter().filter(|s| kind(s)).count();
            match negatives {
                Negatives::Easy => assert_eq!(same, 0),
                Negatives::Hard => assert_eq!(same, negative.len()),
                Negatives::Mixed if split == SplitBy::Sample => assert_eq!(same, negative.len() / 2),
                // Half of each part, the odd one being easy: 36 of 72, 4 of 9, 4 of 9.
                Negatives::Mixed => assert_eq!(same, 36 + 4 + 4),
            }
            let mut all: Vec<u32> = [&set.train[..], &set.val, &set.test].concat();
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..set.samples.len() as u32), "the parts are a partition");
            if split == SplitBy::Sample {
                assert_eq!((set.val.len(), set.test.len()), (set.samples.len() / 10, set.samples.len() / 10));
                continue;
            }
            let cells = |part: &[u32]| -> HashSet<u32> {
                part.iter().map(|&k| set.samples[k as usize]).flat_map(|s| [s.rna, s.atac]).collect()
            };
            let (train, val, test) = (cells(&set.train), cells(&set.val), cells(&set.test));
            assert!(train.is_disjoint(&test) && train.is_disjoint(&val) && val.is_disjoint(&test));
            for (part, n) in [(&set.train, 48), (&set.val, 6), (&set.test, 6)] {
                let p = positives(&set, part);
                assert_eq!((p, part.len() - p), (n, (n as f64 * ratio) as usize), "every part keeps the ratio");
            }
        }
    }

    let only = draw(SampleConfig { cell_types: vec!["B".into(), "T".into()], ..SampleConfig::default() });
    assert_eq!(positives(&only, &[&only.train[..], &only.val, &only.test].concat()), 40);
    let names: HashSet<&str> = only
        .samples
        .iter()
        .flat_map(|s| [s.rna, s.atac])
        .map(|c| v.cell_types[v.cell_type[c as usize] as usize].as_str())
        .collect();
    assert_eq!(names, HashSet::from(["B", "T"]));
    let discovery = draw(SampleConfig { discovery: true, ..SampleConfig::default() });
    assert!(discovery.samples.iter().all(|s| s.label == 1) && discovery.samples.len() == 60);

    for (config, part) in [
        (SampleConfig { cell_types: vec!["B".into()], ..SampleConfig::default() }, "two types"),
        (SampleConfig { cell_types: vec!["Q".into()], ..SampleConfig::default() }, "\"Q\""),
        (SampleConfig { negative_ratio: -1.0, ..SampleConfig::default() }, "--negative-ratio"),
        (SampleConfig { negative_ratio: f64::NAN, ..SampleConfig::default() }, "--negative-ratio"),
    ] {
        let e = draw_samples(v, &config).unwrap_err().to_string();
        assert!(e.contains(part), "{e}");
    }

    data.save_samples("mine", &only, false).unwrap();
    assert_eq!(data.samples("mine").unwrap(), only);
    assert!(data.save_samples("mine", &discovery, false).unwrap_err().to_string().contains("--force"));
    data.save_samples("mine", &discovery, true).unwrap();
    assert_eq!(data.samples("mine").unwrap(), discovery);
    assert_eq!(data.sample_sets().unwrap(), ["default", "mine"]);
    let e = data.samples("other").unwrap_err().to_string();
    assert!(e.contains("default, mine"), "{e}");
    for name in ["", "../x", "a/b", ".hidden"] {
        assert!(data.save_samples(name, &only, true).is_err(), "{name:?}");
    }
}

/// Hard negatives come per type in proportion to its size; types of one cell give none.
#[test]
fn hard_negatives_in_proportion() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy::new();
    toy.types = (0..60)
        .map(|i| {
            if i < 40 {
                "A"
            } else if i < 59 {
                "B"
            } else {
                "C"
            }
            .to_string()
        })
        .collect();
    let (rna, atac) = toy.write(dir.path());
    let config = PrepareConfig {
        samples: SampleConfig { negatives: Negatives::Hard, split: SplitBy::Sample, ..SampleConfig::default() },
        ..PrepareConfig::new(rna, atac)
    };
    let data = go(&config, &dir.path().join("data"));
    let v = data.vocabulary();
    let mut count = [0; 3];
    for s in data.samples("default").unwrap().samples.iter().filter(|s| s.label == 0) {
        assert_eq!(v.cell_type[s.rna as usize], v.cell_type[s.atac as usize]);
        count[v.cell_type[s.rna as usize] as usize] += 1;
    }
    assert_eq!(count, [41, 19, 0], "60 × 40/59 and 60 × 19/59");
}

#[test]
fn without_labels_there_are_positives_and_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = Toy::new().write(dir.path());
    crate::common::toy::append(&rna).group("obs").unwrap().unlink("cell_type").unwrap();
    let said = Said::default();
    let out = dir.path().join("data");
    let report = prepare(&PrepareConfig::new(&rna, &atac), &out, &said).unwrap();
    assert_eq!(report.samples, (60, 0));
    assert!(said.0.lock().unwrap().iter().any(|l| l.contains("--cell-type-column")));
    let data = DataSet::open(&out).unwrap();
    let e = draw_samples(data.vocabulary(), &SampleConfig::default()).unwrap_err().to_string();
    assert!(e.contains("--cell-type-column"), "{e}");
}

fn real_data() -> Option<PathBuf> {
    let dir = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("SKIPPED: SCCROSSREC_TEST_DATA is not set, so no real data are read");
    }
    dir
}

fn cli() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sccrossrec"))
}

/// Python's own reading of the two files, as sums by row and column.
const SUMS: &str = r#"
import sys, json, anndata, numpy as np, scipy.sparse as sp
out = {}
for what, path in (("rna", sys.argv[1]), ("atac", sys.argv[2])):
    a = anndata.read_h5ad(path)
    x = a.layers[sys.argv[3]] if len(sys.argv) > 3 else a.X
    x = sp.csr_matrix(x).astype(np.float64)
    x.eliminate_zeros()
    w = np.arange(1, x.shape[1] + 1) % 97
    out[what] = dict(cells=list(a.obs_names), names=list(a.var_names), types=[str(t) for t in a.obs["cell_type"]],
        rows=np.asarray(x.sum(1)).ravel().tolist(), counts=np.diff(x.indptr).tolist(),
        columns=np.asarray(x.sum(0)).ravel().tolist(), mixed=(x @ w).tolist())
json.dump(out, sys.stdout)
"#;

fn compare_with_python(rna: &Path, atac: &Path, layer: Option<&str>, data: &DataSet) {
    let Some(python) = python_with_anndata() else { return };
    let mut args = vec![rna, atac];
    args.extend(layer.map(Path::new));
    // Old files make anndata itself warn of its own reader: -W error would test that, not us.
    let script = format!("import warnings; warnings.simplefilter('ignore')\n{SUMS}");
    let sums: serde_json::Value = serde_json::from_str(&run_python(&python, &script, &args)).unwrap();
    let strings = |v: &serde_json::Value| -> Vec<String> {
        v.as_array().unwrap().iter().map(|s| s.as_str().unwrap().to_string()).collect()
    };
    let numbers =
        |v: &serde_json::Value| -> Vec<f64> { v.as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect() };
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * (1.0 + a.abs().max(b.abs()));
    let v = data.vocabulary();
    assert_eq!(v.genes.iter().map(|g| g.name.clone()).collect::<Vec<_>>(), strings(&sums["rna"]["names"]));
    assert_eq!(v.peaks.iter().map(|p| p.name.clone()).collect::<Vec<_>>(), strings(&sums["atac"]["names"]));
    for what in ["rna", "atac"] {
        let s = &sums[what];
        let place: HashMap<String, usize> = strings(&s["cells"]).into_iter().enumerate().map(|(i, c)| (c, i)).collect();
        let (rows, counts, mixed, types) =
            (numbers(&s["rows"]), numbers(&s["counts"]), numbers(&s["mixed"]), strings(&s["types"]));
        let mut columns = vec![0.0; strings(&s["names"]).len()];
        for i in 0..data.n_cells() {
            let at = place[&v.cells[i]];
            let cell = data.cell(i);
            let (index, values) = if what == "rna" { (&cell.genes, &cell.expr) } else { (&cell.peaks, &cell.acc) };
            let (mut sum, mut weighted) = (0.0, 0.0);
            for (k, &c) in index.iter().enumerate() {
                let x = f64::from(values.get(k));
                sum += x;
                weighted += x * ((c + 1) % 97) as f64;
                columns[c as usize] += x;
            }
            assert_eq!(index.len() as f64, counts[at], "{what} of cell {i}");
            assert!(close(sum, rows[at]) && close(weighted, mixed[at]), "{what} of cell {i}");
            assert_eq!(v.cell_types[v.cell_type[i] as usize], types[at]);
        }
        for (c, (ours, theirs)) in columns.iter().zip(numbers(&s["columns"])).enumerate() {
            assert!(close(*ours, theirs), "{what} column {c}: {ours} {theirs}");
        }
    }
}

#[test]
fn real_neurips_starter() {
    let Some(root) = real_data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = (root.join("neurips2021_starter/rna.h5ad"), root.join("neurips2021_starter/atac.h5ad"));
    let gtf = root.join("gtf/gencode.v43.genes.gtf.gz");
    for layer in [None, Some("counts")] {
        let config = PrepareConfig {
            gtf: Some(gtf.clone()),
            rna_select: Select { layer: layer.map(String::from), ..Select::default() },
            atac_select: Select { layer: layer.map(String::from), ..Select::default() },
            rna_kind: Some(if layer.is_some() { MatrixKind::Counts } else { MatrixKind::Normalised }),
            ..PrepareConfig::new(&rna, &atac)
        };
        let out = dir.path().join(layer.unwrap_or("x"));
        let report = prepare(&config, &out, &()).unwrap();
        assert_eq!((report.cells, report.genes, report.peaks), (500, 600, 600));
        assert_eq!((report.genes_in_gtf, report.genes_unknown, report.cell_types), (Some(576), 24, 21));
        let data = DataSet::open(&out).unwrap();
        data.verify().unwrap();
        compare_with_python(&rna, &atac, layer, &data);
    }
}

#[test]
fn real_snare_cortex() {
    let Some(root) = real_data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = (root.join("snare_cortex/rna.h5ad"), root.join("snare_cortex/atac.h5ad"));
    let out = dir.path().join("data");
    let done = cli()
        .args(["prepare", "--json", "--gene-features", "strand"])
        .arg("--rna")
        .arg(&rna)
        .arg("--atac")
        .arg(&atac)
        .arg("--gtf")
        .arg(root.join("gtf/gencode.vM23.genes.gtf.gz"))
        .arg("--out")
        .arg(&out)
        .assert()
        .success();
    let report: serde_json::Value = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(report["genes_in_gtf"], 1597);
    assert_eq!(report["cells"], 10309);
    let data = DataSet::open(&out).unwrap();
    data.verify().unwrap();
    assert_eq!(data.entries(), (1_097_506, 1_018_463));
    assert_eq!(data.features().extra(), 1);
    compare_with_python(&rna, &atac, None, &data);
    // The verb `samples`, and a data set that is there already.
    cli().args(["samples", "--name", "hard", "--negatives", "hard", "--data"]).arg(&out).assert().success();
    assert_eq!(data.sample_sets().unwrap(), ["default", "hard"]);
    let again = cli().args(["prepare", "--rna"]).arg(&rna).arg("--atac").arg(&atac).arg("--out").arg(&out).assert();
    let text = String::from_utf8(again.code(2).get_output().stderr.clone()).unwrap();
    assert!(text.contains("--force"), "{text}");
}

#[test]
fn real_mismatched_pair_is_refused_with_its_number() {
    let Some(root) = real_data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let done = cli()
        .args(["prepare", "--rna"])
        .arg(root.join("neurips2021_mismatched/rna.h5ad"))
        .arg("--atac")
        .arg(root.join("neurips2021_mismatched/atac.h5ad"))
        .arg("--gtf")
        .arg(root.join("gtf/gencode.v43.genes.gtf.gz"))
        .arg("--out")
        .arg(dir.path().join("data"))
        .assert()
        .code(2);
    let text = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert!(text.contains("only 22 of 500") && text.lines().count() == 1, "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}
