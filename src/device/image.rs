//! Images of kernel sources for a device: as built, or compiled now; where compiled things are kept.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use super::gpu::{Gpu, Module, driver_version};
use super::host::HostCompiler;
use super::kernels::{Embedded, Toolkit};
use super::{host, kernels};
use crate::error::{Error, Result};

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
pub(crate) fn embedded_image(gpu: &Gpu, file: &Embedded) -> Result<Cow<'static, [u8]>> {
    let driver = driver_version().unwrap_or(BUILT_FOR);
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
