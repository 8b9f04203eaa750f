//! Prepared data sets: cells in memory-mapped shards, vocabularies, constant features, sample sets.

#[forbid(unsafe_code)]
pub(crate) mod access;
#[forbid(unsafe_code)]
pub(crate) mod cell;
#[forbid(unsafe_code)]
pub(crate) mod codec;
#[forbid(unsafe_code)]
pub(crate) mod draw;
#[forbid(unsafe_code)]
pub(crate) mod manifest;
#[forbid(unsafe_code)]
pub(crate) mod means;
pub(crate) mod mmap;
#[forbid(unsafe_code)]
pub(crate) mod models;
#[forbid(unsafe_code)]
pub(crate) mod rows;
#[forbid(unsafe_code)]
pub(crate) mod samples;
#[forbid(unsafe_code)]
pub(crate) mod shard;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::anndata::{MatrixKind, list};
use crate::data::exons::GeneModel;
use crate::error::{Error, Result};
use crate::files::bytes::checksum;
use crate::model::{Batch, Features};
use crate::vocabulary::{Gene, ObsColumn, Peak, Vocabulary};
use manifest::{DAMAGED, MANIFEST, Manifest, Part, checked, from_tsv, read_part};
use models::GENE_MODELS;
use shard::{Half, Shard, VocabularySizes};

pub use access::{Access, Io};
pub use cell::{Cell, ReadCell, Values};
pub use draw::draw_samples;
pub(crate) use samples::split_word;
pub use samples::{Negatives, Sample, SampleConfig, SampleSet, Split, SplitBy};

/// A prepared data set (the folder that `prepare` makes), opened read-only.
///
/// # The folder
/// | file | content |
/// | --- | --- |
/// | `dataset.json` | the manifest: sizes, names of chromosomes and cell types, checksum of every other file |
/// | `genes.tsv`, `peaks.tsv`, `cells.tsv` | the vocabulary, one row each, with a header line |
/// | `obs.bin` | other columns of cells: codes `[columns, cells]` u16, 65535 missing; names and values are in the manifest |
/// | `features.bin` | gene features `[G, extra]` f32, then DNA codes `[P, length]` u8 |
/// | `gene-models.tsv.gz` | where prepared with an annotation: genes near peaks with their exons, for pictures; no hash covers it |
/// | `shards/NNNNN.shard` | the cells, see the module `shard` for the format |
/// | `samples/NAME` | sample sets, see the module `samples` for the format |
///
/// # Version history
/// - 1: first version.
///
/// ```no_run
/// use sccrossrec::DataSet;
/// let data = DataSet::open(std::path::Path::new("DATA"))?;
/// let set = data.samples("default")?;
/// let batch = data.batch(&set, &set.train[..8]);
/// assert_eq!(batch.len(), 8);
/// # Ok::<(), sccrossrec::Error>(())
/// ```
#[derive(Debug)]
pub struct DataSet {
    dir: PathBuf,
    manifest: Manifest,
    vocabulary: Vocabulary,
    features: Arc<Features<f32>>,
    shards: Vec<Shard>,
    access: Access,
}

pub(crate) const GENES: (&str, [&str; 3]) = ("genes.tsv", ["gene", "chrom", "tss"]);
pub(crate) const PEAKS: (&str, [&str; 4]) = ("peaks.tsv", ["peak", "chrom", "start", "end"]);
pub(crate) const CELLS: (&str, [&str; 2]) = ("cells.tsv", ["cell", "cell_type"]);
pub(crate) const FEATURES: &str = "features.bin";
pub(crate) const OBS: &str = "obs.bin";
/// Code of a missing value in it.
const NO_VALUE: u16 = u16::MAX;

/// Codes of the columns, as they are stored.
pub(crate) fn obs_bytes(columns: &[ObsColumn]) -> Vec<u8> {
    let code = |&c: &u32| u16::try_from(c).unwrap_or(NO_VALUE).to_le_bytes();
    columns.iter().flat_map(|c| c.codes.iter().flat_map(code)).collect()
}

fn read_obs(dir: &Path, manifest: &Manifest) -> Result<Vec<ObsColumn>> {
    let c = &manifest.content;
    let bytes = read_part(dir, manifest, OBS)?;
    let bad = || Error::input(dir.join(OBS), "its codes do not fit the manifest", DAMAGED);
    if c.cells.checked_mul(2).and_then(|n| n.checked_mul(c.obs.len())) != Some(bytes.len()) {
        return Err(bad());
    }
    c.obs
        .iter()
        .zip(bytes.chunks_exact((c.cells * 2).max(1)))
        .map(|(head, codes)| {
            let codes = codes.chunks_exact(2).map(|b| match u16::from_le_bytes([b[0], b[1]]) {
                NO_VALUE => Some(ObsColumn::MISSING),
                code => Some(u32::from(code)).filter(|&c| (c as usize) < head.categories.len()),
            });
            let codes = codes.collect::<Option<Vec<u32>>>().ok_or_else(bad)?;
            Ok(ObsColumn { name: head.name.clone(), categories: head.categories.clone(), codes })
        })
        .collect()
}

