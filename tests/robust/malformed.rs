//! Bad input: one line that names file and field, exit code 2, nothing left behind, never a crash.

use std::path::{Path, PathBuf};

use crate::common::toy::{Store, Toy, replace_dense};
use assert_cmd::Command;
use hdf5::types::VarLenUnicode;
use sccrossrec::data::anndata::{AnnData, Axis};
use sccrossrec::dataset::DataSet;
use sccrossrec::prepare::{PrepareConfig, prepare};

/// Runs the program; returns the one line it ends with.
fn refused(args: &[&str], rna: &Path, atac: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_sccrossrec"))
        .args(["prepare", "--quiet", "--rna"])
        .arg(rna)
        .arg("--atac")
        .arg(atac)
        .arg("--out")
        .arg(dir.path().join("data"))
        .args(args)
        .assert()
        .code(2);
    let text = String::from_utf8(done.get_output().stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    assert!(done.get_output().stdout.is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    text
}

type Change = fn(&Path, &Path);

fn edit(path: &Path, f: impl FnOnce(&hdf5::File)) {
    f(&crate::common::toy::append(path));
}

fn rewrite<T: hdf5::H5Type>(path: &Path, at: &str, change: impl FnOnce(&mut Vec<T>)) {
    edit(path, |file| {
        let mut v = file.dataset(at).unwrap().read_raw::<T>().unwrap();
        change(&mut v);
        file.unlink(at).unwrap();
        file.new_dataset::<T>().shape(v.len()).create(at).unwrap().write_raw(&v).unwrap();
    });
}

fn set_names(path: &Path, at: &str, names: &[String]) {
    let names: Vec<VarLenUnicode> = names.iter().map(|s| s.parse().unwrap()).collect();
    edit(path, |file| {
        file.unlink(at).unwrap();
        file.new_dataset::<VarLenUnicode>().shape(names.len()).create(at).unwrap().write_raw(&names).unwrap();
    });
}

/// Puts a column of text in place of what is there, if anything is.
fn set_column(path: &Path, at: &str, values: &[String]) {
    edit(path, |file| {
        if !file.link_exists(at) {
            file.new_dataset::<VarLenUnicode>().shape(1).create(at).unwrap();
        }
    });
    set_names(path, at, values);
}

/// What is done to a good pair, and what the line must then hold.
const CASES: &[(&str, Change, &[&str])] = &[
    ("no file", |rna, _| std::fs::remove_file(rna).unwrap(), &["rna.h5ad", "cannot read"]),
    ("empty file", |_, atac| std::fs::write(atac, b"").unwrap(), &["atac.h5ad", "is empty"]),
    (
        "files swapped",
        |rna, atac| {
            let other = rna.with_extension("other");
            std::fs::rename(rna, &other).unwrap();
            std::fs::rename(atac, rna).unwrap();
            std::fs::rename(other, atac).unwrap();
        },
        &["rna.h5ad", "named like peaks", "chr1-0-50", "--atac"],
    ),
    ("text", |rna, _| std::fs::write(rna, "gene\tcell\n").unwrap(), &["rna.h5ad", "is a table as text, not HDF5"]),
    (
        "a folder",
        |rna, _| {
            std::fs::remove_file(rna).unwrap();
            std::fs::create_dir(rna).unwrap();
        },
        &["rna.h5ad", "folder"],
    ),
    ("no obs", |rna, _| edit(rna, |f| f.unlink("obs").unwrap()), &["rna.h5ad", "no `obs`"]),
    ("no X", |rna, _| edit(rna, |f| f.unlink("X").unwrap()), &["rna.h5ad", "no matrix at `X`", "--rna-layer"]),
    ("no X in ATAC", |_, a| edit(a, |f| f.unlink("X").unwrap()), &["atac.h5ad", "`X`", "--atac-layer"]),
    ("no chrom", |rna, _| edit(rna, |f| f.unlink("var/chrom").unwrap()), &["rna.h5ad", "`chrom`", "--gtf"]),
    ("no indptr", |rna, _| edit(rna, |f| f.unlink("X/indptr").unwrap()), &["rna.h5ad", "`X/indptr`"]),
    ("no index", |rna, _| edit(rna, |f| f.unlink("obs/_index").unwrap()), &["rna.h5ad", "`obs`", "`_index`"]),
    (
        "no encoding",
        |rna, _| edit(rna, |f| f.group("X").unwrap().delete_attr("encoding-type").unwrap()),
        &["rna.h5ad", "`X` is encoded as \"\""],
    ),
    ("no shape", |rna, _| edit(rna, |f| f.group("X").unwrap().delete_attr("shape").unwrap()), &["rna.h5ad", "`shape`"]),
    (
        "NaN",
        |rna, _| rewrite::<f32>(rna, "X/data", |v| v[0] = f32::NAN),
        &["rna.h5ad", "`X`", "CELL000-1", "gene0", "NaN"],
    ),
    (
        "infinite",
        |rna, _| rewrite::<f32>(rna, "X/data", |v| v[0] = f32::INFINITY),
        &["rna.h5ad", "CELL000-1", "infinite"],
    ),
    (
        "negative",
        |_, a| rewrite::<f32>(a, "X/data", |v| v[0] = -2.0),
        &["atac.h5ad", "CELL000-1", "chr1-0-50", "-2", "negative"],
    ),
    ("index", |rna, _| rewrite::<i32>(rna, "X/indices", |v| v[3] = 25), &["rna.h5ad", "`X/indices`", "25 of 25"]),
    ("negative index", |rna, _| rewrite::<i32>(rna, "X/indices", |v| v[3] = -1), &["rna.h5ad", "`X/indices`", "-1"]),
    ("pointers fall", |rna, _| rewrite::<i64>(rna, "X/indptr", |v| v.swap(2, 3)), &["rna.h5ad", "`X/indptr`"]),
    ("pointers end", |rna, _| rewrite::<i64>(rna, "X/indptr", |v| v[60] += 1), &["rna.h5ad", "`X/indptr`"]),
    ("pointers start", |rna, _| rewrite::<i64>(rna, "X/indptr", |v| v[0] = -1), &["rna.h5ad", "`X/indptr`"]),
    (
        "too few pointers",
        |rna, _| rewrite::<i64>(rna, "X/indptr", |v| v.truncate(60)),
        &["rna.h5ad", "60 numbers for 60 rows"],
    ),
    ("too few values", |rna, _| rewrite::<f32>(rna, "X/data", |v| v.truncate(9)), &["rna.h5ad", "9 values"]),
    ("all zero", |rna, _| rewrite::<f32>(rna, "X/data", |v| v.fill(0.0)), &["rna.h5ad", "every value of `X` is 0"]),
    (
        "another size",
        |rna, _| replace_dense::<f32>(rna, 59, 25, &vec![1.0; 59 * 25]),
        &["rna.h5ad", "59 × 25", "`obs` has 60"],
    ),
    ("another width", |rna, _| replace_dense::<f32>(rna, 60, 24, &vec![1.0; 60 * 24]), &["rna.h5ad", "60 × 24"]),
    (
        "barcodes twice",
        |rna, _| set_names(rna, "obs/_index", &(0..60).map(|i| format!("CELL{:03}-1", i / 2)).collect::<Vec<_>>()),
        &["rna.h5ad", "30 barcodes", "CELL000-1"],
    ),
    (
        "no common barcodes",
        |_, a| set_names(a, "obs/_index", &(0..60).map(|i| format!("Q{i}")).collect::<Vec<_>>()),
        &["atac.h5ad", "only 0 of 60 barcodes", "Q0", "CELL000-1"],
    ),
    (
        "fewer than half",
        |_, a| {
            let name = |i: usize| if i < 29 { format!("CELL{i:03}-1") } else { format!("Q{i}") };
            set_names(a, "obs/_index", &(0..60).map(name).collect::<Vec<_>>())
        },
        &["atac.h5ad", "only 29 of 60 barcodes", "--min-common"],
    ),
    (
        "peak names",
        |_, a| set_names(a, "var/_index", &(0..40).map(|i| format!("peak {i}")).collect::<Vec<_>>()),
        &["atac.h5ad", "no peak has a chromosome", "peak 0, peak 1, peak 2"],
    ),
    (
        "other genome",
        |_, a| set_names(a, "var/_index", &(0..40).map(|i| format!("II-{i}-{}", i + 5)).collect::<Vec<_>>()),
        &["atac.h5ad", "no chromosome of the peaks (II)", "chr2, chr1, chrX"],
    ),
    (
        "compound frame",
        |rna, _| {
            edit(rna, |f| {
                f.unlink("obs").unwrap();
                f.new_dataset::<f32>().shape(60).create("obs").unwrap();
            })
        },
        &["rna.h5ad", "`obs` is neither a group nor a table", "AnnData"],
    ),
    (
        "a huge shape",
        |rna, _| {
            edit(rna, |f| {
                f.unlink("X").unwrap();
                f.new_dataset::<f32>().chunk((1, 1000)).shape((1 << 40, 1 << 20)).create("X").unwrap();
            })
        },
        &["rna.h5ad", "`X`", "more than a file of"],
    ),
    (
        "codes without categories",
        |rna, _| {
            edit(rna, |f| {
                f.unlink("obs/cell_type").unwrap();
                let g = f.group("obs").unwrap().create_group("cell_type").unwrap();
                let kind: VarLenUnicode = "categorical".parse().unwrap();
                g.new_attr::<VarLenUnicode>().create("encoding-type").unwrap().write_scalar(&kind).unwrap();
                g.new_dataset::<i8>().shape(60).create("codes").unwrap().write_raw(&[7i8; 60]).unwrap();
                let none: [VarLenUnicode; 1] = ["T".parse().unwrap()];
                g.new_dataset::<VarLenUnicode>().shape(1).create("categories").unwrap().write_raw(&none).unwrap();
            })
        },
        &["rna.h5ad", "`obs/cell_type`", "code 7"],
    ),
    (
        "a short column of peaks",
        |_, a| set_column(a, "var/chrom", &["chr1".to_string(), "chr2".to_string()]),
        &["atac.h5ad", "`var/chrom` has 2 values where `var` has 40 rows"],
    ),
    (
        "a short column of labels",
        |rna, _| set_column(rna, "obs/cell_type", &["T".to_string()]),
        &["rna.h5ad", "`obs/cell_type` has 1 values where `obs` has 60 rows"],
    ),
    (
        "a short strand",
        |rna, _| {
            edit(rna, |f| {
                let var = f.group("var").unwrap();
                for (name, n) in [("chromStart", 25), ("chromEnd", 24)] {
                    let set = var.new_dataset::<i64>().shape(n).create(name).unwrap();
                    set.write_raw(&vec![7i64; n]).unwrap();
                }
            })
        },
        &["rna.h5ad", "`var/chromEnd` has 24 values where `var` has 25 rows"],
    ),
];

#[test]
fn each_fault_has_its_line() {
    for (name, change, parts) in CASES {
        let dir = tempfile::tempdir().unwrap();
        let (rna, atac) = Toy::new().write(dir.path());
        change(&rna, &atac);
        let text = refused(&[], &rna, &atac);
        for part in *parts {
            assert!(text.contains(part), "{name}: {part:?} is missing in: {text}");
        }
    }
}

#[test]
fn each_flag_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = Toy::new().write(dir.path());
    let gtf = dir.path().join("other.gtf");
    std::fs::write(&gtf, "chr1\tx\tgene\t1\t9\t.\t+\t.\tgene_id \"FBgn01\"; gene_name \"fly\";\n").unwrap();
    let gtf = gtf.to_str().unwrap();
    let fasta = dir.path().join("one.fa");
    std::fs::write(&fasta, ">x\nACGT\n").unwrap();
    let fasta = fasta.to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--rna-layer", "counts"], &["rna.h5ad", "no matrix at `layers/counts`", "none"]),
        (&["--rna-values", "normalised"], &["rna.h5ad", "raw counts", "not normalised"]),
        (&["--cell-type-column", "kind"], &["rna.h5ad", "`kind`", "the columns are cell_type"]),
        (&["--gene-features", "means"], &["rna.h5ad", "`means`"]),
        (&["--gene-features", "colour"], &["colour", "variances_norm"]),
        (&["--gtf", gtf], &["other.gtf", "none of the 25 genes", "gene0, gene1, gene2", "FBgn01 (fly)"]),
        (&["--gtf", "/nowhere/a.gtf"], &["/nowhere/a.gtf", "cannot read"]),
        (&["--fasta", fasta], &["one.fa", "1 records for 40 peaks"]),
        (&["--min-common", "1.5"], &["--min-common is 1.5"]),
        (&["--negative-ratio", "-1"], &["--negative-ratio is -1"]),
        (&["--cell-types", "Q"], &["--cell-types", "\"Q\"", "B, NK, T"]),
        (&["--cell-types", "B"], &["two types"]),
    ];
    for (args, parts) in cases {
        let text = refused(args, &rna, &atac);
        for part in *parts {
            assert!(text.contains(part), "{args:?}: {part:?} is missing in: {text}");
        }
    }
}

