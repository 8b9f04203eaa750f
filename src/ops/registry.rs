//! The registry: every kernel the engine launches, and every variant that comes with the program.
//!
//! An *op* has entry points, which it declares beside its code; [`entries`] lists them. A *variant* is a source file that
//! defines some of them; the files that ops declare are the built-in ones. A user's file replaces the entry points it
//! defines and leaves the others: [`apply`]. Parity tests, benches and `kernels list` go through this list, so that no
//! kernel can be there untested or unmeasured.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::device::gpu::{Gpu, Kernels, Module};
use crate::device::image::{embedded_image, embedded_module, image};
use crate::device::kernels;
use crate::device::kernels::Embedded;
use crate::device::op::{Entry, Op};
use crate::error::{Error, Result};

/// The names of the ops.
pub fn names() -> Vec<&'static str> {
    super::ALL.iter().map(|op| op.name).collect()
}

/// Every entry point, op by op.
pub fn entries() -> Vec<Entry> {
    super::ALL.iter().flat_map(|op| op.entries()).collect()
}

/// The names of an op's entry points.
fn names_of(op: &str) -> Vec<String> {
    super::find(op).into_iter().flat_map(|op| op.entries()).flat_map(|e| e.names()).collect()
}

/// The op whose built-in kernels are in this file.
fn owner(file: &str) -> Option<&'static Op> {
    super::ALL.iter().copied().find(|op| op.sources.iter().any(|s| s.file == file))
}

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
        if let Some(op) = owner(file.name) {
            all.push(Variant { op: op.name, name: "built-in", file, built_in: true });
        }
    }
    for file in kernels::embedded() {
        if owner(file.name).is_some() {
            continue;
        }
        let rest = |op: &str| file.name.strip_prefix(op)?.strip_prefix('_');
        if let Some((op, name)) = super::ALL.iter().find_map(|op| Some((op.name, rest(op.name)?))) {
            all.push(Variant { op, name, file, built_in: false });
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
        if super::find(op).is_none() {
            return Err(format!("{op:?} is no op; there are {}", names().join(", ")));
        }
        if source.is_empty() {
            return Err(format!("{s:?} names no file"));
        }
        Ok(Replacement { op: op.to_string(), source: source.into() })
    }
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
        kernels.insert(crate::device::cust::CustKernel::load(gpu.context(), &image, name)?.into());
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
pub fn defined(variant: &Variant) -> Vec<(Entry, String)> {
    let own = |e: &Entry| !variant.built_in || e.file == variant.file.name;
    let of = super::find(variant.op).into_iter().flat_map(|op| op.entries()).filter(own);
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
    let built_in: Vec<&Embedded> = kernels::embedded().iter().filter(|file| owner(file.name).is_some()).collect();
    // What has to be compiled is compiled side by side.
    let images: Vec<Result<Cow<'static, [u8]>>> = built_in.par_iter().map(|file| embedded_image(gpu, file)).collect();
    for (file, image) in built_in.into_iter().zip(images) {
        let module = gpu.module(&format!("{}.cu", file.name), &image?)?;
        for name in entries().iter().filter(|e| e.file == file.name).flat_map(Entry::names) {
            let kernel = module.kernel(&name)?;
            out.insert(kernel.ok_or_else(|| Error::Internal(format!("{}.cu has no kernel `{name}`", file.name)))?);
        }
    }
    Ok(out)
}

/// Puts the entry points of `op` that a module defines into `kernels`; returns their names.
fn replace(kernels: &mut Kernels, module: &Module, op: &str, source: &Path) -> Result<Vec<String>> {
    let names = names_of(op);
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
