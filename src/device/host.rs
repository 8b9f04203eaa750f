//! CUDA kernels without a GPU: the kernel sources compiled for the CPU, and a stand-in for the CUDA driver.
//!
//! [`install`] builds `kernels/host/driver.cpp` with the machine's C++ compiler and loads it as `libcuda.so`, after
//! which cudarc finds it as it would find a real driver. [`HostCompiler::kernel`] compiles a `.cu` text against
//! `kernels/host/cuda_host.h`; [`image`] makes of the result what `cuModuleLoadData` takes.
//!
//! Blocks, threads, shared memory, barriers, warp collectives, atomics, tensor-core fragments and asynchronous copies
//! behave as on a device; what CUDA leaves undefined fails the launch (`CUDA_ERROR_LAUNCH_FAILED`), with a message on
//! standard error and in [`last_failure`]. [`configure`] sets how threads are scheduled and which calls fail on
//! purpose.
//! ```no_run
//! use cudarc::driver::CudaContext;
//! use cudarc::nvrtc::Ptx;
//! use sccrossrec::device::host;
//! use sccrossrec::device::host::HostCompiler;
//!
//! let cache = std::env::temp_dir().join("sccrossrec-host");
//! host::install(&cache)?;
//! let source = std::fs::read_to_string("my_kernel.cu")?;
//! let module = HostCompiler::find()?.kernel(&cache, "my_kernel.cu", &source, &[])?;
//! let context = CudaContext::new(0)?;
//! let module = context.load_module(Ptx::from_binary(host::image(&module)))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![allow(unsafe_code)]

use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW, Symbol};
use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};

/// The headers every kernel may include, and those behind them.
const HEADERS: [(&str, &str); 4] = [
    ("common/cuda.h", include_str!("../../kernels/common/cuda.h")),
    ("common/tensor.h", include_str!("../../kernels/common/tensor.h")),
    ("host/cuda_host.h", include_str!("../../kernels/host/cuda_host.h")),
    ("host/launch.h", include_str!("../../kernels/host/launch.h")),
];

const DRIVER: &str = include_str!("../../kernels/host/driver.cpp");

/// A C++ compiler that makes host modules and the stand-in driver.
#[derive(Debug, Clone)]
pub struct HostCompiler {
    program: PathBuf,
    version: String,
    sanitize: bool,
}

impl HostCompiler {
    /// The compiler of the environment variable `CXX`; without it, the first of `g++`, `c++`, `clang++` that runs.
    pub fn find() -> Result<Self> {
        let asked = std::env::var_os("CXX").filter(|v| !v.is_empty());
        let candidates: Vec<PathBuf> = match &asked {
            Some(v) => vec![v.into()],
            None => ["g++", "c++", "clang++"].iter().map(PathBuf::from).collect(),
        };
        for program in candidates {
            let Ok(out) = Command::new(&program).arg("--version").output() else { continue };
            if out.status.success() {
                let version = String::from_utf8_lossy(&out.stdout).lines().next().unwrap_or_default().to_string();
                return Ok(HostCompiler { program, version, sanitize: false });
            }
        }
        Err(Error::usage(match asked {
            Some(v) => format!("CXX={} does not run; set CXX to a C++ compiler", v.to_string_lossy()),
            None => "kernels run on the host need a C++ compiler, and none of g++, c++, clang++ runs; install one or \
                     set CXX"
                .to_string(),
        }))
    }

    /// Whether kernels are compiled with AddressSanitizer, which names the line of an access out of bounds. The process
    /// must run with the sanitizer's library ([`HostCompiler::sanitizer`]) in `LD_PRELOAD` and
    /// `ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0`.
    #[must_use]
    pub fn sanitize(mut self, on: bool) -> Self {
        self.sanitize = on;
        self
    }

    /// How it was found, and what it says of itself.
    pub fn describe(&self) -> String {
        format!("{} ({})", self.program.display(), self.version)
    }

    /// AddressSanitizer's shared library; none where the compiler has none.
    pub fn sanitizer(&self) -> Option<PathBuf> {
        let name = match self.is_clang() {
            true => format!("libclang_rt.asan-{}.so", std::env::consts::ARCH),
            false => "libasan.so".to_string(),
        };
        let out = Command::new(&self.program).arg(format!("-print-file-name={name}")).output().ok()?;
        let path = PathBuf::from(String::from_utf8_lossy(&out.stdout).trim());
        // A compiler that does not know the file answers with its bare name.
        if path.is_absolute() { path.canonicalize().ok() } else { None }
    }

