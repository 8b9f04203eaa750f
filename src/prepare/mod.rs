//! The preprocessor: paired data of any form become a data set (vocabulary, constant features, shards, a sample set).
//!
//! Matrices stream by block of rows into a scratch file of rows, from which shards are assembled in parallel; memory
//! is bounded by a block and a shard, not by the number of cells. What comes out does not depend on the number of
//! threads, nor on whether a matrix was CSR, CSC or dense.

pub(crate) mod cells;
pub(crate) mod config;
pub(crate) mod input;
pub(crate) mod like;
pub(crate) mod models;
pub mod presets;
pub(crate) mod promoters;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod vocabulary;
pub(crate) mod write;

use std::path::Path;

use serde_json::json;

use crate::dataset::DataSet;
use crate::dataset::manifest::{Manifest, write_part};
use crate::dataset::models::GENE_MODELS;
use crate::error::{Error, Result};
use crate::files::folder::{NewFolder, put_back};
use crate::progress::Progress;
use cells::{CellData, pair_cells};
use config::check_config;
use input::Inputs;
use like::constant;
use rows::{Matrices, NOTHING, check_room};
use vocabulary::tell_gaps;
use write::{
    check_place, check_target, content, folder_bytes, is_ours, origin, try_samples, write_constant, write_samples,
    write_shards,
};

pub use config::{GeneFeatures, Pairing, PrepareConfig};
pub use promoters::PromoterShare;
pub use report::{Met, PrepareReport};

/// Makes the data set `out`. Nothing is at `out` before all of it is there.
///
/// # Errors
/// [`Error::Usage`] for settings that contradict each other or samples that cannot be drawn; [`Error::Input`] for files that
/// cannot be used, and for an `out` that is taken; [`Error::Io`]; [`Error::Interrupted`] where `progress` says stop.
pub fn prepare(config: &PrepareConfig, out: &Path, progress: &dyn Progress) -> Result<PrepareReport> {
    check_config(config)?;
    put_back(out, &is_ours)?;
    check_target(out, config.force)?;
    check_place(out, config)?;
    let like = config.like.as_deref().map(|dir| DataSet::open_with(dir, config.access)).transpose()?;
    progress.begin("open files");
    let inputs = Inputs::open(config, progress)?;
    progress.begin("pair cells");
    let pairs = pair_cells(config, &inputs, progress)?;
    inputs.refuse_same_features()?;
    progress.begin("annotation");
    let mut constant = constant(config, like.as_ref(), &inputs, progress)?;
    let (genes_unknown, peaks_unknown) = tell_gaps(&constant.vocabulary, progress);
    let promoters = PromoterShare::of(&constant.vocabulary);
    promoters.iter().for_each(|p| p.tell(progress));
    progress.begin("cell table");
    let told = CellData::read(config, &inputs, progress)?;
    // What is wrong with the samples is said before the long work, not after it.
    try_samples(config, &inputs, &told, &pairs.rows)?;

    check_room(out, &inputs, constant.gene_extra.len() * 4 + constant.peak_dna.len(), progress)?;
    let folder = NewFolder::new(out)?;
    let dir = folder.path();
    let scratch = dir.join("scratch");
    std::fs::create_dir(&scratch).map_err(|e| Error::io(&scratch, "create", e))?;
    let matrices = Matrices::read(config, &inputs, constant.maps(), like.as_ref(), &scratch, progress)?;
    progress.begin("sort cells");
    let kept = matrices.keep(&inputs, &pairs.rows, progress)?;
    let empty = pairs.rows.len() - kept.len();
    told.describe(&mut constant.vocabulary, &inputs, &kept, progress);

    progress.begin("features");
    let parts = write_constant(dir, &constant)?;
    let shards = write_shards(dir, config, &constant.vocabulary, &parts, &kept, &matrices, progress)?;
    progress.begin("draw pairs");
    let (rna_kind, atac_kind) = matrices.kinds();
    drop(matrices);
    std::fs::remove_dir_all(&scratch).map_err(|e| Error::io(&scratch, "remove", e))?;
    let (rna_entries, atac_entries) = (shards.rna_entries, shards.atac_entries);
    let dropped = [pairs.unmatched.0, pairs.unmatched.1, empty];
    let mut origin = origin(config, &inputs, dropped, (genes_unknown, peaks_unknown), promoters);
    if let Some(models) = &constant.gene_models {
        // Beside the content: what only pictures read is no part of the hash.
        origin[GENE_MODELS] = json!(write_part(dir, GENE_MODELS, models)?);
    }
    let manifest = Manifest::new(content(&constant, (rna_kind, atac_kind), parts, shards.files), origin)?;
    let set = write_samples(dir, config, &inputs, &constant.vocabulary, &manifest.hash, progress)?;
    manifest.write(dir)?;
    let bytes = folder_bytes(dir)?;
    progress.check(NOTHING)?;
    folder.keep(config.force.then_some(&is_ours))?;

    let v = &constant.vocabulary;
    let positives = set.samples.iter().filter(|s| s.label == 1).count();
    Ok(PrepareReport {
        cells: v.cells.len(),
        genes: v.genes.len(),
        peaks: v.peaks.len(),
        chromosomes: v.chromosomes.len(),
        rna_entries,
        atac_entries,
        rna_kind,
        atac_kind,
        like_genes: constant.gene_map.as_ref().map(|m| m.1),
        like_peaks: constant.peak_map.as_ref().map(|m| m.1),
        unmatched: pairs.unmatched,
        empty,
        genes_in_gtf: constant.genes_in_gtf,
        promoters,
        genes_unknown,
        peaks_unknown,
        cell_types: v.cell_types.len(),
        gene_features: constant.gene_features,
        dna_length: constant.dna_length,
        samples: (positives, set.samples.len() - positives),
        parts: (set.train.len(), set.val.len(), set.test.len()),
        bytes,
        hash: manifest.hash,
    })
}
