//! The preprocessor: paired data of any form become a data set (vocabulary, constant features, shards, a sample set).
//!
//! Matrices stream by block of rows into a scratch file of rows, from which shards are assembled in parallel; memory
//! is bounded by a block and a shard, not by the number of cells. What comes out does not depend on the number of
//! threads, nor on whether a matrix was CSR, CSC or dense.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::json;

use super::codec;
use super::dataset::{
    self, Content, DataSet, Gene, MANIFEST, Manifest, ObsColumn, ObsHead, Peak, SampleSet, Vocabulary, fingerprint,
    to_tsv, write_part,
};
use super::files::{NewFolder, put_back};
use super::rows::{RowWriter, Rows};
use super::samples::{self, SampleConfig, UNLABELLED, draw_samples};
use super::shard::{self, RowData, ShardData, Sizes};
use crate::data::anndata::{Axis, Column, Matrix, MatrixKind, Streaming, list};
use crate::data::cells::CellTable;
use crate::data::chromosomes::chrom_key;
use crate::data::fasta::read_peak_sequences;
use crate::data::gtf::{GeneLocation, Gtf};
use crate::data::region::{Region, parse_region};
use crate::data::source::{self, Modality, Select};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::memory;

/// Name of the chromosome of genes and peaks that have none; it matches nothing, itself included.
pub const UNKNOWN: &str = "chrUnknown";

/// How cells of the two files are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// By their names.
    ByBarcode,
    /// By their place in the file; the names are those of the RNA file.
    ByPosition,
}

/// Which gene features go beside the chromosome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GeneFeatures {
    /// None, as published for NeurIPS 2021.
    None,
    /// Those of means, variances_norm, strand, highly_variable that the file (for strand also the GTF) has.
    Present,
    /// These, which must be there; always in the order means, variances_norm, strand, highly_variable.
    Named(Vec<String>),
}

const FEATURE_NAMES: [&str; 4] = ["means", "variances_norm", "strand", "highly_variable"];

impl std::str::FromStr for GeneFeatures {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match s {
            "none" => Ok(GeneFeatures::None),
            "present" => Ok(GeneFeatures::Present),
            _ => {
                let names: Vec<String> = s.split(',').map(|n| n.trim().to_string()).collect();
                match names.iter().find(|n| !FEATURE_NAMES.contains(&n.as_str())) {
                    Some(n) => Err(format!("no gene feature is named {n:?}; there are {}", FEATURE_NAMES.join(", "))),
                    None => Ok(GeneFeatures::Named(names)),
                }
            }
        }
    }
}

/// What `prepare` is to do.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    /// RNA, in any form that [`source::open`] reads; `None` only with `like`, for prediction.
    pub rna: Option<PathBuf>,
    /// ATAC, perhaps in the same file; `None` only with `like`, for prediction.
    pub atac: Option<PathBuf>,
    /// A data set whose genes, peaks and features are taken over, so that a model trained on it meets these cells.
    /// Features are matched by name (peaks also by place); those it lacks are dropped, both with a count.
    pub like: Option<PathBuf>,
    /// Name of the published data set this is, for the record.
    pub dataset: Option<String>,
    /// Gene annotation.
    pub gtf: Option<PathBuf>,
    /// One sequence a peak.
    pub fasta: Option<PathBuf>,
    /// A table of cells (barcodes first, with a header): its columns come before those of the files.
    pub obs: Option<PathBuf>,
    /// What of the RNA file: layer, modality, genome.
    pub rna_select: Select,
    /// What of the ATAC file.
    pub atac_select: Select,
    /// What the RNA values must be; anything where `None`.
    pub rna_kind: Option<MatrixKind>,
    /// What the ATAC values must be.
    pub atac_kind: Option<MatrixKind>,
    /// Column of `obs` with the cell types; `None` takes `cell_type` if it is there.
    pub cell_type_column: Option<String>,
    /// Gene features beside the chromosome.
    pub gene_features: GeneFeatures,
    /// Smallest acceptable share of the cells of the smaller file that are in both.
    pub min_common: f64,
    /// How cells are brought together.
    pub pairing: Pairing,
    /// Replace an existing data set.
    pub force: bool,
    /// How `samples/default` is drawn; without cell types it holds positives only.
    pub samples: SampleConfig,
    /// Bases of DNA kept a peak.
    pub dna_length: usize,
    /// Cells a shard.
    pub shard_cells: usize,
    /// Sizes of the blocks in memory.
    pub streaming: Streaming,
}

impl PrepareConfig {
    /// These two files (or twice one that holds both modalities), everything else as usual.
    pub fn new(rna: impl Into<PathBuf>, atac: impl Into<PathBuf>) -> Self {
        PrepareConfig {
            rna: Some(rna.into()),
            atac: Some(atac.into()),
            like: None,
            dataset: None,
            gtf: None,
            fasta: None,
            obs: None,
            rna_select: Select::default(),
            atac_select: Select::default(),
            rna_kind: None,
            atac_kind: None,
            cell_type_column: None,
            gene_features: GeneFeatures::None,
            min_common: 0.5,
            pairing: Pairing::ByBarcode,
            force: false,
            samples: SampleConfig::default(),
            dna_length: 256,
            shard_cells: 8192,
            streaming: Streaming::default(),
        }
    }
}

/// Where news and progress go.
#[derive(Clone, Copy)]
pub struct Hooks<'a> {
    /// A line of news.
    pub say: &'a (dyn Fn(&str) + Sync),
    /// Progress: stage, steps done, steps in all.
    pub step: &'a (dyn Fn(&'static str, u64, u64) + Sync),
}

impl Default for Hooks<'_> {
    /// Says nothing.
    fn default() -> Self {
        Hooks { say: &|_| {}, step: &|_, _, _| {} }
    }
}

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

/// How features met those of another data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// In both.
    pub both: usize,
    /// Only in the other data set: no cell here has them.
    pub absent: usize,
    /// Only here: dropped.
    pub dropped: usize,
}

