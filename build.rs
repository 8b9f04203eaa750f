//! Compiles each `.cu` of `kernels/` and `kernels/examples/` to one fatbin (machine code for three architectures, PTX for
//! what comes after them) and writes the table `kernels.rs`, which `src/device/kernels.rs` includes. Before that it writes
//! `abi.rs`, the structs that kernels take, for `src/device/abi.rs`: see `src/device/header.rs`.
//!
//! Without nvcc the table has the sources but no fatbins, and the build succeeds. A source is compiled again only where
//! its text, a header it includes, the flags or nvcc changed: each fatbin lies beside the hash of all that made it.
//! Environment: `NVCC`, `CUDA_HOME`, `CUDA_PATH`, then `PATH`; `NVCC=` (set to nothing) builds without.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process, thread};

#[path = "src/device/header.rs"]
mod header;
#[allow(dead_code)]
#[path = "src/device/toolchain.rs"]
mod toolchain;

use toolchain::{NVCC_FLAGS, TARGETS, include_closure, nvcc_candidates, parse_ptxas};

/// Raised where the meaning of a cached file changes.
const CACHE_VERSION: u32 = 1;

/// A warning fails the build; a spill is no warning but a number in the table. Compressed, a fatbin with line numbers is a
/// quarter of its size.
const BUILD_FLAGS: [&str; 7] = ["-Werror", "all-warnings", "-Xptxas", "-v", "-I", "kernels", "-Xfatbin=-compress-all"];

/// The C++ side of the launch ABI, in `OUT_DIR`; every kernel is compiled with it.
const ABI_CHECK: &str = "abi_check.h";

/// Folders of kernel sources, below `kernels/`.
const SOURCES: [&str; 2] = ["", "examples/"];

fn main() {
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    for path in ["build.rs", "src/device/header.rs", "src/device/toolchain.rs", "kernels"] {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Err(message) = run() {
        eprintln!("{message}");
        process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut files = Vec::new();
    list(&root.join("kernels"), "", &mut files)?;
    let (headers, kernels): (Vec<_>, Vec<_>) = files.into_iter().partition(|(path, _)| !path.ends_with(".cu"));
    let abi = launch_abi(&headers)?;
    write(&out.join("abi.rs"), &abi.rust())?;
    write(&out.join(ABI_CHECK), &abi.cpp())?;
    let nvcc = find_nvcc(&root);
    if let Some((path, _)) = &nvcc {
        println!("cargo::rerun-if-changed={}", path.display());
    }

    // What all compilations have in common.
    let mut common = DefaultHasher::new();
    let version = nvcc.as_ref().map(|(_, version)| version.as_str());
    (CACHE_VERSION, NVCC_FLAGS, BUILD_FLAGS, TARGETS, version, abi.cpp()).hash(&mut common);
    let mut jobs: Vec<Job> = kernels.iter().map(|(path, text)| Job::new(path, text, &headers, &common, &out)).collect();
    jobs.sort_by(|a, b| a.stem.cmp(&b.stem));
    if let Some(pair) = jobs.windows(2).find(|pair| pair[0].stem == pair[1].stem) {
        return Err(format!("kernels/{} and kernels/{} have one name", pair[0].path, pair[1].path));
    }
    if let Some((nvcc, _)) = &nvcc {
        compile_all(&jobs, nvcc, &root, &out.join(ABI_CHECK))?;
    }
    write(&out.join("kernels.rs"), &table(&jobs, &headers, version)?)
}

/// Writes a file of `OUT_DIR`, where it is not so already: what did not change is not compiled again.
fn write(path: &Path, text: &str) -> Result<(), String> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|e| format!("{}: cannot write: {e}", path.display()))
}

/// The structs that kernels take: all of `abi.h`, and the launch shape, which `cuda.h` has.
fn launch_abi(headers: &[(String, String)]) -> Result<header::Header, String> {
    let read =
        |path: &str| headers.iter().find(|(p, _)| p == path).map(|(_, text)| text).ok_or(format!("no kernels/{path}"));
    let mut all = header::Header::parse("kernels/common/abi.h", read("common/abi.h")?)?;
    let shape = header::only(read("common/cuda.h")?, "LaunchShape");
    all.structs.extend(header::Header::parse("kernels/common/cuda.h", &shape)?.structs);
    Ok(all)
}

/// Sources and headers below `folder` with their texts, sorted. `host/` is for running kernels on a CPU: not part of this.
fn list(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut entries: Vec<PathBuf> = entries.filter_map(|e| e.ok()).map(|e| e.path()).collect();
    entries.sort();
    for path in entries {
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
        let relative = format!("{prefix}{name}");
        if path.is_dir() {
            if relative != "host" {
                list(&path, &format!("{relative}/"), files)?;
            }
        } else if [".h", ".cuh"].iter().any(|e| name.ends_with(e))
            || (SOURCES.contains(&prefix) && name.ends_with(".cu"))
        {
            let text = fs::read_to_string(&path).map_err(|e| format!("{}: cannot read: {e}", path.display()))?;
            files.push((relative, text));
        }
    }
    Ok(())
}

/// The first nvcc that runs and is of CUDA 12 or newer (older ones have no sm_90a), with its version. Last of all the
/// one `.ci/setup` puts beside a checkout, so that a shell in which it was not sourced builds the same.
fn find_nvcc(root: &Path) -> Option<(PathBuf, String)> {
    let mut candidates = nvcc_candidates(&|name| env::var_os(name));
    if !candidates.is_empty() {
        candidates.push((String::new(), root.join(".tools/cuda/cu13/bin/nvcc")));
    }
    candidates.into_iter().find_map(|(_, path)| {
        let output = path.is_file().then(|| Command::new(&path).arg("--version").output().ok())??;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.rsplit_once(", V")?.1.split_whitespace().next()?.to_string();
        let major: u32 = version.split('.').next()?.parse().ok()?;
        (major >= 12).then_some((path, version))
    })
}

