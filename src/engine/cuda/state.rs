//! What outlives a step on the device: parameters, gradients, moments, features.

use super::{Engine, TENSOR_ALIGN};
use crate::device::abi;
use crate::device::abi::{Control, NORM_PARTS, StepRecord};
use crate::device::arena::{Arena, Layout as Plan, Span};
use crate::device::workspace::SLOTS;
use crate::error::{Error, Result};
use crate::model::nodes::group;
use crate::model::{CisGraph, ModelConfig, ParamLayout};

/// Parameters, gradients, moments, features and records: what outlives a step.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) arena: Arena,
    /// Arena numbers where each tensor of the layout starts, in its order.
    pub(crate) starts: Vec<usize>,
    /// Numbers in each of the four arenas.
    pub(crate) len: usize,
    pub(crate) p: Span<f32>,
    pub(crate) g: Span<f32>,
    pub(crate) m: Span<f32>,
    pub(crate) v: Span<f32>,
    pub(crate) gene_chrom: Span<u32>,
    pub(crate) peak_chrom: Span<u32>,
    pub(crate) gene_extra: Span<f32>,
    pub(crate) peak_dna: Span<u8>,
    pub(crate) norm_part: Span<f32>,
    pub(crate) control: Span<Control>,
    pub(crate) records: Span<StepRecord>,
    pub(crate) cis: Option<Graph>,
}

/// The cis graph on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Graph {
    peak_ptr: Span<u32>,
    gene: Span<u32>,
    peak: Span<u32>,
    bin: Span<u32>,
    gene_ptr: Span<u32>,
    by_gene: Span<u32>,
    whole_ptr: Span<u32>,
    whole: Span<u32>,
}

impl Graph {
    fn plan(l: &mut Plan, config: &ModelConfig, graph: &CisGraph) -> Self {
        let edges = graph.len();
        Graph {
            peak_ptr: l.add("cis graph", config.peaks + 1),
            gene: l.add("cis graph, genes", edges),
            peak: l.add("cis graph, peaks", edges),
            bin: l.add("cis graph, distances", edges),
            gene_ptr: l.add("cis graph, of genes", config.genes + 1),
            by_gene: l.add("cis graph, by gene", edges),
            whole_ptr: l.add("cis graph, chromosomes", config.chromosomes + 1),
            whole: l.add("cis graph, genes without edges", graph.whole.iter().filter(|w| **w).count()),
        }
    }

    pub(crate) fn write(
        &self,
        arena: &Arena,
        config: &ModelConfig,
        graph: &CisGraph,
        gene_chrom: &[u32],
    ) -> Result<()> {
        let small = |x: &[usize]| x.iter().map(|&x| x as u32).collect::<Vec<u32>>();
        let peak: Vec<u32> = (0..)
            .zip(graph.peak_ptr.windows(2))
            .flat_map(|(p, ends)| std::iter::repeat_n(p, ends[1] - ends[0]))
            .collect();
        let (gene_ptr, by_gene) = group(&graph.gene, config.genes);
        let whole: Vec<u32> = (0..).zip(&graph.whole).filter(|x| *x.1).map(|x| x.0).collect();
        let chrom: Vec<u32> = whole.iter().map(|&g| gene_chrom[g as usize]).collect();
        let (whole_ptr, order) = group(&chrom, config.chromosomes);
        arena.write(self.peak_ptr, &small(&graph.peak_ptr))?;
        arena.write(self.gene, &graph.gene)?;
        arena.write(self.peak, &peak)?;
        arena.write(self.bin, &graph.bin.iter().map(|&b| u32::from(b)).collect::<Vec<u32>>())?;
        arena.write(self.gene_ptr, &small(&gene_ptr))?;
        arena.write(self.by_gene, &by_gene)?;
        arena.write(self.whole_ptr, &small(&whole_ptr))?;
        arena.write(self.whole, &order.iter().map(|&i| whole[i as usize]).collect::<Vec<u32>>())
    }

    pub(crate) fn args(&self, arena: &Arena, config: &ModelConfig) -> abi::CisGraph {
        abi::CisGraph {
            peak_ptr: arena.ptr(self.peak_ptr),
            gene: arena.ptr(self.gene),
            peak: arena.ptr(self.peak),
            bin: arena.ptr(self.bin),
            gene_ptr: arena.ptr(self.gene_ptr),
            by_gene: arena.ptr(self.by_gene),
            whole_ptr: arena.ptr(self.whole_ptr),
            whole: arena.ptr(self.whole),
            genes: config.genes as u32,
            peaks: config.peaks as u32,
            chromosomes: config.chromosomes as u32,
            n_whole: self.whole.len as u32,
        }
    }
}

