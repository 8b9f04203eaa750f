//! The kernels inside this program, and compilation of kernel sources at run time.
//!
//! The build script compiles each `.cu` below `kernels/` to a fatbin where it finds nvcc; the sources and their headers are
//! embedded in any case. [`compile`] makes an image of a changed source, or of any where there was no nvcc, with the nvcc
//! or the NVRTC of the machine the program runs on:
//! ```no_run
//! use sccrossrec::device::kernels;
//!
//! let adam = kernels::embedded().iter().find(|k| k.name == "adam").expect("a kernel of that name");
//! let mine = adam.source.replace("rsqrtf", "1.0f / sqrtf");
//! let image: Vec<u8> = kernels::compile("adam.cu", &mine, "sm_90a")?; // for cuModuleLoadData
//! # Ok::<(), sccrossrec::Error>(())
//! ```

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::nvrtc::Nvrtc;
use super::toolchain::{NVCC_FLAGS, Resource, first_error, nvcc_candidates};
use crate::error::{Error, Result};

/// A kernel source file of this program, as built.
#[derive(Debug)]
pub struct Embedded {
    /// The file's name without `.cu`.
    pub name: &'static str,
    /// Where it lies below the kernel folder: `examples/` has what does not run unless it is asked for.
    pub path: &'static str,
    /// Its text.
    pub source: &'static str,
    /// Machine code for each target of the build, and PTX; `None` where the program was built without nvcc.
    pub fatbin: Option<&'static [u8]>,
    /// What its kernels take of a multiprocessor, target by target; empty without `fatbin`.
    pub resources: &'static [Resource],
    /// Remarks of ptxas on performance.
    pub notes: &'static [&'static str],
}

/// The driver reads images in words.
#[allow(dead_code)] // as `resource`: in use where the build found nvcc
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

#[allow(dead_code)]
const fn resource(kernel: &'static str, target: &'static str, numbers: [u32; 5]) -> Resource {
    let [registers, shared, stack, spill_stores, spill_loads] = numbers;
    let (kernel, target) = (Cow::Borrowed(kernel), Cow::Borrowed(target));
    Resource { kernel, target, registers, shared, stack, spill_stores, spill_loads }
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// All kernel source files, by name.
pub fn embedded() -> &'static [Embedded] {
    EMBEDDED
}

/// The headers that kernel sources include: path below the kernel folder, text.
pub fn headers() -> &'static [(&'static str, &'static str)] {
    HEADERS
}

/// The version of the nvcc that compiled the kernels; `None` where the program was built without.
pub fn compiler() -> Option<&'static str> {
    COMPILER
}

/// What every kernel takes, as a table for reading.
pub fn resource_table() -> String {
    let mut text = match compiler() {
        Some(version) => format!("kernels compiled by nvcc {version}\n"),
        None => return "built without nvcc: no kernel is compiled\n".to_string(),
    };
    let width = EMBEDDED.iter().flat_map(|e| e.resources).map(|r| r.kernel.len()).max().unwrap_or(0).max(6);
    let file_width = EMBEDDED.iter().map(|e| e.name.len()).max().unwrap_or(0).max(4);
    let _ = writeln!(
        text,
        "{:<file_width$} {:<width$} {:<7} {:>9} {:>7} {:>6} {:>12} {:>11}",
        "file", "kernel", "target", "registers", "shared", "stack", "spill stores", "spill loads"
    );
    for file in EMBEDDED {
        for r in file.resources {
            let _ = writeln!(
                text,
                "{:<file_width$} {:<width$} {:<7} {:>9} {:>7} {:>6} {:>12} {:>11}",
                file.name, r.kernel, r.target, r.registers, r.shared, r.stack, r.spill_stores, r.spill_loads
            );
        }
        for note in file.notes {
            let _ = writeln!(text, "{:<file_width$} {note}", file.name);
        }
    }
    text
}

/// A compiler for kernel sources, found on this machine.
#[derive(Debug, Clone)]
pub enum Toolkit {
    /// The nvcc at this path. It needs a C++ compiler beside it.
    Nvcc(PathBuf),
    /// NVIDIA's run-time compiler, a library.
    Nvrtc(Nvrtc),
}

/// nvcc: what `NVCC` names, then below `CUDA_HOME` and `CUDA_PATH`, on the `PATH`, below `/usr/local/cuda`.
pub fn find_nvcc() -> Option<PathBuf> {
    candidates().into_iter().map(|(_, path)| path).find(|path| path.is_file())
}

/// NVRTC, where both the library and the CUDA headers are found.
pub fn find_nvrtc() -> Option<Nvrtc> {
    Nvrtc::find(find_nvcc().as_deref()).ok()
}

fn candidates() -> Vec<(String, PathBuf)> {
    nvcc_candidates(&|name| std::env::var_os(name))
}

