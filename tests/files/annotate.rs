//! `annotate` through the program: what it fills in, what it counts, what it refuses, and that inputs stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sccrossrec::csr::Csr;
use sccrossrec::data::anndata::{AnnData, AnnDataWriter, Axis, Column, Frame};
use serde_json::Value;

fn run(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sccrossrec")).current_dir(dir).args(args).output().unwrap()
}

/// The report of `annotate ARGS`, and what was said.
fn ok(dir: &Path, args: &[&str]) -> (Value, String) {
    let args: Vec<&str> = ["annotate", "--json"].iter().chain(args).copied().collect();
    let out = run(dir, &args);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{args:?}: {said}");
    (serde_json::from_slice(&out.stdout).expect("one JSON document"), said)
}

/// Exit code 2 and one line with all of `parts`.
fn refused(dir: &Path, args: &[&str], parts: &[&str]) {
    let args: Vec<&str> = ["annotate"].iter().chain(args).copied().collect();
    let out = run(dir, &args);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
    assert!(out.stdout.is_empty(), "{args:?}: something on stdout");
    assert_eq!(text.lines().filter(|l| l.starts_with("error: ")).count(), 1, "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: no {part:?} in: {text}");
    }
}

fn text(v: &[&str]) -> Vec<String> {
    v.iter().map(|s| s.to_string()).collect()
}

fn strings(v: &[&str]) -> Column {
    Column::Strings(text(v))
}

const CELLS: usize = 40;

/// Writes `X` and one layer of counts; entry (c, i) of the counts is `(c · (i + 3)) mod (i + 4)`.
fn write(path: &Path, index: &[&str], columns: Vec<(&str, Column)>, x: fn(f32) -> f32, layer: Option<&str>) {
    let obs = Frame { index: (0..CELLS).map(|c| format!("c{c}")).collect(), columns: vec![] };
    let columns = columns.into_iter().map(|(n, c)| (n.to_string(), c)).collect();
    let var = Frame { index: text(index), columns };
    let mut writer = AnnDataWriter::create(path, &obs, &var).unwrap();
    let places = [Some("X".to_string()), layer.map(|l| format!("layers/{l}"))];
    for (at, change) in places.iter().flatten().zip([x, |v| v]) {
        let mut block = Csr::<f32>::new();
        for c in 0..CELLS {
            let value = |i: usize| ((c * (i + 3)) % (i + 4)) as f32;
            block.push_row((0..index.len()).map(|i| (i as u32, change(value(i)))).filter(|e| e.1 != 0.0));
        }
        let mut sink = writer.csr(at, index.len()).unwrap();
        sink.append(&block).unwrap();
        sink.finish().unwrap();
    }
    writer.dense_f32("obsm/X_pca", CELLS, 2, &[0.5; 2 * CELLS]).unwrap();
    writer.uns_string("note", "kept").unwrap();
    writer.finish().unwrap();
}

const GTF: &str = "#!genome-build x\n\
    1\te\tgene\t101\t200\t.\t+\t.\tgene_id \"ENSG00000000001\"; gene_version \"5\"; gene_name \"A\";\n\
    1\te\tgene\t301\t450\t.\t-\t.\tgene_id \"ENSG00000000002\"; gene_name \"B\";\n\
    MT\te\tgene\t11\t20\t.\t+\t.\tgene_id \"ENSG00000000003\"; gene_name \"mt-C\";\n\
    KI270706.1\te\tgene\t5\t9\t.\t+\t.\tgene_id \"ENSG00000000004\"; gene_name \"D\";\n";

const GENES: [&str; 6] = ["A", "x", "mt-C", "D", "a", "Z"];
const PEAKS: [&str; 5] = ["chr1:2-12", "chrM_0_4", "chr1_KI270706v1_random-1-3", "odd", "chr1-18-30"];

fn genome() -> String {
    format!(">1 dna\n{}\n{}\n>KI270706.1\nTTTT\n>chrM\nACgtN\n", "acgtacgtaa", "CCCCCGGGGG")
}

