//! The preprocessor: paired data of any form become a data set (vocabulary, constant features, shards, a sample set).
//!
//! Matrices stream by block of rows into a scratch file of rows, from which shards are assembled in parallel; memory
//! is bounded by a block and a shard, not by the number of cells. What comes out does not depend on the number of
//! threads, nor on whether a matrix was CSR, CSC or dense.

pub mod cells;
pub mod config;
pub mod like;
pub mod presets;
pub mod vocabulary;
pub mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::data::anndata::{Axis, Column, Matrix, MatrixKind};
use crate::data::cells::CellTable;
use crate::data::source;
use crate::data::source::columns::{of_modality, refuse_swapped};
use crate::data::source::{Modality, Select};
use crate::dataset::manifest::{Content, Manifest, ObsHead, write_part};
use crate::dataset::shard::VocabularySizes;
use crate::dataset::{DataSet, SampleSet, fingerprint, samples};
use crate::error::{Error, Result};
use crate::files::folder::{NewFolder, put_back};
use crate::progress::Hooks;
use crate::vocabulary::Vocabulary;
use crate::{dataset, interrupt, memory};
use cells::{cell_columns, cell_types, check_barcodes, coded, label_cells, pair_cells, unique_names};
use config::check_config;
use like::{Constant, check_target, constant_like, constant_of, refuse_other_kind};
use vocabulary::{tell_gaps, write_vocabulary};
use write::{Entries, default_samples, disk_needed, folder_bytes, read_rows, write_shards};

pub use config::{GeneFeatures, Pairing, PrepareConfig};
pub use like::Met;

/// What `prepare` made.
#[derive(Debug, Clone, PartialEq)]
pub struct PrepareReport {
    /// N.
    pub cells: usize,
    /// G.
    pub genes: usize,
    /// P.
    pub peaks: usize,
    /// C, `chrUnknown` included where it occurs.
    pub chromosomes: usize,
    /// Gene entries of all cells.
    pub rna_entries: u64,
    /// Peak entries of all cells.
    pub atac_entries: u64,
    /// What the values are; `None` where there is no RNA.
    pub rna_kind: Option<MatrixKind>,
    /// What the values are; `None` where there is no ATAC.
    pub atac_kind: Option<MatrixKind>,
    /// With `like`: how the genes met those of the other data set.
    pub like_genes: Option<Met>,
    /// With `like`: how the peaks did.
    pub like_peaks: Option<Met>,
    /// Cells only in the RNA file, and only in the ATAC file.
    pub unmatched: (usize, usize),
    /// Cells dropped because they have no gene or no peak.
    pub empty: usize,
    /// Genes found in the GTF, where one was given.
    pub genes_in_gtf: Option<usize>,
    /// Genes on `chrUnknown`.
    pub genes_unknown: usize,
    /// Peaks on `chrUnknown`.
    pub peaks_unknown: usize,
    /// Gene features beside the chromosome.
    pub gene_features: Vec<String>,
    /// Bases of DNA a peak; 0 without sequences.
    pub dna_length: usize,
    /// Cell types.
    pub cell_types: usize,
    /// Positives and negatives of `samples/default`.
    pub samples: (usize, usize),
    /// Training, validation, test samples.
    pub parts: (usize, usize, usize),
    /// Bytes on disk.
    pub bytes: u64,
    /// Hash of the data set.
    pub hash: String,
}

/// One modality, opened.
pub(crate) struct Input {
    modality: Modality,
    source: Box<dyn source::Source>,
    matrix: Matrix,
    cells: Vec<String>,
    /// Names of the features in the file: annotation goes by them, as what makes a name distinct would lead it astray.
    named: Vec<String>,
    /// The same, made distinct.
    names: Vec<String>,
    /// More columns of the cells.
    table: Option<Arc<CellTable>>,
}

impl Input {
    fn open(path: &Path, modality: Modality, select: &Select, say: &(dyn Fn(&str) + Sync)) -> Result<Self> {
        let source = source::open(path, modality, select)?;
        let matrix = source.matrix(None, modality.layer_flag())?;
        let (cells, named) = (source.names(Axis::Obs)?, source.names(Axis::Var)?);
        if modality == Modality::Rna {
            refuse_swapped(path, &named)?;
        }
        let what = if modality == Modality::Rna { "gene" } else { "peak" };
        let names = unique_names(named.clone(), path, what, say)?;
        Ok(Input { modality, source, matrix, cells, named, names, table: None })
    }

    /// A column of the cells: of the table given, else of the file.
    fn cell_column(&self, name: &str) -> Result<Option<Column>> {
        match self.table.as_ref().and_then(|t| t.column(name, &self.cells)) {
            None => self.source.column(Axis::Obs, name),
            column => Ok(column),
        }
    }