impl Toolkit {
    /// nvcc where there is one, else NVRTC; else an error that says where they were looked for.
    pub fn find() -> Result<Toolkit> {
        if let Some(path) = find_nvcc() {
            return Ok(Toolkit::Nvcc(path));
        }
        Nvrtc::find(None).map(Toolkit::Nvrtc).map_err(|nvrtc| {
            let mut places: Vec<String> = candidates().into_iter().map(|(place, _)| place).collect();
            places.dedup();
            let places = if places.is_empty() { "nowhere, as NVCC is empty".to_string() } else { places.join(", ") };
            Error::usage(format!(
                "no compiler for CUDA kernels: nvcc not found (looked at {places}); NVRTC not usable ({nvrtc}); set \
                 NVCC to an nvcc of CUDA 12 or newer or CUDA_HOME to a CUDA toolkit, or put libnvrtc on \
                 LD_LIBRARY_PATH"
            ))
        })
    }

    /// An image of `source_text` for one architecture: `sm_90a` and the like give machine code, `compute_90` and the
    /// like PTX (with its closing NUL). `source_name` is what messages call it; headers beside it are found where it is
    /// the path of a file.
    pub fn compile(&self, source_name: &str, source_text: &str, arch: &str) -> Result<Vec<u8>> {
        let is_name = |digits: &str| digits.starts_with(|c: char| c.is_ascii_digit());
        let is_ptx = match arch.split_once('_') {
            Some(("sm", digits)) if is_name(digits) => false,
            Some(("compute", digits)) if is_name(digits) => true,
            _ => {
                return Err(Error::usage(format!("architecture {arch:?} is none; give one like sm_90a or compute_90")));
            }
        };
        let folder = Folder::with_headers()?;
        let name = Path::new(source_name);
        let file_name = name.file_name().and_then(|n| n.to_str()).unwrap_or("kernel.cu").to_string();
        let beside = name.parent().filter(|p| !p.as_os_str().is_empty()).and_then(|p| p.canonicalize().ok());
        let mut includes = vec![folder.0.clone()];
        includes.extend(beside);
        let failed = |log: String| {
            let log = log.replace(&format!("{}/", folder.0.display()), "");
            Error::Kernel { name: source_name.to_string(), found: first_error(&log).to_string(), log }
        };
        match self {
            Toolkit::Nvrtc(nvrtc) => nvrtc.compile(&file_name, source_text, arch, is_ptx, &includes).map_err(failed),
            Toolkit::Nvcc(nvcc) => {
                folder.write(&file_name, source_text)?;
                let mut command = Command::new(nvcc);
                command.current_dir(&folder.0).args(NVCC_FLAGS).arg(format!("-arch={arch}"));
                command.arg(if is_ptx { "-ptx" } else { "-cubin" }).args(["-o", "image"]);
                for include in &includes {
                    command.arg("-I").arg(include);
                }
                let output = command.arg(&file_name).output().map_err(|e| Error::io(nvcc, "run", e))?;
                if !output.status.success() {
                    let log = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
                    return Err(failed(log.into_owned()));
                }
                let image = folder.0.join("image");
                let mut bytes = std::fs::read(&image).map_err(|e| Error::io(&image, "read", e))?;
                if is_ptx {
                    bytes.push(0);
                }
                Ok(bytes)
            }
        }
    }
}

/// [`Toolkit::compile`] with the first toolkit found.
pub fn compile(source_name: &str, source_text: &str, arch: &str) -> Result<Vec<u8>> {
    Toolkit::find()?.compile(source_name, source_text, arch)
}

/// A folder of this process alone, gone with the value.
struct Folder(PathBuf);

impl Folder {
    /// The embedded headers in a new folder.
    fn with_headers() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("sccrossrec-kernels-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).map_err(|e| Error::io(&path, "create", e))?;
        let folder = Folder(path);
        for (path, text) in headers() {
            folder.write(path, text)?;
        }
        Ok(folder)
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create", e))?;
        }
        std::fs::write(&path, text).map_err(|e| Error::io(&path, "write", e))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_kernel() {
        let table = resource_table();
        for r in embedded().iter().flat_map(|e| e.resources) {
            assert!(table.contains(&*r.kernel), "{} is not in\n{table}", r.kernel);
        }
        assert!(table.contains(compiler().unwrap_or("without nvcc")));
    }

    #[test]
    fn architectures_are_checked() {
        let toolkit = Toolkit::Nvcc(PathBuf::from("/nonexistent/nvcc"));
        for arch in ["", "90", "sm_", "sm90", "gpu_90", "--help"] {
            assert!(matches!(toolkit.compile("a.cu", "", arch), Err(Error::Usage(m)) if m.contains("architecture")));
        }
        assert!(matches!(toolkit.compile("a.cu", "", "sm_90a"), Err(Error::Io { .. })));
    }
}
