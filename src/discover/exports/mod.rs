//! Maps in the files of other programs.
//!
//! | form | file | for | one entry a |
//! | --- | --- | --- | --- |
//! | [`Format::Parquet`] | `links.parquet` | pandas, Polars, DuckDB, R | link, of every map |
//! | [`Format::Bedpe`] | `bedpe/TYPE.bedpe` | IGV, igv.js, bedtools | link |
//! | [`Format::Interact`] | `interact/TYPE.interact` | UCSC Genome Browser, bedToBigBed | link |
//! | [`Format::Longrange`] | `longrange/TYPE.longrange` | WashU Epigenome Browser | link, twice |
//! | [`Format::Bedgraph`] | `bedgraph/TYPE.bedgraph`, `bedgraph/chrom.sizes` | any browser, bedGraphToBigWig | piece of the genome |
//! | [`Format::Edges`] | `edges/TYPE.tsv` | Cytoscape, networkx, igraph | link |
//! | [`Format::H5ad`] | `discovery.h5ad` | anndata, scanpy | cell and gene |
//!
//! `TYPE` is [`TypeMap::file_stem`]. Coordinates are 0-based and half-open; a gene is its TSS, one base. Files of a
//! browser have no use for a link without a number or a place: one whose score is NaN or infinite, or whose peak or TSS
//! is unknown, is left out and counted. They are sorted by the bytes of the chromosome's name, then by start and end, as
//! bgzip and tabix or bedToBigBed want it; blanks in names become `_`. The other forms hold every link. Each file is
//! whole or not there.

pub(crate) mod browser;
pub(crate) mod chrom_names;
pub(crate) mod edges;
pub(crate) mod export;
pub(crate) mod fields;
pub(crate) mod h5ad;
pub(crate) mod parquet;
pub(crate) mod track;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::maps::{Maps, TypeMap};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::vocabulary::Vocabulary;
use export::check;

pub use browser::{write_bedpe, write_interact, write_longrange};
pub use chrom_names::ChromNames;
pub use edges::write_edges;
pub use export::Export;
pub use h5ad::{Embedding, write_h5ad};
pub use parquet::write_parquet;
pub use track::{write_bedgraph, write_chrom_sizes};

/// A form of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// All link tables in one Parquet file
    Parquet,
    /// Links for IGV and bedtools
    Bedpe,
    /// Links for the UCSC Genome Browser
    Interact,
    /// Links for the WashU Epigenome Browser
    Longrange,
    /// Attention along the peaks
    Bedgraph,
    /// Edge lists for Cytoscape
    Edges,
    /// Cells, embedding and attention per gene for scanpy
    H5ad,
}

/// Writes the maps in these forms into `folder`, which must exist: the files that the module names, but for
/// [`Format::H5ad`], which needs more than maps ([`write_h5ad`]).
///
/// # Errors
/// A file or folder that cannot be written; [`Error::Interrupted`]. Files written by then stay, each whole.
pub fn write_maps(
    folder: &Path,
    v: &Vocabulary,
    maps: &Maps,
    formats: &[Format],
    names: ChromNames,
    progress: &dyn Progress,
) -> Result<Vec<Export>> {
    let all: Vec<&TypeMap> = std::iter::once(&maps.all).chain(&maps.types).collect();
    all.iter().try_for_each(|m| check(v, m))?;
    let mut made = Vec::new();
    let within = |name: &str| {
        let inner = folder.join(name);
        std::fs::create_dir_all(&inner).map_err(|e| Error::io(&inner, "create", e)).map(|()| inner)
    };
    for format in formats {
        let (name, ending) = match format {
            Format::Parquet => {
                made.push(write_parquet(&folder.join("links.parquet"), v, &all)?);
                continue;
            }
            Format::H5ad => continue,
            Format::Bedpe => ("bedpe", "bedpe"),
            Format::Interact => ("interact", "interact"),
            Format::Longrange => ("longrange", "longrange"),
            Format::Bedgraph => ("bedgraph", "bedgraph"),
            Format::Edges => ("edges", "tsv"),
        };
        let inner = within(name)?;
        for map in &all {
            progress.check("the exports written so far are whole")?;
            let path = inner.join(format!("{}.{ending}", map.file_stem));
            made.push(match format {
                Format::Bedpe => write_bedpe(&path, v, map, names)?,
                Format::Interact => write_interact(&path, v, map, names)?,
                Format::Longrange => write_longrange(&path, v, map, names)?,
                Format::Bedgraph => write_bedgraph(&path, v, &map.peaks, names)?,
                _ => write_edges(&path, v, map)?,
            });
        }
        if *format == Format::Bedgraph {
            write_chrom_sizes(&inner.join("chrom.sizes"), v, names)?;
        }
    }
    Ok(made)
}
