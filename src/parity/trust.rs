//! Which replaced kernels have passed `kernels check`: one small file each, in the cache folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::check::check;
use super::report::{Cases, CheckReport};
use crate::device::gpu::Kernels;
use crate::device::image::cache_dir;
use crate::device::{Gpu, kernels};
use crate::error::{Error, Result};
use crate::model::Precision;
use crate::ops::registry::{Replacement, variants};
use crate::progress::Progress;

/// The bytes of a replacement: the file's and how it is launched, or the source of a variant that comes with the program.
pub fn bytes(r: &Replacement) -> Result<Vec<u8>> {
    let variant = variants().into_iter().find(|v| v.op == r.op && !v.built_in && Path::new(v.name) == r.source);
    match variant {
        Some(v) => Ok(v.file.source.as_bytes().to_vec()),
        None => {
            let (path, by_cust) = r.file();
            let mut bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
            bytes.push(u8::from(by_cust)); // launched by another way: another pass
            Ok(bytes)
        }
    }
}

/// Where the record of a pass lies. Its name depends on all that decides whether the kernels are right: their bytes, the
/// op, this program with its headers and kernels, the device and the precision.
pub fn record_path(gpu: &Gpu, op: &str, precision: Precision, bytes: &[u8]) -> PathBuf {
    let mut hash = Xxh3::new();
    let mut add = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    [bytes, op.as_bytes(), env!("CARGO_PKG_VERSION").as_bytes(), gpu.name().as_bytes()].into_iter().for_each(&mut add);
    add(precision.name().as_bytes());
    kernels::headers().iter().for_each(|(_, text)| add(text.as_bytes()));
    kernels::embedded().iter().for_each(|k| add(k.source.as_bytes()));
    cache_dir().join("passed").join(format!("{:032x}.json", hash.digest128()))
}

#[derive(Serialize)]
struct Record<'a> {
    program: &'a str,
    op: &'a str,
    source: &'a Path,
    #[serde(flatten)]
    report: &'a CheckReport,
}

/// Keeps that a replacement has passed. A cache that cannot be written to is no failure: it will be checked again.
pub fn remember(gpu: &Gpu, r: &Replacement, bytes: &[u8], report: &CheckReport) {
    let path = record_path(gpu, &r.op, report.precision, bytes);
    let record = Record { program: env!("CARGO_PKG_VERSION"), op: &r.op, source: &r.source, report };
    let Ok(text) = serde_json::to_string(&record) else { return };
    let made = path.with_extension(format!("new-{}", std::process::id()));
    let written = path.parent().is_some_and(|dir| std::fs::create_dir_all(dir).is_ok())
        && std::fs::write(&made, text).is_ok()
        && std::fs::rename(&made, &path).is_ok();
    if !written {
        let _ = std::fs::remove_file(&made);
    }
}

/// Has it passed before, with this program, on a device of this name?
pub fn has_passed(gpu: &Gpu, r: &Replacement, precision: Precision, bytes: &[u8]) -> bool {
    record_path(gpu, &r.op, precision, bytes).is_file()
}

/// Sees to it that all replacements have passed: those that have not are checked now, and told of.
///
/// # Errors
/// One that fails, with the first output that is wrong.
pub fn ensure(
    gpu: &Arc<Gpu>,
    kernels: &Kernels,
    replacements: &[Replacement],
    precision: Precision,
    progress: &dyn Progress,
) -> Result<()> {
    for r in replacements {
        let (bytes, source) = (bytes(r)?, r.source.display());
        let what = format!("--kernel {}={source}", r.op);
        if has_passed(gpu, r, precision, &bytes) {
            progress.note(&format!("{what}: has passed `kernels check` before"));
            continue;
        }
        progress.note(&format!("{what}: checked against the CPU, as there is no record of it yet"));
        let report = check(gpu, kernels, &r.op, precision, Cases::Quick, progress)?;
        if let Some(row) = report.first_failure() {
            return Err(Error::usage(format!(
                "{what} fails its check: {}; see all of it with `sccrossrec kernels check {source} --op {} --precision \
                 {}{}`",
                row.line(),
                r.op,
                precision.name(),
                if gpu.is_host() { " --on host" } else { "" }
            )));
        }
        let (error, allowed) = report.worst(&r.op);
        progress.note(&format!(
            "{what}: passed, largest error {error:.1e} where {allowed:.1e} is allowed{}",
            if report.deterministic { "" } else { "; two runs do not give the same bits" }
        ));
        remember(gpu, r, &bytes, &report);
    }
    Ok(())
}
