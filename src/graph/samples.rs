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

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dataset::{DataSet, ObsColumn, SAMPLES, Sample, SampleSet, Vocabulary};
use super::files::{Fields, checksum, write_whole};
use crate::error::{Error, Result};
use crate::rng::Rng;
use crate::train::files::sweep;

const MAGIC: &[u8; 8] = b"SCXPAIRS";
const VERSION: u32 = 1;
const HEADER: usize = 128;
const STREAM: u64 = 0x5A00;

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
/// use sccrossrec::graph::SplitBy;
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
            "sample" => Ok(SplitBy::Sample),
            _ => match s.strip_prefix("batch:") {
                Some(column) if !column.is_empty() => Ok(SplitBy::Batch(column.into())),
                _ => Err(format!("{s:?} is no way to split; there are cell, sample and batch:COLUMN")),
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

/// Cells by type, to draw negatives from.
struct Pool {
    /// Cells, those of a type side by side.
    cells: Vec<u32>,
    /// Range of each type in `cells`; unlabelled cells are not among them.
    types: Vec<std::ops::Range<usize>>,
}

impl Pool {
    fn new(cells: &[u32], v: &Vocabulary) -> Self {
        let mut pool = Pool { cells: Vec::with_capacity(cells.len()), types: Vec::new() };
        for (t, name) in v.cell_types.iter().enumerate() {
            let from = pool.cells.len();
            if name != UNLABELLED {
                pool.cells.extend(cells.iter().filter(|&&c| v.cell_type.get(c as usize) == Some(&(t as u32))));
            }
            if pool.cells.len() > from {
                pool.types.push(from..pool.cells.len());
            }
        }
        pool
    }

    /// Pairs (of either order) of cells of different types.
    fn easy_pairs(&self) -> u128 {
        let n = self.cells.len() as u128;
        self.types.iter().map(|t| t.len() as u128 * (n - t.len() as u128)).sum()
    }

    fn hard_pairs(&self) -> u128 {
        self.types.iter().map(|t| t.len() as u128 * (t.len() as u128 - 1)).sum()
    }

    /// Two cells at random given that their types differ.
    fn easy(&self, rng: &mut Rng) -> (u32, u32) {
        let n = self.cells.len();
        // The type of the first cell has probability n_t (n - n_t) / pairs; then both are uniform.
        let mut at = (u128::from(rng.next_u64()) * self.easy_pairs()) >> 64;
        let mut chosen = 0;
        for (i, t) in self.types.iter().enumerate() {
            let weight = t.len() as u128 * (n - t.len()) as u128;
            if at < weight {
                chosen = i;
                break;
            }
            at -= weight;
        }
        let t = &self.types[chosen];
        let m = self.cells[t.start + rng.below(t.len())];
        let mut other = rng.below(n - t.len());
        if other >= t.start {
            other += t.len();
        }
        (m, self.cells[other])
    }

    /// Two different cells of type number `t`.
    fn hard(&self, t: usize, rng: &mut Rng) -> (u32, u32) {
        let t = &self.types[t];
        let first = rng.below(t.len());
        let mut second = rng.below(t.len() - 1);
        if second >= first {
            second += 1;
        }
        (self.cells[t.start + first], self.cells[t.start + second])
    }

    /// `n` shared out over the types of two and more cells in proportion to their size (largest remainders).
    fn shares(&self, n: usize) -> Vec<usize> {
        let size = |t: &std::ops::Range<usize>| if t.len() > 1 { t.len() as u128 } else { 0 };
        let total: u128 = self.types.iter().map(size).sum();
        if total == 0 {
            return vec![0; self.types.len()];
        }
        let mut shares: Vec<usize> = self.types.iter().map(|t| (n as u128 * size(t) / total) as usize).collect();
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(n as u128 * size(&self.types[i]) % total), i));
        let left = n - shares.iter().sum::<usize>();
        for &i in order.iter().take(left) {
            shares[i] += 1;
        }
        shares
    }
}

/// Names out of lists that are parted by commas: `list` may hold names one by one or several in one text, and a name may
/// itself hold commas. The longest known name wins; what is unknown stays, piece by piece.
///
/// ```
/// use sccrossrec::graph::samples::names_of;
/// let known = ["B".to_string(), "T, naive".into(), "T".into()];
/// assert_eq!(names_of(&["T, naive,B".into()], &known), ["T, naive", "B"]);
/// assert_eq!(names_of(&["X,T".into()], &known), ["X", "T"]);
/// ```
pub fn names_of(list: &[String], known: &[String]) -> Vec<String> {
    let mut out = Vec::new();
    for text in list {
        let pieces: Vec<&str> = text.split(',').collect();
        let mut at = 0;
        while at < pieces.len() {
            let found = (at + 1..=pieces.len()).rev().find_map(|to| {
                let name = pieces[at..to].join(",");
                let name = known.iter().find(|k| **k == name || **k == name.trim())?;
                Some((name.clone(), to))
            });
            let (name, to) = found.unwrap_or_else(|| (pieces[at].to_string(), at + 1));
            out.push(name);
            at = to;
        }
    }
    out
}

