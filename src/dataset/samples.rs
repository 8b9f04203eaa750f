//! Sample sets: which RNA goes with which ATAC, and which part (training, validation, test) each pair belongs to.
//!
//! # The file `samples/NAME`
//! Little-endian. Header of 128 bytes:
//!
//! | offset | type | field |
//! | --- | --- | --- |
//! | 0 | 8 bytes | magic `SCXPAIRS` |
//! | 8 | u32 | version, 1 |
//! | 12 | u32 | header bytes, 128 |
//! | 16 | u64 | total length of the file |
//! | 24 | 4 × u64 | samples n; of these in training, validation, test |
//! | 56 | u64 | bytes of the recipe |
//! | 64 | 32 bytes | hash of the data set, hex |
//! | 96 | 16 bytes | zero |
//! | 112 | u64 | XXH3-64 of everything after the header |
//! | 120 | u64 | XXH3-64 of the 120 bytes before |
//!
//! Then RNA cell u32 × n, ATAC cell u32 × n, the numbers of the training, validation and test samples (u32 each),
//! label u8 × n, and the recipe as JSON. No sample is in two parts.
//!
//! # Version history
//! - 1: first version.
//!
//! See docs/model.md, section 3.3, section 3.4.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::atomic::{sweep, write_whole};
use crate::files::bytes::{Fields, checksum};
use crate::vocabulary::Vocabulary;

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
    /// Checks a set that was made by hand for data of the vocabulary `v` (those that
    /// [`DataSet::samples`](super::DataSet::samples) and [`draw_samples`](super::draw_samples) bring back are sound).
    ///
    /// # Errors
    /// [`Error::Usage`] where a sample names a cell that the data lack or has a label other than 0 and 1, or a part names
    /// a sample that the set lacks, or two parts share a cell where the recipe says that cells or batches were dealt out.
    pub fn check(&self, v: &Vocabulary) -> Result<()> {
        let (cells, n) = (v.cells.len(), self.samples.len());
        if let Some(i) = self.samples.iter().position(|s| s.rna as usize >= cells || s.atac as usize >= cells) {
            return Err(Error::usage(format!("pairs: pair {i} names a cell beyond the {cells} of the data")));
        }
        if let Some(i) = self.samples.iter().position(|s| s.label > 1) {
            return Err(Error::usage(format!("pairs: pair {i} has label {}, not 0 or 1", self.samples[i].label)));
        }
        if let Some(k) = self.train.iter().chain(&self.val).chain(&self.test).find(|&&k| k as usize >= n) {
            return Err(Error::usage(format!("pairs: a part names pair {k} of {n}")));
        }
        match self.leak(v) {
            Some(leak) => Err(Error::usage(format!("pairs: {leak}; draw them again"))),
            None => Ok(()),
        }
    }

    /// Of each of so many cells its part, in a word: `train`, `val`, `test`, or `none`. A cell that is in several, as where samples
    /// were dealt out, belongs to training first, then to validation.
    pub fn part_of_cells(&self, cells: usize) -> Vec<&'static str> {
        let mut of = vec!["none"; cells];
        for (part, numbers) in [("test", &self.test), ("val", &self.val), ("train", &self.train)] {
            for sample in numbers.iter().map(|&n| self.samples[n as usize]) {
                [sample.rna, sample.atac].into_iter().for_each(|c| of[c as usize] = part);
            }
        }
        of
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
                                "they are split by {split}, and cell {name} is in pair {first} of {other} and in pair {n} of \
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

/// Folder of the sample sets in that of the data set.
pub(crate) const FOLDER: &str = "samples";

const MAGIC: &[u8; 8] = b"SCXPAIRS";
const VERSION: u32 = 1;
const HEADER: usize = 128;

/// Cells without a label get this type; no negative is drawn from it, as nothing is known of what it equals.
pub const UNLABELLED: &str = "unlabelled";

/// Which negatives are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Negatives {
    /// Two cells of different types.
    Easy,
    /// Two different cells of one type.
    Hard,
    /// Half easy, half hard.
    Mixed,
}

/// What is dealt out to training, validation and test. As text: `cell`, `sample`, `batch:COLUMN`.
///
/// ```
/// use sccrossrec::SplitBy;
/// assert_eq!("batch:donor".parse(), Ok(SplitBy::Batch("donor".into())));
/// assert_eq!(SplitBy::Cell.to_string(), "cell");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SplitBy {
    /// Cells: no cell of a test sample is in any training sample; each part draws its own negatives.
    Cell,
    /// Samples, as published: the cell of a test negative may be seen in training.
    Sample,
    /// Whole batches, donors or sites, told by this column of `obs`: no batch has cells in two parts. Else as `Cell`.
    Batch(String),
}

