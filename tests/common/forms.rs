//! The toy pair in every form that can be read.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use hdf5::types::{FixedAscii, VarLenUnicode};
use hdf5::{Dataset, File, Group, H5Type, Location};
use sccrossrec::csr::Csr;
use sccrossrec::data::source::{Form, Select};

use super::toy::{Toy, csr};

/// One form: files, what of them, and what they tell.
pub struct Case {
    pub name: &'static str,
    pub rna: PathBuf,
    pub atac: PathBuf,
    pub rna_select: Select,
    pub atac_select: Select,
    pub form: Form,
    /// Has it cell types?
    pub typed: bool,
    /// Does it tell chromosomes of genes?
    pub placed: bool,
}

fn text(s: &str) -> VarLenUnicode {
    s.parse().unwrap()
}

fn mark(at: &Location, name: &str, value: &str) {
    at.new_attr::<VarLenUnicode>().create(name).unwrap().write_scalar(&text(value)).unwrap();
}

fn strings(group: &Group, name: &str, values: &[String]) -> Dataset {
    let values: Vec<VarLenUnicode> = values.iter().map(|s| text(s)).collect();
    let set = group.new_dataset::<VarLenUnicode>().shape(values.len()).create(name).unwrap();
    set.write_raw(&values).unwrap();
    set
}

fn array<T: H5Type>(group: &Group, name: &str, values: &[T]) -> Dataset {
    let set = group.new_dataset::<T>().shape(values.len()).create(name).unwrap();
    set.write_raw(values).unwrap();
    set
}

fn fixed(group: &Group, name: &str, values: &[String]) {
    let values: Vec<FixedAscii<32>> = values.iter().map(|s| FixedAscii::from_ascii(s).unwrap()).collect();
    array(group, name, &values);
}

/// A frame of text columns, as anndata 0.8 and later write it.
fn frame(parent: &Group, name: &str, index: &[String], columns: &[(&str, &[String])]) {
    let group = parent.create_group(name).unwrap();
    mark(&group, "encoding-type", "dataframe");
    mark(&group, "_index", "_index");
    strings(&group, "_index", index);
    for (name, values) in columns {
        strings(&group, name, values);
    }
}

fn sparse(parent: &Group, name: &str, dense: &[Vec<f32>]) {
    let group = parent.create_group(name).unwrap();
    mark(&group, "encoding-type", "csr_matrix");
    let shape = [dense.len() as i64, dense.first().map_or(0, Vec::len) as i64];
    group.new_attr::<i64>().shape(2).create("shape").unwrap().write_raw(&shape).unwrap();
    compressed(&group, &csr(dense));
}

fn compressed(group: &Group, m: &Csr<f32>) {
    array(group, "data", &m.values.iter().map(|&v| v as i32).collect::<Vec<_>>());
    array(group, "indices", &m.indices.iter().map(|&i| i64::from(i)).collect::<Vec<_>>());
    array(group, "indptr", &m.indptr.iter().map(|&p| p as i64).collect::<Vec<_>>());
}

#[derive(H5Type, Clone, Copy)]
#[repr(C)]
struct LegacyCell {
    index: FixedAscii<16>,
    n_genes: i64,
    cell_type: i8,
    score: f32,
}

#[derive(H5Type, Clone)]
#[repr(C)]
struct LegacyGene {
    index: VarLenUnicode,
    chrom: i8,
    highly_variable: bool,
}

/// Codes of values, and their distinct values.
fn coded(values: &[String]) -> (Vec<i8>, Vec<String>) {
    let mut names: Vec<String> = values.to_vec();
    names.sort();
    names.dedup();
    (values.iter().map(|v| names.binary_search(v).unwrap() as i8).collect(), names)
}