/// rna.h5ad, atac.h5ad, a.gtf, g.fa.
fn inputs() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_path_buf();
    let ids = strings(&["", "ENSG00000000002.7", "", "", "", "ENSG99999999999"]);
    write(&at.join("rna.h5ad"), &GENES, vec![("gene_ids", ids)], |v| v, None);
    write(&at.join("atac.h5ad"), &PEAKS, vec![], |v| f32::from(v > 1.0), None);
    fs::write(at.join("a.gtf"), GTF).unwrap();
    fs::write(at.join("g.fa"), genome()).unwrap();
    (dir, at)
}

fn column(file: &Path, name: &str) -> Column {
    AnnData::open(file).unwrap().column(Axis::Var, name).unwrap().unwrap_or_else(|| panic!("no {name}"))
}

/// Equal, NaN being equal to NaN.
fn same(got: &Column, want: &[f64]) -> bool {
    let Column::Floats(got) = got else { return false };
    got.len() == want.len() && got.iter().zip(want).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
}

const BOTH: [&str; 4] = ["--rna", "rna.h5ad", "--atac", "atac.h5ad"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    BOTH.iter().chain(more).copied().collect()
}

#[test]
fn gaps_are_filled_and_counted() {
    let (_keep, dir) = inputs();
    let before: Vec<Vec<u8>> = ["rna.h5ad", "atac.h5ad"].iter().map(|f| fs::read(dir.join(f)).unwrap()).collect();
    let args = with(&["--gtf", "a.gtf", "--genome", "g.fa", "--n-top-genes", "2", "--out", "out"]);
    let (r, said) = ok(&dir, &args);
    let g = &r["genes"];
    assert_eq!((&g["all"], &g["by_id"], &g["by_name"], &g["not_in_gtf"]), (&6.into(), &1.into(), &3.into(), &2.into()));
    assert_eq!((&g["not_in_gtf_names"][0], &g["unknown"]), (&"a".into(), &2.into()), "capitals count");
    let p = &r["peaks"];
    assert_eq!((&p["from_names"], &p["not_parsed"], &p["not_parsed_names"][0]), (&4.into(), &1.into(), &"odd".into()));
    let s = &r["sequences"];
    assert_eq!(
        (&s["whole"], &s["beyond"], &s["no_chromosome"], &s["no_place"]),
        (&3.into(), &1.into(), &0.into(), &1.into())
    );
    assert!(said.contains("g.fa.fai: made"), "{said}");
    assert_eq!((&r["variable_genes"]["counts"], &r["variable_genes"]["top"]), (&"X".into(), &2.into()));

    let out = dir.join("out");
    let rna = out.join("rna.h5ad");
    // Chromosomes are called as the peaks call them.
    let chroms = ["chr1", "chr1", "chrM", "chr1_KI270706v1_random", "chrUnknown", "chrUnknown"];
    assert_eq!(column(&rna, "chrom"), strings(&chroms));
    let nan = f64::NAN;
    assert!(same(&column(&rna, "chromStart"), &[100.0, 300.0, 10.0, 4.0, nan, nan]));
    assert!(same(&column(&rna, "chromEnd"), &[200.0, 450.0, 20.0, 9.0, nan, nan]));
    assert!(same(&column(&rna, "tss"), &[100.0, 449.0, 10.0, 4.0, nan, nan]));
    assert_eq!(column(&rna, "strand"), strings(&["+", "-", "+", "+", ".", "."]));
    assert_eq!(column(&rna, "gene_ids"), strings(&["", "ENSG00000000002.7", "", "", "", "ENSG99999999999"]));
    // c · 3 mod 4 over 40 cells: 0, 3, 2, 1, …
    let Column::Floats(means) = column(&rna, "means") else { panic!() };
    let Column::Floats(variances) = column(&rna, "variances") else { panic!() };
    assert_eq!(means[0], 1.5);
    assert!((variances[0] - 1.25 * 40.0 / 39.0).abs() < 1e-12, "{variances:?}");
    let Column::Bools(top) = column(&rna, "highly_variable") else { panic!() };
    let Column::Floats(rank) = column(&rna, "highly_variable_rank") else { panic!() };
    assert_eq!(top.iter().filter(|t| **t).count(), 2);
    assert!(top.iter().zip(&rank).all(|(t, r)| *t != r.is_nan() && (r.is_nan() || *r < 2.0)), "{rank:?}");

    let atac = out.join("atac.h5ad");
    assert_eq!(column(&atac, "chrom"), strings(&["chr1", "chrM", "chr1_KI270706v1_random", "chrUnknown", "chr1"]));
    assert!(same(&column(&atac, "chromStart"), &[2.0, 0.0, 1.0, nan, 18.0]));
    let fasta = fs::read_to_string(out.join("peaks.fa")).unwrap();
    let records: Vec<&str> = fasta.lines().collect();
    assert_eq!(records.len(), 10);
    let bases = |i: usize, want: &str| {
        assert_eq!((records[2 * i + 1].len(), records[2 * i + 1].trim_end_matches('N')), (256, want), "{i}");
    };
    assert_eq!((records[0], records[4], records[6]), (">chr1:2-12", ">chr1_KI270706v1_random:1-3", ">odd"));
    bases(0, "GTACGTAACC");
    bases(1, "ACGT");
    bases(2, "TT");
    bases(3, "");
    bases(4, "GG");

    // The copy holds all that the input held; the input is as it was; nothing else is there.
    let file = hdf5::File::open(&rna).unwrap();
    assert_eq!(file.dataset("obsm/X_pca").unwrap().read_raw::<f32>().unwrap(), [0.5; 2 * CELLS]);
    assert!(file.link_exists("uns/note"));
    let order = file.group("var").unwrap().attr("column-order").unwrap();
    let order = order.read_raw::<hdf5::types::VarLenUnicode>().unwrap();
    assert_eq!((order.len(), order[0].as_str(), order[1].as_str()), (11, "gene_ids", "chrom"));
    for (file, bytes) in ["rna.h5ad", "atac.h5ad"].iter().zip(before) {
        assert!(fs::read(dir.join(file)).unwrap() == bytes, "{file} was changed");
    }
    let mut made: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    made.sort();
    assert_eq!(made, ["atac.h5ad", "peaks.fa", "rna.h5ad"]);

    // What came out has no gaps left, and `prepare` reads it.
    let out = run(
        &dir,
        &[
            "prepare",
            "--rna",
            "out/rna.h5ad",
            "--atac",
            "out/atac.h5ad",
            "--fasta",
            "out/peaks.fa",
            "--gene-features",
            "present",
            "--out",
            "data",
            "--json",
        ],
    );
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let d: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&d["genes_without_chromosome"], &d["dna_length"]), (&2.into(), &256.into()));
    assert_eq!(d["gene_features"].as_array().unwrap().len(), 4);
    let (again, _) =
        ok(&dir, &["--rna", "out/rna.h5ad", "--atac", "out/atac.h5ad", "--fasta", "out/peaks.fa", "--out", "o2"]);
    assert_eq!(again["rna"]["columns"], Value::Array(vec![]));
    assert_eq!(again["genes"]["had_chromosome"], 4);
    assert_eq!((&again["sequences"]["from_fasta"], &again["sequences"]["fasta_by_header"]), (&5.into(), &false.into()));
    assert_eq!(fs::read_to_string(dir.join("o2/peaks.fa")).unwrap(), fasta);
}

