//! `doctor`: what this machine can compute with, and what `--device auto` takes.

use serde_json::json;

use super::context::Context;
use crate::device::host::HostCompiler;
use crate::device::{Gpu, gpu, kernels};
use crate::engine::Device;
use crate::error::Result;
use crate::model::Precision;
use crate::{device, simd};

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints what was found.
pub fn run(_: &Args, ctx: &Context) -> Result<()> {
    let mut table = String::new();
    let mut line = |what: &str, found: &str| table += &format!("{what:<18} {found}\n");
    let cpu = format!("{} threads, {:?}", ctx.threads, simd::isa());
    line("CPU", &cpu);
    let present = gpu::driver_present();
    let version = gpu::driver_version().map(|(major, minor)| format!("{major}.{minor}"));
    let driver = match (&version, present) {
        (Some(v), _) => format!("there, for CUDA {v}"),
        (None, true) => "libcuda.so is there, but gives no version".into(),
        (None, false) => "none (no libcuda.so.1); GPUs cannot be used".into(),
    };
    line("driver", &driver);
    let mut devices = Vec::new();
    for i in 0..gpu::device_count() {
        match Gpu::open(i) {
            Ok(g) => {
                let ((major, minor), (free, total)) = (g.capability(), g.memory().unwrap_or((0, 0)));
                line(
                    &format!("cuda:{i}"),
                    &format!(
                        "{}, compute capability {major}.{minor}, {} of {} MiB free",
                        g.name(),
                        free >> 20,
                        total >> 20
                    ),
                );
                devices.push(json!({
                    "device": format!("cuda:{i}"), "name": g.name(), "capability": format!("{major}.{minor}"),
                    "free_bytes": free, "total_bytes": total, "host": g.is_host(),
                }));
            }
            Err(e) => {
                line(&format!("cuda:{i}"), &e.to_string());
                devices.push(json!({ "device": format!("cuda:{i}"), "error": e.to_string() }));
            }
        }
    }
    if devices.is_empty() {
        line("devices", "none");
    }
    let targets: Vec<&str> = device::TARGETS.iter().map(|t| t.1).collect();
    let embedded: Vec<&str> = kernels::embedded().iter().map(|k| k.name).collect();
    let built = kernels::compiler();
    line(
        "kernels inside",
        &match built {
            Some(v) => format!("{}; compiled by nvcc {v} for {}", embedded.join(", "), targets.join(", ")),
            None => format!("{}; sources only (built without nvcc)", embedded.join(", ")),
        },
    );
    let nvcc = kernels::find_nvcc();
    line("nvcc", &nvcc.as_ref().map_or("not found".into(), |p| p.display().to_string()));
    let nvrtc = kernels::find_nvrtc();
    let nvrtc_text =
        nvrtc.as_ref().map(|n| format!("{}.{}, headers in {}", n.version.0, n.version.1, n.include.display()));
    line("NVRTC", nvrtc_text.as_deref().unwrap_or("not found"));
    let host = HostCompiler::find();
    let host_text = match &host {
        Ok(c) => format!("{}: `kernels check --on host` works", c.describe()),
        Err(e) => e.to_string(),
    };
    line("C++ compiler", &host_text);
    let auto = Device::choose("auto", Precision::F32, &[]);
    let name = auto.as_ref().map_or_else(|e| e.to_string(), Device::name);
    let why = match &auto {
        Ok(Device::Cuda(_)) => "a GPU with a driver, and kernels for it",
        _ if !present => "no NVIDIA driver",
        _ if devices.is_empty() => "the driver finds no device",
        _ if devices.iter().all(|d| d["host"] == json!(true)) => {
            "the driver is the stand-in that runs kernels on the CPU"
        }
        _ if built.is_none() && nvcc.is_none() && nvrtc.is_none() => {
            "this program was built without kernels, and there is no nvcc or NVRTC to compile them"
        }
        _ => "no device can be used: see above",
    };
    line("--device auto", &format!("{name}: {why}"));
    let json = json!({
        "cpu": { "threads": ctx.threads, "isa": format!("{:?}", simd::isa()).to_lowercase() },
        "driver": { "present": present, "cuda": version },
        "devices": devices,
        "kernels": { "files": embedded, "compiler": built, "targets": if built.is_some() { targets } else { Vec::new() } },
        "nvcc": nvcc,
        "nvrtc": nvrtc_text,
        "cxx": host.ok().map(|c| c.describe()),
        "auto": { "device": name, "why": why },
    });
    ctx.result(&table, &json);
    ctx.next("", "sccrossrec demo --out demo");
    Ok(())
}