/// Draws the negatives of one part: `n` of them. A pair that was drawn before is drawn again, up to 64 times, so that
/// pairs repeat only where hardly any other is left.
fn negatives(pool: &Pool, kind: Negatives, n: usize, part: &str, rng: &mut Rng) -> Result<Vec<Sample>> {
    let easy = match kind {
        Negatives::Easy => n,
        Negatives::Hard => 0,
        Negatives::Mixed => n.div_ceil(2),
    };
    if easy > 0 && pool.easy_pairs() == 0 {
        return Err(Error::usage(format!(
            "easy negatives need cells of at least two types, and {part} has {}; take more cell types, \
             --negatives hard, --negative-ratio 0 or --split sample",
            pool.types.len()
        )));
    }
    if n > easy && pool.hard_pairs() == 0 {
        return Err(Error::usage(format!(
            "hard negatives need two cells of one type, and {part} has no type with two; take more cells, \
             --negatives easy, --negative-ratio 0 or --split sample"
        )));
    }
    let mut seen = HashSet::with_capacity(n);
    let mut out = Vec::with_capacity(n);
    let mut add = |rng: &mut Rng, draw: &dyn Fn(&mut Rng) -> (u32, u32)| {
        let mut pair = draw(rng);
        for _ in 0..64 {
            if seen.insert(pair) {
                break;
            }
            pair = draw(rng);
        }
        seen.insert(pair);
        out.push(Sample { rna: pair.0, atac: pair.1, label: 0 });
    };
    for _ in 0..easy {
        add(rng, &|rng| pool.easy(rng));
    }
    for (t, share) in pool.shares(n - easy).into_iter().enumerate() {
        for _ in 0..share {
            add(rng, &|rng| pool.hard(t, rng));
        }
    }
    Ok(out)
}

/// Sizes of validation and test among `n`: a tenth each, at least one where there are three and more.
fn tenths(n: usize) -> usize {
    if n >= 3 { (n / 10).max(1) } else { 0 }
}

/// Cells of the training, validation and test part, whole batches each. Batches of more than a fifth of the cells, and
/// cells of no batch, go to training; of the others, in random order, as many as reach a tenth of the cells make the
/// test part, and again the validation part.
fn deal_batches(
    v: &Vocabulary,
    config: &SampleConfig,
    column: &str,
    cells: &[u32],
    rng: &mut Rng,
) -> Result<[Vec<u32>; 3]> {
    let Some(obs) = v.obs.iter().find(|c| c.name == column) else {
        let names: Vec<String> = v.obs.iter().map(|c| c.name.clone()).collect();
        return Err(Error::usage(format!(
            "--split batch:{column}: the data set keeps no column {column:?} of obs; it keeps {} (not those of fractions, \
             of more than 1000 texts or of more than 100 numbers)",
            crate::data::anndata::list(&names)
        )));
    };
    let batch_of = |c: u32| obs.codes.get(c as usize).copied().filter(|&b| b != ObsColumn::MISSING);
    let mut size = vec![0usize; obs.categories.len()];
    cells.iter().filter_map(|&c| batch_of(c)).for_each(|b| size[b as usize] += 1);
    let there = |b: usize| size[b] > 0;
    let name = |b: &usize| obs.categories[*b].clone();
    let all: Vec<usize> = (0..size.len()).filter(|&b| there(b)).collect();
    let find = |names: &[String], flag: &str| -> Result<Vec<usize>> {
        let known = |n: &String| {
            all.iter().copied().find(|b| obs.categories[*b] == *n).ok_or_else(|| {
                let names: Vec<String> = all.iter().map(name).collect();
                let there = crate::data::anndata::list(&names);
                Error::usage(format!("{flag}: there is no cell with {column} {n:?}; there are {there}"))
            })
        };
        names_of(names, &obs.categories).iter().map(known).collect()
    };
    let mut test = find(&config.test_batches, "--test-batches")?;
    let mut val = find(&config.val_batches, "--val-batches")?;
    if let Some(both) = test.iter().find(|b| val.contains(b)) {
        return Err(Error::usage(format!(
            "{column} {:?} cannot be in both --val-batches and --test-batches",
            name(both)
        )));
    }
    let mut order: Vec<usize> = all.iter().copied().filter(|&b| !test.contains(&b) && !val.contains(&b)).collect();
    rng.shuffle(&mut order);
    order.sort_by_key(|&b| size[b] * 5 > cells.len()); // stable: large ones last
    let mut order = std::collections::VecDeque::from(order);
    // Batches that must be left for the parts to come; the training part is one.
    let mut reserved = 1 + usize::from(test.is_empty()) + usize::from(val.is_empty());
    for part in [&mut test, &mut val] {
        if !part.is_empty() {
            continue;
        }
        reserved -= 1;
        let mut n = 0;
        while order.len() > reserved {
            let Some(&b) = order.front() else { break };
            if !part.is_empty() && (n >= cells.len() / 10 || size[b] * 5 > cells.len()) {
                break;
            }
            n += size[b];
            part.push(b);
            order.pop_front();
        }
    }
    if test.is_empty() || val.is_empty() || order.is_empty() {
        return Err(Error::usage(format!(
            "--split batch:{column} needs batches for training, validation and test, and there are {}: {}",
            all.len(),
            crate::data::anndata::list(&all.iter().map(name).collect::<Vec<_>>())
        )));
    }
    let mut parts: [Vec<u32>; 3] = Default::default();
    for &c in cells {
        let b = batch_of(c).map(|b| b as usize);
        let k = if b.is_some_and(|b| test.contains(&b)) {
            2
        } else if b.is_some_and(|b| val.contains(&b)) {
            1
        } else {
            0
        };
        parts[k].push(c);
    }
    parts.iter_mut().for_each(|p| rng.shuffle(p));
    Ok(parts)
}