#[test]
fn what_is_there_stays_unless_overwritten() {
    let (_keep, dir) = inputs();
    let columns = || {
        vec![
            ("chrom", strings(&["chr9", "", "chrM", "chrUnknown", "", "chr2"])),
            ("chromStart", Column::Floats(vec![7.0, f64::NAN, 12.0, f64::NAN, f64::NAN, 1.0])),
            ("chromEnd", Column::Floats(vec![8.0, f64::NAN, 15.0, f64::NAN, f64::NAN, 3.0])),
            ("highly_variable", Column::Bools(vec![true, false, false, false, false, false])),
        ]
    };
    write(&dir.join("rna.h5ad"), &["A", "B", "mt-C", "D", "a", "Z"], columns(), |v| v, None);
    let (r, _) = ok(&dir, &with(&["--gtf", "a.gtf", "--out", "out"]));
    assert_eq!((&r["genes"]["other_chromosome"], &r["genes"]["had_chromosome"]), (&1.into(), &3.into()));
    assert_eq!(r["rna"]["kept"], serde_json::json!(["highly_variable"]));
    let rna = dir.join("out/rna.h5ad");
    let chroms = ["chr9", "chr1", "chrM", "chr1_KI270706v1_random", "chrUnknown", "chr2"];
    assert_eq!(column(&rna, "chrom"), strings(&chroms));
    assert!(same(&column(&rna, "chromStart"), &[7.0, 300.0, 12.0, 4.0, f64::NAN, 1.0]));
    assert!(same(&column(&rna, "tss"), &[f64::NAN, 449.0, 10.0, 4.0, f64::NAN, f64::NAN]));
    assert_eq!(column(&rna, "strand"), strings(&[".", "-", "+", "+", ".", "."]));
    assert_eq!(column(&rna, "highly_variable"), Column::Bools(vec![true, false, false, false, false, false]));

    let (r, _) = ok(&dir, &with(&["--gtf", "a.gtf", "--out", "out", "--force", "--overwrite"]));
    assert_eq!((&r["genes"]["other_chromosome"], r["rna"]["kept"].as_array().unwrap().len()), (&0.into(), 0));
    let chroms = ["chr1", "chr1", "chrM", "chr1_KI270706v1_random", "chrUnknown", "chr2"];
    assert_eq!(column(&rna, "chrom"), strings(&chroms));
    assert!(same(&column(&rna, "chromStart"), &[100.0, 300.0, 10.0, 4.0, f64::NAN, 1.0]));
    assert_eq!(column(&rna, "highly_variable"), Column::Bools(vec![true; 6]));
}