    /// Names of the columns of the cells.
    fn cell_columns(&self) -> Result<Vec<String>> {
        let mut names = self.source.columns(Axis::Obs)?;
        names.extend(self.table.iter().flat_map(|t| t.columns().iter().cloned()));
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// A feature of the file that the vocabulary lacks.
const DROPPED: u32 = u32::MAX;

/// Makes the data set `out`. Nothing is at `out` before all of it is there.
pub fn prepare(config: &PrepareConfig, out: &Path, hooks: Hooks<'_>) -> Result<PrepareReport> {
    let say = hooks.say;
    check_config(config)?;
    put_back(out)?;
    check_target(out, config.force)?;
    let like = config.like.as_deref().map(|dir| DataSet::open_with(dir, config.access)).transpose()?;
    let open = |path: &Option<PathBuf>, modality, select| {
        path.as_deref().map(|path| Input::open(path, modality, select, say)).transpose()
    };
    let mut rna = open(&config.rna, Modality::Rna, &config.rna_select)?;
    let mut atac = open(&config.atac, Modality::Atac, &config.atac_select)?;
    if let Some(path) = &config.obs {
        let table = Arc::new(CellTable::read(path)?);
        for input in rna.iter_mut().chain(atac.iter_mut()) {
            let n = table.known(&input.cells)?;
            if n < input.cells.len() {
                say(&format!(
                    "{} cells that {} does not tell of: {} of {}",
                    input.modality.name(),
                    path.display(),
                    input.cells.len() - n,
                    input.cells.len()
                ));
            }
            input.table = Some(table.clone());
        }
    }
    let (pairs, unmatched) = match (&rna, &atac) {
        (Some(rna), Some(atac)) => {
            let pairs = pair_cells(config, rna, atac)?;
            let unmatched = (rna.cells.len() - pairs.len(), atac.cells.len() - pairs.len());
            (pairs, unmatched)
        }
        (Some(one), None) | (None, Some(one)) => {
            check_barcodes(one.source.path(), &one.cells)?;
            ((0..one.cells.len() as u32).map(|i| (i, i)).collect(), (0, 0))
        }
        (None, None) => return Err(Error::usage("give --rna, --atac or both")),
    };
    if unmatched != (0, 0) {
        say(&format!(
            "cells in both files: {}; only in the RNA file: {}; only in the ATAC file: {} (dropped)",
            pairs.len(),
            unmatched.0,
            unmatched.1
        ));
    }
    if let (Some(rna), Some(atac)) = (&rna, &atac)
        && rna.named == atac.named
    {
        return Err(Error::input(
            atac.source.path(),
            format!("--atac: its {} features are those of --rna", atac.named.len()),
            "give the RNA file to --rna and the ATAC file to --atac",
        ));
    }
    let constant = match (&like, &rna, &atac) {
        (Some(like), ..) => constant_like(config, like, rna.as_ref(), atac.as_ref(), say)?,
        (None, Some(rna), Some(atac)) => constant_of(config, rna, atac, say)?,
        _ => return Err(Error::usage("one modality alone needs --like DATA, the data set of the trained model")),
    };
    let mut vocabulary = constant.vocabulary;
    let (genes_unknown, peaks_unknown) = tell_gaps(&vocabulary, say);
    let described: Vec<&Input> = rna.iter().chain(&atac).collect();
    let labels = cell_types(config, &described, say)?;

    let columns = cell_columns(config, &described)?;
    // What is wrong with the samples is said before the long work, not after it.
    if described.len() == 2 {
        let mut draft = Vocabulary { cells: vec![String::new(); pairs.len()], ..Vocabulary::default() };
        label_cells(&mut draft, &labels, &pairs, &|_| {});
        draft.obs = coded(&columns, &pairs);
        default_samples(config, &draft, &|_| {})?;
    }

    let needed = disk_needed(&rna, &atac, constant.gene_extra.len() * 4 + constant.peak_dna.len());
    memory::check_disk(out, needed)?;
    let free = memory::free_disk(out).map_or(String::new(), |free| format!("; {} are free", memory::size(free)));
    say(&format!("disk: about {} while it is made{free}", memory::size(needed)));
    let folder = NewFolder::new(out)?;
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).map_err(|e| Error::io(&scratch, "create", e))?;
    let rows = |input: &Option<Input>, kind, map: Option<&(Vec<u32>, Met)>| -> Result<Entries> {
        Ok(match input {
            Some(input) => {
                Entries { rows: Some(read_rows(input, kind, config, &scratch, hooks)?), map: map.map(|m| m.0.clone()) }
            }
            None => Entries { rows: None, map: None },
        })
    };
    let (like_rna, like_atac) = like.as_ref().map_or((None, None), DataSet::kinds);
    let rna_rows = rows(&rna, config.rna_kind, constant.gene_map.as_ref())?;
    refuse_other_kind(&rna_rows, like_rna, config.rna_kind, rna.as_ref())?;
    let atac_rows = rows(&atac, config.atac_kind, constant.peak_map.as_ref())?;
    refuse_other_kind(&atac_rows, like_atac, config.atac_kind, atac.as_ref())?;

    let mut kept: Vec<(u32, u32)> = Vec::with_capacity(pairs.len());
    let (mut no_gene, mut no_peak) = (0, 0);
    for &(r, a) in &pairs {
        let (gene, peak) = (rna_rows.has_entry(r)?, atac_rows.has_entry(a)?);
        no_gene += usize::from(!gene);
        no_peak += usize::from(!peak);
        if gene && peak {
            kept.push((r, a));
        }
    }
    let empty = pairs.len() - kept.len();
    if empty > 0 {
        say(&format!("warning: dropped {empty} cells ({no_gene} without a gene, {no_peak} without a peak)"));
    }
    let first = described[0];
    if kept.is_empty() {
        return Err(Error::input(
            first.source.path(),
            format!("none of the {} cells has a gene and a peak that can be used", pairs.len()),
            "give files in which they have",
        ));
    }
    vocabulary.cells = kept.iter().map(|k| first.cells[of_modality(k, first.modality) as usize].clone()).collect();
    label_cells(&mut vocabulary, &labels, &kept, say);
    vocabulary.obs = coded(&columns, &kept);

    let mut parts = write_vocabulary(folder.path(), &vocabulary)?;
    parts.push(write_part(folder.path(), dataset::OBS, &dataset::obs_bytes(&vocabulary.obs))?);
    let Constant { gene_features, gene_extra, dna_length, peak_dna, .. } = constant;
    let mut bytes = Vec::with_capacity(gene_extra.len() * 4 + peak_dna.len());
    bytes.extend(gene_extra.iter().flat_map(|v| v.to_le_bytes()));
    bytes.extend(&peak_dna);
    parts.push(write_part(folder.path(), dataset::FEATURES, &bytes)?);
    let sizes = VocabularySizes {
        genes: vocabulary.genes.len() as u64,
        peaks: vocabulary.peaks.len() as u64,
        fingerprint: fingerprint(&parts),
    };
    let (shards, entries) =
        write_shards(folder.path(), config, sizes, &vocabulary, &kept, &rna_rows, &atac_rows, hooks)?;
    let (rna_kind, atac_kind) = (rna_rows.kind(), atac_rows.kind());
    drop((rna_rows, atac_rows));
    std::fs::remove_dir_all(&scratch).map_err(|e| Error::io(&scratch, "remove", e))?;

    let content = Content {
        cells: vocabulary.cells.len(),
        genes: vocabulary.genes.len(),
        peaks: vocabulary.peaks.len(),
        chromosomes: vocabulary.chromosomes.clone(),
        unknown: vocabulary.unknown,
        cell_types: vocabulary.cell_types.clone(),
        obs: vocabulary
            .obs
            .iter()
            .map(|c| ObsHead { name: c.name.clone(), categories: c.categories.clone() })
            .collect(),
        gene_features: gene_features.clone(),
        dna_length,
        rna_kind,
        atac_kind,
        parts,
        shards,
    };
    let shown = |path: &Path| path.display().to_string(); // a path need not be text, JSON must be
    let origin = json!({
        "program": concat!("sccrossrec ", env!("CARGO_PKG_VERSION")),
        "dataset": config.dataset, "like": config.like.as_deref().map(shown),
        "rna": config.rna.as_deref().map(shown), "rna_matrix": rna.as_ref().map(|i| i.matrix.at()),
        "atac": config.atac.as_deref().map(shown), "atac_matrix": atac.as_ref().map(|i| i.matrix.at()),
        "gtf": config.gtf.as_deref().map(shown), "obs": config.obs.as_deref().map(shown), "fasta": config.fasta.as_deref().map(shown),
        "only_rna": unmatched.0, "only_atac": unmatched.1, "dropped_empty": empty,
        "genes_unknown": genes_unknown, "peaks_unknown": peaks_unknown,
    });
    let manifest = Manifest::new(content, origin)?;
    let set = if rna.is_some() && atac.is_some() {
        let set = default_samples(config, &vocabulary, say)?;
        samples::save(folder.path(), "default", &set, &manifest.hash, false)?;
        set
    } else {
        SampleSet::default() // nothing to pair
    };
    manifest.write(folder.path())?;
    let bytes = folder_bytes(folder.path())?;
    interrupt::check("nothing was written")?;
    folder.keep(config.force)?;
    let positives = set.samples.iter().filter(|s| s.label == 1).count();
    Ok(PrepareReport {
        cells: vocabulary.cells.len(),
        genes: vocabulary.genes.len(),
        peaks: vocabulary.peaks.len(),
        chromosomes: vocabulary.chromosomes.len(),
        rna_entries: entries.0,
        atac_entries: entries.1,
        rna_kind,
        atac_kind,
        unmatched,
        empty,
        genes_in_gtf: constant.genes_in_gtf,
        like_genes: constant.gene_map.map(|m| m.1),
        like_peaks: constant.peak_map.map(|m| m.1),
        genes_unknown,
        peaks_unknown,
        gene_features,
        dna_length,
        cell_types: vocabulary.cell_types.len(),
        samples: (positives, set.samples.len() - positives),
        parts: (set.train.len(), set.val.len(), set.test.len()),
        bytes,
        hash: manifest.hash,
    })
}
