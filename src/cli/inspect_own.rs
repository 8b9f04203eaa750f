//! What `inspect` says of files and folders that the program writes inside of a data set, a run or a discovery, and of tables.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use crate::data::anndata::list;
use crate::data::table::Table;
use crate::error::{Error, Result};

/// The folders of the program: the file that tells each, and what it is called.
const HOMES: [(&str, &str); 3] = [("dataset.json", "data set"), ("run.json", "run"), ("discover.json", "discovery")];

/// What is in them, by the ways from their roots; of several the first that fits. A way that ends in `/` is a folder, one
/// that begins with `*` an ending.
const PARTS: [(&str, &str, &str); 23] = [
    ("data set", "dataset.json", "description"),
    ("data set", "features.bin", "numbers that describe genes and peaks, and the bases of peaks"),
    ("data set", "obs.bin", "columns of the cells"),
    ("data set", "shards/", "shards"),
    ("data set", "*.shard", "shard: cells with their genes and peaks"),
    ("data set", "samples/", "sets of pairs"),
    ("data set", "samples/*", "pairs: which RNA is shown with which ATAC"),
    ("run", "run.json", "settings, sizes and data"),
    ("run", "log.jsonl", "log of the attention model, a line an epoch"),
    ("run", "towers.jsonl", "log of the towers, a line an epoch"),
    ("run", "trace.json", "times of a profile, for chrome://tracing"),
    ("run", "checkpoints/", "checkpoints"),
    ("run", "genes.txt", "names of the genes"),
    ("run", "peaks.txt", "names of the peaks"),
    ("discovery", "discover.json", "settings, sizes and results"),
    ("discovery", "attention.h5", "attention of every cell (layout: docs/outputs.md)"),
    ("discovery", "attention/", "attention summed over the cells of a type, a table a type"),
    ("discovery", "links/", "links of a cell type, a table a type"),
    ("discovery", "exports/", "the same for other programs"),
    ("discovery", "*.sizes", "lengths of chromosomes, as told by genes and peaks"),
    ("discovery", "*.h5ad", "scores of genes and peaks for scanpy"),
    ("discovery", "*.parquet", "links for pandas and Arrow"),
    ("discovery", "*/", "results"),
];

/// A file or folder that the program writes inside of its folders, or a table as text; `None` where it is neither.
///
/// # Errors
/// A table that cannot be read; [`Error::Io`].
pub(super) fn inspect_own(path: &Path) -> Result<Option<Findings>> {
    let home = home(path);
    if let Some((root, kind, way)) = &home
        && let Some(what) = PARTS.iter().find(|p| p.0 == *kind && fits(p.1, way)).map(|p| p.2)
    {
        let mut r = Findings::new(&format!("{what}, of a {kind}"));
        r.add("of", root.display().to_string());
        if path.is_dir() {
            r.add("files", list(&names(path)?));
        } else if way.ends_with(".jsonl") {
            let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, "read", e))?;
            r.add("lines", text.lines().count());
        } else {
            r.add("bytes", std::fs::metadata(path).map_err(|e| Error::io(path, "read", e))?.len());
        }
        return Ok(Some(r));
    }
    let name = path.file_name().map_or(String::new(), |n| n.to_string_lossy().to_ascii_lowercase());
    if !path.is_file() {
        return Ok(None);
    }
    let bare = name.strip_suffix(".gz").unwrap_or(&name);
    if [".tsv", ".csv", ".txt", ".bed", ".bedpe", ".interact", ".longrange", ".bedgraph"]
        .iter()
        .any(|e| bare.ends_with(e))
    {
        let table = Table::read(path)?;
        let mut r = Findings::new("table");
        if let Some((root, kind, _)) = home {
            r.add("of", format!("the {kind} {}", root.display()));
        }
        r.add("parted by", table.separator.name());
        r.add("columns", list(&table.header));
        r.add("rows", table.rows.len());
        return Ok(Some(r));
    }
    let head = &mut [0u8; 64][..];
    let n = std::fs::File::open(path)
        .and_then(|mut f| std::io::Read::read(&mut f, head))
        .map_err(|e| Error::io(path, "read", e))?;
    let picture = match () {
        () if head[..n].starts_with(b"\x89PNG") => "picture (PNG)",
        () if head[..n].starts_with(b"<svg") => "picture (SVG)",
        () => return report(path),
    };
    Ok(Some(Findings::new(picture)))
}

/// A page of `report`.
fn report(path: &Path) -> Result<Option<Findings>> {
    if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("html")) {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let ours = memchr::memmem::find(&bytes, b"<p>sccrossrec ").is_some();
    Ok(ours.then(|| {
        let mut r = Findings::new("page of `report`: open it in a browser");
        r.add("bytes", bytes.len());
        r
    }))
}

/// The folder of the program that a path is inside of: its root, what it is, and the way from there.
fn home(path: &Path) -> Option<(PathBuf, &'static str, String)> {
    let full = std::fs::canonicalize(path).ok()?;
    full.ancestors().skip(1).take(3).find_map(|root| {
        let kind = HOMES.iter().find(|h| root.join(h.0).is_file())?.1;
        let way = full.strip_prefix(root).ok()?.to_string_lossy().into_owned();
        Some((root.to_path_buf(), kind, if full.is_dir() { way + "/" } else { way }))
    })
}

fn fits(part: &str, way: &str) -> bool {
    match part.split_once('*') {
        Some((before, after)) => way.starts_with(before) && way.ends_with(after) && way.len() > before.len(),
        None => part == way,
    }
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .map_err(|e| Error::io(dir, "read", e))?
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}