/// One modality, opened.
struct Input {
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

/// Everything about genes and peaks: the vocabulary (without cells), their features, and where the features of the
/// files are in it.
struct Constant {
    vocabulary: Vocabulary,
    gene_features: Vec<String>,
    gene_extra: Vec<f32>,
    dna_length: usize,
    peak_dna: Vec<u8>,
    genes_in_gtf: Option<usize>,
    /// With `like`: of each feature of the file the index in the vocabulary, or [`DROPPED`].
    gene_map: Option<(Vec<u32>, Met)>,
    peak_map: Option<(Vec<u32>, Met)>,
}

/// A feature of the file that the vocabulary lacks.
const DROPPED: u32 = u32::MAX;

/// Makes the data set `out`. Nothing is at `out` before all of it is there.
pub fn prepare(config: &PrepareConfig, out: &Path, hooks: Hooks<'_>) -> Result<PrepareReport> {
    let say = hooks.say;
    check_config(config)?;
    put_back(out)?;
    check_target(out, config.force)?;
    let like = config.like.as_deref().map(DataSet::open).transpose()?;
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
    let sizes = Sizes {
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

fn check_config(config: &PrepareConfig) -> Result<()> {
    if !(0.0..=1.0).contains(&config.min_common) {
        return Err(Error::usage(format!("--min-common is {}; it must lie in 0 to 1", config.min_common)));
    }
    if config.shard_cells == 0 || config.dna_length == 0 {
        return Err(Error::usage("a shard needs at least one cell and a peak at least one base"));
    }
    if config.like.is_some() {
        let taken = [
            (config.gtf.is_some(), "--gtf"),
            (config.fasta.is_some(), "--fasta"),
            (config.gene_features != GeneFeatures::None, "--gene-features"),
        ];
        if let Some((_, flag)) = taken.iter().find(|t| t.0) {
            return Err(Error::usage(format!("{flag} cannot go with --like, which brings annotation and features")));
        }
    }
    Ok(())
}

/// Columns of `var` that may hold the ids of genes, the first that is there.
pub(crate) const GENE_IDS: [&str; 4] = ["gene_ids", "gene_id", "ensembl_id", "feature_id"];

/// Genes, peaks and features from the files.
fn constant_of(config: &PrepareConfig, rna: &Input, atac: &Input, say: &(dyn Fn(&str) + Sync)) -> Result<Constant> {
    let genes = rna.source.as_ref();
    let gtf = config.gtf.as_deref().map(Gtf::read).transpose()?;
    let places = match &gtf {
        Some(gtf) => {
            let ids = GENE_IDS
                .into_iter()
                .find_map(|name| text_column(genes, Axis::Var, name).transpose())
                .transpose()?
                .map(|ids| ids.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
            let places = gtf.locate(&rna.named, ids.as_deref())?;
            let places: Vec<_> = places.into_iter().map(|found| found.map(|(place, _)| place)).collect();
            let found = places.iter().flatten().count();
            say(&format!("genes in the GTF: {found} of {}", rna.named.len()));
            Some(places)
        }
        None => None,
    };
    let genes_in_gtf = places.as_ref().map(|p| p.iter().flatten().count());
    let (gene_chroms, tss) = locate_genes(genes, places.as_deref(), rna.named.len())?;
    let regions = locate_peaks(atac.source.as_ref(), &atac.named)?;
    let at = atac.source.path();
    let vocabulary = build_vocabulary(at, rna.names.clone(), &gene_chroms, tss, atac.names.clone(), &regions)?;
    let (gene_features, gene_extra) = gene_features(config, genes, places.as_deref(), &vocabulary, say)?;
    let (mut dna_length, mut peak_dna) = (0, Vec::new());
    if let Some(fasta) = &config.fasta {
        let plain: Vec<Option<Region>> = regions.iter().map(|p| p.region.clone()).collect();
        let sequences = read_peak_sequences(fasta, &plain, config.dna_length)?;
        say(&format!(
            "peak sequences matched by {}; without one: {} of {}",
            if sequences.by_header { "header" } else { "position" },
            sequences.missing.len(),
            plain.len()
        ));
        let blank = sequences.codes.chunks(config.dna_length).filter(|c| c.iter().all(|&b| b == 0)).count();
        if blank > sequences.missing.len() {
            say(&format!("warning: {} sequences hold no A, C, G or T", blank - sequences.missing.len()));
        }
        peak_dna = sequences.codes;
        dna_length = config.dna_length;
    }
    Ok(Constant {
        vocabulary,
        gene_features,
        gene_extra,
        dna_length,
        peak_dna,
        genes_in_gtf,
        gene_map: None,
        peak_map: None,
    })
}

/// Genes, peaks and features of another data set, and where the features of the files are among them.
fn constant_like(
    config: &PrepareConfig,
    like: &DataSet,
    rna: Option<&Input>,
    atac: Option<&Input>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Constant> {
    let base = like.vocabulary();
    let features = like.features();
    let gene_map = rna.map(|input| {
        let theirs: Vec<&str> = base.genes.iter().map(|g| g.name.as_str()).collect();
        meet(config, like, input, &theirs, |_| None, say)
    });
    let peak_map = atac.map(|input| {
        let theirs: Vec<&str> = base.peaks.iter().map(|p| p.name.as_str()).collect();
        // One peak may be called chr1-100-200 here and chr1:100-200 there.
        let mut place: HashMap<(String, i64, i64), u32> = HashMap::new();
        for (i, p) in (0..).zip(&base.peaks).filter(|(_, p)| p.start >= 0) {
            let chrom = base.chromosomes.get(p.chrom as usize).map_or("", String::as_str);
            place.entry((chrom_key(chrom).to_string(), p.start, p.end)).or_insert(i);
        }
        // Their places are as `prepare` finds them; names that tell none are no error, as names may do.
        let places = locate_peaks(input.source.as_ref(), &input.named).unwrap_or_default();
        let by_place = |i: usize| {
            let region = places.get(i)?.region.as_ref()?;
            place.get(&(chrom_key(&region.chrom).to_string(), region.start, region.end)).copied()
        };
        meet(config, like, input, &theirs, by_place, say)
    });
    Ok(Constant {
        vocabulary: Vocabulary {
            chromosomes: base.chromosomes.clone(),
            unknown: base.unknown,
            genes: base.genes.clone(),
            peaks: base.peaks.clone(),
            ..Vocabulary::default()
        },
        gene_features: like.gene_features().to_vec(),
        gene_extra: features.gene_extra.clone(),
        dna_length: features.dna_length(),
        peak_dna: features.peak_dna.clone(),
        genes_in_gtf: None,
        gene_map: gene_map.transpose()?,
        peak_map: peak_map.transpose()?,
    })
}

/// Of each feature of `input` the number of the one of `theirs` it is: by name, else by `other`, told its number.
fn meet(
    config: &PrepareConfig,
    like: &DataSet,
    input: &Input,
    theirs: &[&str],
    other: impl Fn(usize) -> Option<u32>,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<u32>, Met)> {
    let number: HashMap<&str, u32> = (0..).zip(theirs).map(|(i, n)| (*n, i)).collect();
    let mut taken = vec![false; theirs.len()];
    let mut map = vec![DROPPED; input.names.len()];
    let mut place = |to: &mut u32, found: Option<u32>| {
        if let Some(i) = found
            && !std::mem::replace(&mut taken[i as usize], true)
        {
            *to = i;
        }
    };
    for (to, name) in map.iter_mut().zip(&input.names) {
        place(to, number.get(name.as_str()).copied());
    }
    for (i, to) in map.iter_mut().enumerate().filter(|(_, to)| **to == DROPPED) {
        place(to, other(i));
    }
    let both = map.iter().filter(|&&i| i != DROPPED).count();
    let met = Met { both, absent: theirs.len() - both, dropped: map.len() - both };
    let what = if input.modality == Modality::Rna { "genes" } else { "peaks" };
    if both == 0 || (both as f64) < config.min_common * theirs.len() as f64 {
        let three = |names: &mut dyn Iterator<Item = &str>| names.take(3).collect::<Vec<_>>().join(", ");
        return Err(Error::input(
            input.source.path(),
            format!(
                "has {both} of the {} {what} of {}; it names them {}, the other {}",
                theirs.len(),
                like.dir().display(),
                three(&mut input.names.iter().map(String::as_str)),
                three(&mut theirs.iter().copied())
            ),
            "give data with the same features (or lower --min-common)",
        ));
    }
    say(&format!(
        "{what} as in {}: {both} of {}; {} of them are not in these data, {} of these data are not in it (dropped)",
        like.dir().display(),
        theirs.len(),
        met.absent,
        met.dropped
    ));
    Ok((map, met))
}

/// A model that was trained on values of one kind says nothing sensible of another.
fn refuse_other_kind(
    rows: &Entries,
    like: Option<MatrixKind>,
    asked: Option<MatrixKind>,
    input: Option<&Input>,
) -> Result<()> {
    let (Some(theirs), Some(ours), Some(input), None) = (like, rows.kind(), input, asked) else { return Ok(()) };
    let fits = |kind| ours == kind || (kind == MatrixKind::Counts && ours == MatrixKind::Binary);
    if fits(theirs) {
        return Ok(());
    }
    let what = input.modality.name().to_ascii_lowercase();
    Err(Error::input(
        input.source.path(),
        format!("`{}` holds values that are {ours}, where the data set of --like holds {theirs}", input.matrix.at()),
        format!(
            "choose another layer with {}{}, or say --{what}-values {} if that is meant",
            input.modality.layer_flag(),
            match input.source.layers() {
                layers if layers.is_empty() => String::new(),
                layers => format!(" (there are {})", list(&layers)),
            },
            match ours {
                MatrixKind::Binary => "binary",
                MatrixKind::Counts => "counts",
                MatrixKind::Normalised => "normalised",
            }
        ),
    ))
}

/// Bytes on the disk while a data set is made, of the entries that the files say they have: rows wait as index and value; a
/// matrix that is not in the order of cells waits in buckets besides; what stays takes a byte or two an entry.
fn disk_needed(rna: &Option<Input>, atac: &Option<Input>, features: usize) -> u64 {
    const WAITING: u64 = 8;
    const IN_BUCKETS: u64 = 12;
    const PACKED: u64 = 1;
    let inputs = || rna.iter().chain(atac).map(|i| &i.matrix);
    let entries: u64 = inputs().map(|m| m.entries().unwrap_or(0)).sum();
    let sorted = inputs().filter(|m| !m.by_rows()).map(|m| m.entries().unwrap_or(0)).max().unwrap_or(0);
    (entries * WAITING).saturating_add((sorted * IN_BUCKETS).max(entries * PACKED)).saturating_add(features as u64)
}

/// Refuses a target that exists; with `force`, one that is anything but an empty folder or a data set.
fn check_target(out: &Path, force: bool) -> Result<()> {
    let there = match std::fs::symlink_metadata(out) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(out, "read", e)),
    };
    let is_data = there.is_dir() && out.join(MANIFEST).is_file();
    let is_empty = there.is_dir() && std::fs::read_dir(out).is_ok_and(|mut d| d.next().is_none());
    match (is_empty, is_data, force) {
        (true, ..) | (_, true, true) => Ok(()),
        (_, true, false) => Err(Error::input(out, "a data set is there already", "replace it with --force")),
        _ => Err(Error::input(
            out,
            "something is there that is no prepared data set",
            "give another --out (it is not removed, --force or not)",
        )),
    }
}

/// Genes that are all named like peaks are the ATAC file given as RNA.
pub(crate) fn refuse_swapped(rna: &Path, genes: &[String]) -> Result<()> {
    let regions = genes.iter().filter(|n| parse_region(n).is_some()).count();
    if genes.is_empty() || regions < genes.len() {
        return Ok(());
    }
    Err(Error::input(
        rna,
        format!("--rna: all {regions} features are named like peaks, such as {}", genes[0]),
        "give the RNA file to --rna and the ATAC file to --atac",
    ))
}

/// Tells what has no chromosome, no partner or no place; returns the genes and the peaks without a chromosome.
fn tell_gaps(v: &Vocabulary, say: &(dyn Fn(&str) + Sync)) -> (usize, usize) {
    let known = |chrom: u32| Some(chrom) != v.unknown;
    let (genes, peaks) = (v.genes.len(), v.peaks.len());
    let with_gene: HashSet<u32> = v.genes.iter().map(|g| g.chrom).collect();
    let count = |of: &dyn Fn(&Peak) -> bool| v.peaks.iter().filter(|p| of(p)).count();
    let genes_unknown = v.genes.iter().filter(|g| !known(g.chrom)).count();
    let peaks_unknown = count(&|p| !known(p.chrom));
    let alone = count(&|p| known(p.chrom) && !with_gene.contains(&p.chrom));
    let no_tss = v.genes.iter().filter(|g| known(g.chrom) && g.tss.is_none()).count();
    let no_place = count(&|p| known(p.chrom) && p.start < 0);
    let unknown = format!("; they are on {UNKNOWN}, which matches nothing");
    // Pairs are made within a chromosome, and tested by distance.
    for (n, all, what, so) in [
        (genes_unknown, genes, "genes without a chromosome", unknown.as_str()),
        (peaks_unknown, peaks, "peaks without a chromosome", &unknown),
        (alone, peaks, "peaks on a chromosome without a gene, which match nothing", ""),
        (no_tss, genes, "genes with a chromosome but no TSS", "; distances are then unknown (--gtf tells)"),
        (no_place, peaks, "peaks with a chromosome but no start and end", "; distances are then unknown"),
    ] {
        if n > 0 {
            say(&format!("{what}: {n} of {all}{so}"));
        }
    }
    (genes_unknown, peaks_unknown)
}

/// Names made distinct by `-1`, `-2`, …; an empty list is an error.
fn unique_names(names: Vec<String>, path: &Path, what: &str, say: &(dyn Fn(&str) + Sync)) -> Result<Vec<String>> {
    if names.is_empty() {
        return Err(Error::input(path, format!("`var` is empty: no {what} in it"), "give a file with features"));
    }
    let all: HashSet<String> = names.iter().cloned().collect();
    if all.len() == names.len() {
        return Ok(names);
    }
    let mut taken = all;
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut renamed = 0;
    let names = names
        .into_iter()
        .map(|name| match seen.get_mut(&name) {
            None => {
                seen.insert(name.clone(), 0);
                name
            }
            Some(count) => {
                renamed += 1;
                loop {
                    *count += 1;
                    let new = format!("{name}-{count}");
                    if taken.insert(new.clone()) {
                        return new;
                    }
                }
            }
        })
        .collect();
    say(&format!("warning: {renamed} {what} names occur more than once; they got -1, -2, … at their end"));
    Ok(names)
}

/// Barcodes are there and distinct.
fn check_barcodes(path: &Path, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Err(Error::input(path, "`obs` is empty: no cell in it", "give a file with cells"));
    }
    let mut seen = HashSet::with_capacity(names.len());
    let twice: Vec<&String> = names.iter().filter(|n| !seen.insert(n.as_str())).collect();
    match twice.first() {
        None => Ok(()),
        Some(first) => Err(Error::input(
            path,
            format!("{} barcodes in `obs` occur more than once (the first is {first})", twice.len()),
            "make them unique, e.g. by a batch suffix",
        )),
    }
}

/// Cells in both files, as (row of RNA, row of ATAC), in the order of the RNA file.
fn pair_cells(config: &PrepareConfig, rna: &Input, atac: &Input) -> Result<Vec<(u32, u32)>> {
    let (rna_path, atac_path) = (rna.source.path(), atac.source.path());
    let (rna, atac) = (rna.cells.as_slice(), atac.cells.as_slice());
    check_barcodes(rna_path, rna)?;
    check_barcodes(atac_path, atac)?;
    if config.pairing == Pairing::ByPosition {
        if rna.len() != atac.len() {
            return Err(Error::input(
                atac_path,
                format!("{} cells, but the RNA file has {}", atac.len(), rna.len()),
                "--pair by-position needs the same number; match by barcode, or cut the files to the same cells",
            ));
        }
        let elsewhere: HashSet<&str> = atac.iter().map(String::as_str).collect();
        let moved = rna.iter().zip(atac).filter(|(r, a)| r != a && elsewhere.contains(r.as_str())).count();
        if moved > 0 {
            return Err(Error::input(
                atac_path,
                format!(
                    "{moved} cells of {} are in it at another place (the first cells are {} there, {} here)",
                    rna_path.display(),
                    rna[0],
                    atac[0]
                ),
                "leave out --pair by-position: the barcodes tell which cells are the same",
            ));
        }
        return Ok((0..rna.len() as u32).map(|i| (i, i)).collect());
    }
    let place: HashMap<&str, u32> = atac.iter().enumerate().map(|(i, n)| (n.as_str(), i as u32)).collect();
    let pairs: Vec<(u32, u32)> =
        rna.iter().enumerate().filter_map(|(i, n)| place.get(n.as_str()).map(|&a| (i as u32, a))).collect();
    let smaller = rna.len().min(atac.len());
    let share = pairs.len() as f64 / smaller as f64;
    if pairs.is_empty() || share < config.min_common {
        let same_cells = rna.len() == atac.len()
            && rna.iter().zip(atac).filter(|(r, a)| core(r) == core(a)).count() * 10 >= rna.len() * 9;
        let cores: HashSet<String> = atac.iter().map(|a| core(a)).collect();
        let alike = rna.iter().filter(|r| cores.contains(&core(r))).count();
        let fix = if same_cells {
            "the barcodes differ only by a suffix that tells the modality, and the cells are in the same order: \
             use --pair by-position"
                .to_string()
        } else if alike as f64 / smaller as f64 >= 0.5 && alike > pairs.len() {
            "the barcodes differ by a suffix that tells the modality: make them equal, or bring the cells into the \
             same order and use --pair by-position"
                .to_string()
        } else {
            "give the two files of one experiment (or lower --min-common)".to_string()
        };
        return Err(Error::input(
            atac_path,
            format!(
                "only {} of {smaller} barcodes are also in {} (e.g. {} here, {} there)",
                pairs.len(),
                rna_path.display(),
                atac[0],
                rna[0]
            ),
            fix,
        ));
    }
    Ok(pairs)
}

/// A barcode without what may tell the modality.
fn core(barcode: &str) -> String {
    let lower = barcode.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    let telling = |w: &&str| !matches!(*w, "" | "rna" | "atac" | "gex" | "peaks" | "scrna" | "scatac" | "arc" | "dna");
    words.filter(telling).collect::<Vec<_>>().join("-")
}

/// A column as text; missing values are `None`. `None` where there is no such column.
pub(crate) fn text_column(data: &dyn source::Source, axis: Axis, name: &str) -> Result<Option<Vec<Option<String>>>> {
    Ok(data.column(axis, name)?.map(Column::into_text))
}

/// A column as numbers; missing ones are NaN.
pub(crate) fn number_column(data: &dyn source::Source, axis: Axis, name: &str) -> Result<Option<Vec<f64>>> {
    let Some(column) = data.column(axis, name)? else { return Ok(None) };
    Ok(Some(match column {
        Column::Ints(v) => v.into_iter().map(|x| x as f64).collect(),
        Column::Floats(v) => v,
        Column::Bools(v) => v.into_iter().map(|x| f64::from(u8::from(x))).collect(),
        Column::Strings(_) | Column::Categorical { .. } => {
            let text = text_column(data, axis, name)?.unwrap_or_default();
            let number = |s: Option<String>| match s.as_deref() {
                None => Ok(f64::NAN),
                Some("True" | "true" | "TRUE") => Ok(1.0),
                Some("False" | "false" | "FALSE") => Ok(0.0),
                Some(s) => s.parse().map_err(|_| {
                    Error::input(
                        data.path(),
                        format!("`{}/{name}` holds {s:?}, which is no number", axis.name()),
                        "make it a column of numbers",
                    )
                }),
            };
            text.into_iter().map(number).collect::<Result<_>>()?
        }
    }))
}

type Places<'a> = [Option<&'a GeneLocation>];

/// Chromosome and TSS of each gene.
type GenePlaces = (Vec<Option<String>>, Vec<Option<i64>>);

/// Chromosome and TSS of every gene: from `var`, else from the GTF.
fn locate_genes(rna: &dyn source::Source, places: Option<&Places<'_>>, n: usize) -> Result<GenePlaces> {
    let column = chrom_column(rna)?;
    if column.is_none() && places.is_none() {
        return Err(Error::input(
            rna.path(),
            format!("`var` has no column `chrom`; it has {}", list(&rna.columns(Axis::Var)?)),
            "give the annotation of the genome with --gtf",
        ));
    }
    let mut chroms = column.unwrap_or_else(|| vec![None; n]);
    chroms.iter_mut().filter(|c| c.as_deref() == Some(UNKNOWN)).for_each(|c| *c = None);
    let mut tss = gene_starts(rna, n)?;
    for (i, place) in places.unwrap_or(&[]).iter().enumerate() {
        if let Some(place) = place {
            if chroms[i].is_none() {
                chroms[i] = Some(place.chrom.clone());
            }
            if chroms[i].as_deref().map(chrom_key) == Some(chrom_key(&place.chrom)) {
                tss[i] = Some(place.tss);
            }
        }
    }
    if chroms.iter().all(Option::is_none) {
        return Err(Error::input(
            rna.path(),
            "`var/chrom` is empty for every gene",
            "give the annotation of the genome with --gtf",
        ));
    }
    Ok((chroms, tss))
}

/// TSS from `tss` of `var` (0-based), else from `chromStart`, `chromEnd` and `strand`, where all three are there.
fn gene_starts(rna: &dyn source::Source, n: usize) -> Result<Vec<Option<i64>>> {
    let none = vec![None; n];
    if let Some(tss) = number_column(rna, Axis::Var, "tss")? {
        return Ok(tss.into_iter().map(|t| (0.0..9e15).contains(&t).then_some(t as i64)).collect());
    }
    let Some((start, end)) = coordinates(rna)? else { return Ok(none) };
    let Some(strand) = strand_column(rna)? else { return Ok(none) };
    Ok((0..n)
        .map(|i| match strand[i] {
            _ if !(start[i] >= 0.0 && end[i] > start[i]) => None,
            Some(true) => Some(start[i] as i64),
            Some(false) => Some(end[i] as i64 - 1),
            None => None,
        })
        .collect())
}

/// Chromosomes of features: a column of one of the usual names, else the places in `interval` (as 10x writes them).
pub(crate) fn chrom_column(data: &dyn source::Source) -> Result<Option<Vec<Option<String>>>> {
    for name in ["chrom", "chromosome", "chr", "seqnames", "Chromosome"] {
        if let Some(column) = text_column(data, Axis::Var, name)? {
            return Ok(Some(column));
        }
    }
    let places = text_column(data, Axis::Var, "interval")?;
    Ok(places.map(|v| v.iter().map(|p| Some(parse_region(p.as_deref()?)?.chrom)).collect()))
}

pub(crate) fn coordinates(data: &dyn source::Source) -> Result<Option<(Vec<f64>, Vec<f64>)>> {
    for (start, end) in [("chromStart", "chromEnd"), ("start", "end"), ("Start", "End")] {
        let start = number_column(data, Axis::Var, start)?;
        let end = number_column(data, Axis::Var, end)?;
        if let Some(both) = start.zip(end) {
            return Ok(Some(both));
        }
    }
    Ok(None)
}

/// `strand` of `var` (or `_`): `+` true, `-` false, anything else missing.
pub(crate) fn strand_column(rna: &dyn source::Source) -> Result<Option<Vec<Option<bool>>>> {
    for name in ["strand", "_"] {
        if let Some(text) = text_column(rna, Axis::Var, name)? {
            let strand = |s: &Option<String>| match s.as_deref() {
                Some("+" | "1" | "1.0") => Some(true),
                Some("-" | "-1" | "0" | "-1.0" | "0.0") => Some(false),
                _ => None,
            };
            return Ok(Some(text.iter().map(strand).collect()));
        }
    }
    Ok(None)
}

/// What is known of a peak: its chromosome, and its coordinates too where there are any.
pub(crate) struct PeakPlace {
    pub(crate) chrom: Option<String>,
    pub(crate) region: Option<Region>,
}

pub(crate) fn locate_peaks(atac: &dyn source::Source, names: &[String]) -> Result<Vec<PeakPlace>> {
    let chroms = chrom_column(atac)?;
    let bounds = coordinates(atac)?;
    let intervals = text_column(atac, Axis::Var, "interval")?;
    let places: Vec<PeakPlace> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let interval = intervals.as_ref().and_then(|v| parse_region(v[i].as_deref()?));
            let named = parse_region(name).or(interval).filter(|r| r.chrom != UNKNOWN);
            let chrom = match &chroms {
                Some(chroms) => chroms[i].clone().filter(|c| c != UNKNOWN),
                None => None,
            };
            let chrom = chrom.or_else(|| named.as_ref().map(|r| r.chrom.clone()));
            let from_columns = bounds.as_ref().and_then(|(start, end)| {
                let (start, end) = (start[i], end[i]);
                let whole = start >= 0.0 && end > start && end < 9e15;
                whole.then(|| Region { chrom: chrom.clone().unwrap_or_default(), start: start as i64, end: end as i64 })
            });
            let region = from_columns
                .filter(|r| !r.chrom.is_empty())
                .or_else(|| named.filter(|r| chrom.as_deref().is_none_or(|c| chrom_key(c) == chrom_key(&r.chrom))));
            PeakPlace { chrom, region }
        })
        .collect();
    if places.iter().all(|p| p.chrom.is_none()) {
        let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
        return Err(Error::input(
            atac.path(),
            format!(
                "no peak has a chromosome: `var` has no column `chrom`, and names such as {} are not of the form \
                 chr1-100-200",
                shown.join(", ")
            ),
            "add the columns chrom, chromStart and chromEnd, or name the peaks so",
        ));
    }
    Ok(places)
}