/// How a split is called to people: what files call `sample` is a pair.
pub(crate) fn split_word(split: &str) -> &str {
    if split == "sample" { "pair" } else { split }
}

impl std::fmt::Display for SplitBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SplitBy::Cell => f.write_str("cell"),
            SplitBy::Sample => f.write_str("sample"),
            SplitBy::Batch(column) => write!(f, "batch:{column}"),
        }
    }
}

impl std::str::FromStr for SplitBy {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match s {
            "cell" => Ok(SplitBy::Cell),
            // Files say `sample`.
            "pair" | "sample" => Ok(SplitBy::Sample),
            _ => match s.strip_prefix("batch:") {
                Some(column) if !column.is_empty() => Ok(SplitBy::Batch(column.into())),
                _ => Err(format!("{s:?} is no way to split; there are cell, pair and batch:COLUMN")),
            },
        }
    }
}

impl TryFrom<String> for SplitBy {
    type Error = String;
    fn try_from(s: String) -> std::result::Result<Self, String> {
        s.parse()
    }
}

impl From<SplitBy> for String {
    fn from(split: SplitBy) -> String {
        split.to_string()
    }
}

/// How a sample set is drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleConfig {
    /// Which negatives.
    pub negatives: Negatives,
    /// Negatives a positive; 0 for none.
    pub negative_ratio: f64,
    /// What is dealt out.
    pub split: SplitBy,
    /// With [`SplitBy::Batch`]: batches that make up the validation part; chosen by the seed where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub val_batches: Vec<String>,
    /// With [`SplitBy::Batch`]: batches that make up the test part; chosen by the seed where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub test_batches: Vec<String>,
    /// Only cells of these types; all where empty.
    pub cell_types: Vec<String>,
    /// Positives only.
    pub discovery: bool,
    /// Seed.
    pub seed: u64,
}

impl Default for SampleConfig {
    fn default() -> Self {
        SampleConfig {
            negatives: Negatives::Easy,
            negative_ratio: 1.0,
            split: SplitBy::Cell,
            val_batches: Vec::new(),
            test_batches: Vec::new(),
            cell_types: Vec::new(),
            discovery: false,
            seed: 906,
        }
    }
}

/// Checks the name of a sample set: it becomes a file name.
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || name.len() > 100 || !name.chars().all(fine) {
        return Err(Error::usage(format!(
            "{name:?} cannot be the name of pairs; use letters, digits, `-`, `_` and `.`"
        )));
    }
    Ok(())
}

/// Stores a sample set in the folder of a data set.
pub(crate) fn save(dir: &Path, name: &str, set: &SampleSet, data_hash: &str, force: bool) -> Result<()> {
    check_name(name)?;
    let folder = dir.join(FOLDER);
    let path = folder.join(name);
    if path.exists() && !force {
        return Err(Error::input(
            &path,
            "pairs of this name exist",
            "choose another --name, or replace them with --force",
        ));
    }
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    sweep(&path)?;
    let recipe = serde_json::to_vec(&set.recipe).map_err(|e| Error::Internal(e.to_string()))?;
    let mut payload: Vec<u8> = Vec::new();
    payload.extend(set.samples.iter().flat_map(|s| s.rna.to_le_bytes()));
    payload.extend(set.samples.iter().flat_map(|s| s.atac.to_le_bytes()));
    for part in [&set.train, &set.val, &set.test] {
        payload.extend(part.iter().flat_map(|k| k.to_le_bytes()));
    }
    payload.extend(set.samples.iter().map(|s| s.label));
    payload.extend(&recipe);
    let mut header = Vec::with_capacity(HEADER);
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend((HEADER as u32).to_le_bytes());
    let counts = [HEADER + payload.len(), set.samples.len(), set.train.len(), set.val.len(), set.test.len()];
    for n in counts.into_iter().chain([recipe.len()]) {
        header.extend((n as u64).to_le_bytes());
    }
    header.extend(data_hash.as_bytes());
    if header.len() != 96 {
        return Err(Error::Internal(format!("the hash of the data set has {} characters", data_hash.len())));
    }
    header.resize(112, 0);
    header.extend(checksum(&payload).to_le_bytes());
    header.extend(checksum(&header).to_le_bytes());
    write_whole(&path, &[&header, &payload])
}