/// As anndata before 0.7: compound frames, categories in `uns`.
fn legacy(path: &Path, toy: &Toy, rna: bool) {
    let file = create(path);
    let uns = file.create_group("uns").unwrap();
    let (codes, types) = coded(&toy.types);
    let cells: Vec<LegacyCell> = toy
        .barcodes
        .iter()
        .zip(codes)
        .map(|(b, cell_type)| LegacyCell {
            index: FixedAscii::from_ascii(b).unwrap(),
            n_genes: 5,
            cell_type,
            score: 0.5,
        })
        .collect();
    array(&file, "obs", &cells);
    fixed(&uns, "cell_type_categories", &types);
    let names = if rna { &toy.genes } else { &toy.peaks };
    let (codes, chroms) = match rna {
        true => coded(&toy.gene_chrom),
        false => coded(&toy.peaks.iter().map(|p| p.split('-').next().unwrap().to_string()).collect::<Vec<_>>()),
    };
    let var: Vec<LegacyGene> =
        names.iter().zip(codes).map(|(n, chrom)| LegacyGene { index: text(n), chrom, highly_variable: true }).collect();
    array(&file, "var", &var);
    strings(&uns, "chrom_categories", &chroms);
    let dense = if rna { &toy.rna } else { &toy.atac };
    let x = file.create_group("X").unwrap();
    mark(&x, "h5sparse_format", "csr");
    let shape = [dense.len() as i64, names.len() as i64];
    x.new_attr::<i64>().shape(2).create("h5sparse_shape").unwrap().write_raw(&shape).unwrap();
    compressed(&x, &csr(dense));
}

fn write_tsv(path: &Path, rows: impl Iterator<Item = Vec<String>>) {
    let text: String = rows.map(|r| r.join("\t") + "\n").collect();
    if path.extension().is_some_and(|e| e == "gz") {
        let mut out = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap();
    } else {
        std::fs::write(path, text).unwrap();
    }
}

fn matrix_market(path: &Path, dense: &[Vec<f32>], width: usize) {
    let m = csr(dense);
    let mut rows = vec![
        vec!["%%MatrixMarket matrix coordinate integer general".to_string()],
        vec!["%metadata_json: {\"software_version\": \"cellranger-arc\"}".into()],
        vec![format!("{width} {} {}", dense.len(), m.values.len())],
    ];
    for cell in 0..dense.len() {
        let (index, values) = m.row(cell);
        // From the last feature to the first: the order within a cell is not promised.
        rows.extend(index.iter().zip(values).rev().map(|(f, v)| vec![format!("{} {} {v}", f + 1, cell + 1)]));
    }
    write_tsv(path, rows.into_iter());
}

/// Place of a gene for 10x's `interval`.
fn interval(toy: &Toy, gene: usize) -> String {
    format!("{}:{}-{}", toy.gene_chrom[gene], 10 * gene, 10 * gene + 5)
}

/// A peak as 10x names it.
fn colon(peak: &str) -> String {
    peak.replacen('-', ":", 1)
}

fn both(toy: &Toy) -> Vec<Vec<f32>> {
    toy.rna.iter().zip(&toy.atac).map(|(r, a)| [r.as_slice(), a].concat()).collect()
}

