//! The stages of a discovery.

use std::path::Path;

use rayon::prelude::*;

use super::exports::{Export, Format, h5ad};
use super::links::Link;
use super::maps::{Maps, TypeMap};
use super::null::{Null, Strata};
use super::{DiscoverOptions, exports, null};
use crate::dataset::{Cell, DataSet};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// Cells to look at, type by type: (name, cells), types in the order of the data set.
pub(crate) fn groups(v: &Vocabulary, n: usize, wanted: Option<&[String]>) -> Result<Vec<(Option<String>, Vec<u32>)>> {
    if v.cell_types.is_empty() {
        return match wanted {
            Some(_) => Err(Error::usage("--cell-types: the data have no cell types; leave it out")),
            None => Ok(vec![(None, (0..n as u32).collect())]),
        };
    }
    let wanted = wanted.map(|w| crate::dataset::draw::names_of(w, &v.cell_types));
    if let Some(unknown) = wanted.iter().flatten().find(|w| !v.cell_types.contains(w)) {
        return Err(Error::usage(format!(
            "--cell-types {unknown}: the data have no such cell type; there are {}",
            v.cell_types.join(", ")
        )));
    }
    let mut groups: Vec<_> = v.cell_types.iter().map(|t| (Some(t.clone()), Vec::new())).collect();
    v.cell_type.iter().enumerate().for_each(|(c, &t)| groups[t as usize].1.push(c as u32));
    groups.retain(|(t, cells)| {
        !cells.is_empty() && wanted.as_ref().is_none_or(|w| t.as_ref().is_some_and(|t| w.contains(t)))
    });
    match groups.iter().any(|(_, c)| !c.is_empty()) {
        true => Ok(groups),
        false => Err(Error::usage("--cell-types: no cell is of these types; choose others")),
    }
}

/// The share of G and C of each peak, where its sequence is known.
pub(crate) fn gc(data: &DataSet) -> Vec<Option<f64>> {
    let features = data.features();
    let length = features.dna_length();
    if length == 0 {
        return vec![None; data.vocabulary().peaks.len()];
    }
    let share = |codes: &[u8]| {
        let known = codes.iter().filter(|&&c| c > 0).count();
        let gc = codes.iter().filter(|&&c| c >= 3).count(); // G 3, C 4
        (known > 0).then(|| gc as f64 / known as f64)
    };
    features.peak_dna.chunks_exact(length).map(share).collect()
}

/// Cells that have each gene, and each peak.
pub(crate) fn detected(data: &DataSet, cells: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let v = data.vocabulary();
    let zero = || (vec![0u32; v.genes.len()], vec![0u32; v.peaks.len()]);
    cells
        .par_chunks(1024)
        .fold(zero, |(mut genes, mut peaks), cells| {
            let mut cell = Cell::default();
            for &c in cells {
                data.cell_into(c as usize, &mut cell);
                cell.genes.iter().for_each(|&g| genes[g as usize] += 1);
                cell.peaks.iter().for_each(|&p| peaks[p as usize] += 1);
            }
            (genes, peaks)
        })
        .reduce(zero, |(mut a, mut b), (c, d)| {
            a.iter_mut().zip(c).for_each(|(a, c)| *a += c);
            b.iter_mut().zip(d).for_each(|(b, d)| *b += d);
            (a, b)
        })
}

/// Writes the maps in the forms asked for, below `out/exports`; `discovery.h5ad` carries the embedding of all cells.
pub(crate) fn export(
    options: &DiscoverOptions,
    runner: &mut Runner<'_>,
    data: &DataSet,
    maps: &Maps,
    out: &Path,
) -> Result<Vec<Export>> {
    if options.exports.is_empty() {
        return Ok(Vec::new());
    }
    let folder = out.join("exports");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    let v = data.vocabulary();
    let mut made = exports::write_maps(&folder, v, maps, &options.exports, options.chrom_names)?;
    if options.exports.contains(&Format::H5ad) {
        let how = crate::predict::Options { batch_size: options.batch_size, ..Default::default() };
        let values = crate::predict::all_embeddings(runner, data, &how)?;
        let embedding = h5ad::Embedding { width: 2 * runner.model().config.hidden, values: &values };
        let config = serde_json::to_string(&runner.model().config)
            .map_err(|e| Error::Internal(format!("model configuration: {e}")))?;
        let meta = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("model", config.as_str()),
            ("data_hash", data.hash()),
            ("seed", &options.seed.to_string()),
        ];
        made.push(h5ad::write_h5ad(&folder.join("discovery.h5ad"), v, maps, Some(embedding), &meta)?);
    }
    for export in &mut made {
        if let Ok(inner) = export.file.strip_prefix(out) {
            export.file = inner.to_path_buf();
        }
    }
    Ok(made)
}

/// The map of some cells from their links, sorted by (gene, peak).
#[allow(clippy::too_many_arguments)]
pub(crate) fn map_of(
    options: &DiscoverOptions,
    strata: &Strata<'_>,
    links: &[Link],
    null: &[Link],
    v: &Vocabulary,
    name: &str,
    file_stem: &str,
    cells: usize,
) -> (TypeMap, u64) {
    let (mut stats, tests) = match options.null {
        Null::Matched => strata.matched(links, options.window),
        Null::Shuffled => strata.shuffled(links, null, options.passes() - 1),
        Null::None => (links.iter().map(null::plain).collect(), 0),
    };
    let (mut peaks, mut genes) = (vec![0.0; v.peaks.len()], vec![0.0; v.genes.len()]);
    for l in links {
        peaks[l.peak as usize] += l.weight;
        genes[l.gene as usize] += l.weight;
    }
    stats.par_sort_by(|a, b| b.score.total_cmp(&a.score).then((a.gene, a.peak).cmp(&(b.gene, b.peak))));
    let map = TypeMap {
        name: name.to_string(),
        file_stem: file_stem.to_string(),
        cells: cells as u64,
        links: stats,
        peaks,
        genes,
    };
    (map, tests)
}