#[test]
fn counts_are_looked_for() {
    let (_keep, dir) = inputs();
    let log = |v: f32| v.ln_1p();
    write(&dir.join("rna.h5ad"), &GENES, vec![], log, Some("counts"));
    let (r, _) = ok(&dir, &with(&["--out", "a"]));
    assert_eq!(r["variable_genes"]["counts"], "layers/counts");
    assert_eq!(r["genes"]["unknown"], 6);
    let columns = AnnData::open(&dir.join("a/rna.h5ad")).unwrap().columns(Axis::Var).unwrap();
    let want = ["highly_variable", "highly_variable_rank", "means", "variances", "variances_norm"];
    assert_eq!(columns, want, "no column of nothing but chrUnknown");
    let (r, _) = ok(&dir, &with(&["--no-variable-genes", "--out", "b"]));
    assert_eq!((&r["variable_genes"], &r["rna"]["columns"]), (&Value::Null, &Value::Array(vec![])));
    refused(
        &dir,
        &with(&["--counts-layer", "X", "--out", "c"]),
        &["`X` holds no counts (", "at gene A)", "--counts-layer"],
    );
    refused(
        &dir,
        &with(&["--counts-layer", "raw_counts", "--out", "c"]),
        &["layers there are: counts", "--counts-layer"],
    );
    assert!(!dir.join("c").exists());

    write(&dir.join("rna.h5ad"), &GENES, vec![], |v| v - 1.0, Some("spliced"));
    let (r, said) = ok(&dir, &with(&["--out", "d"]));
    assert!(said.contains("variable genes are left out") && said.contains("negative"), "{said}");
    assert!(r["no_variable_genes"].as_str().unwrap().contains("another layer: spliced"), "{r}");
    let (r, _) = ok(&dir, &with(&["--counts-layer", "spliced", "--out", "e"]));
    assert_eq!(r["variable_genes"]["counts"], "layers/spliced");
}