/// Writes all forms below `dir`.
pub fn all(dir: &Path, toy: &Toy) -> Vec<Case> {
    let at = |name: &str| {
        let path = dir.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let case = |name, rna: PathBuf, atac: PathBuf, form| Case {
        name,
        rna,
        atac,
        rna_select: Select::default(),
        atac_select: Select::default(),
        form,
        typed: false,
        placed: false,
    };
    let mut out = Vec::new();

    let (rna, atac) = toy.write(&at("h5ad"));
    out.push(Case { typed: true, placed: true, ..case("h5ad", rna, atac, Form::AnnData) });

    let (rna, atac) = (at("legacy").join("rna.h5ad"), dir.join("legacy/atac.h5ad"));
    legacy(&rna, toy, true);
    legacy(&atac, toy, false);
    out.push(Case { typed: true, placed: true, ..case("legacy h5ad", rna, atac, Form::AnnData) });

    // X is something else; the values lie in `raw` with all genes, and in a layer.
    let (rna, atac) = (at("raw").join("rna.h5ad"), dir.join("raw/atac.h5ad"));
    for (path, rna) in [(&rna, true), (&atac, false)] {
        let file = create(path);
        frame(&file, "obs", &toy.barcodes, &[("cell_type", &toy.types)]);
        let dense = if rna { &toy.rna } else { &toy.atac };
        let narrow = |m: &[Vec<f32>]| m.iter().map(|r| vec![r[0] + 0.5, 1.5]).collect::<Vec<_>>();
        if rna {
            frame(&file, "var", &toy.genes[..2], &[("chrom", &toy.gene_chrom[..2])]);
            sparse(&file, "X", &narrow(dense));
            let raw = file.create_group("raw").unwrap();
            frame(&raw, "var", &toy.genes, &[("chrom", &toy.gene_chrom)]);
            sparse(&raw, "X", dense);
        } else {
            frame(&file, "var", &toy.peaks, &[]);
            let layers = file.create_group("layers").unwrap();
            sparse(&layers, "counts", dense);
        }
    }
    let layer = |name: &str| Select { layer: Some(name.into()), ..Select::default() };
    out.push(Case {
        typed: true,
        placed: true,
        rna_select: layer("raw"),
        atac_select: layer("counts"),
        ..case("raw and a layer", rna, atac, Form::AnnData)
    });

    // Cell types only among the columns of all cells, which stand in another order.
    let path = at("h5mu").join("both.h5mu");
    let file = create(&path);
    let modalities = file.create_group("mod").unwrap();
    for (name, names, dense) in [("rna", &toy.genes, &toy.rna), ("atac", &toy.peaks, &toy.atac)] {
        let one = modalities.create_group(name).unwrap();
        frame(&one, "obs", &toy.barcodes, &[]);
        let chrom: &[String] = &toy.gene_chrom;
        let columns: &[(&str, &[String])] = if name == "rna" { &[("chrom", chrom)] } else { &[] };
        frame(&one, "var", names, columns);
        sparse(&one, "X", dense);
    }
    let backwards = |v: &[String]| v.iter().rev().cloned().collect::<Vec<_>>();
    frame(&file, "obs", &backwards(&toy.barcodes), &[("rna:cell_type", &backwards(&toy.types))]);
    frame(&file, "var", &[toy.genes.clone(), toy.peaks.clone()].concat(), &[]);
    drop(file);
    out.push(Case { typed: true, placed: true, ..case("h5mu", path.clone(), path, Form::MuData) });

    // Both modalities in one matrix, their features alternating at first.
    let path = at("merged").join("both.h5ad");
    let file = create(&path);
    let (g, p) = (toy.genes.len(), toy.peaks.len());
    let order: Vec<usize> = (0..g).flat_map(|i| [i, g + i]).chain(2 * g..g + p).collect();
    let names = [toy.genes.clone(), toy.peaks.clone()].concat();
    let kinds: Vec<String> = order.iter().map(|&i| if i < g { "GEX" } else { "ATAC" }.to_string()).collect();
    let chrom: Vec<String> =
        order.iter().map(|&i| if i < g { toy.gene_chrom[i].clone() } else { String::new() }).collect();
    frame(&file, "obs", &toy.barcodes, &[("cell_type", &toy.types)]);
    let named: Vec<String> = order.iter().map(|&i| names[i].clone()).collect();
    frame(&file, "var", &named, &[("feature_types", &kinds), ("chrom", &chrom)]);
    let merged: Vec<Vec<f32>> = both(toy).iter().map(|r| order.iter().map(|&i| r[i]).collect()).collect();
    sparse(&file, "X", &merged);
    drop(file);
    out.push(Case { typed: true, placed: true, ..case("one h5ad of both", path.clone(), path, Form::AnnData) });

    let path = at("tenx").join("filtered_feature_bc_matrix.h5");
    let file = create(&path);
    let matrix = file.create_group("matrix").unwrap();
    fixed(&matrix, "barcodes", &toy.barcodes);
    compressed(&matrix, &csr(&both(toy)));
    array(&matrix, "shape", &[(g + p) as i32, toy.barcodes.len() as i32]);
    let features = matrix.create_group("features").unwrap();
    fixed(&features, "_all_tag_keys", &["genome".into(), "interval".into()]);
    let ids = |i: usize| if i < g { format!("ENSG{i:05}") } else { colon(&names[i]) };
    let shown = |i: usize| if i < g { names[i].clone() } else { colon(&names[i]) };
    let of = |f: &dyn Fn(usize) -> String| (0..g + p).map(f).collect::<Vec<_>>();
    fixed(&features, "id", &of(&ids));
    fixed(&features, "name", &of(&shown));
    let kind = |i: usize| if i < g { "Gene Expression" } else { "Peaks" }.to_string();
    fixed(&features, "feature_type", &of(&kind));
    fixed(&features, "genome", &of(&|_| "GRCh38".into()));
    fixed(&features, "interval", &of(&|i| if i < g { interval(toy, i) } else { colon(&names[i]) }));
    drop(file);
    let genome = Select { genome: Some("GRCh38".into()), ..Select::default() };
    out.push(Case { placed: true, rna_select: genome.clone(), ..case("10x", path.clone(), path, Form::TenX) });

    // Before Cell Ranger 3: a group a genome.
    let (rna, atac) = (at("old10x").join("rna.h5"), dir.join("old10x/atac.h5"));
    for (path, names, dense) in [(&rna, &toy.genes, &toy.rna), (&atac, &toy.peaks, &toy.atac)] {
        let file = create(path);
        for genome in ["GRCh38", "mm10"] {
            let group = file.create_group(genome).unwrap();
            fixed(&group, "barcodes", &toy.barcodes);
            let ids: Vec<String> = (0..names.len()).map(|i| format!("ENSG{i:05}")).collect();
            fixed(&group, "genes", &ids);
            fixed(&group, "gene_names", names);
            let empty = vec![vec![0.0; names.len()]; dense.len()];
            compressed(&group, &csr(if genome == "mm10" { &empty } else { dense }));
            array(&group, "shape", &[names.len() as i64, dense.len() as i64]);
        }
    }
    out.push(Case {
        rna_select: genome.clone(),
        atac_select: genome,
        ..case("10x before 3", rna, atac, Form::TenXLegacy)
    });

    let path = at("mtx");
    matrix_market(&path.join("matrix.mtx.gz"), &both(toy), g + p);
    let feature = |i: usize| {
        let place = if i < g { interval(toy, i) } else { colon(&names[i]) };
        let (chrom, range) = place.split_once(':').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        vec![ids(i), shown(i), kind(i), chrom.into(), start.into(), end.into()]
    };
    write_tsv(&path.join("features.tsv.gz"), (0..g + p).map(feature));
    write_tsv(&path.join("barcodes.tsv.gz"), toy.barcodes.iter().map(|b| vec![b.clone()]));
    out.push(Case { placed: true, ..case("Matrix Market", path.clone(), path, Form::MatrixMarket) });

    let (rna, atac) = (at("oldmtx/rna"), at("oldmtx/atac"));
    for (path, names, dense) in [(&rna, &toy.genes, &toy.rna), (&atac, &toy.peaks, &toy.atac)] {
        matrix_market(&path.join("matrix.mtx"), dense, names.len());
        let id = |i: usize| vec![format!("ENSG{i:05}"), names[i].clone()];
        write_tsv(&path.join("genes.tsv"), (0..names.len()).map(id));
        write_tsv(&path.join("barcodes.tsv"), toy.barcodes.iter().map(|b| vec![b.clone()]));
    }
    out.push(case("Matrix Market before 3", rna, atac, Form::MatrixMarket));
    out
}

/// Makes a file without a lock, as [`super::toy::append`].
fn create(path: &Path) -> File {
    File::with_options().with_fapl(|p| p.file_locking(false)).create(path).unwrap()
}