#[test]
fn an_output_that_is_no_data_set_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = Toy::new().write(dir.path());
    let mut config = PrepareConfig::new(&rna, &atac);
    config.force = true;
    let out = dir.path().join("photos");
    std::fs::create_dir(&out).unwrap();
    prepare(&config, &out, &()).unwrap(); // an empty folder is fine
    prepare(&config, &out, &()).unwrap(); // and so is a data set, with force
    config.force = false;
    assert!(prepare(&config, &out, &()).unwrap_err().to_string().contains("--force"));
    config.force = true;
    std::fs::remove_file(out.join("dataset.json")).unwrap();
    let before = std::fs::read_dir(&out).unwrap().count();
    assert!(prepare(&config, &out, &()).is_err());
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), before);
    assert!(prepare(&config, &rna, &()).is_err(), "a file");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "no temporary folder stays");
}

/// A failure while the ATAC matrix is read leaves neither folder nor scratch files.
#[test]
fn a_late_failure_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (rna, atac) = Toy::new().write_as(dir.path(), Store::Csc);
    rewrite::<f64>(&atac, "X/data", |v| {
        if let Some(last) = v.last_mut() {
            *last = f64::NAN;
        }
    });
    let mut config = PrepareConfig::new(&rna, &atac);
    config.streaming = sccrossrec::data::anndata::Streaming { block: 10, bucket: 10 };
    let sub = dir.path().join("sub");
    std::fs::create_dir(&sub).unwrap();
    let e = prepare(&config, &sub.join("data"), &()).unwrap_err().to_string();
    assert!(e.contains("atac.h5ad") && e.contains("NaN") && e.contains("chr1-3900-3950"), "{e}");
    assert_eq!(std::fs::read_dir(&sub).unwrap().count(), 0);
}