/// Chromosomes in order of first appearance over genes, then peaks. `chr1` and `1` are one; it is called as the
/// peaks call it, so that tracks and links carry the names of the peak file.
fn build_vocabulary(
    atac: &Path,
    gene_names: Vec<String>,
    gene_chroms: &[Option<String>],
    tss: Vec<Option<i64>>,
    peak_names: Vec<String>,
    places: &[PeakPlace],
) -> Result<Vocabulary> {
    let mut called: HashMap<Cow<'_, str>, &str> = HashMap::new();
    for chrom in places.iter().filter_map(|p| p.chrom.as_deref()) {
        called.entry(chrom_key(chrom)).or_insert(chrom);
    }
    let gene_keys: HashSet<Cow<'_, str>> = gene_chroms.iter().flatten().map(|c| chrom_key(c)).collect();
    if !gene_keys.iter().any(|k| called.contains_key(k)) {
        let some = |names: &mut dyn Iterator<Item = &str>| {
            let mut distinct: Vec<String> = Vec::new();
            for n in names {
                if distinct.len() < 3 && !distinct.iter().any(|d| d == n) {
                    distinct.push(n.to_string());
                }
            }
            distinct.join(", ")
        };
        return Err(Error::input(
            atac,
            format!(
                "no chromosome of the peaks ({}) is one of the genes ({})",
                some(&mut places.iter().filter_map(|p| p.chrom.as_deref())),
                some(&mut gene_chroms.iter().flatten().map(String::as_str))
            ),
            "give peaks and annotation of one genome, with the same names of chromosomes",
        ));
    }
    let mut v = Vocabulary::default();
    let mut number: HashMap<String, u32> = HashMap::new();
    let mut index = |chrom: Option<&str>| -> u32 {
        let key = chrom.map_or(Cow::Borrowed(UNKNOWN), chrom_key);
        if let Some(&i) = number.get(key.as_ref()) {
            return i;
        }
        let i = v.chromosomes.len() as u32;
        number.insert(key.to_string(), i);
        v.chromosomes.push(chrom.map_or(UNKNOWN, |c| called.get(&key).copied().unwrap_or(c)).to_string());
        if chrom.is_none() {
            v.unknown = Some(i);
        }
        i
    };
    let gene_index: Vec<u32> = gene_chroms.iter().map(|c| index(c.as_deref())).collect();
    let peak_index: Vec<u32> = places.iter().map(|p| index(p.chrom.as_deref())).collect();
    v.genes =
        gene_names.into_iter().zip(gene_index).zip(tss).map(|((name, chrom), tss)| Gene { name, chrom, tss }).collect();
    v.peaks = peak_names
        .into_iter()
        .zip(peak_index)
        .zip(places)
        .map(|((name, chrom), p)| {
            let (start, end) = p.region.as_ref().map_or((-1, -1), |r| (r.start, r.end));
            Peak { name, chrom, start, end }
        })
        .collect();
    Ok(v)
}

