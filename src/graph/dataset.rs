//! A prepared data set, opened: vocabularies, memory-mapped cells, sample sets.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::codec;
use super::files::{checksum, content_hash, write_whole};
use super::mmap::Io;
use super::samples;
use super::shard::{Half, Shard, ShardEntry, Sizes};
use crate::data::anndata::MatrixKind;
use crate::error::{Error, Result};
use crate::model::{Batch, Features};

/// A gene of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Gene {
    /// Name, as in `var_names` of the RNA file.
    pub name: String,
    /// Index into [`Vocabulary::chromosomes`].
    pub chrom: u32,
    /// Transcription start, 0-based, where known.
    pub tss: Option<i64>,
}

/// A peak of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// Name, as in `var_names` of the ATAC file.
    pub name: String,
    /// Index into [`Vocabulary::chromosomes`].
    pub chrom: u32,
    /// Start, 0-based; -1 where unknown.
    pub start: i64,
    /// End, exclusive; -1 where unknown.
    pub end: i64,
}

/// Names of everything, in the order of the data set (which is the order of the id tables).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vocabulary {
    /// Chromosomes, in order of first appearance over genes, then peaks.
    pub chromosomes: Vec<String>,
    /// Which of them is `chrUnknown`, if it occurs.
    pub unknown: Option<u32>,
    /// Genes, G of them.
    pub genes: Vec<Gene>,
    /// Peaks, P of them.
    pub peaks: Vec<Peak>,
    /// Barcodes, N of them.
    pub cells: Vec<String>,
    /// Names of cell types; empty where the data have none.
    pub cell_types: Vec<String>,
    /// `[N]` index into `cell_types`; empty where the data have none.
    pub cell_type: Vec<u32>,
    /// Other columns that describe cells (batch, donor, site, …), those of few distinct values.
    pub obs: Vec<ObsColumn>,
}

/// A column of `obs` that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObsColumn {
    /// Its name.
    pub name: String,
    /// Distinct values, sorted; fewer than 2^16.
    pub categories: Vec<String>,
    /// `[N]` index into `categories`, or [`ObsColumn::MISSING`].
    pub codes: Vec<u32>,
}

impl ObsColumn {
    /// Code of a cell without a value.
    pub const MISSING: u32 = u32::MAX;

    /// Value of a cell, if it has one.
    pub fn value(&self, cell: usize) -> Option<&str> {
        self.categories.get(*self.codes.get(cell)? as usize).map(String::as_str)
    }
}

/// Values of a cell's entries: all 1 (binary data store none), or one f32 each.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// This many entries, each 1.
    Ones(usize),
    /// One value each.
    F32(Vec<f32>),
}

impl Values {
    /// Value of entry `i`.
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Values::Ones(_) => 1.0,
            Values::F32(v) => v[i],
        }
    }
}

impl Default for Values {
    fn default() -> Self {
        Values::Ones(0)
    }
}

/// One cell, decoded. Genes and peaks are sorted by (chromosome, index).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cell {
    /// Data set index of each gene node.
    pub genes: Vec<u32>,
    /// e, expression of each gene node.
    pub expr: Values,
    /// Data set index of each peak node.
    pub peaks: Vec<u32>,
    /// a, accessibility of each peak node.
    pub acc: Values,
}

impl Cell {
    /// Gene nodes: (index, e).
    pub fn rna(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.genes.iter().enumerate().map(|(i, &g)| (g, self.expr.get(i)))
    }

    /// Peak nodes: (index, a).
    pub fn atac(&self) -> impl Iterator<Item = (u32, f32)> + '_ {
        self.peaks.iter().enumerate().map(|(i, &p)| (p, self.acc.get(i)))
    }
}

/// One sample: RNA of one cell, ATAC of another or the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Cell that gives the RNA.
    pub rna: u32,
    /// Cell that gives the ATAC.
    pub atac: u32,
    /// 1 where both are one cell, else 0.
    pub label: u8,
}

/// Parts of a sample set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// 80 %.
    Train,
    /// 10 %.
    Val,
    /// 10 %.
    Test,
}

