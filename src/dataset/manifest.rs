//! `dataset.json` and the tables beside it: what a data set says of itself.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::shard::ShardEntry;
use crate::data::anndata::MatrixKind;
use crate::error::{Error, Result};
use crate::files::atomic::write_whole;
use crate::files::bytes::{checksum, content_hash};

/// Name of the manifest.
pub(crate) const MANIFEST: &str = "dataset.json";

const FORMAT: &str = "sccrossrec-data";
const VERSION: u64 = 1;
pub(crate) const DAMAGED: &str = "the data set is damaged; run `prepare` again, or restore the file";

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

    pub(crate) fn read(dir: &Path) -> Result<Self> {
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
pub(crate) fn read_part(dir: &Path, manifest: &Manifest, file: &str) -> Result<Vec<u8>> {
    let part = manifest.content.parts.iter().find(|p| p.file == file);
    checked(dir, part.ok_or_else(|| Error::input(dir.join(MANIFEST), format!("`{file}` is not listed"), DAMAGED))?)
}

/// Reads a file and compares it with what is told of it.
pub(crate) fn checked(dir: &Path, part: &Part) -> Result<Vec<u8>> {
    let path = dir.join(&part.file);
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

pub(crate) fn from_tsv(path: &Path, bytes: &[u8], header: &[&str], rows: usize) -> Result<Vec<Vec<String>>> {
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
