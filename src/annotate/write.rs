//! The two annotated files and the sequences, written beside their names and put there whole.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::columns::Columns;
use super::report::Written;
use crate::data::anndata::{AnnDataWriter, Axis, Column, Frame, Streaming, edit_var};
use crate::data::region::Region;
use crate::data::source::Source;
use crate::error::{Error, Result};
use crate::files::atomic::{beside, sweep, sync_folder};
use crate::progress::Progress;

/// Bytes of a file copied between two looks whether to stop.
const COPIED: u64 = 256 << 20;

/// What an interrupted run has saved.
pub(crate) const NOTHING: &str = "nothing was written";

/// A folder in the making inside the output, which goes with all that was not moved out of it.
pub(crate) struct Stage {
    pub dir: PathBuf,
    /// Tells it from what a killed program has left.
    _lock: Option<File>,
}

impl Stage {
    pub(crate) fn new(out: &Path) -> Result<Self> {
        let target = out.join("annotate");
        sweep(&target)?;
        let dir = beside(&target, "tmp")?;
        std::fs::create_dir(&dir).map_err(|e| Error::io(out, "write to", e))?;
        let lock = File::open(&dir).ok().filter(|f| f.try_lock().is_ok());
        Ok(Stage { dir, _lock: lock })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Moves the file of that name to its place.
    pub(crate) fn keep(&self, to: &Path) -> Result<()> {
        let from = to.file_name().map(|n| self.dir.join(n));
        let from = from.ok_or_else(|| Error::Internal("an output has no name".into()))?;
        std::fs::rename(from, to).map_err(|e| Error::io(to, "replace", e))?;
        sync_folder(to)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A folder that cannot be removed cannot be helped here.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Writes `data` with these columns of `var` to `path`, which is called `shown` in messages.
pub(crate) fn write(
    data: &dyn Source,
    path: &Path,
    shown: &Path,
    columns: Columns,
    stage: &Stage,
    streaming: Streaming,
    progress: &dyn Progress,
) -> Result<Written> {
    let mut written = Written {
        path: shown.to_path_buf(),
        columns: columns.new.iter().map(|(name, _)| name.clone()).collect(),
        kept: columns.kept,
        copied: false,
    };
    if let Some(whole) = data.whole_anndata()
        && !whole.is_table(Axis::Var)?
    {
        copy(whole.path(), path, shown, progress)?;
        edit_var(path, shown, &columns.new)?;
        File::open(path).and_then(|f| f.sync_all()).map_err(|e| Error::io(shown, "write", e))?;
        written.copied = true;
    } else {
        anew(data, path, columns.new, stage, streaming, progress)?;
    }
    Ok(written)
}

/// Copies the content of a file, not its permissions: the copy must be writable.
fn copy(from: &Path, to: &Path, shown: &Path, progress: &dyn Progress) -> Result<()> {
    let mut input = File::open(from).map_err(|e| Error::io(from, "read", e))?;
    let mut output = File::create(to).map_err(|e| Error::io(shown, "create", e))?;
    loop {
        progress.check(NOTHING)?;
        let copied = std::io::copy(&mut Read::by_ref(&mut input).take(COPIED), &mut output);
        if copied.map_err(|e| Error::io(shown, "write", e))? == 0 {
            return Ok(());
        }
    }
}

/// Writes what a source tells: names, columns, the matrix and the layers.
fn anew(
    data: &dyn Source,
    path: &Path,
    new: Vec<(String, Column)>,
    stage: &Stage,
    streaming: Streaming,
    progress: &dyn Progress,
) -> Result<()> {
    let mut frames = Vec::new();
    for axis in [Axis::Obs, Axis::Var] {
        let mut frame = Frame { index: data.names(axis)?, columns: Vec::new() };
        for name in data.columns(axis)? {
            if axis == Axis::Var && new.iter().any(|(n, _)| *n == name) {
                continue;
            }
            match data.column(axis, &name) {
                Ok(Some(column)) if !name.is_empty() && !name.contains('/') && name != "_index" => {
                    frame.columns.push((name, column));
                }
                Ok(_) => {}
                Err(Error::Input { found, .. }) => progress.note(&format!(
                    "warning: {}: column `{name}` of `{}` is left out: {found}",
                    data.path().display(),
                    axis.name()
                )),
                Err(e) => return Err(e),
            }
        }
        frames.push(frame);
    }
    let [obs, var] = &mut frames[..] else { return Err(Error::Internal("two frames".into())) };
    var.columns.extend(new);
    let mut writer = AnnDataWriter::create(path, obs, var)?;
    let layers = data.layers();
    for layer in std::iter::once(None).chain(layers.iter().map(|l| Some(l.as_str()))) {
        let matrix = data.matrix(layer, "--counts-layer")?.of_any_values();
        let at = layer.map_or("X".to_string(), |l| format!("layers/{l}"));
        let mut sink = writer.csr(&at, matrix.cols())?;
        let (total, mut done) = (matrix.rows() as u64, 0);
        progress.at("writing", 0, total);
        matrix.for_each_block(streaming, &stage.dir, &obs.index, &var.index, |block| {
            progress.check(NOTHING)?;
            sink.append(&block)?;
            done += block.rows() as u64;
            progress.at("writing", done, total);
            Ok(())
        })?;
        sink.finish()?;
    }
    writer.finish()?;
    progress.note(&format!(
        "{} ({}) is written anew as .h5ad: names, columns, the matrix and its layers (32-bit, CSR); nothing else",
        data.path().display(),
        data.form()
    ));
    Ok(())
}

/// One record a peak, in their order; `chrom:start-end` is the header, or the name where there is no place.
pub(crate) fn write_fasta(
    path: &Path,
    shown: &Path,
    names: &[String],
    regions: &[Option<Region>],
    bases: &[u8],
    length: usize,
) -> Result<()> {
    let file = File::create(path).map_err(|e| Error::io(shown, "create", e))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut all = || -> std::io::Result<()> {
        for ((name, region), bases) in names.iter().zip(regions).zip(bases.chunks(length)) {
            match region {
                Some(r) => writeln!(out, ">{}:{}-{}", r.chrom, r.start, r.end)?,
                None => writeln!(out, ">{}", name.replace(char::is_whitespace, "_"))?,
            }
            out.write_all(bases)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        out.get_ref().sync_all()
    };
    all().map_err(|e| Error::io(shown, "write", e))
}