/// Samples and the part each belongs to. Sample numbers index `samples` and key the dropout.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampleSet {
    /// All samples.
    pub samples: Vec<Sample>,
    /// Numbers of the training samples.
    pub train: Vec<u32>,
    /// Numbers of the validation samples.
    pub val: Vec<u32>,
    /// Numbers of the test samples.
    pub test: Vec<u32>,
    /// How it was drawn: `split` ("cell" | "sample"), negatives, ratio, seed … as JSON.
    pub recipe: serde_json::Value,
}

impl SampleSet {
    /// Checks a set that was made by hand for `data` (those that [`DataSet::samples`] and
    /// [`draw_samples`](super::draw_samples) bring back are sound).
    ///
    /// # Errors
    /// [`Error::Usage`] where a sample names a cell that `data` lacks or has a label other than 0 and 1, or a part names
    /// a sample that the set lacks, or two parts share a cell where the recipe says that cells or batches were dealt out.
    pub fn check(&self, data: &DataSet) -> Result<()> {
        let (cells, n) = (data.n_cells(), self.samples.len());
        if let Some(i) = self.samples.iter().position(|s| s.rna as usize >= cells || s.atac as usize >= cells) {
            return Err(Error::usage(format!("sample set: sample {i} names a cell beyond the {cells} of the data")));
        }
        if let Some(i) = self.samples.iter().position(|s| s.label > 1) {
            return Err(Error::usage(format!(
                "sample set: sample {i} has label {}, not 0 or 1",
                self.samples[i].label
            )));
        }
        if let Some(k) = self.train.iter().chain(&self.val).chain(&self.test).find(|&&k| k as usize >= n) {
            return Err(Error::usage(format!("sample set: a part names sample {k} of {n}")));
        }
        match self.leak(data.vocabulary()) {
            Some(leak) => Err(Error::usage(format!("sample set: {leak}; draw it again"))),
            None => Ok(()),
        }
    }

    /// Where the recipe says that no cell is in two parts: a cell that is, in words.
    pub(crate) fn leak(&self, v: &Vocabulary) -> Option<String> {
        let split = self.recipe.get("split")?.as_str()?;
        if split != "cell" && !split.starts_with("batch:") {
            return None;
        }
        let parts = [("train", &self.train), ("val", &self.val), ("test", &self.test)];
        // Of each cell the part it was met in, and the sample.
        let mut met: Vec<Option<(&str, u32)>> = vec![None; v.cells.len()];
        for (part, numbers) in parts {
            for &n in numbers {
                let sample = self.samples[n as usize];
                for cell in [sample.rna, sample.atac] {
                    match met[cell as usize] {
                        Some((other, first)) if other != part => {
                            let name = &v.cells[cell as usize];
                            return Some(format!(
                                "it is split by {split}, and cell {name} is in sample {first} of {other} and in sample {n} of \
                                 {part}: what {part} tells would be of cells seen before"
                            ));
                        }
                        _ => met[cell as usize] = Some((part, n)),
                    }
                }
            }
        }
        None
    }
}

/// A prepared data set (the folder that `prepare` makes), opened read-only.
///
/// # The folder
/// | file | content |
/// | --- | --- |
/// | `dataset.json` | the manifest: sizes, names of chromosomes and cell types, checksum of every other file |
/// | `genes.tsv`, `peaks.tsv`, `cells.tsv` | the vocabulary, one row each, with a header line |
/// | `obs.bin` | other columns of cells: codes `[columns, cells]` u16, 65535 missing; names and values are in the manifest |
/// | `features.bin` | gene features `[G, extra]` f32, then DNA codes `[P, length]` u8 |
/// | `shards/NNNNN.shard` | the cells, see the module `shard` for the format |
/// | `samples/NAME` | sample sets, see the module `samples` for the format |
///
/// # Version history
/// - 1: first version.
///
/// ```no_run
/// use sccrossrec::graph::DataSet;
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
}

/// Name of the manifest.
pub(crate) const MANIFEST: &str = "dataset.json";
/// Folder of the sample sets.
pub(crate) const SAMPLES: &str = "samples";
const FORMAT: &str = "sccrossrec-data";
const VERSION: u64 = 1;
const DAMAGED: &str = "the data set is damaged; run `prepare` again, or restore the file";

