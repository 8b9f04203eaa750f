//! The sound files that the cases lean on: 60 cells of three types, 20 genes, 40 peaks on two chromosomes.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use sccrossrec::data::anndata::{Column, Frame};
use sccrossrec::rng::Rng;

use crate::common::program::{run, text};
use crate::common::toy::{Store, write};

pub const CELLS: usize = 60;
pub const GENES: usize = 20;
pub const PEAKS: usize = 40;

/// Everything of the base, and the folder that holds it.
pub struct Base {
    pub dir: tempfile::TempDir,
    pub barcodes: Vec<String>,
    pub types: Vec<String>,
    pub genes: Vec<String>,
    pub ids: Vec<String>,
    pub peaks: Vec<String>,
    pub rna: Vec<Vec<f32>>,
    pub atac: Vec<Vec<f32>>,
    /// Hash of the data set of the plain files, which lies at `base`.
    pub hash: String,
}

/// Chromosome, start (from 1), end and strand of a gene.
pub fn gene_place(i: usize) -> (&'static str, usize, usize, char) {
    let start = 1_000_001 + 200_000 * (i % 10);
    (["chr1", "chr2"][i / 10], start, start + 19_999, if i.is_multiple_of(2) { '+' } else { '-' })
}

/// Chromosome, start (from 0) and end of a peak.
pub fn peak_place(i: usize) -> (&'static str, usize, usize) {
    let start = 990_000 + 100_000 * (i % 20);
    (["chr1", "chr2"][i / 20], start, start + 500)
}