/// Every way of cutting a file short is an error, never a crash and never a data set.
#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    for store in [Store::Csr, Store::Csc, Store::Dense] {
        let (rna, atac) = Toy::new().write_as(dir.path(), store);
        let whole = std::fs::read(&rna).unwrap();
        let mut cuts: Vec<usize> = (0..whole.len()).step_by(whole.len() / 60 + 1).collect();
        cuts.extend((0..200).chain(whole.len() - 40..whole.len()));
        let cut = dir.path().join("cut.h5ad");
        for n in cuts {
            std::fs::write(&cut, &whole[..n]).unwrap();
            let out = dir.path().join("out");
            let e = prepare(&PrepareConfig::new(&cut, &atac), &out, &());
            let e = e.expect_err(&format!("{store:?} cut to {n} of {} bytes", whole.len())).to_string();
            assert!(e.contains("cut.h5ad"), "{e}");
            assert!(!out.exists());
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { std::fs::copy(&path, &target).map(|_| ()).unwrap() }
    }
}

/// Reads everything there is to read.
fn read_all(data: &DataSet) {
    for i in 0..data.n_cells() {
        let cell = data.cell(i);
        for (index, values) in [(&cell.genes, &cell.expr), (&cell.peaks, &cell.acc)] {
            for k in 0..index.len() {
                std::hint::black_box(values.get(k)); // read, whatever it is: a count alone reads nothing
            }
        }
    }
    let cells: Vec<u32> = (0..data.n_cells() as u32).collect();
    data.batch_of_cells(&cells).validate(&data.features()).unwrap();
}