/// A file of the data set besides shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub file: String,
    pub bytes: u64,
    pub xxh3: String,
}

/// A column of cells, without its codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ObsHead {
    pub name: String,
    pub categories: Vec<String>,
}

/// What defines a data set; its hash is the hash of this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub cells: usize,
    pub genes: usize,
    pub peaks: usize,
    pub chromosomes: Vec<String>,
    pub unknown: Option<u32>,
    pub cell_types: Vec<String>,
    pub obs: Vec<ObsHead>,
    pub gene_features: Vec<String>,
    pub dna_length: usize,
    /// `None` where the data have no RNA.
    pub rna_kind: Option<MatrixKind>,
    /// `None` where the data have no ATAC.
    pub atac_kind: Option<MatrixKind>,
    pub parts: Vec<Part>,
    pub shards: Vec<ShardEntry>,
}

/// The manifest as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub format: String,
    pub version: u64,
    pub content: Content,
    /// Where it came from; not part of the hash.
    pub origin: serde_json::Value,
    /// Hash of `content`.
    pub hash: String,
    /// Checksum of all of the above.
    pub checksum: String,
}

impl Manifest {
    pub(crate) fn new(content: Content, origin: serde_json::Value) -> Result<Self> {
        let hash = content_hash(&to_json(&content)?);
        let mut m =
            Manifest { format: FORMAT.into(), version: VERSION, content, origin, hash, checksum: String::new() };
        m.checksum = m.sum()?;
        Ok(m)
    }

    fn sum(&self) -> Result<String> {
        let bare = Manifest { checksum: String::new(), ..self.clone() };
        Ok(format!("{:016x}", checksum(&to_json(&bare)?)))
    }

    /// The manifest as it is stored; any other bytes are not it.
    fn bytes(&self) -> Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self).map_err(|e| Error::Internal(e.to_string()))?;
        text.push(b'\n');
        Ok(text)
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        write_whole(&dir.join(MANIFEST), &[&self.bytes()?])
    }

    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.is_dir() => {
                return Err(Error::input(
                    dir,
                    format!("no `{MANIFEST}` in it, so it is no prepared data set"),
                    "give the folder that `sccrossrec prepare --out` made",
                ));
            }
            Err(e) => return Err(Error::io(if dir.is_dir() { &path } else { dir }, "read", e)),
        };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::input(&path, format!("not JSON: {e}"), DAMAGED))?;
        if value["format"] != FORMAT {
            return Err(Error::input(&path, "not the manifest of a prepared data set", DAMAGED));
        }
        if value["version"] != VERSION {
            return Err(Error::input(
                &path,
                format!("version {} of the data set format; this program reads version {VERSION}", value["version"]),
                "prepare the data again, or use the program that made it",
            ));
        }
        let manifest: Manifest =
            serde_json::from_value(value).map_err(|e| Error::input(&path, format!("wrong manifest: {e}"), DAMAGED))?;
        let hash = content_hash(&to_json(&manifest.content)?);
        if manifest.sum()? != manifest.checksum || hash != manifest.hash || manifest.bytes()? != bytes {
            return Err(Error::input(&path, "its checksum does not match", DAMAGED));
        }
        Ok(manifest)
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::Internal(e.to_string()))
}

/// Reads a part and compares it with the manifest.
fn read_part(dir: &Path, manifest: &Manifest, file: &str) -> Result<Vec<u8>> {
    let path = dir.join(file);
    let part = manifest.content.parts.iter().find(|p| p.file == file);
    let part = part.ok_or_else(|| Error::input(dir.join(MANIFEST), format!("`{file}` is not listed"), DAMAGED))?;
    let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, "read", e))?;
    if bytes.len() as u64 != part.bytes {
        return Err(Error::input(&path, format!("{} bytes long instead of {}", bytes.len(), part.bytes), DAMAGED));
    }
    if format!("{:016x}", checksum(&bytes)) != part.xxh3 {
        return Err(Error::input(&path, "its checksum does not match", DAMAGED));
    }
    Ok(bytes)
}

