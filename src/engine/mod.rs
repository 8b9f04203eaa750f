//! Where a model is computed: the CPU, or a device. One interface for both.
//!
//! [`Device`] says where, [`Runner`] makes forward passes there; who calls them need not know which it is. Where there is no
//! device, `auto` is the CPU, which does all that a device does but bf16; to ask for `cuda` is an error that says what is
//! missing. So that the engine of a device can be tested without one, [`crate::device::host`] stands in for a driver and
//! runs the kernels on the CPU: the engine is the same.
//!
//! Training differs more (a device is fed ahead and steps on its own): [`Device::cuda`] leads to its [`Engine`].

#[forbid(unsafe_code)]
pub(crate) mod budget;
#[forbid(unsafe_code)]
pub(crate) mod cpu;
pub(crate) mod cuda;
#[forbid(unsafe_code)]
pub(crate) mod flops;
#[forbid(unsafe_code)]
mod inputs;
#[forbid(unsafe_code)]
mod nodes;
#[forbid(unsafe_code)]
pub(crate) mod reference;
#[forbid(unsafe_code)]
mod stages;
#[forbid(unsafe_code)]
pub(crate) mod towers;

use std::sync::Arc;

use crate::device::Gpu;
use crate::device::gpu::Kernels;
use crate::error::{Error, Result};
use crate::model::output::{Output, Want};
use crate::model::{Batch, Model, Precision};
use crate::ops::registry;
use crate::ops::registry::Replacement;

pub use cpu::PassOptions;
pub use cuda::Engine;
pub use flops::Flops;

/// A device that is ready to compute.
#[derive(Debug, Clone)]
pub struct CudaDevice {
    /// The device.
    pub gpu: Arc<Gpu>,
    /// Its kernels.
    pub kernels: Kernels,
    /// How matrices are multiplied.
    pub precision: Precision,
}

/// Where to compute.
#[derive(Debug, Clone, Default)]
pub enum Device {
    /// On this machine's processors.
    #[default]
    Cpu,
    /// On a GPU.
    Cuda(CudaDevice),
}

/// What was asked for: `auto`, `cpu` or `cuda[:N]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Auto,
    Cpu,
    Cuda(usize),
}

fn parse(text: &str) -> Result<Asked> {
    let number = |n: &str| n.strip_prefix(':').and_then(|n| n.parse::<u16>().ok()).map(usize::from);
    match (text, text.strip_prefix("cuda")) {
        ("auto", _) => Ok(Asked::Auto),
        ("cpu", _) => Ok(Asked::Cpu),
        (_, Some("")) => Ok(Asked::Cuda(0)),
        (_, Some(n)) if number(n).is_some() => Ok(Asked::Cuda(number(n).unwrap_or(0))),
        _ => Err(Error::usage(format!("--device {text}: not a device; use auto, cpu or cuda[:N]"))),
    }
}

impl Device {
    /// Opens what `text` names: `cpu`, `cuda[:N]`, or `auto`, which is the first GPU where there is one that this program
    /// can use, else the CPU. `replacements` stand in for built-in kernels.
    ///
    /// # Errors
    /// No device of that name; for `cuda`, a line with what is missing; settings that only a GPU has, on the CPU.
    pub fn choose(text: &str, precision: Precision, replacements: &[Replacement]) -> Result<Device> {
        let asked = parse(text)?;
        let ready = |gpu: Arc<Gpu>| -> Result<Device> {
            let mut kernels = registry::load(&gpu)?;
            for r in replacements {
                registry::apply_for(&mut kernels, &gpu, r, precision)?;
            }
            Ok(Device::Cuda(CudaDevice { gpu, kernels, precision }))
        };
        match asked {
            Asked::Cuda(ordinal) => return ready(Gpu::open(ordinal)?),
            Asked::Auto => {
                if let Some(gpu) = Gpu::open(0).ok().filter(|g| !g.is_host()) {
                    // A GPU whose kernels cannot be had is no reason to stop, unless something was asked of it.
                    match ready(gpu) {
                        Err(e) if precision != Precision::F32 || !replacements.is_empty() => return Err(e),
                        Err(_) => {}
                        found => return found,
                    }
                }
            }
            Asked::Cpu => {}
        }
        if precision != Precision::F32 {
            return Err(Error::usage("--precision bf16: the CPU computes in f32; use --device cuda"));
        }
        if !replacements.is_empty() {
            return Err(Error::usage("--kernel: the CPU has no kernels to replace; use --device cuda"));
        }
        Ok(Device::Cpu)
    }

    /// How it multiplies matrices.
    pub fn precision(&self) -> Precision {
        self.cuda().map_or(Precision::F32, |d| d.precision)
    }

    /// The GPU, if it is one.
    pub fn cuda(&self) -> Option<&CudaDevice> {
        match self {
            Device::Cpu => None,
            Device::Cuda(d) => Some(d),
        }
    }

    /// A name for messages.
    pub fn name(&self) -> String {
        self.cuda().map_or("CPU".into(), |d| format!("{} ({})", d.gpu.name(), d.precision.name()))
    }
}

impl CudaDevice {
    /// An engine with a model on this device.
    pub fn engine(&self, model: &Model<f32>) -> Result<Engine> {
        Engine::new(self.gpu.clone(), self.kernels.clone(), model, self.precision)
    }
}

/// Forward passes of a model, wherever they are computed. A `&Model` is one that computes on the CPU.
#[derive(Debug)]
pub struct Runner<'m> {
    model: &'m Model<f32>,
    engine: Option<Engine>,
}

impl<'m> Runner<'m> {
    /// Forward passes of `model` on `device`.
    ///
    /// # Errors
    /// On a device: [`Error::OutOfMemory`], [`Error::Device`].
    pub fn new(model: &'m Model<f32>, device: &Device) -> Result<Self> {
        let engine = device.cuda().map(|d| d.engine(model)).transpose()?;
        Ok(Runner { model, engine })
    }

    /// The model.
    pub fn model(&self) -> &'m Model<f32> {
        self.model
    }

    /// As [`Model::forward`]. Node-level outputs are always computed on the CPU.
    ///
    /// # Errors
    /// Those of [`Model::forward`]; on a device also [`Error::OutOfMemory`] and [`Error::Device`].
    pub fn forward(&mut self, batch: &Batch<f32>, want: Want) -> Result<Output<f32>> {
        match &mut self.engine {
            Some(engine) if !want.nodes => engine.forward(batch, want),
            _ => self.model.forward(batch, want),
        }
    }
}

impl<'m> From<&'m Model<f32>> for Runner<'m> {
    fn from(model: &'m Model<f32>) -> Self {
        Runner { model, engine: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        assert_eq!(parse("auto").unwrap(), Asked::Auto);
        assert_eq!(parse("cpu").unwrap(), Asked::Cpu);
        assert_eq!(parse("cuda").unwrap(), Asked::Cuda(0));
        assert_eq!(parse("cuda:3").unwrap(), Asked::Cuda(3));
        for bad in ["", "gpu", "cuda:", "cuda3", "cuda:-1", "cuda:x", "CPU"] {
            assert!(parse(bad).unwrap_err().to_string().contains("not a device"), "{bad}");
        }
    }
}