/// One source file and where its results are kept.
struct Job {
    /// Below `kernels/`.
    path: String,
    /// The file's name without `.cu`, by which the program knows it.
    stem: String,
    fatbin: PathBuf,
    log: PathBuf,
    key_file: PathBuf,
    key: String,
}

impl Job {
    fn new(path: &str, text: &str, headers: &[(String, String)], common: &DefaultHasher, out: &Path) -> Self {
        let text_of = |name: &str| headers.iter().find(|(path, _)| path == name).map(|(_, text)| text.clone());
        let mut hasher = common.clone();
        (path, text).hash(&mut hasher);
        for name in include_closure(path, text, &mut |name| text_of(name)) {
            (&name, text_of(&name)).hash(&mut hasher);
        }
        let stem = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".cu").to_string();
        let file = |extension: &str| out.join(format!("{stem}.{extension}"));
        Job {
            fatbin: file("fatbin"),
            log: file("ptxas"),
            key_file: file("key"),
            key: format!("{:016x}", hasher.finish()),
            path: path.to_string(),
            stem,
        }
    }

    fn is_done(&self) -> bool {
        self.fatbin.is_file()
            && self.log.is_file()
            && fs::read_to_string(&self.key_file).is_ok_and(|key| key == self.key)
    }

    fn compile(&self, nvcc: &Path, root: &Path, check: &Path, threads: usize) -> Result<(), String> {
        let source = format!("kernels/{}", self.path);
        let made = self.fatbin.with_extension("new");
        let _ = fs::remove_file(&self.key_file);
        let mut command = Command::new(nvcc);
        command.current_dir(root).arg("-fatbin").args(NVCC_FLAGS).args(BUILD_FLAGS).arg("-include").arg(check);
        command.args(TARGETS.map(|(arch, code)| format!("-gencode=arch={arch},code={code}")));
        command.arg("-t").arg(threads.to_string()).arg("-o").arg(&made).arg(&source);
        let output = command.output().map_err(|e| format!("{}: cannot run: {e}", nvcc.display()))?;
        let log = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let is_report = |line: &&str| line.starts_with("ptxas info") || line.contains("bytes stack frame");
            let said: Vec<&str> = log.lines().filter(|line| !is_report(line)).collect();
            let hint = if log.contains("host compiler") { "\nnvcc needs a C++ compiler: install g++" } else { "" };
            return Err(format!("{source}: nvcc failed ({})\n{}{hint}", output.status, said.join("\n")));
        }
        fs::rename(&made, &self.fatbin)
            .and_then(|()| fs::write(&self.log, log.as_bytes()))
            .and_then(|()| fs::write(&self.key_file, &self.key))
            .map_err(|e| format!("{}: cannot write: {e}", self.fatbin.display()))
    }
}

/// Compiles what is not done, a file to a worker; workers that files leave over go to nvcc's own threads over targets.
fn compile_all(jobs: &[Job], nvcc: &Path, root: &Path, check: &Path) -> Result<(), String> {
    let open: Vec<&Job> = jobs.iter().filter(|job| !job.is_done()).collect();
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let cores = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).map_or(cores, |n: usize| n.clamp(1, cores));
    let workers = cores.min(open.len());
    let threads = (cores / workers.max(1)).clamp(1, TARGETS.len());
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(job) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(message) = job.compile(nvcc, root, check, threads) {
                        failures.lock().unwrap_or_else(|e| e.into_inner()).push(message);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(|e| e.into_inner());
    failures.sort();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n\n")) }
}

/// The text of `kernels.rs`.
fn table(jobs: &[Job], headers: &[(String, String)], nvcc: Option<&str>) -> Result<String, String> {
    let mut text = String::from("// Written by build.rs");
    text += if nvcc.is_some() { ".\n" } else { ", which found no nvcc: sources only.\n" };
    let mut line = |args: std::fmt::Arguments| text.write_fmt(args).map_err(|e| e.to_string());
    line(format_args!("static COMPILER: Option<&str> = {nvcc:?};\n"))?;
    line(format_args!("static HEADERS: &[(&str, &str)] = &[\n"))?;
    for (path, _) in headers {
        let full = format!("/kernels/{path}");
        line(format_args!("({path:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {full:?}))),\n"))?;
    }
    line(format_args!("];\nstatic EMBEDDED: &[Embedded] = &[\n"))?;
    for Job { path, stem, log, .. } in jobs {
        let source = format!("/kernels/{path}");
        line(format_args!("Embedded {{ name: {stem:?}, path: {path:?},\n"))?;
        line(format_args!("source: include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {source:?})),\n"))?;
        if nvcc.is_none() {
            line(format_args!("fatbin: None, resources: &[], notes: &[] }},\n"))?;
            continue;
        }
        let fatbin = format!("/{stem}.fatbin");
        line(format_args!("fatbin: Some(&Aligned(*include_bytes!(concat!(env!(\"OUT_DIR\"), {fatbin:?}))).0),\n"))?;
        let log = fs::read_to_string(log).map_err(|e| format!("{}: cannot read: {e}", log.display()))?;
        let report = parse_ptxas(&log);
        line(format_args!("resources: &[\n"))?;
        for r in &report.resources {
            line(format_args!("resource({:?}, {:?}, ", r.kernel, r.target))?;
            let numbers = [r.registers, r.shared, r.stack, r.spill_stores, r.spill_loads];
            line(format_args!("{numbers:?}),\n"))?;
        }
        line(format_args!("], notes: &{:?} }},\n", report.notes))?;
    }
    line(format_args!("];\n"))?;
    Ok(text)
}
