//! What every op is given to record its launches: the workspace, the batch, the sizes.

use super::abi;
use super::abi::Ptr;
use super::gpu::Kernels;
use super::slot::{BatchPtrs, BatchSizes};
use super::workspace::Workspace;
use crate::error::Result;
use crate::model::ModelConfig;
use crate::model::terms::Terms;

/// The arenas of parameters, gradients and moments, `n` numbers each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arenas {
    pub p: Ptr<f32>,
    pub g: Ptr<f32>,
    pub m: Ptr<f32>,
    pub v: Ptr<f32>,
    pub n: usize,
    /// Partial sums of the gradient's norm.
    pub part: Ptr<f32>,
    pub control: Ptr<abi::Control>,
}

/// Constants of the optimiser; the learning rate travels with the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constants {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

/// All that an op needs to record its launches: kernels, sizes, addresses.
pub(crate) struct Frame<'a> {
    pub kernels: &'a Kernels,
    pub config: &'a ModelConfig,
    /// `_f32` or `_bf16`.
    pub suffix: &'static str,
    /// Sizes that grids are made for.
    pub sizes: BatchSizes,
    pub batch: BatchPtrs,
    pub work: &'a Workspace,
    pub gene_side: abi::Side,
    pub peak_side: abi::Side,
    pub param: &'a dyn Fn(&str) -> Result<Ptr<f32>>,
    pub grad: &'a dyn Fn(&str) -> Result<Ptr<f32>>,
    pub record: Ptr<abi::StepRecord>,
    /// What outlives a step, for the optimiser.
    pub arenas: Arenas,
    pub constants: Constants,
    /// Seed of the dropout; none in evaluation.
    pub dropout: Option<u64>,
    /// The graph of the cis term, on the device.
    pub graph: Option<abi::CisGraph>,
    /// What is computed beside the matching.
    pub terms: Terms,
    /// Are gradients computed?
    pub training: bool,
}

impl Frame<'_> {
    /// The region of that name, which holds f32.
    pub fn f32(&self, region: &str) -> Result<Ptr<f32>> {
        self.work.ptr(region)
    }

    /// The region of that name, which holds u32.
    pub fn u32(&self, region: &str) -> Result<Ptr<u32>> {
        self.work.ptr(region)
    }

    /// Items that one block of a kernel works on.
    pub fn tile(&self, kernel: &str) -> Result<u32> {
        Ok(self.kernels.get(kernel)?.shape().tile_x)
    }

    /// Is there anything to translate?
    pub fn translates(&self) -> bool {
        self.terms.translate && self.sizes.positives > 0
    }

    /// The graph of the cis term, where there is anything to predict.
    pub fn predicts(&self) -> Option<abi::CisGraph> {
        self.graph.filter(|_| self.terms.cis && self.sizes.positives > 0)
    }

    /// Is there anything to tell apart?
    pub fn contrasts(&self) -> bool {
        self.terms.contrast && self.sizes.positives > 0
    }

    /// A launch over `grid`, which is computed from the kernel's tile.
    pub fn launch<A: abi::Args>(
        &self,
        name: &str,
        grid: impl FnOnce(abi::LaunchShape) -> [u32; 3],
        args: &A,
    ) -> Result<super::gpu::Launch> {
        let kernel = self.kernels.get(name)?;
        Ok(super::gpu::Launch::new(kernel, grid(kernel.shape()), args))
    }

    /// A launch of the entry point of this precision.
    pub fn launch_precise<A: abi::Args>(
        &self,
        stem: &str,
        grid: impl FnOnce(abi::LaunchShape) -> [u32; 3],
        args: &A,
    ) -> Result<super::gpu::Launch> {
        self.launch(&format!("{stem}{}", self.suffix), grid, args)
    }

    pub fn hidden(&self) -> u32 {
        self.config.hidden as u32
    }

    pub fn heads(&self) -> u32 {
        self.config.heads as u32
    }

    pub fn top_k(&self) -> u32 {
        self.config.top_k as u32
    }

    pub fn genes(&self) -> u32 {
        self.config.genes as u32
    }
}
