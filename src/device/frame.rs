//! What every op is given to record its launches: the workspace, the batch, the sizes.

use super::abi;
use super::abi::Ptr;
use super::gpu::Kernels;
use super::slot::{BatchPtrs, Sizes};
use super::workspace::Ptrs;
use crate::error::Result;
use crate::model::ModelConfig;
use crate::model::terms::Terms;

/// All that an op needs to record its launches: kernels, sizes, addresses.
pub(crate) struct Frame<'a> {
    pub kernels: &'a Kernels,
    pub config: &'a ModelConfig,
    /// `_f32` or `_bf16`.
    pub suffix: &'static str,
    /// Sizes that grids are made for.
    pub sizes: Sizes,
    pub batch: BatchPtrs,
    pub w: Ptrs,
    pub gene_side: abi::Side,
    pub peak_side: abi::Side,
    pub param: &'a dyn Fn(&str) -> Result<Ptr<f32>>,
    pub grad: &'a dyn Fn(&str) -> Result<Ptr<f32>>,
    pub record: Ptr<abi::StepRecord>,
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

    /// `out (+)= Σ parts` of `u_part`, where there is a part for each `per` items of `n`.
    pub fn reduce(&self, n: Ptr<u32>, per: u32, out: Ptr<f32>, add: bool) -> Result<super::gpu::Launch> {
        self.reduce_from(self.w.u_part, self.hidden(), n, per, out, add)
    }

    /// As [`Frame::reduce`], of other parts, `width` wide.
    pub fn reduce_from(
        &self,
        part: Ptr<f32>,
        width: u32,
        n: Ptr<u32>,
        per: u32,
        out: Ptr<f32>,
        add: bool,
    ) -> Result<super::gpu::Launch> {
        let args = abi::ReducePartsArgs { n, part, out, per, width, add: u32::from(add), pad: 0 };
        self.launch("reduce_parts", |s| [width.div_ceil(s.tile_x), 1, 1], &args)
    }
}
