//! What a file is, and folders with other names.

use hdf5::types::VarLenUnicode;

use crate::base::{Base, CELLS, GENES, PEAKS, folder, gzip, peak_place, tsv};
use crate::common::program::{ok, refused, text};

const REST: &str = "--atac atac.h5ad --gtf genes.gtf";

#[test]
fn a_file_that_was_compressed_as_a_whole_is_read() {
    let base = Base::new();
    base.put("rna.h5ad.gz", gzip(&std::fs::read(base.at("rna.h5ad")).unwrap()));
    let (hash, said) = base.prepare("out", &format!("--rna rna.h5ad.gz {REST}"));
    assert_eq!(hash, base.hash);
    assert!(said.contains("unpacked to a temporary file of"), "{said}");
    let bytes = gzip(&std::fs::read(base.at("rna.h5ad")).unwrap());
    base.put("cut.h5ad.gz", &bytes[..bytes.len() / 2]);
    refused(&base.try_prepare("cut", &format!("--rna cut.h5ad.gz {REST} --quiet")), &["truncated or damaged"]);
}

#[test]
fn what_cannot_be_read_is_told_by_its_name_and_never_called_damaged() {
    let base = Base::new();
    let loom = hdf5::File::create(base.at("x.loom")).unwrap();
    loom.new_dataset::<f32>().shape([2, 2]).create("matrix").unwrap();
    loom.create_group("row_attrs").unwrap();
    loom.create_group("col_attrs").unwrap();
    drop(loom);
    let arrow = hdf5::File::create(base.at("x.arrow")).unwrap();
    arrow.create_group("Fragments").unwrap();
    arrow.create_group("Metadata").unwrap();
    drop(arrow);
    base.put("x.rds", gzip(b"X\n\0\0\0\x03\0\x04\x01\0"));
    base.put("x.csv.gz", gzip(b"gene,c1,c2\nA,1,2\nB,0,1\n"));
    base.put("counts.csv", "gene,c1,c2\nA,1,2\n");
    base.put("html.h5ad", "<!DOCTYPE html>\n<p>Sign in</p>\n");
    base.put("x.zip", b"PK\x03\x04\x14\0\0\0\0\0a.h5ad");
    base.put("lfs.h5ad", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    base.put("frag.tsv.gz", gzip(b"chr1\t10\t200\tACGTACGT-1\t2\nchr1\t30\t90\tACGTACGT-1\t1\n"));
    base.put("store.zarr/.zgroup", "{}");
    base.put("empty.h5ad", "");
    for (file, parts) in [
        ("x.loom", ["is a loom file", "write_h5ad"]),
        ("x.arrow", ["Arrow file of ArchR", "getMatrixFromProject"]),
        ("x.rds", ["R object", "writeH5AD"]),
        ("x.csv.gz", ["CSV", "read_csv"]),
        ("counts.csv", ["CSV", "read_csv"]),
        ("html.h5ad", ["HTML", "fetch"]),
        ("x.zip", ["zip archive", "unpack"]),
        ("lfs.h5ad", ["Git LFS", "git lfs pull"]),
        ("frag.tsv.gz", ["fragments", "FeatureMatrix"]),
        ("store.zarr", ["Zarr", "write_h5ad"]),
        ("empty.h5ad", ["is empty", ".h5ad"]),
    ] {
        let out = base.try_prepare("out", &format!("--rna {file} {REST}"));
        refused(&out, &parts);
        assert!(!text(&out).contains("damaged"), "{}", text(&out));
    }
}

#[test]
fn a_filter_that_cannot_be_read_is_named() {
    let base = Base::new();
    // A file in the oldest layout, in which a filter is its number, the length of its name, flags, a count of parameters and
    // its name: in the place of gzip blosc is told.
    let path = base.at("blosc.h5ad");
    let file = hdf5::File::with_options().with_fapl(|p| p.libver_earliest()).create(&path).unwrap();
    for (frame, names) in [("obs", &base.barcodes), ("var", &base.genes)] {
        let group = file.create_group(frame).unwrap();
        let names: Vec<VarLenUnicode> = names.iter().map(|n| n.parse().unwrap()).collect();
        group.new_dataset::<VarLenUnicode>().shape(names.len()).create("_index").unwrap().write_raw(&names).unwrap();
    }
    let set = file.new_dataset::<f32>().chunk((20, 20)).deflate(4).shape((CELLS, GENES)).create("X").unwrap();
    set.write_raw(&base.rna.concat()).unwrap();
    drop(set);
    file.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let name = bytes.windows(8).position(|w| w == b"deflate\0").unwrap();
    assert_eq!(bytes[name - 8..name - 6], [1, 0]);
    bytes[name - 8..name - 6].copy_from_slice(&32_001u16.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let out = base.try_prepare("out", &format!("--rna blosc.h5ad {REST}"));
    refused(&out, &["compressed with blosc (HDF5 filter 32001)", "not supported", "compression=\"gzip\""]);
    assert!(!text(&out).contains("damaged") && !text(&out).contains("plugin/"), "{}", text(&out));
}

#[test]
fn matrix_market_folders_with_other_names() {
    let base = Base::new();
    let (matrix, features) = (base.mtx("integer"), tsv(&base.features()));
    let barcodes = base.barcodes.join("\n") + "\n";
    let rest = "--obs cells.csv --gtf genes.gtf";
    let put = |dir: &str, names: [&str; 3]| {
        folder(&base, dir, (names[0], matrix.clone()), (names[1], features.clone()), (names[2], barcodes.clone()));
    };
    put("geo", ["GSM1_a_matrix.mtx.gz", "GSM1_a_features.tsv.gz", "GSM1_a_barcodes.tsv.gz"]);
    put("kb", ["x.mtx", "x.genes.txt", "x.barcodes.txt"]);
    put("run/outs/filtered_feature_bc_matrix", ["matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz"]);
    for (name, words) in [
        ("g", "--tenx geo"),
        ("gm", "--tenx geo/GSM1_a_matrix.mtx.gz"),
        ("k", "--tenx kb"),
        ("p", "--tenx run"),
        ("o", "--tenx run/outs"),
    ] {
        assert_eq!(base.prepare(name, &format!("{words} {rest}")).0, base.hash, "{words}");
    }
    // Two samples in one folder: told, and each can be given.
    put("geo", ["GSM2_b_matrix.mtx.gz", "GSM2_b_features.tsv.gz", "GSM2_b_barcodes.tsv.gz"]);
    let out = base.try_prepare("two", &format!("--tenx geo {rest}"));
    refused(&out, &["holds 2 matrices", "GSM1_a_matrix.mtx.gz", "GSM2_b_matrix.mtx.gz"]);
    assert_eq!(base.prepare("b", &format!("--tenx geo/GSM2_b_matrix.mtx.gz {rest}")).0, base.hash);
    std::fs::remove_file(base.at("kb/x.genes.txt")).unwrap();
    refused(&base.try_prepare("lack", &format!("--tenx kb {rest}")), &["no names of features", "x.barcodes.txt"]);
    base.put("nothing/readme.txt", "x");
    refused(&base.try_prepare("none", &format!("--tenx nothing {rest}")), &["without a matrix", "readme.txt"]);
}

#[test]
fn peaks_as_bed_and_a_matrix_of_cells_by_features() {
    let base = Base::new();
    let entries = |turned: bool| {
        let mut lines = Vec::new();
        for (c, row) in base.atac.iter().enumerate() {
            for (p, x) in row.iter().enumerate().filter(|x| *x.1 > 0.0) {
                lines.push(if turned {
                    format!("{} {} {x}\n", c + 1, p + 1)
                } else {
                    format!("{} {} {x}\n", p + 1, c + 1)
                });
            }
        }
        let (rows, cols) = if turned { (CELLS, PEAKS) } else { (PEAKS, CELLS) };
        let head = "%%MatrixMarket matrix coordinate integer general";
        format!("{head}\n{rows} {cols} {}\n{}", lines.len(), lines.concat())
    };
    let bed: String = (0..PEAKS).map(peak_place).map(|(c, s, e)| format!("{c}\t{s}\t{e}\n")).collect();
    let bed = format!("# peaks\ntrack name=x\n{bed}");
    let barcodes = base.barcodes.join("\n");
    for (dir, turned) in [("a", false), ("t", true)] {
        folder(
            &base,
            dir,
            ("matrix.mtx", entries(turned)),
            ("peaks.bed", bed.clone()),
            ("barcodes.tsv", barcodes.clone()),
        );
        let (hash, said) = base.prepare(&format!("{dir}-out"), &format!("--rna rna.h5ad --atac {dir} --gtf genes.gtf"));
        assert_eq!(hash, base.hash, "{dir}");
        assert_eq!(said.contains("is cells × features; read so"), turned, "{said}");
    }
}

#[test]
fn inspect_knows_what_the_program_writes_and_what_values_are() {
    let base = Base::new();
    ok(base.dir.path(), &["discover", "--data", "base", "--out", "links", "--quiet"]);
    let look = |path: &str| {
        let out = crate::common::program::run(base.dir.path(), &["inspect", path, "--json"]);
        assert!(out.status.success(), "{path}: {}", text(&out));
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap()
    };
    for (path, kind) in [
        ("rna.h5ad", "AnnData"),
        ("base", "data"),
        ("links", "discovery"),
        ("links/links.tsv", "table"),
        ("cells.csv", "table"),
        ("base/shards/00000.shard", "shard of a data set"),
        ("base/samples/default", "pairs of a data set"),
    ] {
        assert_eq!(look(path)["kind"], kind, "{path}");
    }
    let rna = look("rna.h5ad");
    let stored = base.rna.iter().flatten().filter(|x| **x > 0.0).count() as f64 / (CELLS * GENES) as f64;
    let x = rna["X"].as_str().unwrap();
    assert!(x.contains(&format!("{:.1} % stored", 100.0 * stored)) && x.contains("largest 3"), "{x}");
    assert_eq!(rna["genes_look"], "human");
    assert_eq!(look("links")["data_hash"].as_str(), Some(base.hash.as_str()));
}
