//! The registry: every kernel the engine launches, and every variant that comes with the program.
//!
//! An *op* has entry points, named in `kernels/common/abi.h`. A *variant* is a source file that defines some of them; the
//! file of the op's own name is the built-in one. A user's file replaces the entry points it defines and leaves the
//! others: [`apply`]. Parity tests, benches and `kernels list` go through [`ENTRIES`], so that no kernel can be there
//! untested or unmeasured.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::gpu::{Gpu, Kernels, Module};
use super::host::HostCompiler;
use super::kernels::{Embedded, Toolkit};
use super::{host, kernels};
use crate::error::{Error, Result};

/// Do two runs give the same bits?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Determinism {
    /// Yes: every output has one owner and sums run in a fixed order.
    RunToRun,
    /// Not promised: a file of a user's.
    NotGuaranteed,
}

/// An entry point that the engine launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The op it belongs to.
    pub op: &'static str,
    /// The source file it is built in from, without `.cu`.
    pub file: &'static str,
    /// Its name without the precision.
    pub stem: &'static str,
    /// Does it come as `_f32` and `_bf16`? Else its name is the stem.
    pub precise: bool,
}

impl Entry {
    /// The names of its symbols.
    pub fn names(&self) -> Vec<String> {
        match self.precise {
            true => ["_f32", "_bf16"].iter().map(|p| format!("{}{p}", self.stem)).collect(),
            false => vec![self.stem.to_string()],
        }
    }
}

macro_rules! entries {
    ($($op:literal $file:literal: [$($precise:literal),*] [$($plain:literal),*];)*) => {
        /// Every entry point, op by op.
        pub const ENTRIES: &[Entry] = &[$(
            $(Entry { op: $op, file: $file, stem: $precise, precise: true },)*
            $(Entry { op: $op, file: $file, stem: $plain, precise: false },)*
        )*];
    };
}

entries! {
    "project" "project":
        ["project_forward", "project_backward_embedding", "project_backward_weight"]
        ["project_backward_chromosome", "project_backward_reduce"];
    "attend" "attend":
        ["attend_forward"]
        ["attend_columns", "attend_backward_logits", "attend_backward_rows", "attend_backward_columns"];
    "pool" "pool": [] ["pool_forward", "pool_finish", "pool_backward_rows", "pool_backward_weights"];
    "translate" "translate":
        ["translate_effective", "translate_masks"]
        ["translate_count", "translate_count_exact", "translate_gradient", "translate_flags", "translate_active"];
    "translate" "translate_backward":
        ["translate_backward_keys", "translate_backward_genes"]
        ["translate_backward_genes_reduce", "translate_backward_columns"];
    "cis" "cis":
        []
        ["cis_place", "cis_open", "cis_values", "cis_scores", "cis_near", "cis_sums", "cis_whole", "cis_covariates",
         "cis_loss", "cis_size", "cis_total", "cis_covariates_backward", "cis_backward_edges", "cis_backward_sums",
         "cis_backward_rows", "cis_backward_genes"];
    "contrast" "contrast":
        [] ["contrast_logits", "contrast_lines", "contrast_total", "contrast_slopes", "contrast_backward"];
    "head" "head":
        []
        ["linear_forward", "linear_backward_x", "linear_backward_w", "head_gate", "cross_entropy", "loss_total",
         "reduce_parts"];
    "adam" "adam": [] ["adam_norm", "adam_guard", "adam_step"];
}

/// The ops, in the order of a step.
pub const OPS: [&str; 8] = ["project", "attend", "pool", "head", "contrast", "cis", "translate", "adam"];

/// A source file that comes with the program.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// The op.
    pub op: &'static str,
    /// Its name: `built-in`, or what follows the op's name and an underscore in the file's name.
    pub name: &'static str,
    /// The file.
    pub file: &'static Embedded,
    /// Is it what runs unless something else is asked for?
    pub built_in: bool,
}

/// All variants: the built-in files first, then alternatives (`attend_plain.cu` is variant `plain` of `attend`).
pub fn variants() -> Vec<Variant> {
    let mut all: Vec<Variant> = Vec::new();
    for file in kernels::embedded() {
        if let Some(e) = ENTRIES.iter().find(|e| e.file == file.name) {
            all.push(Variant { op: e.op, name: "built-in", file, built_in: true });
        }
    }
    for file in kernels::embedded() {
        if ENTRIES.iter().any(|e| e.file == file.name) {
            continue;
        }
        let named = |op: &&&'static str| file.name.strip_prefix(**op).is_some_and(|rest| rest.starts_with('_'));
        if let Some(op) = OPS.iter().find(named) {
            all.push(Variant { op, name: &file.name[op.len() + 1..], file, built_in: false });
        }
    }
    all
}

/// A replacement: `op=FILE`, or `op=NAME` of a variant that comes with the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The op.
    pub op: String,
    /// File (`.cu`, `.ptx`, `.cubin`, `.fatbin`; with `cust:` before it, loaded by that crate) or variant name.
    pub source: PathBuf,
}