    /// Builds the stand-in driver in a folder of `dir`, unless it is there already; returns the path of `libcuda.so`,
    /// beside which lies `libcuda.so.1`.
    pub fn driver(&self, dir: &Path) -> Result<PathBuf> {
        let plain = HostCompiler { sanitize: false, ..self.clone() };
        let mut args = plain.flags();
        args.extend(["-Wl,-soname,libcuda.so", "-pthread", "-ldl"].map(String::from));
        let sources = [("driver.cpp", DRIVER), HEADERS[3]];
        let home = dir.join(format!("driver-{:016x}", self.key(&args, &sources)));
        let library = home.join("libcuda.so");
        if library.exists() {
            return Ok(library);
        }
        let work = WorkDir::new(dir)?;
        work.write("driver.cpp", DRIVER)?;
        work.write("launch.h", HEADERS[3].1)?;
        let made = work.0.join("out");
        std::fs::create_dir(&made).map_err(|e| Error::io(&made, "create", e))?;
        let built = made.join("libcuda.so");
        // Libraries come after the source that needs them.
        let (flags, libraries) = args.split_at(args.len() - 3);
        let mut command = Command::new(&self.program);
        command.args(flags).arg(work.0.join("driver.cpp")).arg("-o").arg(&built).args(libraries);
        self.run(command, Path::new("driver.cpp"), &dir.join("driver.log"))?;
        let link = made.join("libcuda.so.1");
        std::os::unix::fs::symlink("libcuda.so", &link).map_err(|e| Error::io(&link, "create", e))?;
        match std::fs::rename(&made, &home) {
            Err(e) if !library.exists() => Err(Error::io(&home, "rename", e)),
            _ => Ok(library), // here, or by another process meanwhile
        }
    }

    /// Compiles the text of a kernel file to a host module in `dir`, unless it is there already, and returns its path.
    /// `name` is what messages call the file. The text may include `common/cuda.h`, `common/tensor.h` and `includes`
    /// (path below the kernel folder, text).
    pub fn kernel(&self, dir: &Path, name: &str, source: &str, includes: &[(&str, &str)]) -> Result<PathBuf> {
        let args = self.flags();
        let mut sources = vec![(name, source)];
        sources.extend(HEADERS);
        sources.extend(includes);
        let stem: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let base = format!("{stem}-{:016x}", self.key(&args, &sources));
        let module = dir.join(format!("{base}.so"));
        if module.exists() {
            return Ok(module);
        }
        let work = WorkDir::new(dir)?;
        for (path, text) in &sources[1..] {
            work.write(path, text)?;
        }
        let shown = name.replace(['\\', '"', '\n'], "_");
        work.write("kernel.cpp", &format!("#line 1 \"{shown}\"\n{source}"))?;
        let built = work.0.join("kernel.so");
        let mut command = Command::new(&self.program);
        command.args(args).args(["-DSCX_HOST", "-Wno-unknown-pragmas", "-I"]).arg(&work.0);
        command.arg(work.0.join("kernel.cpp")).arg("-o").arg(&built);
        self.run(command, Path::new(name), &dir.join(format!("{base}.log")))?;
        std::fs::rename(&built, &module).map_err(|e| Error::io(&module, "rename", e))?;
        Ok(module)
    }

    fn is_clang(&self) -> bool {
        self.version.contains("clang")
    }

    fn flags(&self) -> Vec<String> {
        let mut flags = vec!["-std=c++17", "-O2", "-g1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wl,-Bsymbolic"];
        flags.extend(["-fno-math-errno", "-fno-trapping-math"]);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
        {
            flags.extend(["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt"]);
        }
        if !self.sanitize {
            flags.push("-fstack-clash-protection"); // no frame steps over the guard page of a fiber's stack
        } else {
            // A vector access that is not aligned faults on a device, and not on this CPU.
            flags.extend([
                "-fsanitize=address,alignment",
                "-fno-sanitize-recover=alignment",
                "-fno-omit-frame-pointer",
            ]);
            if self.is_clang() {
                flags.push("-shared-libasan");
            }
        }
        flags.into_iter().map(String::from).collect()
    }

    /// What a build depends on.
    fn key(&self, args: &[String], sources: &[(&str, &str)]) -> u64 {
        let mut hash = Xxh3::new();
        let mut add = |text: &str| {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        };
        add(&self.program.to_string_lossy());
        add(&self.version);
        args.iter().for_each(|a| add(a));
        for (name, text) in sources {
            add(name);
            add(text);
        }
        hash.digest()
    }

    /// Runs the compiler; where it fails, its whole output goes to `log`.
    fn run(&self, mut command: Command, name: &Path, log: &Path) -> Result<()> {
        let out = command.output().map_err(|e| Error::io(&self.program, "run", e))?;
        if out.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&out.stderr);
        std::fs::write(log, text.as_bytes()).map_err(|e| Error::io(log, "write", e))?;
        let first = text.lines().find(|l| l.contains("error:")).or(text.lines().next()).unwrap_or("no message");
        let first = first.strip_prefix(&format!("{}:", name.display())).unwrap_or(first);
        Err(Error::input(name, first, format!("mend it ({} has all that the compiler said)", log.display())))
    }
}

/// A folder of one build, removed with it. Builds of several processes do not meet.
struct WorkDir(PathBuf);

