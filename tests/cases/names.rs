//! Names that nearly meet: barcodes, peaks, chromosomes, columns.

use crate::base::{Base, PEAKS, gene_place, peak_place};
use crate::common::program::{ok, refused, run, text};
use crate::common::toy::append;

/// How a name is made of a barcode, and of a chromosome, start and end.
type OfBarcode<'a> = &'a dyn Fn(&str) -> String;
type OfPeak<'a> = &'a dyn Fn((&str, usize, usize)) -> String;
type OfPlace<'a> = &'a dyn Fn(&str, usize, usize) -> String;

fn bare(base: &Base) -> Vec<String> {
    base.barcodes.iter().map(|b| b.trim_end_matches("-1").to_string()).collect()
}

#[test]
fn barcodes_that_differ_by_what_stands_around_them() {
    let base = Base::new();
    let plain = bare(&base);
    let forms: [(OfBarcode, &str); 5] = [
        (&|b| b.to_string(), "the ending -1 is taken off"),
        (&|b| format!("{b}-1_2"), "the ending _2 is taken off"),
        (&|b| format!("s1#{b}-1"), "the beginning s1# is taken off"),
        (&|b| format!("atac_{b}-1"), "the beginning atac_ is taken off"),
        (&|b| format!("{b}.1"), "what parts their words"),
    ];
    for (i, (form, once)) in forms.into_iter().enumerate() {
        let theirs: Vec<String> = plain.iter().map(|b| form(b)).collect();
        base.write_atac("other.h5ad", &theirs, &base.peaks);
        let words = "--rna rna.h5ad --atac other.h5ad --gtf genes.gtf";
        refused(
            &base.try_prepare("out", &format!("{words} --barcodes exact")),
            &["60 of 60 would agree once", once, "--barcodes strip"],
        );
        let (hash, said) = base.prepare(&format!("auto{i}"), words);
        assert_eq!(hash, base.hash, "{once}");
        assert!(said.contains("60 of 60 agree once") && said.contains(once), "{said}");
    }
    // Not all agree: they are taken only where that is asked for.
    let some: Vec<String> =
        plain.iter().enumerate().map(|(i, b)| if i < 50 { b.clone() } else { format!("TTTTTTTTTTTTTT{i}") }).collect();
    base.write_atac("some.h5ad", &some, &base.peaks);
    let words = "--rna rna.h5ad --atac some.h5ad --gtf genes.gtf";
    refused(
        &base.try_prepare("some", words),
        &["50 of 60 would agree once the ending -1 is taken off", "--barcodes strip"],
    );
    base.prepare("strip", &format!("{words} --barcodes strip"));
    assert_eq!(base.table("strip", "cells.tsv").len(), 50);
    // Nothing in common at all.
    let none: Vec<String> = (0..60).map(|i| format!("cell{i}x")).collect();
    base.write_atac("none.h5ad", &none, &base.peaks);
    refused(
        &base.try_prepare("none", "--rna rna.h5ad --atac none.h5ad --gtf genes.gtf"),
        &["only 0 of 60", "one experiment"],
    );
}

#[test]
fn barcodes_of_a_table_of_cells() {
    let base = Base::new();
    base.write_rna("untyped.h5ad", &base.barcodes, false);
    let rows: String = bare(&base).iter().zip(&base.types).map(|(b, t)| format!("lib_{b},{t}\n")).collect();
    base.put("t.csv", format!("barcode,cell_type\n{rows}"));
    let words = "--rna untyped.h5ad --atac atac.h5ad --gtf genes.gtf --obs t.csv";
    let (hash, said) = base.prepare("out", words);
    assert_eq!(hash, base.hash);
    assert!(said.contains("60 of 60 RNA cells agree once"), "{said}");
    refused(&base.try_prepare("exact", &format!("{words} --barcodes exact")), &["knows none", "60 of 60 would agree"]);
}

#[test]
fn peaks_are_places_whatever_parts_their_names() {
    let base = Base::new();
    let want: Vec<Vec<String>> = base.table("base", "peaks.tsv").into_iter().map(|r| r[1..].to_vec()).collect();
    let forms: [OfPeak; 6] = [
        &|(c, s, e)| format!("{c}.{s}.{e}"),
        &|(c, s, e)| format!("{c} {s} {e}"),
        &|(c, s, e)| format!("{c}:{s}-{e}:*"),
        &|(c, s, e)| format!("{c}_{s}_{e}"),
        &|(c, s, e)| format!("{c}-{s}-{e}"),
        &|(c, s, e)| format!("GRCh38_{c}:{s}-{e}"),
    ];
    for (i, form) in forms.into_iter().enumerate() {
        let names: Vec<String> = (0..PEAKS).map(|p| form(peak_place(p))).collect();
        base.write_atac("p.h5ad", &base.barcodes, &names);
        let out = format!("p{i}");
        base.prepare(&out, "--rna rna.h5ad --atac p.h5ad --gtf genes.gtf");
        let got: Vec<Vec<String>> = base.table(&out, "peaks.tsv").into_iter().map(|r| r[1..].to_vec()).collect();
        assert_eq!(got, want, "{}", names[0]);
    }
}

