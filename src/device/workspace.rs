//! What a step computes in: two slots for batches, and every value and gradient between the parameters. Planned for
//! given sizes before the first step; nothing is allocated in a step.

use std::sync::Arc;

use super::abi::{CIS_BINS, MASK_GENES, PROJECT_CHUNK, Ptr, TRANSLATE_CHUNK};
use super::arena::{Arena, Layout, Span};
use super::gpu::{Gpu, Kernels};
use super::slot::{BatchPtrs, Sizes, SlotLayout};
use crate::error::{Error, Result};
use crate::model::{CisGraph, ModelConfig};

macro_rules! regions {
    ($(#[$meta:meta])* $($name:ident: $type:ty = $len:expr;)*) => {
        /// Where the regions of a workspace lie.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct Spans { $(pub $name: Span<$type>,)* }

        /// Their addresses.
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct Ptrs { $(pub $name: Ptr<$type>,)* }

        impl Spans {
            fn plan(l: &mut Layout, n: &Lengths) -> Self {
                Spans { $($name: l.add(stringify!($name), $len(n)),)* }
            }

            fn ptrs(&self, arena: &Arena) -> Ptrs {
                Ptrs { $($name: arena.ptr(self.$name),)* }
            }

            /// All regions by name: offset and bytes.
            pub fn named(&self) -> Vec<(&'static str, usize, usize)> {
                vec![$((stringify!($name), self.$name.offset, self.$name.len * size_of::<$type>()),)*]
            }
        }
    };
}

/// The numbers that lengths are made of.
struct Lengths {
    b: usize,
    n: usize,
    gene_entries: usize,
    peak_entries: usize,
    gene_rows: usize,
    peak_rows: usize,
    columns: usize,
    genes: usize,
    h: usize,
    heads: usize,
    top_k: usize,
    /// Padded row of all heads of a query or key.
    padded: usize,
    /// Bag widths, the sum of weights included.
    gene_bag: usize,
    peak_bag: usize,
    u_part: usize,
    pool_part: usize,
    weight_part: usize,
    chromosome_part: usize,
    /// Of the cis term, all 0 without: 1, edges of the graph, peaks of the data set, numbers of a cell, (peaks, chromosomes)
    /// of the sums for genes that take their whole chromosome, blocks that write partial gradients, and those of its size.
    cis: usize,
    edges: usize,
    peaks: usize,
    components: usize,
    whole_chromosomes: usize,
    cis_blocks: usize,
    size_blocks: usize,
    /// 1 with a contrastive term, else 0.
    contrast: usize,
}

regions! {
    q: f32 = |n: &Lengths| n.gene_rows * n.h;
    k: f32 = |n: &Lengths| n.peak_rows * n.h;
    uq: f32 = |n: &Lengths| n.h;
    uk: f32 = |n: &Lengths| n.h;
    d_q: f32 = |n: &Lengths| n.gene_rows * n.h;
    d_k: f32 = |n: &Lengths| n.peak_rows * n.h;
    d_uq: f32 = |n: &Lengths| n.h;
    d_uk: f32 = |n: &Lengths| n.h;
    u_part: f32 = |n: &Lengths| n.u_part * n.h;
    weight_part: f32 = |n: &Lengths| n.weight_part;
    chromosome_part: f32 = |n: &Lengths| n.chromosome_part;
    row_sums: f32 = |n: &Lengths| n.gene_entries * n.heads;
    col_sums: f32 = |n: &Lengths| n.peak_entries * n.heads;
    d_row_sums: f32 = |n: &Lengths| n.gene_entries * n.heads;
    d_col_sums: f32 = |n: &Lengths| n.peak_entries * n.heads;
    member: u32 = |n: &Lengths| n.gene_entries * n.heads * n.top_k;
    weight: f32 = |n: &Lengths| n.gene_entries * n.heads * n.top_k;
    score: f32 = |n: &Lengths| n.gene_entries * n.heads * n.top_k;
    d_logit: f32 = |n: &Lengths| n.gene_entries * n.heads * n.top_k;
    pair: u32 = |n: &Lengths| n.gene_entries * n.heads * n.top_k;
    pair_ptr: u32 = |n: &Lengths| 2 * n.peak_entries * n.heads;
    pool_part: f32 = |n: &Lengths| n.pool_part;
    bag_a: f32 = |n: &Lengths| n.b * n.heads * n.peak_bag;
    bag_r: f32 = |n: &Lengths| n.b * n.heads * n.gene_bag;
    mean_a: f32 = |n: &Lengths| n.b * n.peak_bag;
    mean_r: f32 = |n: &Lengths| n.b * n.gene_bag;
    d_bag_a: f32 = |n: &Lengths| n.b * n.heads * n.peak_bag;
    d_bag_r: f32 = |n: &Lengths| n.b * n.heads * n.gene_bag;
    d_mean_a: f32 = |n: &Lengths| n.b * n.peak_bag;
    d_mean_r: f32 = |n: &Lengths| n.b * n.gene_bag;
    m_r: f32 = |n: &Lengths| n.b * n.h;
    m_a: f32 = |n: &Lengths| n.b * n.h;
    d_m_r: f32 = |n: &Lengths| n.b * n.h;
    d_m_a: f32 = |n: &Lengths| n.b * n.h;
    x_r: f32 = |n: &Lengths| n.b * 2 * n.h;
    x_a: f32 = |n: &Lengths| n.b * 2 * n.h;
    d_x_r: f32 = |n: &Lengths| n.b * 2 * n.h;
    d_x_a: f32 = |n: &Lengths| n.b * 2 * n.h;
    z: f32 = |n: &Lengths| n.b * 2 * n.h;
    d_z: f32 = |n: &Lengths| n.b * 2 * n.h;
    a1: f32 = |n: &Lengths| n.b * n.h;
    d_a1: f32 = |n: &Lengths| n.b * n.h;
    a2: f32 = |n: &Lengths| n.b * (n.h / 2);
    d_a2: f32 = |n: &Lengths| n.b * (n.h / 2);
    logits: f32 = |n: &Lengths| n.b * 2;
    d_logits: f32 = |n: &Lengths| n.b * 2;
    genes_eff: f32 = |n: &Lengths| if n.n == 0 { 0 } else { n.genes * n.padded };
    keys_eff: f32 = |n: &Lengths| n.columns * n.padded;
    mask: u32 = |n: &Lengths| n.heads * mask_words(n.genes) * n.columns;
    predicted: u32 = |n: &Lengths| n.n * n.heads * mask_words(n.genes);
    count: u32 = |n: &Lengths| n.n * n.heads * n.genes;
    d_pred: f32 = |n: &Lengths| n.n * n.heads * n.genes;
    loss_part: f32 = |n: &Lengths| n.n * n.heads;
    flag: u32 = |n: &Lengths| n.heads * n.genes;
    active: u32 = |n: &Lengths| n.heads * n.genes;
    n_active: u32 = |n: &Lengths| n.heads;
    d_keys: f32 = |n: &Lengths| n.columns * n.h;
    cis_place: u32 = |n: &Lengths| n.peaks;
    cis_open: u32 = |n: &Lengths| n.cis * n.columns * n.n.div_ceil(32);
    cis_value_score: f32 = |n: &Lengths| n.cis * n.genes;
    cis_score: f32 = |n: &Lengths| n.edges;
    cis_d_score: f32 = |n: &Lengths| n.edges;
    cis_d_value: f32 = |n: &Lengths| n.edges;
    cis_sums: f32 = |n: &Lengths| n.n * n.whole_chromosomes * n.h;
    cis_d_sums: f32 = |n: &Lengths| n.n * n.whole_chromosomes * n.h;
    cis_near: f32 = |n: &Lengths| n.cis * n.n * n.genes;
    cis_y: f32 = |n: &Lengths| n.cis * n.n * n.genes;
    cis_blind: f32 = |n: &Lengths| n.cis * n.n * n.genes;
    cis_d_y: f32 = |n: &Lengths| n.cis * n.n * n.genes;
    cis_cell: f32 = |n: &Lengths| n.b * n.components;
    cis_d_cell: f32 = |n: &Lengths| n.b * n.components;
    cis_x: f32 = |n: &Lengths| n.cis * n.n * (n.components + 2);
    cis_x_blind: f32 = |n: &Lengths| n.cis * n.n * (n.components + 2);
    cis_d_x: f32 = |n: &Lengths| n.cis * n.n * (n.components + 2);
    cis_loss_part: f32 = |n: &Lengths| n.cis * n.n;
    cis_size_part: f32 = |n: &Lengths| n.size_blocks;
    cis_edge_part: u32 = |n: &Lengths| n.size_blocks;
    cis_edges: u32 = |n: &Lengths| n.cis;
    cis_v_part: f32 = |n: &Lengths| n.cis_blocks * n.h;
    cis_decay_part: f32 = |n: &Lengths| n.cis_blocks * CIS_BINS as usize;
    contrast_logits: f32 = |n: &Lengths| n.contrast * n.n * n.n;
    contrast_lines: f32 = |n: &Lengths| n.contrast * 4 * n.n;
    contrast_part: f32 = |n: &Lengths| n.contrast * n.n;
    translate_part: f32 = |n: &Lengths| n.columns.div_ceil(TRANSLATE_CHUNK as usize) * n.genes * n.h;
}

/// Words of a row of mask bits.
pub(crate) fn mask_words(genes: usize) -> usize {
    genes.div_ceil(MASK_GENES as usize) * (MASK_GENES as usize / 32)
}

/// Slots for batches: one is computed with while the other is filled.
pub(crate) const SLOTS: usize = 2;

/// The plan of a workspace.
#[derive(Debug, Clone)]
pub(crate) struct WorkPlan {
    pub room: Sizes,
    pub slot: SlotLayout,
    pub layout: Layout,
    pub spans: Spans,
    slots: [Span<u8>; SLOTS],
}

impl WorkPlan {
    /// A workspace for batches of up to `room`; `graph` is that of the cis term, where there is one.
    pub fn new(config: &ModelConfig, graph: Option<&CisGraph>, kernels: &Kernels, room: Sizes) -> Result<Self> {
        let tile = |name: &str| Ok::<_, Error>(kernels.get(name)?.shape().tile_x as usize);
        let z = |x: u32| x as usize;
        let (h, d) = (config.hidden, config.embedding_dim);
        let (gene_width, peak_width) = (d + 1 + config.gene_features(), d + 1 + config.peak_features());
        let slice = h / config.heads;
        let parts = |rows: usize| rows.div_ceil(PROJECT_CHUNK as usize);
        let (gr, pr) = (z(room.gene_rows), z(room.peak_rows));
        let per_cis = |x: usize| if graph.is_some() { x } else { 0 };
        let gene_blocks = per_cis(config.genes.div_ceil(tile("cis_backward_genes")?));
        let row_blocks = per_cis(pr.div_ceil(tile("cis_backward_rows")?).max(pr.div_ceil(tile("cis_backward_edges")?)));
        let lengths = Lengths {
            b: z(room.samples),
            n: z(room.positives),
            gene_entries: z(room.gene_entries),
            peak_entries: z(room.peak_entries),
            gene_rows: gr,
            peak_rows: pr,
            columns: z(room.columns),
            genes: config.genes,
            h,
            heads: config.heads,
            top_k: config.top_k,
            padded: config.heads * slice.next_multiple_of(16),
            gene_bag: gene_width + 1,
            peak_bag: peak_width + 1,
            u_part: [
                gr.div_ceil(tile("attend_backward_rows")?),
                pr.div_ceil(tile("attend_backward_columns")?),
                config.genes.div_ceil(tile("translate_backward_genes_reduce")?),
                pr.div_ceil(tile("translate_backward_columns")?),
                gene_blocks,
            ]
            .into_iter()
            .fold(1, usize::max),
            pool_part: config.heads
                * (z(room.gene_chunks) * (gene_width + 1)).max(z(room.peak_chunks) * (peak_width + 1)),
            weight_part: (parts(gr) * h * (d + config.gene_extra)).max(parts(pr) * h * (d + config.dna_length)),
            chromosome_part: parts(gr.max(pr)) * config.chromosomes * h,
            cis: per_cis(1),
            edges: graph.map_or(0, CisGraph::len),
            peaks: per_cis(config.peaks),
            components: config.cis.as_ref().map_or(0, |c| c.components),
            whole_chromosomes: if graph.is_some_and(|g| g.whole.contains(&true)) { config.chromosomes } else { 0 },
            cis_blocks: gene_blocks.max(row_blocks),
            size_blocks: per_cis(pr.div_ceil(tile("cis_size")?)),
            contrast: usize::from(config.contrast > 0.0),
        };
        let slot = SlotLayout::new(&room);
        let mut layout = Layout::default();
        let slots = std::array::from_fn(|_| layout.add::<u8>("batch", slot.layout.bytes()));
        let spans = Spans::plan(&mut layout, &lengths);
        Ok(WorkPlan { room, slot, layout, spans, slots })
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.layout.bytes()
    }
}

/// An allocated workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub plan: WorkPlan,
    pub arena: Arena,
    pub ptrs: Ptrs,
}

impl Workspace {
    pub fn new(gpu: &Arc<Gpu>, plan: WorkPlan, what: &str) -> Result<Self> {
        let arena = Arena::new(gpu, &plan.layout, what)?;
        let ptrs = plan.spans.ptrs(&arena);
        Ok(Workspace { plan, arena, ptrs })
    }

    /// Where slot `slot` starts in the arena.
    pub fn slot_offset(&self, slot: usize) -> usize {
        self.plan.slots[slot].offset
    }

    /// The parts of the batch in slot `slot`.
    pub fn batch(&self, slot: usize) -> BatchPtrs {
        BatchPtrs::new(&self.plan.slot, self.arena.memory().address() + self.slot_offset(slot) as u64)
    }
}