impl WorkDir {
    fn new(dir: &Path) -> Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(format!(".build-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&path).map_err(|e| Error::io(&path, "create", e))?;
        Ok(WorkDir(path))
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, "create", e))?;
        }
        std::fs::write(&path, text).map_err(|e| Error::io(&path, "write", e))
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The driver, once installed; never unloaded.
static INSTALLED: Mutex<Option<&'static Library>> = Mutex::new(None);

fn installed() -> Option<&'static Library> {
    *INSTALLED.lock().unwrap_or_else(|e| e.into_inner())
}

/// Builds the stand-in driver in `dir` (or finds it there) and loads it, so that cudarc finds it under the name
/// `libcuda.so`. To be called before the first use of cudarc; once is enough, and more does nothing.
pub fn install(dir: &Path) -> Result<()> {
    let mut slot = INSTALLED.lock().unwrap_or_else(|e| e.into_inner());
    if slot.is_some() {
        return Ok(());
    }
    let dir = std::path::absolute(dir).map_err(|e| Error::io(dir, "find", e))?;
    let path = HostCompiler::find()?.driver(&dir)?;
    // SAFETY: the library is the one compiled above from this crate's source; it runs no code when loaded but the
    // constructors of its global objects, and it is never unloaded.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }
        .map_err(|e| Error::input(&path, format!("cannot be loaded: {e}"), "remove it; it will be built again"))?;
    *slot = Some(Box::leak(Box::new(library)));
    Ok(())
}

/// The image of a host module, for `cuModuleLoadData` (cudarc's `Ptx::from_binary`).
pub fn image(path: &Path) -> Vec<u8> {
    [b"SCXHOST:", path.as_os_str().as_bytes(), b"\0"].concat()
}

/// What the stand-in driver has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels run, those of graphs included.
    pub launches: u64,
    /// Graphs launched.
    pub graph_launches: u64,
    /// Allocations of device memory.
    pub allocations: u64,
    /// Device memory freed.
    pub frees: u64,
    /// Allocations of pinned host memory.
    pub host_allocations: u64,
    /// Times the host waited for the device: synchronising calls, and copies from or to memory that is not pinned.
    pub synchronisations: u64,
    /// Bytes of device memory allocated now.
    pub bytes: u64,
    /// The most there were.
    pub peak_bytes: u64,
}

/// A function of the installed driver.
///
/// # Safety
/// `T` must be the type of the function of that name in `kernels/host/driver.cpp`.
unsafe fn function<T>(name: &str) -> Option<Symbol<T>> {
    // SAFETY: the caller's.
    unsafe { installed()?.get(name.as_bytes()) }.ok()
}

/// The counters of the installed driver; none where none is installed.
pub fn counters() -> Option<Counters> {
    let mut n = [0u64; 8];
    // SAFETY: the driver declares void scx_host_counters(uint64_t[8]) and writes eight numbers.
    unsafe { function::<unsafe extern "C" fn(*mut u64)>("scx_host_counters")?(n.as_mut_ptr()) };
    let [launches, graph_launches, allocations, frees, host_allocations, synchronisations, bytes, peak_bytes] = n;
    Some(Counters {
        launches,
        graph_launches,
        allocations,
        frees,
        host_allocations,
        synchronisations,
        bytes,
        peak_bytes,
    })
}

/// Sets one of the driver's settings from here on, before the environment variable of the same name; `None` goes back
/// to that. Returns whether a driver is installed.
///
/// | setting | meaning |
/// | --- | --- |
/// | `SCX_HOST_SEED` | the order in which threads and blocks run; 0, the default: in turn |
/// | `SCX_HOST_THREADS` | operating-system threads that run blocks; default: one a core |
/// | `SCX_HOST_MEMORY` | bytes of device memory; default: 8 GiB |
/// | `SCX_HOST_FAIL_ALLOC_ABOVE` | allocations of more bytes fail with `CUDA_ERROR_OUT_OF_MEMORY` |
/// | `SCX_HOST_FAIL_LAUNCH` | N: the N-th launch from here fails with `CUDA_ERROR_LAUNCH_FAILED` |
pub fn configure(name: &str, value: Option<&str>) -> bool {
    let (Ok(name), Ok(value)) = (CString::new(name), value.map(CString::new).transpose()) else { return false };
    // SAFETY: the driver declares void scx_host_configure(const char*, const char*), takes null for the second, and
    // copies both strings.
    unsafe {
        let Some(f) = function::<unsafe extern "C" fn(*const c_char, *const c_char)>("scx_host_configure") else {
            return false;
        };
        f(name.as_ptr(), value.as_ref().map_or(std::ptr::null(), |v| v.as_ptr()));
    }
    true
}

/// Why the last failed launch failed; none where none did.
pub fn last_failure() -> Option<String> {
    let mut text = vec![0u8; 8192];
    // SAFETY: the driver declares size_t scx_host_message(char*, size_t) and writes at most that many bytes.
    let length = unsafe {
        function::<unsafe extern "C" fn(*mut u8, usize) -> usize>("scx_host_message")?(text.as_mut_ptr(), text.len())
    };
    text.truncate(length.min(8191));
    (length > 0).then(|| String::from_utf8_lossy(&text).into_owned())
}