#[test]
fn known_links_and_sites_by_place() {
    let base = Base::new();
    // The peak at 10 kb before each gene's first base; 20 links by hand.
    let link = |i: usize, form: OfPlace| {
        let (chrom, start, _, _) = gene_place(i);
        format!("GENE{i}\t{}\n", form(chrom, start - 10_001, start - 9_501))
    };
    let forms: [(&str, OfPlace); 6] = [
        ("colon", &|c, s, e| format!("{c}:{s}-{e}")),
        ("dash", &|c, s, e| format!("{c}-{s}-{e}")),
        ("point", &|c, s, e| format!("{c}.{s}.{e}")),
        ("strand", &|c, s, e| format!("{c}:{s}-{e}:+")),
        ("refseq", &|c, s, e| format!("NC_00000{}.12:{s}-{e}", &c[3..])),
        ("alias", &|c, s, e| format!("ctg{}:{s}-{e}", &c[3..])),
    ];
    base.put("alias.txt", "chr1\tctg1\nchr2\tctg2\n");
    for (name, form) in forms {
        let rows: String = (0..20).map(|i| link(i, form)).collect();
        base.put("t.tsv", format!("gene\tpeak\n{rows}"));
        let mut args = vec!["discover", "--data", "base", "--out", name, "--truth", "t.tsv", "--json"];
        if name == "alias" {
            let refusal = run(base.dir.path(), &[&args[..], &["--quiet"]].concat());
            refused(&refusal, &["none of its chromosomes", "--aliases"]);
            args.extend(["--aliases", "alias.txt"]);
        }
        let out = run(base.dir.path(), &args);
        assert!(out.status.success(), "{name}: {}", text(&out));
        let made: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(made["recovery"]["links"], 20, "{name}");
    }
    // As R writes it: quotes, blanks, names of rows that the header lacks.
    let rows: String = (0..20).map(|i| format!("\"{}\" {}", i + 1, link(i, forms[1].1).replace('\t', " "))).collect();
    base.put("r.txt", format!("\"gene\" \"peak\"\n{rows}"));
    let out = run(base.dir.path(), &["discover", "--data", "base", "--out", "r", "--truth", "r.txt", "--json"]);
    assert!(out.status.success(), "{}", text(&out));
    let made: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(made["recovery"]["links"], 20);
}

#[test]
fn columns_with_a_slash_in_their_name() {
    let base = Base::new();
    base.write_rna("slash.h5ad", &base.barcodes, false);
    let file = append(&base.at("slash.h5ad"));
    let group = file.group("obs").unwrap().create_group("cell").unwrap();
    let values: Vec<hdf5::types::VarLenUnicode> = base.types.iter().map(|t| t.parse().unwrap()).collect();
    group.new_dataset::<hdf5::types::VarLenUnicode>().shape(60).create("type").unwrap().write_raw(&values).unwrap();
    drop(group);
    file.close().unwrap();
    let words = "--rna slash.h5ad --atac atac.h5ad --gtf genes.gtf";
    assert_eq!(base.prepare("out", &format!("{words} --cell-type-column cell/type")).0, base.hash);
    let out = base.try_prepare("other", &format!("{words} --cell-type-column type --quiet"));
    refused(&out, &["the columns are cell/type"]);
    // What else cells have goes along into what is written, under a name that AnnData allows.
    base.prepare("kept", words);
    ok(
        base.dir.path(),
        &"train --data kept --out run --epochs 1 --tower-epochs 1 --quiet".split(' ').collect::<Vec<_>>(),
    );
    ok(base.dir.path(), &"embed --run run --out z.h5ad --quiet".split(' ').collect::<Vec<_>>());
    let z = hdf5::File::open(base.at("z.h5ad")).unwrap();
    assert!(z.group("obs").unwrap().member_names().unwrap().contains(&"cell_type".to_string()));
}

#[test]
fn a_missing_factor_of_r_is_missing() {
    let base = Base::new();
    base.write_rna("r.h5ad", &base.barcodes, false);
    let file = append(&base.at("r.h5ad"));
    let group = file.group("obs").unwrap().create_group("cell_type").unwrap();
    let text = |s: &str| s.parse::<hdf5::types::VarLenUnicode>().unwrap();
    let mark = group.new_attr::<hdf5::types::VarLenUnicode>().create("encoding-type").unwrap();
    mark.write_scalar(&text("categorical")).unwrap();
    let mut codes: Vec<i32> = (0..60).map(|c| c % 3).collect();
    codes[7] = i32::MIN;
    group.new_dataset::<i32>().shape(60).create("codes").unwrap().write_raw(&codes).unwrap();
    let names = ["B", "Mono", "T"].map(text);
    group.new_dataset::<hdf5::types::VarLenUnicode>().shape(3).create("categories").unwrap().write_raw(&names).unwrap();
    drop((mark, group));
    file.close().unwrap();
    let (_, said) = base.prepare("out", "--rna r.h5ad --atac atac.h5ad --gtf genes.gtf");
    assert!(said.contains("1 cells have no cell type"), "{said}");
    let cells = base.table("out", "cells.tsv");
    assert_eq!((cells[6][1].as_str(), cells[8][1].as_str()), ("B", "T"));
    assert!(!["B", "Mono", "T"].contains(&cells[7][1].as_str()), "{:?}", cells[7]);
}