/// Names and values `[G, k]` of the gene features.
fn gene_features(
    config: &PrepareConfig,
    rna: &dyn source::Source,
    places: Option<&Places<'_>>,
    v: &Vocabulary,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(Vec<String>, Vec<f32>)> {
    let (wanted, must): (Vec<&str>, bool) = match &config.gene_features {
        GeneFeatures::None => return Ok((Vec::new(), Vec::new())),
        GeneFeatures::Present => (FEATURE_NAMES.to_vec(), false),
        GeneFeatures::Named(names) => {
            (FEATURE_NAMES.into_iter().filter(|f| names.iter().any(|n| n == f)).collect(), true)
        }
    };
    let n = v.genes.len();
    let mut columns: Vec<(String, Vec<f64>)> = Vec::new();
    for name in wanted {
        let column = if name == "strand" {
            let from_var = strand_column(rna)?;
            if from_var.is_none() && places.is_none() {
                None
            } else {
                let from_var = from_var.unwrap_or_else(|| vec![None; n]);
                let strand = |i: usize| {
                    let known = from_var[i].or_else(|| places.and_then(|p| p[i]).and_then(|p| p.forward));
                    known.map_or(0.5, |f| f64::from(u8::from(f)))
                };
                Some((0..n).map(strand).collect())
            }
        } else {
            number_column(rna, Axis::Var, name)?
        };
        match column {
            Some(mut values) => {
                let mut missing = 0;
                for (v, gene) in values.iter_mut().zip(&v.genes) {
                    if v.is_nan() {
                        missing += 1;
                        *v = 0.0;
                    } else if !(*v as f32).is_finite() {
                        return Err(Error::input(
                            rna.path(),
                            format!("`var/{name}` of gene {} is {v}", gene.name),
                            "mend it, or leave the feature out of --gene-features",
                        ));
                    }
                }
                if missing > 0 {
                    say(&format!("warning: `var/{name}` is missing for {missing} of {n} genes; 0 is used"));
                }
                columns.push((name.to_string(), values));
            }
            None if must => {
                return Err(Error::input(
                    rna.path(),
                    format!("`var` has no column `{name}`; it has {}", list(&rna.columns(Axis::Var)?)),
                    "leave it out of --gene-features",
                ));
            }
            None => {}
        }
    }
    let values = (0..n).flat_map(|g| columns.iter().map(move |(_, c)| c[g] as f32)).collect();
    Ok((columns.into_iter().map(|(name, _)| name).collect(), values))
}

/// Labels of the rows of the file they are from.
struct Labels {
    from: Modality,
    labels: Vec<Option<String>>,
}

/// Column of the cell types.
const CELL_TYPE: &str = "cell_type";

fn cell_types(config: &PrepareConfig, inputs: &[&Input], say: &(dyn Fn(&str) + Sync)) -> Result<Option<Labels>> {
    let name = config.cell_type_column.as_deref().unwrap_or(CELL_TYPE);
    for (i, input) in inputs.iter().enumerate() {
        let Some(labels) = input.cell_column(name)?.map(Column::into_text) else { continue };
        for other in &inputs[i + 1..] {
            let Some(theirs) = other.cell_column(name)?.map(Column::into_text) else { continue };
            let named: HashMap<&str, &Option<String>> = other.cells.iter().map(String::as_str).zip(&theirs).collect();
            let differ =
                |(cell, label): &(&String, &Option<String>)| named.get(cell.as_str()).is_some_and(|t| t != label);
            let n = input.cells.iter().zip(&labels).filter(differ).count();
            if n > 0 {
                say(&format!(
                    "warning: `{name}` of {n} cells differs between the two files; that of the {} file is taken",
                    input.modality.name()
                ));
            }
        }
        return Ok(Some(Labels { from: input.modality, labels }));
    }
    let mut columns: Vec<String> = Vec::new();
    for input in inputs {
        columns.extend(input.cell_columns()?);
    }
    columns.sort();
    columns.dedup();
    let columns = list(&columns);
    if config.cell_type_column.is_some() {
        return Err(Error::input(
            inputs[0].source.path(),
            format!("`obs` has no column `{name}` (nor has that of the other file); the columns are {columns}"),
            "name one of these with --cell-type-column, or give a table of cells with --obs",
        ));
    }
    if inputs.len() == 2 {
        say(&format!(
            "warning: no column `cell_type` in obs (the columns are {columns}): without labels the sample set holds positives \
             only, and matching cannot be trained; name the column with --cell-type-column, or give a table with --obs"
        ));
    }
    Ok(None)
}

/// Most values a column of cells may have to be kept: as text, and as numbers, which are then codes of something.
const FEW_TEXTS: usize = 1000;
const FEW_NUMBERS: usize = 100;

/// A column of cells that may be kept.
struct CellColumn {
    from: Modality,
    name: String,
    column: Column,
    /// Most values it may have.
    few: usize,
}

/// Columns that may tell batches, donors or sites: texts and whole numbers, those of the RNA file first.
fn cell_columns(config: &PrepareConfig, inputs: &[&Input]) -> Result<Vec<CellColumn>> {
    let labels = config.cell_type_column.as_deref().unwrap_or(CELL_TYPE);
    let mut out = Vec::new();
    for input in inputs {
        for name in input.cell_columns()?.into_iter().filter(|n| n != labels) {
            let (column, few) = match input.cell_column(&name) {
                // Whole numbers with gaps are stored so.
                Ok(Some(Column::Floats(v))) if v.iter().all(|x| x.is_nan() || x.fract() == 0.0) => {
                    (Column::Floats(v), FEW_NUMBERS)
                }
                Ok(Some(Column::Floats(_)) | None) => continue,
                Ok(Some(column @ Column::Ints(_))) => (column, FEW_NUMBERS),
                Ok(Some(column)) => (column, FEW_TEXTS),
                // A column of a kind that cannot be read is none to go by, and no reason to stop.
                Err(_) => continue,
            };
            out.push(CellColumn { from: input.modality, name, column, few });
        }
    }
    Ok(out)
}

/// Those with few distinct values among the cells that are kept; of two of one name the first.
fn coded(columns: &[CellColumn], kept: &[(u32, u32)]) -> Vec<ObsColumn> {
    let rows = |from: Modality| kept.iter().map(move |k| of_modality(k, from)).collect::<Vec<u32>>();
    let (rna, atac) = (rows(Modality::Rna), rows(Modality::Atac));
    let mut out: Vec<ObsColumn> = Vec::new();
    for c in columns {
        if out.iter().any(|o| o.name == c.name) {
            continue;
        }
        let values = c.column.select(if c.from == Modality::Rna { &rna } else { &atac }).into_text();
        let distinct: HashSet<&str> = values.iter().flatten().map(String::as_str).collect();
        if distinct.len() > c.few || distinct.is_empty() {
            continue;
        }
        let mut categories: Vec<String> = distinct.into_iter().map(String::from).collect();
        categories.sort_unstable();
        let code: HashMap<&str, u32> = (0..).zip(&categories).map(|(i, c)| (c.as_str(), i)).collect();
        let codes = values.iter().map(|v| v.as_deref().map_or(ObsColumn::MISSING, |v| code[v])).collect();
        out.push(ObsColumn { name: c.name.clone(), categories, codes });
    }
    out
}

/// Row of a cell in the file of a modality.
fn of_modality(cell: &(u32, u32), modality: Modality) -> u32 {
    if modality == Modality::Rna { cell.0 } else { cell.1 }
}

fn label_cells(v: &mut Vocabulary, labels: &Option<Labels>, kept: &[(u32, u32)], say: &(dyn Fn(&str) + Sync)) {
    let Some(labels) = labels else { return };
    let label =
        |cell: &(u32, u32)| labels.labels[of_modality(cell, labels.from) as usize].as_deref().unwrap_or(UNLABELLED);
    let mut types: Vec<&str> = kept.iter().map(label).collect::<HashSet<_>>().into_iter().collect();
    types.sort_unstable();
    let number: HashMap<&str, u32> = types.iter().enumerate().map(|(i, t)| (*t, i as u32)).collect();
    v.cell_type = kept.iter().map(|k| number[label(k)]).collect();
    v.cell_types = types.iter().map(|t| t.to_string()).collect();
    let missing = kept.iter().filter(|k| label(k) == UNLABELLED).count();
    if missing > 0 {
        say(&format!(
            "warning: {missing} cells have no cell type; they are called `{UNLABELLED}` and make no negatives"
        ));
    }
}

/// The rows of a modality, with the indices of the vocabulary; no entry at all where there is no such modality.
struct Entries {
    rows: Option<Rows>,
    /// Of each column of the file its index in the vocabulary, or [`DROPPED`]; the same where `None`.
    map: Option<Vec<u32>>,
}

impl Entries {
    fn kind(&self) -> Option<MatrixKind> {
        self.rows.as_ref().map(Rows::kind)
    }

    /// Row `i`, in no order.
    fn row(&self, i: u32) -> Result<Vec<(u32, f32)>> {
        let Some(rows) = &self.rows else { return Ok(Vec::new()) };
        let (index, values) = rows.row(i as usize)?;
        let mut entries: Vec<(u32, f32)> = index.into_iter().zip(values).collect();
        if let Some(map) = &self.map {
            entries.retain_mut(|e| {
                e.0 = map[e.0 as usize];
                e.0 != DROPPED
            });
        }
        Ok(entries)
    }

    /// Has row `i` an entry, or need it none?
    fn has_entry(&self, i: u32) -> Result<bool> {
        match (&self.rows, &self.map) {
            (None, _) => Ok(true),
            (Some(rows), None) => Ok(rows.len(i as usize) > 0),
            (Some(_), Some(_)) => Ok(!self.row(i)?.is_empty()),
        }
    }
}

/// Reads a matrix into a file of rows.
fn read_rows(
    input: &Input,
    kind: Option<MatrixKind>,
    config: &PrepareConfig,
    scratch: &Path,
    hooks: Hooks<'_>,
) -> Result<Rows> {
    let (source, matrix) = (input.source.as_ref(), &input.matrix);
    let what = input.modality.name();
    let mut rows = RowWriter::create(&scratch.join(format!("{what}.rows")))?;
    let stage = if input.modality == Modality::Rna { "reading RNA" } else { "reading ATAC" };
    let total = matrix.rows() as u64;
    let mut done = 0;
    (hooks.step)(stage, 0, total);
    matrix.for_each_block(config.streaming, scratch, &input.cells, &input.names, |block| {
        interrupt::check("nothing was written")?;
        done += block.rows() as u64;
        (hooks.step)(stage, done, total);
        rows.append(&block)
    })?;
    let rows = rows.finish()?;
    let at = matrix.at();
    let others = || {
        let others: Vec<String> = source.layers().into_iter().filter(|l| !at.ends_with(l.as_str())).collect();
        if others.is_empty() {
            "give another file".to_string()
        } else {
            format!("choose another with {} (there are {})", input.modality.layer_flag(), list(&others))
        }
    };
    if rows.entries() == 0 {
        return Err(Error::input(source.path(), format!("every value of `{at}` is 0"), others()));
    }
    (hooks.say)(&format!(
        "{what}: `{at}` of {} ({}), {} × {}, {}, {} entries: {}, largest {}",
        source.path().display(),
        source.form(),
        matrix.rows(),
        matrix.cols(),
        matrix.layout(),
        rows.entries(),
        rows.kind(),
        rows.largest()
    ));
    if rows.largest() > 16_777_216.0 {
        (hooks.say)(&format!(
            "warning: {what} values above 2^24 are kept to 24 bits (the largest is {})",
            rows.largest()
        ));
    }
    match kind {
        // Counts that happen to be 0 and 1 only are counts nevertheless.
        Some(want) if want != rows.kind() && !(want == MatrixKind::Counts && rows.kind() == MatrixKind::Binary) => {
            Err(Error::input(
                source.path(),
                format!("`{at}` holds {} (largest {}), not {want}", rows.kind(), rows.largest()),
                others(),
            ))
        }
        _ => Ok(rows),
    }
}

fn write_vocabulary(dir: &Path, v: &Vocabulary) -> Result<Vec<dataset::Part>> {
    let chrom = |i: u32| Cow::from(v.chromosomes[i as usize].as_str());
    let number = |n: i64| Cow::from(n.to_string());
    let genes = to_tsv(
        &dataset::GENES.1,
        v.genes.iter().map(|g| vec![Cow::from(g.name.as_str()), chrom(g.chrom), g.tss.map_or(Cow::from(""), number)]),
    );
    let peaks = to_tsv(
        &dataset::PEAKS.1,
        v.peaks.iter().map(|p| vec![Cow::from(p.name.as_str()), chrom(p.chrom), number(p.start), number(p.end)]),
    );
    let cells = to_tsv(
        &dataset::CELLS.1,
        v.cells.iter().enumerate().map(|(i, c)| {
            let t = v.cell_type.get(i).map_or("", |&t| v.cell_types[t as usize].as_str());
            vec![Cow::from(c.as_str()), Cow::from(t)]
        }),
    );
    [(dataset::GENES.0, genes), (dataset::PEAKS.0, peaks), (dataset::CELLS.0, cells)]
        .into_iter()
        .map(|(file, text)| write_part(dir, file, text.as_bytes()))
        .collect()
}

#[allow(clippy::too_many_arguments)]
fn write_shards(
    dir: &Path,
    config: &PrepareConfig,
    sizes: Sizes,
    v: &Vocabulary,
    kept: &[(u32, u32)],
    rna: &Entries,
    atac: &Entries,
    hooks: Hooks<'_>,
) -> Result<(Vec<shard::ShardEntry>, (u64, u64))> {
    let folder = dir.join("shards");
    std::fs::create_dir(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    let ranks = |chrom: Vec<u32>| codec::ranks(&codec::order(&chrom));
    let gene_ranks = ranks(v.genes.iter().map(|g| g.chrom).collect());
    let peak_ranks = ranks(v.peaks.iter().map(|p| p.chrom).collect());
    // Entries and bytes of a row.
    let encode = |rows: &Entries, i: u32, ranks: &[u32], stored: bool| -> Result<(usize, Vec<u8>)> {
        let mut entries = rows.row(i)?;
        entries.iter_mut().for_each(|e| e.0 = ranks[e.0 as usize]);
        entries.sort_unstable_by_key(|e| e.0);
        let mut bytes = Vec::new();
        codec::encode(&entries, stored, &mut bytes);
        Ok((entries.len(), bytes))
    };
    let (store_expr, store_acc) =
        (rna.kind().is_some_and(|k| k != MatrixKind::Binary), atac.kind().is_some_and(|k| k != MatrixKind::Binary));
    let mut entries = (0, 0);
    let mut out = Vec::new();
    (hooks.step)("shards", 0, kept.len() as u64);
    for (number, cells) in kept.chunks(config.shard_cells).enumerate() {
        let rows = cells
            .par_iter()
            .map(|&(r, a)| {
                interrupt::check("nothing was written")?;
                Ok((encode(rna, r, &gene_ranks, store_expr)?, encode(atac, a, &peak_ranks, store_acc)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let first = (number * config.shard_cells) as u64;
        let (genes, peaks) = (RowData::new(store_expr), RowData::new(store_acc));
        let mut d = ShardData { number: number as u32, first, genes, peaks };
        for (genes, peaks) in rows {
            d.genes.push(genes.0, &genes.1);
            d.peaks.push(peaks.0, &peaks.1);
        }
        entries.0 += d.genes.entries();
        entries.1 += d.peaks.entries();
        out.push(shard::write(dir, &format!("shards/{number:05}.shard"), sizes, &d)?);
        (hooks.step)("shards", first + cells.len() as u64, kept.len() as u64);
    }
    Ok((out, entries))
}

fn default_samples(config: &PrepareConfig, v: &Vocabulary, say: &(dyn Fn(&str) + Sync)) -> Result<SampleSet> {
    let mut recipe = config.samples.clone();
    let labelled = v.cell_types.iter().filter(|t| *t != UNLABELLED).count();
    if labelled == 0 {
        recipe.negative_ratio = 0.0; // said already, where the labels were looked for
    }
    let set = match draw_samples(v, &recipe) {
        // A few cells met by a trained model need not have pairs of every kind.
        Err(e) if config.like.is_some() && recipe.negative_ratio > 0.0 && !recipe.discovery => {
            say(&format!("warning: `samples/default` holds positives only: {e}"));
            draw_samples(v, &SampleConfig { negative_ratio: 0.0, ..recipe })?
        }
        set => set?,
    };
    if set.val.is_empty() || set.test.is_empty() {
        say("warning: too few cells for a validation and a test part: all samples are for training");
    }
    Ok(set)
}

fn folder_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, "read", e))? {
        let entry = entry.map_err(|e| Error::io(dir, "read", e))?;
        let meta = entry.metadata().map_err(|e| Error::io(entry.path(), "read", e))?;
        total += if meta.is_dir() { folder_bytes(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}
