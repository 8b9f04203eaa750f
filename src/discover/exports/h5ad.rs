//! Maps as AnnData.

use std::collections::HashSet;
use std::path::Path;

use super::export::{Export, check};
use crate::data::anndata::{AnnDataWriter, Column, Frame, UnsArray};
use crate::discover::maps::{Maps, TypeMap};
use crate::error::{Error, Result};
use crate::vocabulary::{ObsColumn, Vocabulary};

/// Embeddings of all cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Embedding<'a> {
    /// Numbers a cell.
    pub width: usize,
    /// `[N, width]`, row-major.
    pub values: &'a [f32],
}

/// A column's name as HDF5 can store it.
fn storable(name: &str) -> String {
    match name.replace(['/', '\0'], "_") {
        n if n.is_empty() || n == "." => "_".into(),
        n => n,
    }
}

fn obs(v: &Vocabulary) -> Frame {
    let mut columns: Vec<(String, Column)> = Vec::new();
    let mut taken: HashSet<String> = HashSet::from(["_index".to_string()]);
    if !v.cell_types.is_empty() {
        let codes = v.cell_type.iter().map(|&c| c as i32).collect();
        columns.push(("cell_type".into(), Column::Categorical { codes, categories: v.cell_types.clone() }));
        taken.insert("cell_type".into());
    }
    for column in &v.obs {
        let name = storable(&column.name);
        if taken.insert(name.clone()) {
            let code = |&c: &u32| if c == ObsColumn::MISSING { -1 } else { c as i32 };
            let codes = column.codes.iter().map(code).collect();
            columns.push((name, Column::Categorical { codes, categories: column.categories.clone() }));
        }
    }
    Frame { index: v.cells.clone(), columns }
}

fn var(v: &Vocabulary) -> Frame {
    let chrom = |c: u32| v.chromosomes.get(c as usize).cloned().unwrap_or_default();
    let chroms = v.genes.iter().map(|g| chrom(g.chrom)).collect();
    let tss = v.genes.iter().map(|g| g.tss.map_or(f64::NAN, |t| t as f64)).collect();
    Frame {
        index: v.genes.iter().map(|g| g.name.clone()).collect(),
        columns: vec![("chrom".into(), Column::Strings(chroms)), ("tss".into(), Column::Floats(tss))],
    }
}

/// Writes an AnnData without X, N cells × G genes, for maps of links and, where there is a model, of attention (all cells,
/// then each cell type), M of either:
///
/// | at | shape | what |
/// | --- | --- | --- |
/// | `obs` | N | `cell_type` and the other columns of cells |
/// | `obsm["X_sccrossrec"]` | N × width | the embedding, if given |
/// | `var` | G | `chrom`; `tss`, NaN where unknown |
/// | `varm["sccrossrec_links"]` | G × M | links expected of each gene, f32 |
/// | `uns["sccrossrec"]["link_maps"]` | M | names: `all`, then the cell types |
/// | `uns["sccrossrec"]["peaks"]` | P | names of the peaks |
/// | `uns["sccrossrec"]["peak_links"]` | P × M | links expected of each peak, f32 |
/// | `varm["sccrossrec_attention"]` | G × M | attention summed over the cells of a map and all peaks, f32 |
/// | `uns["sccrossrec"]["maps"]` | M | names of the maps of attention |
/// | `uns["sccrossrec"]["map_cells"]` | M | cells behind each |
/// | `uns["sccrossrec"]["peak_attention"]` | P × M | attention summed over the cells of a map and all genes, f32 |
/// | `uns["sccrossrec"][KEY]` | | `meta`: version, configuration, hashes; text |
///
/// # Errors
/// An embedding that is not of all cells; a name that HDF5 cannot store; a file that cannot be written.
pub fn write_h5ad(
    path: &Path,
    v: &Vocabulary,
    links: &Maps,
    attention: Option<&Maps>,
    embedding: Option<Embedding<'_>>,
    meta: &[(&str, &str)],
) -> Result<Export> {
    let both: Vec<(&Maps, [&str; 2])> = std::iter::once((links, ["sccrossrec_links", "peak_links"]))
        .chain(attention.map(|m| (m, ["sccrossrec_attention", "peak_attention"])))
        .collect();
    both.iter().try_for_each(|(maps, _)| maps.iter().try_for_each(|m| check(v, m)))?;
    let mut writer = AnnDataWriter::create(path, &obs(v), &var(v))?;
    if let Some(e) = embedding {
        writer.dense_f32("obsm/X_sccrossrec", v.cells.len(), e.width, e.values)?;
    }
    let at = |name: &str| format!("sccrossrec/{name}");
    for (key, value) in meta {
        if ["maps", "link_maps", "map_cells", "peaks", "peak_attention", "peak_links"].contains(key) {
            return Err(Error::Internal(format!("`{key}` is taken in uns/sccrossrec")));
        }
        writer.uns_string(&at(key), value)?;
    }
    let names = |maps: &Maps| maps.iter().map(|m| m.name.clone()).collect::<Vec<String>>();
    writer.uns_array(&at("link_maps"), &UnsArray::Strings(&names(links)))?;
    if let Some(maps) = attention {
        let cells: Vec<i64> = maps.iter().map(|m| m.cells as i64).collect();
        writer.uns_array(&at("maps"), &UnsArray::Strings(&names(maps)))?;
        writer.uns_array(&at("map_cells"), &UnsArray::Ints(&cells))?;
    }
    let peaks: Vec<String> = v.peaks.iter().map(|p| p.name.clone()).collect();
    writer.uns_array(&at("peaks"), &UnsArray::Strings(&peaks))?;
    for (maps, [of_genes, of_peaks]) in both {
        let all: Vec<&TypeMap> = maps.iter().collect();
        let columns = |of: &dyn Fn(&TypeMap) -> &[f64], rows: std::ops::Range<usize>| -> Vec<f32> {
            rows.flat_map(|i| all.iter().map(move |m| (i, m))).map(|(i, m)| of(m)[i] as f32).collect()
        };
        let genes = columns(&|m| &m.genes, 0..v.genes.len());
        writer.dense_f32(&format!("varm/{of_genes}"), v.genes.len(), all.len(), &genes)?;
        let mut sink = writer.uns_matrix(&at(of_peaks), all.len())?;
        const BLOCK: usize = 1 << 16;
        for start in (0..peaks.len()).step_by(BLOCK) {
            sink.append(&columns(&|m| &m.peaks, start..(start + BLOCK).min(peaks.len())))?;
        }
    }
    writer.finish()?;
    Ok(Export { file: path.to_path_buf(), written: v.cells.len() as u64, left_out: 0 })
}