impl Base {
    /// Makes the files `rna.h5ad`, `atac.h5ad`, `genes.gtf`, `cells.csv`, and the data set `base` of them.
    pub fn new() -> Base {
        let mut rng = Rng::new(21, 4);
        let mut matrix = |cols: usize| -> Vec<Vec<f32>> {
            let value = |rng: &mut Rng| if rng.uniform() < 0.4 { 1.0 + rng.below(3) as f32 } else { 0.0 };
            let mut rows: Vec<Vec<f32>> = (0..CELLS).map(|_| (0..cols).map(|_| value(&mut rng)).collect()).collect();
            (0..CELLS).for_each(|c| rows[c][c % cols] = 2.0);
            rows
        };
        let (rna, atac) = (matrix(GENES), matrix(PEAKS));
        let letters = |c: usize| -> String {
            let mut r = Rng::new(5, c as u64);
            (0..16).map(|_| ['A', 'C', 'G', 'T'][r.below(4)]).collect()
        };
        let mut base = Base {
            dir: tempfile::tempdir().unwrap(),
            barcodes: (0..CELLS).map(|c| format!("{}-1", letters(c))).collect(),
            types: (0..CELLS).map(|c| ["B", "Mono", "T"][c % 3].to_string()).collect(),
            genes: (0..GENES).map(|i| format!("GENE{i}")).collect(),
            ids: (0..GENES).map(|i| format!("ENSG{:011}", i + 1)).collect(),
            peaks: (0..PEAKS).map(peak_place).map(|(c, s, e)| format!("{c}:{s}-{e}")).collect(),
            rna,
            atac,
            hash: String::new(),
        };
        base.write_rna("rna.h5ad", &base.barcodes, true);
        base.write_atac("atac.h5ad", &base.barcodes, &base.peaks);
        base.put("genes.gtf", base.gtf(|c| c.to_string()));
        let rows = base.barcodes.iter().zip(&base.types).map(|(b, t)| format!("{b},{t}\n"));
        let cells: String = std::iter::once(",cell_type\n".to_string()).chain(rows).collect();
        base.put("cells.csv", &cells);
        base.hash = base.prepare("base", "--rna rna.h5ad --atac atac.h5ad --gtf genes.gtf").0;
        base
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn write_rna(&self, name: &str, barcodes: &[String], typed: bool) {
        let types = ("cell_type".to_string(), Column::Strings(self.types.clone()));
        let obs = Frame { index: barcodes.to_vec(), columns: if typed { vec![types] } else { Vec::new() } };
        let var =
            Frame { index: self.genes.clone(), columns: vec![("gene_ids".into(), Column::Strings(self.ids.clone()))] };
        write(&self.at(name), &obs, &var, &self.rna, Store::Csr);
    }

    pub fn write_atac(&self, name: &str, barcodes: &[String], peaks: &[String]) {
        let obs = Frame { index: barcodes.to_vec(), columns: Vec::new() };
        write(&self.at(name), &obs, &Frame { index: peaks.to_vec(), columns: Vec::new() }, &self.atac, Store::Csr);
    }

    /// A line a gene; `chrom` names the chromosomes.
    pub fn gtf(&self, chrom: impl Fn(&str) -> String) -> String {
        let line = |i: usize| {
            let (on, start, end, strand) = gene_place(i);
            let (on, id, name) = (chrom(on), &self.ids[i], &self.genes[i]);
            format!("{on}\tx\tgene\t{start}\t{end}\t.\t{strand}\t.\tgene_id \"{id}.3\"; gene_name \"{name}\";\n")
        };
        (0..GENES).map(line).collect()
    }

    /// Matrix Market of both, features × cells, with this kind of number.
    pub fn mtx(&self, kind: &str) -> String {
        let rows = self.rna.iter().zip(&self.atac).enumerate();
        let entries: Vec<String> = rows
            .flat_map(|(c, (r, a))| {
                let both: Vec<f32> = r.iter().chain(a).copied().collect();
                both.into_iter()
                    .enumerate()
                    .filter(|x| x.1 > 0.0)
                    .map(move |(f, x)| format!("{} {} {x}\n", f + 1, c + 1))
            })
            .collect();
        let n = GENES + PEAKS;
        format!("%%MatrixMarket matrix coordinate {kind} general\n{n} {CELLS} {}\n{}", entries.len(), entries.concat())
    }

    /// Lines of `features.tsv` of both.
    pub fn features(&self) -> Vec<[String; 3]> {
        let genes = self.ids.iter().zip(&self.genes).map(|(i, g)| [i.clone(), g.clone(), "Gene Expression".into()]);
        genes.chain(self.peaks.iter().map(|p| [p.clone(), p.clone(), "Peaks".into()])).collect()
    }

    /// `prepare --out NAME` of these words: its hash and what it said; a failure is one of the test.
    pub fn prepare(&self, name: &str, words: &str) -> (String, String) {
        let out = self.try_prepare(name, words);
        assert!(out.status.success(), "{words}: {}", text(&out));
        let manifest = std::fs::read_to_string(self.at(name).join("dataset.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        (manifest["hash"].as_str().unwrap().to_string(), text(&out))
    }

    pub fn try_prepare(&self, name: &str, words: &str) -> std::process::Output {
        let args: Vec<&str> =
            ["prepare", "--threads", "1", "--out", name].into_iter().chain(words.split(' ')).collect();
        run(self.dir.path(), &args)
    }

    /// Lines of a table of a data set, without header.
    pub fn table(&self, data: &str, file: &str) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.at(data).join(file)).unwrap();
        text.lines().skip(1).map(|l| l.split('\t').map(String::from).collect()).collect()
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub fn tsv(rows: &[[String; 3]]) -> String {
    rows.iter().map(|r| r.join("\t") + "\n").collect()
}

/// Writes the three files of a folder, as plain or compressed as their names say.
pub fn folder(base: &Base, dir: &str, matrix: (&str, String), features: (&str, String), barcodes: (&str, String)) {
    for (name, content) in [matrix, features, barcodes] {
        let bytes = if name.ends_with(".gz") { gzip(content.as_bytes()) } else { content.into_bytes() };
        base.put(&format!("{dir}/{name}"), bytes);
    }
}