#[test]
fn chromosomes_by_a_table_and_sequences_from_both() {
    let (_keep, dir) = inputs();
    fs::write(dir.join("g.fa"), genome().replace(">1 dna", ">ctg1 dna")).unwrap();
    let (r, _) = ok(&dir, &with(&["--genome", "g.fa", "--out", "a"]));
    assert_eq!((&r["sequences"]["no_chromosome"], &r["sequences"]["lacking"][0]), (&2.into(), &"chr1".into()));
    fs::write(dir.join("alias.txt"), "# UCSC\tRefSeq\nchr1\tctg1\n").unwrap();
    let (r, _) = ok(&dir, &with(&["--genome", "g.fa", "--aliases", "alias.txt", "--out", "b"]));
    assert_eq!((&r["sequences"]["no_chromosome"], &r["sequences"]["whole"]), (&0.into(), &3.into()));
    // The FASTA knows one peak, the genome the others.
    fs::write(dir.join("p.fa"), ">chrM:0-4\nCCCC\n").unwrap();
    let (r, _) = ok(&dir, &with(&["--genome", "g.fa", "--aliases", "alias.txt", "--fasta", "p.fa", "--out", "c"]));
    let s = &r["sequences"];
    assert_eq!(
        (&s["from_fasta"], &s["whole"], &s["beyond"], &s["no_place"]),
        (&1.into(), &2.into(), &1.into(), &1.into())
    );
    let fasta = fs::read_to_string(dir.join("c/peaks.fa")).unwrap();
    assert!(fasta.contains(">chrM:0-4\nCCCCNN") && fasta.contains(">chr1:2-12\nGTACGTAACCNN"), "{fasta}");
    let (r, _) = ok(&dir, &with(&["--fasta", "p.fa", "--out", "d"]));
    assert_eq!((&r["sequences"]["from_fasta"], &r["sequences"]["not_in_fasta"]), (&1.into(), &3.into()));
}

#[test]
fn what_cannot_work_is_refused_and_leaves_nothing() {
    let (_keep, dir) = inputs();
    fs::write(dir.join("other.gtf"), GTF.replace("ENSG0", "ENSG7").replace("gene_name \"", "gene_name \"x")).unwrap();
    let none = ["none of the 6 genes", "ENSG7", "give the GTF of the genome"];
    refused(&dir, &with(&["--gtf", "other.gtf", "--out", "out"]), &none);
    fs::write(dir.join("other.fa"), ">7\nACGT\n>8\nAC\n").unwrap();
    let none = ["none of the chromosomes of the 5 peaks (chr1, chrM, chr1_KI270706v1_random)", "7, 8"];
    refused(&dir, &with(&["--genome", "other.fa", "--out", "out"]), &none);
    refused(&dir, &with(&["--fasta", "other.fa", "--out", "out"]), &["2 records for 5 peaks"]);
    refused(&dir, &with(&["--genome", "a.gtf", "--out", "out"]), &["a.gtf", "no `>` header"]);
    refused(&dir, &with(&["--n-top-genes", "0", "--out", "out"]), &["at least one top gene"]);
    write(&dir.join("peaks.h5ad"), &["chr1:2-12", "chr2:5-9"], vec![], |v| v, None);
    let swapped = ["--rna", "peaks.h5ad", "--atac", "rna.h5ad", "--out", "out"];
    refused(&dir, &swapped, &["all 2 features are named like peaks", "give the RNA file to --rna"]);
    refused(
        &dir,
        &["--rna", "rna.h5ad", "--atac", "rna.h5ad", "--out", "out"],
        &["no peak has a chromosome", "A, x, mt-C"],
    );
    refused(&dir, &["--rna", "no.h5ad", "--atac", "atac.h5ad", "--out", "out"], &["no.h5ad", "cannot read"]);
    assert!(!dir.join("out").exists(), "a refused run leaves no folder");
    fs::create_dir(dir.join("full")).unwrap();
    fs::copy(dir.join("rna.h5ad"), dir.join("full/rna.h5ad")).unwrap();
    refused(&dir, &with(&["--out", "full"]), &["not empty", "--force"]);
    let before = fs::read(dir.join("full/rna.h5ad")).unwrap();
    let args = ["--rna", "full/rna.h5ad", "--atac", "atac.h5ad", "--out", "full", "--force"];
    refused(&dir, &args, &["full/rna.h5ad", "is an input and would be replaced"]);
    assert!(fs::read(dir.join("full/rna.h5ad")).unwrap() == before);
    assert_eq!(fs::read_dir(dir.join("full")).unwrap().count(), 1);
}

/// An input folder that cannot be written to is fine: the index is kept in memory. (The superuser may write anywhere, so
/// that a folder in the place of the index stands for it.)
#[test]
fn an_index_that_cannot_be_written_is_kept_in_memory() {
    let (_keep, dir) = inputs();
    fs::create_dir(dir.join("g.fa.fai")).unwrap();
    let (r, said) = ok(&dir, &with(&["--genome", "g.fa", "--out", "out"]));
    assert!(said.contains("g.fa.fai") && said.contains("in memory"), "{said}");
    assert_eq!(r["sequences"]["whole"], 3);
}

