//! What the build made of the kernels, and compilation at run time. Nothing here needs a device; what needs nvcc or
//! NVRTC says so where they are missing.

use std::path::Path;

use sccrossrec::Error;
use sccrossrec::device::kernels::Toolkit;
use sccrossrec::device::{TARGETS, kernels};

/// Kernels that may spill registers: (kernel, most bytes stored, why).
const MAY_SPILL: &[(&str, u32, &str)] = &[];

const SAMPLE: &str = include_str!("kernels/sample.cu");

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// (is PTX, architecture) of each part of a fatbin. A header of 16 bytes with the size of the rest; then parts: kind
/// (1 PTX, 2 machine code), header size at 4, payload size at 8, architecture at 28.
fn parts(fatbin: &[u8]) -> Option<Vec<(bool, u32)>> {
    if u32_at(fatbin, 0)? != 0xBA55_ED50 || 16 + u32_at(fatbin, 8)? as usize != fatbin.len() {
        return None;
    }
    let (mut at, mut parts) = (16, Vec::new());
    while at < fatbin.len() {
        parts.push((u16_at(fatbin, at)? == 1, u32_at(fatbin, at + 28)?));
        at += (u32_at(fatbin, at + 4)? + u32_at(fatbin, at + 8)?) as usize;
    }
    (at == fatbin.len()).then_some(parts)
}

#[test]
fn every_source_file_is_embedded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut paths = Vec::new();
    for below in ["", "examples/"] {
        let entries = std::fs::read_dir(folder.join(below)).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        paths.extend(names.filter(|name| name.ends_with(".cu")).map(|name| format!("{below}{name}")));
    }
    let name_of = |path: &str| path.rsplit('/').next().unwrap().strip_suffix(".cu").unwrap().to_string();
    paths.sort_by_key(|path| name_of(path));
    assert_eq!(kernels::embedded().iter().map(|k| k.path).collect::<Vec<_>>(), paths);
    for kernel in kernels::embedded() {
        assert_eq!(kernel.name, name_of(kernel.path));
        assert_eq!(kernel.source, std::fs::read_to_string(folder.join(kernel.path)).unwrap());
    }
    let cuda = kernels::headers().iter().find(|(path, _)| *path == "common/cuda.h").expect("cuda.h is embedded");
    assert!(cuda.1.contains("define SCX_KERNEL"));
    assert!(kernels::headers().iter().all(|(path, _)| !path.starts_with("host/")));
}

/// What `kernels/README.md` says under "How the sources are written".
#[test]
fn the_sources_speak_one_dialect() {
    let may_include = ["common/abi.h", "common/tensor.h", "common/tile.h", "common/product.h", "common/rows.h"];
    for kernel in kernels::embedded() {
        let code: Vec<&str> = kernel.source.lines().map(|l| l.split("//").next().unwrap().trim_end()).collect();
        let includes: Vec<&str> = code.iter().filter_map(|l| l.strip_prefix("#include ")).collect();
        assert_eq!(includes.first(), Some(&"\"common/abi.h\""), "{}", kernel.path);
        for (i, line) in code.iter().enumerate() {
            let at = format!("kernels/{}:{}: {line}", kernel.path, i + 1);
            if let Some(name) = line.strip_prefix("#include ") {
                assert!(may_include.contains(&name.trim_matches('"')), "{at}");
            }
            assert!(!line.contains("namespace scx {") && !line.contains("scx::"), "{at}");
            assert!(!line.contains("_sync(0xffffffff"), "write kAllLanes: {at}");
            let Some((_, constants)) = line.split_once("constexpr ") else { continue };
            for constant in constants.split(',').filter_map(|c| c.split_once(" = ")) {
                let name = constant.0.rsplit(' ').next().unwrap();
                let is_constant = name.starts_with('k') && name[1..].starts_with(|c: char| c.is_ascii_uppercase());
                assert!(is_constant, "write `{name}` like kThreads: {at}");
            }
        }
    }
}

#[test]
fn every_file_has_code_for_every_target() {
    if kernels::compiler().is_none() {
        assert!(kernels::embedded().iter().all(|k| k.fatbin.is_none() && k.resources.is_empty()));
        println!("SKIPPED: built without nvcc");
        return;
    }
    for kernel in kernels::embedded() {
        let fatbin = kernel.fatbin.unwrap_or_else(|| panic!("{} has no fatbin", kernel.name));
        assert_eq!(fatbin.as_ptr().align_offset(8), 0);
        let mut found = parts(fatbin).unwrap_or_else(|| panic!("{}: not a fatbin", kernel.name));
        found.sort();
        assert_eq!(found, [(false, 80), (false, 89), (false, 90), (true, 90)], "{}", kernel.name);
        let mut names: Vec<&str> = kernel.resources.iter().map(|r| &*r.kernel).collect();
        names.dedup();
        assert!(!names.is_empty(), "{} has no kernel", kernel.name);
        for name in names {
            let targets: Vec<&str> = kernel.resources.iter().filter(|r| r.kernel == name).map(|r| &*r.target).collect();
            let real: Vec<&str> =
                TARGETS.iter().map(|(_, code)| *code).filter(|code| code.starts_with("sm_")).collect();
            if kernel.resources.iter().any(|r| r.kernel == name && r.registers > 0) {
                assert_eq!(targets, real, "{name}");
            }
        }
    }
}