/// Writes a part; the entry goes into the manifest.
pub(crate) fn write_part(dir: &Path, file: &str, bytes: &[u8]) -> Result<Part> {
    write_whole(&dir.join(file), &[bytes])?;
    Ok(Part { file: file.into(), bytes: bytes.len() as u64, xxh3: format!("{:016x}", checksum(bytes)) })
}

/// Rows of a table as text: tabs, line ends and backslashes of the fields are escaped.
pub(crate) fn to_tsv<'a>(header: &[&str], rows: impl Iterator<Item = Vec<Cow<'a, str>>>) -> String {
    let mut out = header.join("\t");
    out.push('\n');
    for row in rows {
        for (i, field) in row.iter().enumerate() {
            if i > 0 {
                out.push('\t');
            }
            for c in field.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '\t' => out.push_str("\\t"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    c => out.push(c),
                }
            }
        }
        out.push('\n');
    }
    out
}

fn from_tsv(path: &Path, bytes: &[u8], header: &[&str], rows: usize) -> Result<Vec<Vec<String>>> {
    let bad = |found: String| Error::input(path, found, DAMAGED);
    let text = std::str::from_utf8(bytes).map_err(|_| bad("not text".into()))?;
    let mut lines = text.lines();
    if lines.next() != Some(header.join("\t").as_str()) {
        return Err(bad(format!("its header is not {}", header.join(" "))));
    }
    let table: Vec<Vec<String>> = lines.map(|line| line.split('\t').map(unescape).collect()).collect();
    if table.len() != rows || table.iter().any(|r: &Vec<String>| r.len() != header.len()) {
        return Err(bad(format!("it should have {rows} rows of {} fields", header.len())));
    }
    Ok(table)
}

fn unescape(field: &str) -> String {
    if !field.contains('\\') {
        return field.to_string();
    }
    let mut out = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(c) => out.push(c),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
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

impl DataSet {
    /// Opens a folder and checks versions, lengths, every checksum, row pointers and, by decoding them in parallel, all
    /// rows: what is read later is what was written, and cannot lead outside.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, Io::default())
    }

    /// As [`DataSet::open`], with the shards read as `io` says.
    pub fn open_with(dir: &Path, io: Io) -> Result<Self> {
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
        let sizes = Sizes { genes: c.genes as u64, peaks: c.peaks as u64, fingerprint: fingerprint(&c.parts) };
        let orders = Arc::new([&features.gene_chrom, &features.peak_chrom].map(|chrom| codec::order(chrom)));
        let mut shards = Vec::with_capacity(c.shards.len());
        let mut next = 0;
        for (i, entry) in c.shards.iter().enumerate() {
            if entry.first != next || entry.cells == 0 || entry.file.contains("..") || entry.file.starts_with('/') {
                return Err(bad(MANIFEST, format!("shard {i} does not follow the one before")));
            }
            shards.push(Shard::open(dir, entry, i, sizes, &orders, io)?);
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
        Ok(DataSet { dir: dir.to_path_buf(), manifest, vocabulary, features: Arc::new(features), shards })
    }

    /// Compares every byte of the shards with its checksum once more, and every sample set with its own.
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

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of everything.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// N.
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
    pub fn sample_sets(&self) -> Result<Vec<String>> {
        let dir = self.dir.join(SAMPLES);
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
    pub fn samples(&self, name: &str) -> Result<SampleSet> {
        samples::read(self, name)
    }

    /// Stores a sample set under `samples/NAME`; one that exists is replaced only with `force`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::simulate::{SimulateConfig, Simulation};
    use crate::graph::{Hooks, PrepareConfig, prepare};

    #[test]
    fn sizes_of_a_manifest_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let config =
            SimulateConfig { cells: 12, genes: 4, peaks: 8, chromosomes: 2, cell_types: 2, ..Default::default() };
        let made = Simulation::new(config).unwrap().write(dir.path(), &|_| {}).unwrap();
        let mut config = PrepareConfig::new(&made.rna, &made.atac);
        config.samples.negative_ratio = 0.0;
        let at = dir.path().join("data");
        prepare(&config, &at, Hooks::default()).unwrap();
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
