//! NVIDIA's run-time compiler through cudarc, which loads it by name and panics without it: so it is looked for first,
//! and loaded from the folders of a toolkit where the loader's own path does not have it.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};

use cudarc::nvrtc::{result, sys};

/// NVRTC, loaded, and the folder of the CUDA headers.
#[derive(Debug, Clone)]
pub struct Nvrtc {
    /// Its version, as in `(13, 0)`.
    pub version: (i32, i32),
    /// Where `cuda_bf16.h` lies.
    pub include: PathBuf,
}

impl Nvrtc {
    /// Looks for the library and the headers; the error says what is missing and where it was looked for.
    pub(super) fn find(nvcc: Option<&Path>) -> Result<Nvrtc, String> {
        let roots = roots(nvcc);
        let library_folders: Vec<PathBuf> =
            loader_path().into_iter().chain(roots.iter().flat_map(|r| ["lib64", "lib"].map(|l| r.join(l)))).collect();
        load(&library_folders)?;
        let mut folders: Vec<PathBuf> = roots.iter().map(|root| root.join("include")).collect();
        folders.extend(loader_path().iter().filter_map(|lib| Some(lib.parent()?.join("include"))));
        folders.push(PathBuf::from("/usr/include"));
        let Some(include) = folders.iter().find(|folder| folder.join("cuda_bf16.h").is_file()) else {
            return Err(format!("libnvrtc is there, but cuda_bf16.h is not in {}", listed(&folders)));
        };
        Ok(Nvrtc { version: version()?, include: include.clone() })
    }

    /// Compiles to machine code, or to PTX with its closing NUL. The error is the compiler's log.
    pub(super) fn compile(
        &self,
        name: &str,
        text: &str,
        arch: &str,
        is_ptx: bool,
        includes: &[PathBuf],
    ) -> Result<Vec<u8>, String> {
        // Functions without a mark are the device's: sizes computed by a `constexpr` function need none for nvcc.
        let flags = ["--std=c++17", "--generate-line-info", "--device-as-default-execution-space"];
        let mut options = vec![format!("--gpu-architecture={arch}")];
        options.extend(flags.map(String::from));
        let include = [self.include.clone(), self.include.join("cccl")];
        options.extend(includes.iter().chain(&include).map(|path| format!("--include-path={}", path.display())));
        let nul = |_| format!("{name}: error: the source holds a NUL character");
        let (name, text) = (CString::new(name).map_err(nul)?, CString::new(text).map_err(nul)?);
        let program = Program(result::create_program(&text, Some(&name)).map_err(said)?);
        // SAFETY (here and below): `program` lives until the end of this function and was made by the same library.
        if let Err(error) = unsafe { result::compile_program(program.0, &options) } {
            // SAFETY: as above.
            let log = unsafe { result::get_program_log(program.0) }.map_err(said)?;
            let log = bytes(log);
            let log = CStr::from_bytes_until_nul(&log).map_or_else(|_| "".into(), CStr::to_string_lossy);
            return Err(if log.trim().is_empty() { said(error) } else { log.into_owned() });
        }
        if is_ptx {
            // SAFETY: as above.
            return unsafe { result::get_ptx(program.0) }.map(bytes).map_err(said);
        }
        let mut size = 0;
        // SAFETY: the size comes from the library, which then fills exactly as many bytes.
        unsafe {
            sys::nvrtcGetCUBINSize(program.0, &mut size).result().map_err(said)?;
            let mut image = vec![0u8; size];
            sys::nvrtcGetCUBIN(program.0, image.as_mut_ptr().cast()).result().map_err(said)?;
            Ok(image)
        }
    }
}

/// Destroyed with the value.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `create_program` and destroyed once.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

fn said(error: result::NvrtcError) -> String {
    format!("error: NVRTC says {:?}", error.0)
}

fn bytes(text: Vec<c_char>) -> Vec<u8> {
    text.into_iter().map(|c| c as u8).collect()
}

/// The folders a CUDA toolkit may have as its root.
fn roots(nvcc: Option<&Path>) -> Vec<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os);
    let mut roots: Vec<PathBuf> = named.filter(|root| !root.is_empty()).map(PathBuf::from).collect();
    // nvcc may be a link into the toolkit: <root>/bin/nvcc.
    let real = nvcc.and_then(|path| path.canonicalize().ok());
    roots.extend(real.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_path_buf));
    roots.push(PathBuf::from("/usr/local/cuda"));
    roots
}

fn loader_path() -> Vec<PathBuf> {
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    std::env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

fn listed(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn is_present() -> bool {
    // SAFETY: opens NVIDIA's library, whose initialisers have no conditions.
    unsafe { sys::is_culib_present() }
}

/// Makes the library loadable by name. A library that is loaded already is found by its name wherever it lies, and stays.
fn load(folders: &[PathBuf]) -> Result<(), String> {
    if is_present() {
        return Ok(());
    }
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut files: Vec<PathBuf> = entries.filter_map(|e| e.ok()).map(|e| e.path()).collect();
        files.sort();
        // NVRTC opens its built-ins by name, too, and does so only when it compiles.
        for stem in ["libnvrtc-builtins.so", "libnvrtc.so"] {
            let is_it = |path: &&PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(stem));
            for file in files.iter().filter(is_it) {
                // SAFETY: as in `is_present`.
                if let Ok(library) = unsafe { libloading::Library::new(file) } {
                    std::mem::forget(library);
                }
            }
        }
        if is_present() {
            return Ok(());
        }
    }
    Err(format!("libnvrtc is neither on the loader's path nor in {}", listed(folders)))
}

fn version() -> Result<(i32, i32), String> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library is loaded, and writes two integers.
    unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result().map_err(said)?;
    Ok((major, minor))
}