impl State {
    pub(crate) fn plan(
        config: &ModelConfig,
        layout: &ParamLayout,
        graph: Option<&CisGraph>,
    ) -> (Plan, impl FnOnce(Arena) -> State + use<>) {
        let mut starts = Vec::new();
        let mut len = 0usize;
        for e in layout.entries() {
            starts.push(len);
            len += e.range.len().next_multiple_of(TENSOR_ALIGN);
        }
        let mut l = Plan::default();
        let (p, g) = (l.add("parameters", len), l.add("gradients", len));
        let (m, v) = (l.add("first moments", len), l.add("second moments", len));
        let gene_chrom = l.add("gene chromosomes", config.genes);
        let peak_chrom = l.add("peak chromosomes", config.peaks);
        let gene_extra = l.add("gene features", config.genes * config.gene_extra);
        let peak_dna = l.add("sequences", config.peaks * config.dna_length);
        let norm_part = l.add("norm", NORM_PARTS as usize);
        let control = l.add("control", 1);
        let records = l.add("records", SLOTS);
        let cis = graph.map(|g| Graph::plan(&mut l, config, g));
        let build = move |arena| State {
            arena,
            starts,
            len,
            p,
            g,
            m,
            v,
            gene_chrom,
            peak_chrom,
            gene_extra,
            peak_dna,
            norm_part,
            control,
            records,
            cis,
        };
        (l, build)
    }
}

impl Engine {
    fn scatter(&self, span: Span<f32>, data: &[f32]) -> Result<()> {
        let mut all = vec![0f32; self.state.len];
        for (e, &at) in self.layout.entries().iter().zip(&self.state.starts) {
            all[at..at + e.range.len()].copy_from_slice(&data[e.range.clone()]);
        }
        self.state.arena.write(span, &all)
    }

    fn gather(&self, span: Span<f32>) -> Result<Vec<f32>> {
        let all = self.state.arena.read(span, self.state.len)?;
        let mut out = vec![0f32; self.layout.len()];
        for (e, &at) in self.layout.entries().iter().zip(&self.state.starts) {
            out[e.range.clone()].copy_from_slice(&all[at..at + e.range.len()]);
        }
        Ok(out)
    }

    /// Replaces the parameters: an arena of the model's layout.
    pub fn set_params(&mut self, params: &[f32]) -> Result<()> {
        self.scatter(self.state.p, params)
    }

    /// The parameters, as an arena of the model's layout.
    pub fn params(&self) -> Result<Vec<f32>> {
        self.gather(self.state.p)
    }

    /// The gradients, as an arena of the model's layout.
    pub fn grads(&self) -> Result<Vec<f32>> {
        self.gather(self.state.g)
    }

    /// Replaces the gradients: an arena of the model's layout.
    pub(crate) fn set_grads(&mut self, grads: &[f32]) -> Result<()> {
        self.scatter(self.state.g, grads)
    }

    /// Sets all gradients to zero.
    pub fn zero_grads(&mut self) -> Result<()> {
        self.state.arena.zero(self.state.g)
    }

    /// Replaces the moments, arenas of the model's layout, and the number of steps they are the result of.
    pub fn set_moments(&mut self, m: &[f32], v: &[f32], updates: u64, stop_on_nan: bool) -> Result<()> {
        self.scatter(self.state.m, m)?;
        self.scatter(self.state.v, v)?;
        self.set_control(updates, stop_on_nan)
    }

    /// The moments, arenas of the model's layout.
    pub fn moments(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((self.gather(self.state.m)?, self.gather(self.state.v)?))
    }

    /// Sets the number of optimiser steps taken; lets them be taken again after one that was not finite.
    pub(crate) fn set_control(&mut self, updates: u64, stop_on_nan: bool) -> Result<()> {
        let updates = u32::try_from(updates).map_err(|_| Error::usage("more than four thousand million steps"))?;
        let control = Control { updates, stop_on_nan: u32::from(stop_on_nan), ..Control::default() };
        self.state.arena.write(self.state.control, &[control])
    }
}