fn prepared(dir: &Path) -> PathBuf {
    let (rna, atac) = Toy::new().write(dir);
    let fasta = dir.join("p.fa");
    std::fs::write(&fasta, ">s\nACGT\n".repeat(40)).unwrap();
    let config = PrepareConfig { shard_cells: 25, dna_length: 4, fasta: Some(fasta), ..PrepareConfig::new(rna, atac) };
    let out = dir.join("data");
    prepare(&config, &out, &()).unwrap();
    out
}

#[test]
fn any_flipped_bit_of_a_data_set_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let data = prepared(dir.path());
    for file in [
        "shards/00000.shard",
        "shards/00002.shard",
        "samples/default",
        "dataset.json",
        "genes.tsv",
        "peaks.tsv",
        "cells.tsv",
        "features.bin",
    ] {
        let path = data.join(file);
        let whole = std::fs::read(&path).unwrap();
        let step = (whole.len() / 150).max(1);
        for at in (0..whole.len()).step_by(step).chain(0..whole.len().min(300)) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bytes).unwrap();
            match DataSet::open(&data) {
                Err(e) => {
                    assert_eq!(e.exit_code(), 2, "{e}");
                    assert!(e.to_string().contains(file.split('/').next_back().unwrap_or(file)), "{e}");
                }
                // Sample sets are read when they are asked for.
                Ok(opened) if file.starts_with("samples/") => {
                    let e = opened.samples("default").expect_err(&format!("bit of byte {at}"));
                    assert!(e.exit_code() == 2 && e.to_string().contains(file), "{e}");
                }
                Ok(_) => panic!("{file}: bit of byte {at}"),
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    let good = DataSet::open(&data).unwrap();
    read_all(&good);
    good.verify().unwrap();
}

