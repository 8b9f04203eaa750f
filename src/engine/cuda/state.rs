//! What outlives a step on the device: parameters, gradients, moments, features.

use crate::device::abi;
use crate::device::abi::{Control, NORM_PARTS, StepRecord};
use crate::device::arena::{Arena, ArenaPlan, Span};
use crate::device::workspace::SLOTS;
use crate::error::Result;
use crate::model::nodes::group;
use crate::model::{CisGraph, ModelConfig, ParamLayout};

/// Numbers between the starts of two tensors on the device are a multiple of this: 256 bytes.
const TENSOR_ALIGN: usize = 64;

/// Parameters, gradients, moments, features and records: what outlives a step.
#[derive(Debug)]
pub(crate) struct State {
    pub arena: Arena,
    /// Arena numbers where each tensor of the layout starts, in its order.
    pub starts: Vec<usize>,
    /// Numbers in each of the four arenas.
    pub len: usize,
    pub p: Span<f32>,
    pub g: Span<f32>,
    pub m: Span<f32>,
    pub v: Span<f32>,
    pub gene_chrom: Span<u32>,
    pub peak_chrom: Span<u32>,
    pub gene_extra: Span<f32>,
    pub peak_dna: Span<u8>,
    pub norm_part: Span<f32>,
    pub control: Span<Control>,
    pub records: Span<StepRecord>,
    pub cis: Option<CisGraphSpans>,
}

/// The cis graph on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CisGraphSpans {
    peak_ptr: Span<u32>,
    gene: Span<u32>,
    peak: Span<u32>,
    bin: Span<u32>,
    gene_ptr: Span<u32>,
    by_gene: Span<u32>,
    whole_ptr: Span<u32>,
    whole: Span<u32>,
}

impl CisGraphSpans {
    fn plan(l: &mut ArenaPlan, config: &ModelConfig, graph: &CisGraph) -> Self {
        let edges = graph.len();
        CisGraphSpans {
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
    ) -> (ArenaPlan, impl FnOnce(Arena) -> State + use<>) {
        let mut starts = Vec::new();
        let mut len = 0usize;
        for e in layout.entries() {
            starts.push(len);
            len += e.range.len().next_multiple_of(TENSOR_ALIGN);
        }
        let mut l = ArenaPlan::default();
        let (p, g) = (l.add("parameters", len), l.add("gradients", len));
        let (m, v) = (l.add("first moments", len), l.add("second moments", len));
        let gene_chrom = l.add("gene chromosomes", config.genes);
        let peak_chrom = l.add("peak chromosomes", config.peaks);
        let gene_extra = l.add("gene features", config.genes * config.gene_extra);
        let peak_dna = l.add("sequences", config.peaks * config.dna_length);
        let norm_part = l.add("norm", NORM_PARTS as usize);
        let control = l.add("control", 1);
        let records = l.add("records", SLOTS);
        let cis = graph.map(|g| CisGraphSpans::plan(&mut l, config, g));
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