/// Reads a sample set of the data set at `dir`, which has this vocabulary and hash, and checks all of it; `None` where it is
/// not there.
pub(crate) fn read(dir: &Path, name: &str, v: &Vocabulary, data_hash: &str) -> Result<Option<SampleSet>> {
    check_name(name)?;
    let path = dir.join(FOLDER).join(name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(&path, "read", e)),
    };
    let bad = |found: &str| {
        Error::input(&path, found, "the pairs are damaged; draw them again with `sccrossrec pairs --force`")
    };
    let header = bytes.get(..HEADER).ok_or_else(|| bad("the file is shorter than its header"))?;
    let mut f = Fields(header);
    if f.take(8) != Some(MAGIC) {
        return Err(bad("not a file of pairs (its first bytes are not SCXPAIRS)"));
    }
    let short = || bad("the file is shorter than its header");
    let version = f.u32().ok_or_else(short)?;
    if version != VERSION {
        return Err(bad(&format!("version {version} of the format; this program reads version {VERSION}")));
    }
    if checksum(&header[..120]).to_le_bytes() != header[120..] || f.u32() != Some(HEADER as u32) {
        return Err(bad("the checksum of the header does not match"));
    }
    let mut count = || f.u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(short);
    let (total, n) = (count()?, count()?);
    let lengths = [count()?, count()?, count()?];
    let recipe = count()?;
    let hash = f.take(32).ok_or_else(short)?;
    let parts = lengths.iter().try_fold(0usize, |s, &l| s.checked_add(l));
    let expected = parts
        .and_then(|p| p.checked_mul(4))
        .zip(n.checked_mul(9))
        .and_then(|(p, s)| p.checked_add(s)?.checked_add(recipe)?.checked_add(HEADER));
    if total != bytes.len() || expected != Some(total) {
        return Err(bad("the counts in the header do not add up to the length of the file"));
    }
    let payload = &bytes[HEADER..];
    if checksum(payload).to_le_bytes() != header[112..120] {
        return Err(bad("the checksum does not match"));
    }
    if hash != data_hash.as_bytes() {
        return Err(Error::input(
            &path,
            "the pairs were drawn for other data",
            "draw them again with `sccrossrec pairs --force`",
        ));
    }
    let mut f = Fields(payload);
    let mut words = |n: usize| -> Result<Vec<u32>> {
        let bytes = f.take(n * 4).ok_or_else(short)?; // n × 4 is below the length of the file
        Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let (rna, atac) = (words(n)?, words(n)?);
    let [train, val, test] = [words(lengths[0])?, words(lengths[1])?, words(lengths[2])?];
    let labels = f.take(n).ok_or_else(short)?;
    let recipe = serde_json::from_slice(f.0).map_err(|_| bad("the recipe is not JSON"))?;
    let samples: Vec<Sample> =
        rna.iter().zip(&atac).zip(labels).map(|((&rna, &atac), &label)| Sample { rna, atac, label }).collect();
    let cells = v.cells.len();
    if samples.iter().any(|s| s.rna as usize >= cells || s.atac as usize >= cells || s.label > 1) {
        return Err(bad("a pair names a cell that is not there"));
    }
    let mut used = vec![false; n];
    for &k in train.iter().chain(&val).chain(&test) {
        match used.get_mut(k as usize) {
            Some(u) if !*u => *u = true,
            _ => return Err(bad("a part names a pair that is not there, or one twice")),
        }
    }
    let set = SampleSet { samples, train, val, test, recipe };
    match set.leak(v) {
        Some(leak) => Err(Error::input(&path, leak, "draw them again with `sccrossrec pairs --force`")),
        None => Ok(Some(set)),
    }
}

/// Hash of a sample set: of its samples and parts, in their order.
pub(crate) fn set_hash(set: &SampleSet) -> String {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    for s in &set.samples {
        h.update(&s.rna.to_le_bytes());
        h.update(&s.atac.to_le_bytes());
        h.update(&[s.label]);
    }
    for part in [&set.train, &set.val, &set.test] {
        h.update(&(part.len() as u64).to_le_bytes());
        part.iter().for_each(|n| h.update(&n.to_le_bytes()));
    }
    format!("{:016x}", h.digest())
}
