//! Text as R and spreadsheets write it.

use crate::base::{Base, GENES, folder, peak_place, tsv};

#[test]
fn tables_of_cells_in_every_dialect() {
    let base = Base::new();
    base.write_rna("untyped.h5ad", &base.barcodes, false);
    let rows = |form: &dyn Fn(&str, &str) -> String| -> String {
        base.barcodes.iter().zip(&base.types).map(|(b, t)| form(b, t)).collect()
    };
    let wide = |text: &str, big: bool| -> Vec<u8> {
        let units = text.encode_utf16();
        units.flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }).collect()
    };
    let csv = format!("barcode,cell_type\n{}", rows(&|b, t| format!("{b},{t}\n")));
    let files: [(&str, Vec<u8>); 12] = [
        ("r.tsv", format!("cell_type\n{}", rows(&|b, t| format!("{b}\t{t}\n"))).into()),
        ("r.txt", format!("\"cell_type\"\n{}", rows(&|b, t| format!("\"{b}\" \"{t}\"\n"))).into()),
        ("semicolon.csv", csv.replace(',', ";").into()),
        ("crlf.csv", csv.replace('\n', "\r\n").into()),
        ("mac.csv", csv.replace('\n', "\r").into()),
        ("bom.csv", [b"\xef\xbb\xbf", csv.as_bytes()].concat()),
        ("le.csv", [vec![0xff, 0xfe], wide(&csv, false)].concat()),
        ("be.csv", [vec![0xfe, 0xff], wide(&csv, true)].concat()),
        ("latin.csv", [b"# caf\xe9, d\n", csv.as_bytes()].concat()),
        ("tabs.tsv", csv.replace(',', "\t").replace('\n', "\t\t\n").into()),
        ("quoted.csv", format!("\"barcode\",\"cell_type\"\n{}", rows(&|b, t| format!("\"{b}\",\"{t}\"\n"))).into()),
        ("more.csv", format!("{csv}AAAA-9,x,y,z\nAAAA-9,w\n\n\n").into()),
    ];
    for (name, bytes) in files {
        base.put(name, bytes);
        let words = format!("--rna untyped.h5ad --atac atac.h5ad --gtf genes.gtf --obs {name}");
        assert_eq!(base.prepare(&name.replace('.', "_"), &words).0, base.hash, "{name}");
    }
}

#[test]
fn names_in_quotes_ragged_and_with_headers() {
    let base = Base::new();
    let plain = base.features();
    let quoted: Vec<[String; 3]> = plain.iter().map(|r| r.clone().map(|f| format!("\"{f}\""))).collect();
    let barcodes = base.barcodes.join("\n");
    let quoted_barcodes: String = base.barcodes.iter().map(|b| format!("\"{b}\"\n")).collect();
    let header = format!("id\tname\tfeature_type\n{}", tsv(&plain));
    // R: a header without the name of the rows, which are numbers.
    let numbered: String = base.barcodes.iter().enumerate().map(|(i, b)| format!("\"{}\"\t\"{b}\"\n", i + 1)).collect();
    let crlf = tsv(&plain).replace('\n', "\r\n");
    // Places of some peaks, and empty columns.
    let ragged: String = plain
        .iter()
        .enumerate()
        .map(|(i, r)| match i.checked_sub(GENES).filter(|p| p % 3 == 0).map(peak_place) {
            Some((chrom, start, end)) => format!("{}\t{chrom}\t{start}\t{end}\n", r.join("\t")),
            None if i % 2 == 0 => format!("{}\t\t\n", r.join("\t")),
            None => r.join("\t") + "\n",
        })
        .collect();
    for (dir, features, barcodes, kind) in [
        ("quoted", tsv(&quoted), quoted_barcodes, "integer"),
        ("header", header, format!("barcode\n{barcodes}\n"), "integer"),
        ("numbered", tsv(&plain), format!("\"x\"\n{numbered}"), "integer"),
        ("crlf", crlf, barcodes.replace('\n', "\r\n"), "real"),
        ("unsigned", tsv(&plain), barcodes.clone(), "unsigned-integer"),
        ("ragged", ragged, barcodes.clone(), "double"),
    ] {
        let matrix = base.mtx(kind);
        folder(&base, dir, ("matrix.mtx", matrix), ("features.tsv", features), ("barcodes.tsv", barcodes));
        let words = format!("--tenx {dir} --obs cells.csv --gtf genes.gtf");
        assert_eq!(base.prepare(&format!("{dir}-out"), &words).0, base.hash, "{dir}");
    }
}