#[test]
fn resources() {
    println!("{}", kernels::resource_table());
    let mut spills = Vec::new();
    for r in kernels::embedded().iter().flat_map(|k| k.resources) {
        let allowed = MAY_SPILL.iter().find(|(kernel, _, _)| r.kernel == *kernel).map_or(0, |(_, bytes, _)| *bytes);
        if r.spill_stores > allowed || (r.spill_loads > 0 && allowed == 0) {
            let (stores, loads) = (r.spill_stores, r.spill_loads);
            spills.push(format!("{} for {}: {stores} bytes stored, {loads} loaded", r.kernel, r.target));
        }
    }
    assert!(
        spills.is_empty(),
        "kernels spill registers (mend, or give the reason in MAY_SPILL):\n{}",
        spills.join("\n")
    );
}

/// The sample for the newest architecture, as PTX, with an error, and with a header of its own.
fn compiles(toolkit: &Toolkit) {
    let cubin = toolkit.compile("sample.cu", SAMPLE, "sm_90a").unwrap();
    assert_eq!(&cubin[..4], b"\x7fELF");
    assert!(cubin.windows(16).any(|w| w == b"sample_sum_shape"));

    let ptx = toolkit.compile("sample.cu", SAMPLE, "compute_80").unwrap();
    let text = std::str::from_utf8(&ptx).unwrap();
    assert_eq!(text.find('\0'), Some(text.len() - 1));
    assert!(text.contains(".target sm_80") && text.contains(".entry sample_sum"));

    let broken = SAMPLE.replace("sum += part[j]", "sum += port[j]");
    match toolkit.compile("some/where/sample.cu", &broken, "sm_80") {
        Err(e @ Error::Kernel { .. }) => {
            assert_eq!(e.exit_code(), 2);
            let message = e.to_string();
            assert!(message.starts_with("some/where/sample.cu: sample.cu(17): error: "), "{message}");
            assert!(message.contains("\"port\" is undefined") && message.lines().count() == 1, "{message}");
            let Error::Kernel { log, .. } = e else { unreachable!() };
            assert!(log.contains("1 error detected"), "{log}");
        }
        other => panic!("{other:?}"),
    }

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine.h"), "#pragma once\n#include \"common/cuda.h\"\n").unwrap();
    let mine = SAMPLE.replace("#include \"common/cuda.h\"", "#include \"mine.h\"\n#include \"common/cuda.h\"");
    toolkit.compile(dir.path().join("sample.cu").to_str().unwrap(), &mine, "sm_90a").unwrap();
}

#[test]
fn nvcc_compiles_at_run_time() {
    match kernels::find_nvcc() {
        Some(path) => compiles(&Toolkit::Nvcc(path)),
        None => println!("SKIPPED: no nvcc"),
    }
}

#[test]
fn nvrtc_compiles_at_run_time() {
    match kernels::find_nvrtc() {
        Some(nvrtc) => {
            println!("NVRTC {:?}, headers in {}", nvrtc.version, nvrtc.include.display());
            let toolkit = Toolkit::Nvrtc(nvrtc);
            compiles(&toolkit);
            for kernel in kernels::embedded() {
                let image = toolkit.compile(&format!("{}.cu", kernel.name), kernel.source, "sm_90a").unwrap();
                assert_eq!(&image[..4], b"\x7fELF", "{}", kernel.name);
                for r in kernel.resources.iter().filter(|r| r.registers > 0) {
                    let shape = format!("{}_shape", r.kernel);
                    let has = image.windows(shape.len()).any(|w| w == shape.as_bytes());
                    assert!(has, "{}: no {shape} in its module", kernel.name);
                }
            }
        }
        None => println!("SKIPPED: no NVRTC"),
    }
}

#[test]
fn without_a_compiler_the_places_are_named() {
    // Only where nothing is set and nothing installed: the search looks at this process' environment.
    match Toolkit::find() {
        Err(Error::Usage(message)) => {
            for word in ["nvcc not found", "/usr/local/cuda", "libnvrtc", "set NVCC", "CUDA_HOME"] {
                assert!(message.contains(word), "{message}");
            }
            assert_eq!(message.lines().count(), 1);
        }
        Err(other) => panic!("{other:?}"),
        Ok(found) => println!("SKIPPED: {found:?}"),
    }
}