#[test]
fn truncated_and_missing_files_of_a_data_set_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let data = prepared(dir.path());
    for file in ["shards/00001.shard", "dataset.json", "genes.tsv", "cells.tsv", "features.bin", "samples/default"] {
        let path = data.join(file);
        let whole = std::fs::read(&path).unwrap();
        let step = (whole.len() / 40).max(1);
        for n in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            std::fs::write(&path, &whole[..n]).unwrap();
            let e = DataSet::open(&data).and_then(|d| d.samples("default").map(|_| ()));
            let e = e.expect_err(&format!("{file} cut to {n}"));
            assert!(e.exit_code() == 2 && e.to_string().contains(file.split('/').next_back().unwrap_or(file)), "{e}");
        }
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert!(DataSet::open(&data).and_then(|d| d.samples("default").map(|_| ())).is_err(), "{file} one byte longer");
        std::fs::remove_file(&path).unwrap();
        assert!(DataSet::open(&data).and_then(|d| d.samples("default").map(|_| ())).is_err(), "{file} missing");
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(DataSet::open(&dir.path().join("nowhere")).is_err());
    let e = DataSet::open(dir.path()).unwrap_err().to_string();
    assert!(e.contains("no `dataset.json`"), "{e}");
    // Shards and sample sets of another data set do not fit.
    let other = dir.path().join("other");
    copy(&data, &other);
    std::fs::copy(data.join("shards/00000.shard"), other.join("shards/00001.shard")).unwrap();
    assert!(DataSet::open(&other).is_err());
}

/// What the readers do with the layouts of many programs: text, or an error that names file and field.
#[test]
fn real_layouts_are_read_or_refused() {
    let Some(root) = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED: SCCROSSREC_TEST_DATA is not set, so no real data are read");
        return;
    };
    let (mut read, mut refused) = (0, 0);
    for entry in std::fs::read_dir(root.join("h5ad_layouts")).unwrap() {
        let path = entry.unwrap().path();
        let all = |data: AnnData| -> sccrossrec::Result<()> {
            for axis in [Axis::Obs, Axis::Var] {
                data.names(axis)?;
                for name in data.columns(axis)? {
                    data.column(axis, &name)?;
                }
            }
            Ok(())
        };
        match AnnData::open(&path).and_then(all) {
            Ok(()) => read += 1,
            Err(e) => {
                eprintln!("{e}");
                refused += 1;
                assert!(e.exit_code() == 2 && e.to_string().contains('`'), "{e}");
            }
        }
    }
    assert!(read >= 8, "{read} read, {refused} refused");
}