/// Draws a sample set: positives one a cell, negatives by `config`, parts 80/10/10. The result is a function of the
/// vocabulary and the configuration alone.
pub fn draw_samples(v: &Vocabulary, config: &SampleConfig) -> Result<SampleSet> {
    if !(config.negative_ratio.is_finite() && (0.0..=1000.0).contains(&config.negative_ratio)) {
        return Err(Error::usage(format!(
            "--negative-ratio is {}; it must be a number from 0 to 1000",
            config.negative_ratio
        )));
    }
    let ratio = if config.discovery { 0.0 } else { config.negative_ratio };
    if ratio > 0.0 && v.cell_types.is_empty() {
        return Err(Error::usage(
            "negatives need cell types, and the data set has none; prepare it with --cell-type-column NAME, \
             or draw positives only with --discovery or --negative-ratio 0",
        ));
    }
    let only = names_of(&config.cell_types, &v.cell_types);
    for name in &only {
        if !v.cell_types.contains(name) {
            return Err(Error::usage(format!(
                "--cell-types: there is no cell type {name:?}; there are {}",
                crate::data::anndata::list(&v.cell_types)
            )));
        }
    }
    let wanted: Vec<bool> = v.cell_types.iter().map(|t| only.is_empty() || only.contains(t)).collect();
    let mut cells: Vec<u32> = (0..v.cells.len())
        .filter(|&i| v.cell_type.get(i).is_none_or(|&t| wanted.get(t as usize).copied().unwrap_or(false)))
        .map(|i| i as u32)
        .collect();
    if cells.is_empty() {
        return Err(Error::usage("no cell is left to make samples of"));
    }
    let mut rng = Rng::new(config.seed, STREAM);
    let n_negatives = |positives: usize| (ratio * positives as f64).round() as usize;
    let mut samples: Vec<Sample> = Vec::new();
    let mut parts: [Vec<u32>; 3] = Default::default();
    let named = !(config.val_batches.is_empty() && config.test_batches.is_empty());
    if named && !matches!(config.split, SplitBy::Batch(_)) {
        return Err(Error::usage("--val-batches and --test-batches need --split batch:COLUMN"));
    }
    match &config.split {
        by @ (SplitBy::Cell | SplitBy::Batch(_)) => {
            let dealt = match by {
                SplitBy::Batch(column) => deal_batches(v, config, column, &cells, &mut rng)?,
                _ => {
                    rng.shuffle(&mut cells);
                    let tenth = tenths(cells.len());
                    let (train, rest) = cells.split_at(cells.len() - 2 * tenth);
                    let (val, test) = rest.split_at(tenth);
                    [train.to_vec(), val.to_vec(), test.to_vec()]
                }
            };
            let names = ["the training part", "the validation part", "the test part"];
            for (k, (cells, name)) in dealt.iter().zip(names).enumerate() {
                let from = samples.len();
                samples.extend(cells.iter().map(|&c| Sample { rna: c, atac: c, label: 1 }));
                let n = n_negatives(cells.len());
                if n > 0 {
                    let mut sorted = cells.to_vec();
                    sorted.sort_unstable();
                    let mut rng = Rng::new(config.seed, STREAM + 1 + k as u64);
                    samples.extend(negatives(&Pool::new(&sorted, v), config.negatives, n, name, &mut rng)?);
                }
                parts[k] = (from as u32..samples.len() as u32).collect();
                rng.shuffle(&mut parts[k]);
            }
        }
        SplitBy::Sample => {
            samples.extend(cells.iter().map(|&c| Sample { rna: c, atac: c, label: 1 }));
            let n = n_negatives(cells.len());
            if n > 0 {
                let mut rng = Rng::new(config.seed, STREAM + 1);
                samples.extend(negatives(&Pool::new(&cells, v), config.negatives, n, "the data set", &mut rng)?);
            }
            let mut order: Vec<u32> = (0..samples.len() as u32).collect();
            rng.shuffle(&mut order);
            let tenth = tenths(order.len());
            let test = order.split_off(order.len() - tenth);
            let val = order.split_off(order.len() - tenth);
            parts = [order, val, test];
        }
    }
    if u32::try_from(samples.len()).is_err() {
        return Err(Error::usage(format!("{} samples; at most 2^32 - 1: lower --negative-ratio", samples.len())));
    }
    let mut recipe = json!(config);
    recipe["positives"] = json!(cells.len());
    if let SplitBy::Batch(column) = &config.split
        && let Some(obs) = v.obs.iter().find(|c| c.name == *column)
    {
        recipe["without_batch"] = json!(cells.iter().filter(|&&c| obs.value(c as usize).is_none()).count());
    }
    recipe["negatives_drawn"] = json!(samples.len() - cells.len());
    let [train, val, test] = parts;
    Ok(SampleSet { samples, train, val, test, recipe })
}