/// Files that are loaded by the crate `cust` are named with this before them.
const BY_CUST: &str = "cust:";

impl Replacement {
    /// The file, and whether it is to be loaded by way of `cust`.
    pub fn file(&self) -> (&Path, bool) {
        match self.source.to_str().and_then(|s| s.strip_prefix(BY_CUST)) {
            Some(path) => (Path::new(path), true),
            None => (&self.source, false),
        }
    }
}

impl std::str::FromStr for Replacement {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let Some((op, source)) = s.split_once('=') else {
            return Err(format!("{s:?} is not of the form OP=FILE"));
        };
        if !OPS.contains(&op) {
            return Err(format!("{op:?} is no op; there are {}", OPS.join(", ")));
        }
        if source.is_empty() {
            return Err(format!("{s:?} names no file"));
        }
        Ok(Replacement { op: op.to_string(), source: source.into() })
    }
}

/// Where compiled things are kept between runs: `SCCROSSREC_CACHE`, else the user's cache folder, else a temporary one.
pub fn cache_dir() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("SCCROSSREC_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("sccrossrec")))
        .or_else(|| var("HOME").map(|d| d.join(".cache/sccrossrec")))
        .unwrap_or_else(|| std::env::temp_dir().join("sccrossrec-cache"))
}

/// The image of a kernel source for a device: compiled for the host where the device is the host's.
pub fn image(gpu: &Gpu, name: &str, source: &str) -> Result<Vec<u8>> {
    if gpu.is_host() {
        let compiler = HostCompiler::find()?.sanitize(std::env::var_os("SCCROSSREC_HOST_SANITIZE").is_some());
        let module = compiler.kernel(&cache_dir().join("host"), name, source, kernels::headers())?;
        return Ok(host::image(&module));
    }
    Toolkit::find()?.compile(name, source, &gpu.target())
}

/// The CUDA version that a driver must be of to take the kernels inside.
const BUILT_FOR: (i32, i32) = (13, 0);

/// The image of a file that comes with the program: as built, or compiled now where it was not built or the driver is older
/// than what it was built for.
fn embedded_image(gpu: &Gpu, file: &Embedded) -> Result<Cow<'static, [u8]>> {
    let driver = super::gpu::driver_version().unwrap_or(BUILT_FOR);
    match file.fatbin {
        Some(fatbin) if !gpu.is_host() && driver >= BUILT_FOR => Ok(Cow::Borrowed(fatbin)),
        built => image(gpu, &format!("{}.cu", file.name), file.source).map(Cow::Owned).map_err(|e| match e {
            Error::Usage(found) if built.is_some() => Error::usage(format!(
                "the kernels inside this program need a driver of CUDA {}.{} (580 or newer), this one is of {}.{}, and they \
                 cannot be compiled here either: {found}",
                BUILT_FOR.0, BUILT_FOR.1, driver.0, driver.1
            )),
            Error::Usage(found) => Error::usage(format!(
                "this program was built without CUDA kernels, and they cannot be compiled here either: {found}"
            )),
            e => e,
        }),
    }
}

/// The module of a file that comes with the program.
pub(crate) fn embedded_module(gpu: &Arc<Gpu>, file: &Embedded) -> Result<Module> {
    gpu.module(&format!("{}.cu", file.name), &embedded_image(gpu, file)?)
}

/// The image in a user's file, compiled where it is source.
fn user_image(gpu: &Gpu, path: &Path) -> Result<Vec<u8>> {
    let name = path.to_string_lossy();
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, "read", e))?;
    let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    match kind {
        "cu" => {
            let source = String::from_utf8(bytes)
                .map_err(|_| Error::input(path, "is not text in UTF-8", "give CUDA C++ source"))?;
            let own_header = |l: &str| l.trim_start().starts_with("#include") && !l.contains("common/");
            let named = ["SCX_KERNEL", "SCX_HOST_EXPORT"].iter().any(|m| source.contains(m));
            if !named && !source.lines().any(own_header) {
                let fix = "include \"common/abi.h\" and define one with SCX_KERNEL, as kernels/README.md shows";
                return Err(Error::input(path, "defines no kernel", fix));
            }
            image(gpu, &name, &source)
        }
        "ptx" | "cubin" | "fatbin" if gpu.is_host() => Err(Error::input(
            path,
            "is compiled for a GPU, and there is none here",
            "give the .cu source, which can be run on the CPU",
        )),
        "ptx" | "cubin" | "fatbin" => Ok(bytes),
        _ => Err(Error::input(path, "is no kernel file", "give a .cu, .ptx, .cubin or .fatbin file")),
    }
}

/// A user's file as a module.
///
/// # Errors
/// A file that cannot be read, does not compile, or is no image for this device.
fn user_module(gpu: &Arc<Gpu>, path: &Path) -> Result<Module> {
    gpu.module(&path.to_string_lossy(), &user_image(gpu, path)?).map_err(|e| match e {
        Error::Device { name, text, .. } => {
            Error::input(path, format!("the driver does not take it: {name} ({text})"), "compile it for this GPU")
        }
        e => e,
    })
}