/// Fingerprint that binds shards to the genes and peaks their indices mean.
pub(crate) fn fingerprint(parts: &[Part]) -> u64 {
    let named = |file: &str| parts.iter().find(|p| p.file == file).map_or("", |p| p.xxh3.as_str());
    checksum(format!("{}{}", named(GENES.0), named(PEAKS.0)).as_bytes())
}

/// The table of gene models, compared with what the manifest tells of it, where it tells of one.
fn models_bytes(dir: &Path, manifest: &Manifest) -> Result<Option<Vec<u8>>> {
    let told = &manifest.origin[GENE_MODELS];
    if told.is_null() {
        return Ok(None);
    }
    let bad = |e: serde_json::Error| Error::input(dir.join(MANIFEST), format!("wrong manifest: {e}"), DAMAGED);
    let part = Part { file: GENE_MODELS.into(), ..serde_json::from_value(told.clone()).map_err(bad)? };
    checked(dir, &part).map(Some)
}

impl DataSet {
    /// Opens a folder and checks versions, lengths, every checksum, row pointers and, by decoding them in parallel, all
    /// rows: what is read later is what was written, and cannot lead outside.
    ///
    /// # Errors
    /// [`Error::Input`] that names the file: one that is missing, damaged, of another version, or does not fit the others.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, Access::default())
    }

    /// As [`DataSet::open`], read as `access` says, which also goes with the data set ([`DataSet::access`]).
    ///
    /// # Errors
    /// As [`DataSet::open`].
    pub fn open_with(dir: &Path, access: Access) -> Result<Self> {
        let manifest = Manifest::read(dir)?;
        let c = &manifest.content;
        let at = |file: &str| dir.join(file);
        let bad = |file: &str, found: String| Error::input(at(file), found, DAMAGED);
        let chrom_of: HashMap<&str, u32> =
            c.chromosomes.iter().enumerate().map(|(i, n)| (n.as_str(), i as u32)).collect();
        let chrom = |file: &str, name: &str| {
            chrom_of.get(name).copied().ok_or_else(|| bad(file, format!("chromosome {name:?} is not in the manifest")))
        };
        let number = |file: &str, text: &str| -> Result<Option<i64>> {
            match text {
                "" => Ok(None),
                t => t.parse().map(Some).map_err(|_| bad(file, format!("{t:?} is not a whole number"))),
            }
        };
        let (file, header) = GENES;
        let genes = from_tsv(&at(file), &read_part(dir, &manifest, file)?, &header, c.genes)?
            .into_iter()
            .map(|mut r| {
                Ok(Gene { chrom: chrom(file, &r[1])?, tss: number(file, &r[2])?, name: std::mem::take(&mut r[0]) })
            })
            .collect::<Result<Vec<_>>>()?;
        let (file, header) = PEAKS;
        let peaks = from_tsv(&at(file), &read_part(dir, &manifest, file)?, &header, c.peaks)?
            .into_iter()
            .map(|mut r| {
                Ok(Peak {
                    chrom: chrom(file, &r[1])?,
                    start: number(file, &r[2])?.unwrap_or(-1),
                    end: number(file, &r[3])?.unwrap_or(-1),
                    name: std::mem::take(&mut r[0]),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let (file, header) = CELLS;
        let type_of: HashMap<&str, u32> =
            c.cell_types.iter().enumerate().map(|(i, n)| (n.as_str(), i as u32)).collect();
        let (mut cells, mut cell_type) = (Vec::new(), Vec::new());
        for mut r in from_tsv(&at(file), &read_part(dir, &manifest, file)?, &header, c.cells)? {
            if !c.cell_types.is_empty() {
                let t = type_of.get(r[1].as_str());
                cell_type.push(*t.ok_or_else(|| bad(file, format!("cell type {:?} is not in the manifest", r[1])))?);
            }
            cells.push(std::mem::take(&mut r[0]));
        }
        if c.unknown.is_some_and(|u| u as usize >= c.chromosomes.len()) || c.genes == 0 || c.peaks == 0 {
            return Err(bad(MANIFEST, "its sizes contradict each other".into()));
        }
        let bytes = read_part(dir, &manifest, FEATURES)?;
        let extra = c.genes.checked_mul(c.gene_features.len()).and_then(|n| n.checked_mul(4));
        let dna = c.peaks.checked_mul(c.dna_length);
        let split = extra.zip(dna).filter(|(e, d)| e.checked_add(*d) == Some(bytes.len()));
        let Some((extra, _)) = split else {
            return Err(bad(FEATURES, "its length does not fit the manifest".into()));
        };
        let (extra, dna) = bytes.split_at(extra);
        let gene_extra = extra.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let features = Features {
            gene_chrom: genes.iter().map(|g| g.chrom).collect(),
            peak_chrom: peaks.iter().map(|p| p.chrom).collect(),
            chromosomes: c.chromosomes.len(),
            unknown: c.unknown,
            gene_extra,
            peak_dna: dna.to_vec(),
        };
        models_bytes(dir, &manifest)?; // what is read later is what was written
        let sizes =
            VocabularySizes { genes: c.genes as u64, peaks: c.peaks as u64, fingerprint: fingerprint(&c.parts) };
        let orders = Arc::new([&features.gene_chrom, &features.peak_chrom].map(|chrom| codec::order(chrom)));
        let mut shards = Vec::with_capacity(c.shards.len());
        let mut next = 0;
        for (i, entry) in c.shards.iter().enumerate() {
            if entry.first != next || entry.cells == 0 || entry.file.contains("..") || entry.file.starts_with('/') {
                return Err(bad(MANIFEST, format!("shard {i} does not follow the one before")));
            }
            shards.push(Shard::open(dir, entry, i, sizes, &orders, access.io)?);
            next += entry.cells; // which fit the file
        }
        if next != c.cells as u64 {
            return Err(bad(MANIFEST, format!("its shards hold {next} of {} cells", c.cells)));
        }
        let vocabulary = Vocabulary {
            chromosomes: c.chromosomes.clone(),
            unknown: c.unknown,
            genes,
            peaks,
            cells,
            cell_types: c.cell_types.clone(),
            cell_type,
            obs: read_obs(dir, &manifest)?,
        };
        Ok(DataSet { dir: dir.to_path_buf(), manifest, vocabulary, features: Arc::new(features), shards, access })
    }

    /// Compares every byte of the shards with its checksum once more, and every sample set with its own.
    ///
    /// # Errors
    /// [`Error::Input`] that names the first file that is not what it was.
    pub fn verify(&self) -> Result<()> {
        self.shards.iter().try_for_each(Shard::verify)?;
        self.sample_sets()?.iter().try_for_each(|name| self.samples(name).map(|_| ()))
    }

    /// Has every cell been what it was since the data set was opened? Cells that could not be read came out empty: long work
    /// asks this before it uses a batch.
    ///
    /// # Errors
    /// [`Error::Input`] that names the shard that was cut short, replaced in place or lost.
    pub fn check(&self) -> Result<()> {
        self.shards.iter().try_for_each(Shard::check)
    }

    /// How it was opened.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of everything.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// N, the number of cells.
    pub fn n_cells(&self) -> usize {
        self.vocabulary.cells.len()
    }

    /// A hash of what was prepared (hex): a RUN remembers it. It covers cells, genes, peaks, features and all
    /// values, not the sample sets and not where the data came from.
    pub fn hash(&self) -> &str {
        &self.manifest.hash
    }

    /// Names of the gene features after the chromosome, in order.
    pub fn gene_features(&self) -> &[String] {
        &self.manifest.content.gene_features
    }

    /// What the values of the RNA and of the ATAC matrix were found to be; `None` where the data lack the modality.
    pub fn kinds(&self) -> (Option<MatrixKind>, Option<MatrixKind>) {
        (self.manifest.content.rna_kind, self.manifest.content.atac_kind)
    }

    /// Refuses data of one modality alone.
    ///
    /// # Errors
    /// [`Error::Input`] that says what `doing` needs.
    pub fn need_both(&self, doing: &str) -> Result<()> {
        let missing = match self.kinds() {
            (Some(_), Some(_)) => return Ok(()),
            (None, _) => "RNA",
            _ => "ATAC",
        };
        Err(Error::input(
            &self.dir,
            format!("has no {missing}; {doing} needs both modalities"),
            "prepare both modalities (--rna and --atac)",
        ))
    }

    /// Entries of all cells: genes and peaks.
    pub fn entries(&self) -> (u64, u64) {
        self.shards.iter().map(Shard::entries).fold((0, 0), |s, e| (s.0 + e.0, s.1 + e.1))
    }

    /// The number of distinct accessibilities; `None` where there are more than a few. Reads every cell once, unless no
    /// accessibilities are stored.
    pub fn accessibilities(&self) -> Option<usize> {
        const FEW: usize = 64;
        if !self.shards.iter().any(|s| s.stored(Half::Atac)) {
            return Some(usize::from(self.entries().1 > 0));
        }
        let mut values: Vec<u32> = Vec::new();
        let mut cell = Cell::default();
        for i in 0..self.n_cells() {
            self.atac_into(i, &mut cell);
            for x in (0..cell.peaks.len()).map(|j| cell.acc.get(j).to_bits()) {
                if !values.contains(&x) {
                    if values.len() == FEW {
                        return None;
                    }
                    values.push(x);
                }
            }
        }
        Some(values.len())
    }

    /// Where the data came from: files, layers, counts of what was dropped, program version.
    pub fn origin(&self) -> &serde_json::Value {
        &self.manifest.origin
    }

    /// Models of the genes near peaks, by chromosome (named as in the vocabulary) and start; `None` where the data were
    /// prepared without an annotation, or by a program that kept none.
    ///
    /// # Errors
    /// A table that is missing or damaged.
    pub fn gene_models(&self) -> Result<Option<Vec<GeneModel>>> {
        let bytes = models_bytes(&self.dir, &self.manifest)?;
        bytes.map(|b| models::unpack(&self.dir.join(GENE_MODELS), &b)).transpose()
    }

    /// The table of these as it is stored.
    pub(crate) fn packed_models(&self) -> Result<Option<Vec<u8>>> {
        models_bytes(&self.dir, &self.manifest)
    }

    /// Constant features for the model.
    pub fn features(&self) -> Arc<Features<f32>> {
        self.features.clone()
    }

    /// One cell. `i` must be below [`DataSet::n_cells`].
    pub fn cell(&self, i: usize) -> Cell {
        let mut cell = Cell::default();
        self.cell_into(i, &mut cell);
        cell
    }

    /// As [`DataSet::cell`], in the memory of `cell`.
    pub fn cell_into(&self, i: usize, cell: &mut Cell) {
        self.half_into(i, Half::Rna, &mut cell.genes, &mut cell.expr);
        self.half_into(i, Half::Atac, &mut cell.peaks, &mut cell.acc);
    }

    /// The genes alone: the peaks of `cell` come out empty.
    pub fn rna_into(&self, i: usize, cell: &mut Cell) {
        self.half_into(i, Half::Rna, &mut cell.genes, &mut cell.expr);
        cell.peaks.clear();
        cell.acc = Values::default();
    }

    /// The peaks alone: the genes of `cell` come out empty.
    pub fn atac_into(&self, i: usize, cell: &mut Cell) {
        self.half_into(i, Half::Atac, &mut cell.peaks, &mut cell.acc);
        cell.genes.clear();
        cell.expr = Values::default();
    }

    /// Genes and peaks of a cell, counted without decoding it.
    pub fn cell_sizes(&self, i: usize) -> (usize, usize) {
        let (shard, i) = self.place(i);
        (shard.len(i, Half::Rna), shard.len(i, Half::Atac))
    }

    fn half_into(&self, i: usize, half: Half, index: &mut Vec<u32>, values: &mut Values) {
        let (shard, i) = self.place(i);
        let mut numbers = match std::mem::take(values) {
            Values::F32(v) => v,
            Values::Ones(_) => Vec::new(),
        };
        index.clear();
        numbers.clear();
        shard.append(i, half, index, &mut numbers);
        *values = if shard.stored(half) { Values::F32(numbers) } else { Values::Ones(index.len()) };
    }

    fn place(&self, i: usize) -> (&Shard, usize) {
        assert!(i < self.n_cells(), "cell {i} of {}", self.n_cells());
        let shard = &self.shards[self.shards.partition_point(|s| s.first() + s.cells() <= i)];
        (shard, i - shard.first())
    }

    /// Names of the sample sets, sorted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sample_sets(&self) -> Result<Vec<String>> {
        let dir = self.dir.join(samples::FOLDER);
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io(&dir, "read", e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(&dir, "read", e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads a sample set (`samples/NAME`). Every cell in it is in range.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that cannot be one; [`Error::Input`] where there is no such set, or it is damaged, or was
    /// drawn for other data.
    pub fn samples(&self, name: &str) -> Result<SampleSet> {
        if let Some(set) = samples::read(&self.dir, name, &self.vocabulary, self.hash())? {
            return Ok(set);
        }
        self.need_both("training or evaluation")?;
        Err(Error::input(
            &self.dir,
            format!("no pairs {name:?}; there are {}", list(&self.sample_sets()?)),
            "name one of these, or draw them with `sccrossrec pairs`",
        ))
    }

    /// Stores a sample set under `samples/NAME`; one that exists is replaced only with `force`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that cannot be one; [`Error::Input`] where the set exists; [`Error::Io`].
    pub fn save_samples(&self, name: &str, set: &SampleSet, force: bool) -> Result<()> {
        samples::save(&self.dir, name, set, self.hash(), force)
    }

    /// Assembles samples `numbers` of `set` into a batch. `numbers` index `set.samples`, whose cells are of this
    /// data set.
    pub fn batch(&self, set: &SampleSet, numbers: &[u32]) -> Batch<f32> {
        let sample = |&k: &u32| (set.samples[k as usize], u64::from(k));
        self.assemble(numbers.iter().map(sample))
    }

    /// A batch of positives: each of `cells` with itself (for embedding, translation, discovery). The number of a
    /// sample is that of its cell.
    pub fn batch_of_cells(&self, cells: &[u32]) -> Batch<f32> {
        self.assemble(cells.iter().map(|&c| (Sample { rna: c, atac: c, label: 1 }, u64::from(c))))
    }

    /// A batch of negatives: RNA of one cell, ATAC of one (of the same, perhaps). The number of a sample is that of its
    /// RNA cell.
    pub fn batch_of_pairs(&self, pairs: &[(u32, u32)]) -> Batch<f32> {
        self.assemble(pairs.iter().map(|&(rna, atac)| (Sample { rna, atac, label: 0 }, u64::from(rna))))
    }

    /// Rows are decoded straight into the batch, for which memory is got once.
    fn assemble(&self, samples: impl Iterator<Item = (Sample, u64)> + Clone) -> Batch<f32> {
        let mut batch = Batch::new();
        for (s, number) in samples.clone() {
            batch.label.push(s.label);
            batch.sample.push(number);
        }
        for (half, csr) in [(Half::Rna, &mut batch.rna), (Half::Atac, &mut batch.atac)] {
            let cells =
                samples.clone().map(|(s, _)| self.place(if half == Half::Rna { s.rna } else { s.atac } as usize));
            let entries = cells.clone().map(|(shard, i)| shard.len(i, half)).sum();
            csr.indices.reserve_exact(entries);
            csr.values.reserve_exact(entries);
            for (shard, i) in cells {
                shard.append(i, half, &mut csr.indices, &mut csr.values);
                csr.values.resize(csr.indices.len(), 1.0); // where none are stored
                csr.indptr.push(csr.indices.len());
            }
        }
        batch
    }
}

/// A row of a shard: the indices and, where they are `stored`, the values of its `n` entries out of a vocabulary of
/// `size`; or what is wrong with it. For tests that throw any bytes at it; no part of the interface.
///
/// # Errors
/// What is wrong with the bytes, in words.
#[doc(hidden)]
pub fn decode_row(
    bytes: &[u8],
    n: usize,
    size: usize,
    stored: bool,
) -> std::result::Result<(Vec<u32>, Vec<f32>), &'static str> {
    let order: Vec<u32> = (0..size as u32).collect();
    let (mut index, mut values) = (Vec::new(), Vec::new());
    codec::decode(bytes, n, &order, stored, &mut index, &mut values)?;
    Ok((index, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::manifest::Content;
    use crate::prepare::{PrepareConfig, prepare};
    use crate::simulate::{SimulateConfig, Simulation};

    #[test]
    fn sizes_of_a_manifest_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            SimulateConfig { cells: 12, genes: 4, peaks: 8, chromosomes: 2, cell_types: 2, ..Default::default() };
        let made = Simulation::new(config).unwrap().write(dir.path(), &()).unwrap();
        let mut config = PrepareConfig::new(&made.rna, &made.atac);
        config.samples.negative_ratio = 0.0;
        let at = dir.path().join("data");
        prepare(&config, &at, &()).unwrap();
        let good = Manifest::read(&at).unwrap();
        let wrong: [fn(&mut Content); 4] = [
            |c| c.cells = usize::MAX,
            |c| c.genes = usize::MAX,
            |c| c.dna_length = usize::MAX,
            |c| c.shards[0].cells = u64::MAX,
        ];
        for change in wrong {
            let mut content = good.content.clone();
            change(&mut content);
            Manifest::new(content, good.origin.clone()).unwrap().write(&at).unwrap();
            let e = DataSet::open(&at).unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains("damaged"), "{e}");
        }
        good.write(&at).unwrap();
        DataSet::open(&at).unwrap();
    }
}