fn data() -> Option<PathBuf> {
    let dir = std::env::var_os("SCCROSSREC_TEST_DATA").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: SCCROSSREC_TEST_DATA does not name the folder of the real data");
    }
    dir
}

#[test]
fn real_genes_by_id_and_by_name() {
    let Some(data) = data() else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| data.join(name).to_str().unwrap().to_string();
    for (name, gtf, counts) in [
        ("neurips2021_starter", "gtf/gencode.v43.genes.gtf.gz", (576, 0, 24)),
        ("snare_cortex", "gtf/gencode.vM23.genes.gtf.gz", (0, 1597, 80)),
    ] {
        let (rna, atac, gtf) = (at(&format!("{name}/rna.h5ad")), at(&format!("{name}/atac.h5ad")), at(gtf));
        let before = fs::read(&rna).unwrap();
        let (r, _) =
            ok(dir.path(), &["--rna", &rna, "--atac", &atac, "--gtf", &gtf, "--no-variable-genes", "--out", name]);
        let g = |what: &str| r["genes"][what].as_u64().unwrap();
        assert_eq!((g("by_id"), g("by_name"), g("not_in_gtf")), counts, "{name}");
        assert_eq!((g("unknown"), r["peaks"]["not_parsed"].as_u64()), (counts.2, Some(0)), "{name}");
        assert!(fs::read(&rna).unwrap() == before, "{name}: the input was changed");
    }
}

/// The excerpts with all record types: gene records of both attribute orders, plain and gzip.
#[test]
fn real_annotations_of_both_orders() {
    use sccrossrec::data::gtf::Gtf;
    let Some(data) = data() else { return };
    let read = |name: &str| Gtf::read(&data.join(name)).unwrap();
    for (name, genes) in [("gtf/ensembl_human.gtf.gz", 84), ("gtf/gencode_human.gtf.gz", 119)] {
        let gtf = read(name);
        assert_eq!(gtf.len(), genes, "{name}");
        let g = gtf.by_id("ENSG00000223972.9").unwrap();
        assert_eq!(gtf.by_name("DDX11L1"), Some(g), "{name}");
        assert_eq!((g.start, g.end, g.tss, g.forward), (11_868, 14_409, 11_868, Some(true)), "{name}");
    }
    let old = read("gtf/gencode-v19.gtf");
    assert_eq!(old.by_id("ENSG00000223972").map(|g| (g.start, g.end)), Some((11_868, 14_412)));
    let nine = read("fasta/GRCh38.91_chr9_1_1000000.gtf");
    assert_eq!(nine.by_name("WASHC1").map(|g| (g.chrom.as_str(), g.forward)), Some(("9", Some(false))));
}

/// Bases of the real genome, by the rule of the lines of its file.
#[test]
fn real_sequences() {
    let Some(data) = data() else { return };
    let (_keep, dir) = inputs();
    let text = fs::read_to_string(data.join("fasta/GRCh38_chr9_1_1000000.fa")).unwrap();
    fs::write(dir.join("nine.fa"), &text).unwrap(); // where its index may be written
    let bases: String = text.lines().skip(1).collect::<String>().to_ascii_uppercase();
    assert_eq!(bases.len(), 1_000_000);
    let starts: Vec<usize> = (0..500).map(|i| (i * 7_919 + 10_000) % 999_700).collect();
    let names: Vec<String> = starts.iter().map(|s| format!("chr9-{s}-{}", s + 100 + s % 200)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    write(&dir.join("atac.h5ad"), &names, vec![], |v| v, None);
    let (r, _) = ok(&dir, &with(&["--genome", "nine.fa", "--out", "out"]));
    assert_eq!(r["sequences"]["whole"], 500);
    let fasta = fs::read_to_string(dir.join("out/peaks.fa")).unwrap();
    for (record, &start) in fasta.trim_start_matches('>').split("\n>").zip(&starts) {
        let (header, sequence) = record.split_once('\n').unwrap();
        let width = 100 + start % 200;
        assert_eq!(header, format!("chr9:{start}-{}", start + width));
        let want = format!("{:N<256}", &bases[start..start + width.min(256)]);
        assert_eq!(sequence.trim_end(), want, "{header}");
    }
}