/// Puts the entry points that a file defines into `kernels`, loaded and launched by way of `cust`.
#[cfg(feature = "cust")]
fn replace_by_cust(kernels: &mut Kernels, gpu: &Arc<Gpu>, op: &str, path: &Path) -> Result<Vec<String>> {
    // What it defines is asked of a module of our own, which goes again.
    let module = user_module(gpu, path)?;
    let found = replace(&mut Kernels::default(), &module, op, path)?;
    let mut image = user_image(gpu, path)?;
    image.push(0);
    for name in &found {
        kernels.insert(super::cust::CustKernel::load(gpu.context(), &image, name)?.into());
    }
    Ok(found)
}

#[cfg(not(feature = "cust"))]
fn replace_by_cust(_: &mut Kernels, _: &Arc<Gpu>, op: &str, path: &Path) -> Result<Vec<String>> {
    Err(Error::usage(format!(
        "{op}={BY_CUST}{}: this program was built without the cargo feature `cust`; leave {BY_CUST} away",
        path.display()
    )))
}

/// As [`apply`], for a run in `precision`.
///
/// # Errors
/// As well, a replacement whose entry points are all of the other precision: nothing of it would run.
pub fn apply_for(
    kernels: &mut Kernels,
    gpu: &Arc<Gpu>,
    r: &Replacement,
    precision: crate::model::Precision,
) -> Result<Vec<String>> {
    let names = apply(kernels, gpu, r)?;
    let other = if precision == crate::model::Precision::F32 { "_bf16" } else { "_f32" };
    if names.iter().all(|n| n.ends_with(other)) {
        return Err(Error::usage(format!(
            "{}={}: defines {} alone, of which nothing runs in --precision {}; choose the other precision",
            r.op,
            r.source.display(),
            names.join(", "),
            precision.name()
        )));
    }
    Ok(names)
}

/// Puts the entry points of a replacement into `kernels`; returns their names.
pub fn apply(kernels: &mut Kernels, gpu: &Arc<Gpu>, r: &Replacement) -> Result<Vec<String>> {
    match r.file() {
        (path, true) => replace_by_cust(kernels, gpu, &r.op, path),
        (path, false) => replace(kernels, &replacement_module(gpu, r)?, &r.op, path),
    }
}

/// The entry points that a variant defines.
pub fn defined(variant: &Variant) -> Vec<(&'static Entry, String)> {
    let of = ENTRIES.iter().filter(|e| e.op == variant.op && (!variant.built_in || e.file == variant.file.name));
    let names = of.flat_map(|e| e.names().into_iter().map(move |n| (e, n)));
    names.filter(|(_, n)| variant.built_in || variant.file.source.contains(&format!("SCX_KERNEL({n},"))).collect()
}

/// The module of a replacement.
fn replacement_module(gpu: &Arc<Gpu>, r: &Replacement) -> Result<Module> {
    let variant = variants().into_iter().find(|v| v.op == r.op && !v.built_in && Path::new(v.name) == r.source);
    match variant {
        Some(v) => embedded_module(gpu, v.file),
        None => user_module(gpu, &r.source),
    }
}

/// The built-in kernels for a device; [`apply`] puts replacements over them.
///
/// # Errors
/// No image for this device and no compiler to make one.
pub fn load(gpu: &Arc<Gpu>) -> Result<Kernels> {
    let mut out = Kernels::default();
    let built_in: Vec<&Embedded> =
        kernels::embedded().iter().filter(|file| ENTRIES.iter().any(|e| e.file == file.name)).collect();
    // What has to be compiled is compiled side by side.
    let images: Vec<Result<Cow<'static, [u8]>>> = built_in.par_iter().map(|file| embedded_image(gpu, file)).collect();
    for (file, image) in built_in.into_iter().zip(images) {
        let module = gpu.module(&format!("{}.cu", file.name), &image?)?;
        for name in ENTRIES.iter().filter(|e| e.file == file.name).flat_map(|e| e.names()) {
            let kernel = module.kernel(&name)?;
            out.insert(kernel.ok_or_else(|| Error::Internal(format!("{}.cu has no kernel `{name}`", file.name)))?);
        }
    }
    Ok(out)
}

/// Puts the entry points of `op` that a module defines into `kernels`; returns their names.
fn replace(kernels: &mut Kernels, module: &Module, op: &str, source: &Path) -> Result<Vec<String>> {
    let names: Vec<String> = ENTRIES.iter().filter(|e| e.op == op).flat_map(Entry::names).collect();
    let mut found = Vec::new();
    for name in &names {
        if let Some(kernel) = module.kernel(name)? {
            kernels.insert(kernel);
            found.push(name.clone());
        }
    }
    if found.is_empty() {
        return Err(Error::input(
            source,
            format!("defines no entry point of `{op}`"),
            format!("define one or more of {}", names.join(", ")),
        ));
    }
    Ok(found)
}