/// Checks the name of a sample set: it becomes a file name.
fn check_name(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || name.len() > 100 || !name.chars().all(fine) {
        return Err(Error::usage(format!(
            "{name:?} cannot be the name of a sample set; use letters, digits, `-`, `_` and `.`"
        )));
    }
    Ok(())
}

/// Stores a sample set in the folder of a data set.
pub(crate) fn save(dir: &Path, name: &str, set: &SampleSet, data_hash: &str, force: bool) -> Result<()> {
    check_name(name)?;
    let folder = dir.join(SAMPLES);
    let path = folder.join(name);
    if path.exists() && !force {
        return Err(Error::input(&path, "the sample set exists", "choose another --name, or replace it with --force"));
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

/// Reads a sample set and checks all of it.
pub(crate) fn read(data: &DataSet, name: &str) -> Result<SampleSet> {
    check_name(name)?;
    let path = data.dir().join(SAMPLES).join(name);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            data.need_both("a sample set, for training or evaluation,")?;
            return Err(Error::input(
                data.dir(),
                format!("no sample set {name:?}; there are {}", crate::data::anndata::list(&data.sample_sets()?)),
                "name one of these, or draw it with `sccrossrec samples`",
            ));
        }
        Err(e) => return Err(Error::io(&path, "read", e)),
    };
    let bad = |found: &str| {
        Error::input(&path, found, "the sample set is damaged; draw it again with `sccrossrec samples --force`")
    };
    let header = bytes.get(..HEADER).ok_or_else(|| bad("the file is shorter than its header"))?;
    let mut f = Fields(header);
    if f.take(8) != Some(MAGIC) {
        return Err(bad("not a sample set (its first bytes are not SCXPAIRS)"));
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
    if hash != data.hash().as_bytes() {
        return Err(Error::input(
            &path,
            "the sample set was drawn for other data",
            "draw it again with `sccrossrec samples --force`",
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
    let cells = data.n_cells();
    if samples.iter().any(|s| s.rna as usize >= cells || s.atac as usize >= cells || s.label > 1) {
        return Err(bad("a sample names a cell that is not there"));
    }
    let mut used = vec![false; n];
    for &k in train.iter().chain(&val).chain(&test) {
        match used.get_mut(k as usize) {
            Some(u) if !*u => *u = true,
            _ => return Err(bad("a part names a sample that is not there, or one twice")),
        }
    }
    let set = SampleSet { samples, train, val, test, recipe };
    match set.leak(data.vocabulary()) {
        Some(leak) => Err(Error::input(&path, leak, "draw it again with `sccrossrec samples --force`")),
        None => Ok(set),
    }
}
