//! The launch ABI: what `kernels/common/abi.h` says, for Rust. Field for field the same; `tests/device.rs` compares sizes
//! and offsets of the two with a kernel that reports its own.
#![allow(missing_docs)]

use std::marker::PhantomData;

/// A device address of numbers of type `T`. Says nothing of how many there are, nor whether they are alive: the arena
/// it came from does.
#[repr(transparent)]
pub struct Ptr<T>(pub u64, PhantomData<T>);

impl<T> Ptr<T> {
    /// The address 0, which optional fields take for "none".
    pub const NULL: Self = Ptr(0, PhantomData);

    /// An address.
    pub const fn new(address: u64) -> Self {
        Ptr(address, PhantomData)
    }

    /// `n` numbers further on.
    pub const fn add(self, n: usize) -> Self {
        Ptr(self.0 + (n * size_of::<T>()) as u64, PhantomData)
    }

    /// The same address, read as another type.
    pub const fn cast<U>(self) -> Ptr<U> {
        Ptr(self.0, PhantomData)
    }
}

impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ptr<T> {}

impl<T> Default for Ptr<T> {
    fn default() -> Self {
        Self::NULL
    }
}

impl<T> std::fmt::Debug for Ptr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// No member, no row.
pub const NONE: u32 = u32::MAX;
/// Genes an AttendTile holds at most.
pub const ATTEND_GENES: u32 = 64;
/// Entries a PoolChunk holds at most.
pub const POOL_ENTRIES: u32 = 128;
/// Table rows of one partial weight gradient.
pub const PROJECT_CHUNK: u32 = 512;
/// Genes of one mask block: eight words.
pub const MASK_GENES: u32 = 256;
/// Columns of one partial gradient of the gene side.
pub const TRANSLATE_CHUNK: u32 = 8192;
/// Partial sums of the gradient norm.
pub const NORM_PARTS: u32 = 1024;
/// Places a gene can have: one lane each.
pub const MAX_TOP_K: u32 = 32;
/// Distance bins of the cis graph.
pub const CIS_BINS: u32 = 8;

/// `Nodes` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Nodes {
    pub n_samples: Ptr<u32>,
    pub n_entries: Ptr<u32>,
    pub n_rows: Ptr<u32>,
    pub indptr: Ptr<u32>,
    pub local: Ptr<u32>,
    pub sample: Ptr<u32>,
    pub value: Ptr<f32>,
    pub row: Ptr<u32>,
    pub row_ptr: Ptr<u32>,
    pub by_row: Ptr<u32>,
}

/// `Side` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Side {
    pub chrom: Ptr<u32>,
    pub dense: Ptr<f32>,
    pub bases: Ptr<u8>,
    pub count: u32,
    pub chromosomes: u32,
    pub extra: u32,
    pub dim: u32,
}

/// `ProjectForwardArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ProjectForwardArgs {
    pub side: Side,
    pub n_rows: Ptr<u32>,
    pub row: Ptr<u32>,
    pub emb: Ptr<f32>,
    pub w: Ptr<f32>,
    pub b: Ptr<f32>,
    pub table: Ptr<f32>,
    pub u: Ptr<f32>,
    pub hidden: u32,
    pub pad: u32,
}

/// `ProjectBackwardEmbeddingArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ProjectBackwardEmbeddingArgs {
    pub side: Side,
    pub n_rows: Ptr<u32>,
    pub row: Ptr<u32>,
    pub d_table: Ptr<f32>,
    pub w: Ptr<f32>,
    pub d_emb: Ptr<f32>,
    pub hidden: u32,
    pub pad: u32,
}

/// `ProjectBackwardWeightArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ProjectBackwardWeightArgs {
    pub side: Side,
    pub n_rows: Ptr<u32>,
    pub row: Ptr<u32>,
    pub emb: Ptr<f32>,
    pub d_table: Ptr<f32>,
    pub part: Ptr<f32>,
    pub part_chrom: Ptr<f32>,
    pub hidden: u32,
    pub pad: u32,
}

/// `ProjectBackwardReduceArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ProjectBackwardReduceArgs {
    pub side: Side,
    pub n_rows: Ptr<u32>,
    pub part: Ptr<f32>,
    pub part_chrom: Ptr<f32>,
    pub d_u: Ptr<f32>,
    pub d_w: Ptr<f32>,
    pub d_b: Ptr<f32>,
    pub hidden: u32,
    pub pad: u32,
}

/// `AttendTile` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttendTile {
    pub first_gene: u32,
    pub last_gene: u32,
    pub first_peak: u32,
    pub last_peak: u32,
    pub first_pad: u32,
    pub last_pad: u32,
    pub places: u32,
    pub zero: u32,
}

/// `AttendBlock` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AttendBlock {
    pub first_gene: u32,
    pub last_gene: u32,
    pub first_peak: u32,
    pub last_peak: u32,
}

/// `AttendForwardArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendForwardArgs {
    pub n_tiles: Ptr<u32>,
    pub tile: Ptr<AttendTile>,
    pub pad: Ptr<u32>,
    pub genes: Nodes,
    pub peaks: Nodes,
    pub q: Ptr<f32>,
    pub uq: Ptr<f32>,
    pub k: Ptr<f32>,
    pub uk: Ptr<f32>,
    pub row_sums: Ptr<f32>,
    pub member: Ptr<u32>,
    pub weight: Ptr<f32>,
    pub score: Ptr<f32>,
    pub hidden: u32,
    pub heads: u32,
    pub top_k: u32,
    pub tau: f32,
}

/// `AttendColumnsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendColumnsArgs {
    pub n_blocks: Ptr<u32>,
    pub block: Ptr<AttendBlock>,
    pub member: Ptr<u32>,
    pub weight: Ptr<f32>,
    pub score: Ptr<f32>,
    pub col_sums: Ptr<f32>,
    pub pair_ptr: Ptr<u32>,
    pub pair: Ptr<u32>,
    pub heads: u32,
    pub top_k: u32,
    pub tau: f32,
    pub pad: u32,
}

/// `AttendBackwardLogitsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendBackwardLogitsArgs {
    pub n_entries: Ptr<u32>,
    pub member: Ptr<u32>,
    pub weight: Ptr<f32>,
    pub score: Ptr<f32>,
    pub d_row_sums: Ptr<f32>,
    pub d_col_sums: Ptr<f32>,
    pub d_logit: Ptr<f32>,
    pub heads: u32,
    pub top_k: u32,
    pub tau: f32,
    pub pad: u32,
}

/// `AttendBackwardRowsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendBackwardRowsArgs {
    pub genes: Nodes,
    pub peaks: Nodes,
    pub member: Ptr<u32>,
    pub d_logit: Ptr<f32>,
    pub k: Ptr<f32>,
    pub uk: Ptr<f32>,
    pub d_q: Ptr<f32>,
    pub d_u_part: Ptr<f32>,
    pub hidden: u32,
    pub heads: u32,
    pub top_k: u32,
    pub pad: u32,
}

/// `AttendBackwardColumnsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AttendBackwardColumnsArgs {
    pub genes: Nodes,
    pub peaks: Nodes,
    pub pair_ptr: Ptr<u32>,
    pub pair: Ptr<u32>,
    pub d_logit: Ptr<f32>,
    pub q: Ptr<f32>,
    pub uq: Ptr<f32>,
    pub d_k: Ptr<f32>,
    pub d_u_part: Ptr<f32>,
    pub hidden: u32,
    pub heads: u32,
    pub top_k: u32,
    pub pad: u32,
}

/// `PoolChunk` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PoolChunk {
    pub sample: u32,
    pub first: u32,
    pub last: u32,
    pub zero: u32,
}

/// `PoolForwardArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolForwardArgs {
    pub side: Side,
    pub nodes: Nodes,
    pub n_chunks: Ptr<u32>,
    pub chunk: Ptr<PoolChunk>,
    pub emb: Ptr<f32>,
    pub weight: Ptr<f32>,
    pub part: Ptr<f32>,
    pub heads: u32,
    pub pad: u32,
}

/// `PoolFinishArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolFinishArgs {
    pub n_samples: Ptr<u32>,
    pub chunk_ptr: Ptr<u32>,
    pub part: Ptr<f32>,
    pub bag: Ptr<f32>,
    pub heads: u32,
    pub stride: u32,
}

/// `PoolBackwardRowsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolBackwardRowsArgs {
    pub side: Side,
    pub nodes: Nodes,
    pub weight: Ptr<f32>,
    pub d_bag: Ptr<f32>,
    pub d_emb: Ptr<f32>,
    pub heads: u32,
    pub pad: u32,
}

/// `PoolBackwardWeightsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolBackwardWeightsArgs {
    pub side: Side,
    pub nodes: Nodes,
    pub emb: Ptr<f32>,
    pub weight: Ptr<f32>,
    pub d_bag: Ptr<f32>,
    pub d_weight: Ptr<f32>,
    pub heads: u32,
    pub pad: u32,
}

/// `LinearForwardArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearForwardArgs {
    pub n_samples: Ptr<u32>,
    pub x: Ptr<f32>,
    pub w: Ptr<f32>,
    pub b: Ptr<f32>,
    pub indptr: Ptr<u32>,
    pub y: Ptr<f32>,
    pub sample_key: Ptr<u32>,
    pub step_key: Ptr<u32>,
    pub ldx: u32,
    pub ldy: u32,
    pub inp: u32,
    pub out: u32,
    pub heads: u32,
    pub bias_column: u32,
    pub relu: u32,
    pub layer: u32,
    pub seed_low: u32,
    pub seed_high: u32,
    pub drop_below: u32,
    pub pad: u32,
    pub keep: f32,
    pub pad2: u32,
}

/// `LinearBackwardXArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearBackwardXArgs {
    pub n_samples: Ptr<u32>,
    pub dy: Ptr<f32>,
    pub w: Ptr<f32>,
    pub b: Ptr<f32>,
    pub indptr: Ptr<u32>,
    pub dx: Ptr<f32>,
    pub ldy: u32,
    pub ldx: u32,
    pub inp: u32,
    pub out: u32,
    pub heads: u32,
    pub bias_column: u32,
    pub add: u32,
    pub pad: u32,
}

/// `LinearBackwardWArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct LinearBackwardWArgs {
    pub n_samples: Ptr<u32>,
    pub dy: Ptr<f32>,
    pub x: Ptr<f32>,
    pub indptr: Ptr<u32>,
    pub dw: Ptr<f32>,
    pub db: Ptr<f32>,
    pub ldy: u32,
    pub ldx: u32,
    pub inp: u32,
    pub out: u32,
    pub heads: u32,
    pub bias_column: u32,
}

/// `HeadGateArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadGateArgs {
    pub n_samples: Ptr<u32>,
    pub y: Ptr<f32>,
    pub dy: Ptr<f32>,
    pub width: u32,
    pub keep: f32,
}

/// `StepRecord` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct StepRecord {
    pub loss: f32,
    pub match_loss: f32,
    pub translation_loss: f32,
    pub cis_loss: f32,
    pub contrast_loss: f32,
    pub norm: f32,
    pub finite: u32,
    pub applied: u32,
    pub updates: u32,
    pub zero: u32,
}

/// `CrossEntropyArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CrossEntropyArgs {
    pub n_samples: Ptr<u32>,
    pub logits: Ptr<f32>,
    pub label: Ptr<u32>,
    pub d_logits: Ptr<f32>,
    pub record: Ptr<StepRecord>,
    pub weight: f32,
    pub pad: u32,
}

/// `LossTotalArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct LossTotalArgs {
    pub n_parts: Ptr<u32>,
    pub part: Ptr<f32>,
    pub record: Ptr<StepRecord>,
    pub heads: u32,
    pub alpha: f32,
    pub match_weight: f32,
    pub pad: u32,
}

/// `ReducePartsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ReducePartsArgs {
    pub n: Ptr<u32>,
    pub part: Ptr<f32>,
    pub out: Ptr<f32>,
    pub per: u32,
    pub width: u32,
    pub add: u32,
    pub pad: u32,
}

/// `Columns` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Columns {
    pub n_columns: Ptr<u32>,
    pub n_positives: Ptr<u32>,
    pub row: Ptr<u32>,
    pub value: Ptr<f32>,
    pub indptr: Ptr<u32>,
    pub col: Ptr<u32>,
    pub by_ptr: Ptr<u32>,
    pub by_sample: Ptr<u32>,
    pub row_ptr: Ptr<u32>,
    pub positive: Ptr<u32>,
}

/// `TranslateEffectiveArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateEffectiveArgs {
    pub n_items: Ptr<u32>,
    pub row: Ptr<u32>,
    pub value: Ptr<f32>,
    pub table: Ptr<f32>,
    pub u: Ptr<f32>,
    pub out: Ptr<u8>,
    pub hidden: u32,
    pub heads: u32,
    pub padded: u32,
    pub pad: u32,
}

/// `TranslateMasksArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateMasksArgs {
    pub n_columns: Ptr<u32>,
    pub genes_eff: Ptr<u8>,
    pub keys_eff: Ptr<u8>,
    pub mask: Ptr<u32>,
    pub genes: u32,
    pub heads: u32,
    pub padded: u32,
    pub limit: f32,
}

/// `TranslateCountArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateCountArgs {
    pub columns: Columns,
    pub mask: Ptr<u32>,
    pub predicted: Ptr<u32>,
    pub count: Ptr<u32>,
    pub genes: u32,
    pub heads: u32,
    pub min_peaks: u32,
    pub pad: u32,
}

/// `TranslateGradientArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateGradientArgs {
    pub columns: Columns,
    pub genes_nodes: Nodes,
    pub predicted: Ptr<u32>,
    pub d_pred: Ptr<f32>,
    pub loss_part: Ptr<f32>,
    pub genes: u32,
    pub heads: u32,
    pub alpha: f32,
    pub pad: u32,
}

/// `TranslateActiveArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateActiveArgs {
    pub n_positives: Ptr<u32>,
    pub d_pred: Ptr<f32>,
    pub flag: Ptr<u32>,
    pub active: Ptr<u32>,
    pub n_active: Ptr<u32>,
    pub genes: u32,
    pub heads: u32,
}

/// `TranslateBackwardArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateBackwardArgs {
    pub columns: Columns,
    pub genes_eff: Ptr<u8>,
    pub keys_eff: Ptr<u8>,
    pub d_pred: Ptr<f32>,
    pub active: Ptr<u32>,
    pub n_active: Ptr<u32>,
    pub d_keys: Ptr<f32>,
    pub part: Ptr<f32>,
    pub genes: u32,
    pub heads: u32,
    pub hidden: u32,
    pub padded: u32,
}

/// `TranslateGenesReduceArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateGenesReduceArgs {
    pub n_columns: Ptr<u32>,
    pub active: Ptr<u32>,
    pub n_active: Ptr<u32>,
    pub part: Ptr<f32>,
    pub d_q: Ptr<f32>,
    pub d_u_part: Ptr<f32>,
    pub genes: u32,
    pub heads: u32,
    pub hidden: u32,
    pub pad: u32,
}

/// `TranslateColumnsArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct TranslateColumnsArgs {
    pub columns: Columns,
    pub n_rows: Ptr<u32>,
    pub d_keys: Ptr<f32>,
    pub d_k: Ptr<f32>,
    pub d_u_part: Ptr<f32>,
    pub hidden: u32,
    pub pad: u32,
}

/// `CisGraph` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CisGraph {
    pub peak_ptr: Ptr<u32>,
    pub gene: Ptr<u32>,
    pub peak: Ptr<u32>,
    pub bin: Ptr<u32>,
    pub gene_ptr: Ptr<u32>,
    pub by_gene: Ptr<u32>,
    pub whole_ptr: Ptr<u32>,
    pub whole: Ptr<u32>,
    pub genes: u32,
    pub peaks: u32,
    pub chromosomes: u32,
    pub n_whole: u32,
}

/// `CisArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct CisArgs {
    pub graph: CisGraph,
    pub columns: Columns,
    pub genes: Nodes,
    pub peaks: Nodes,
    pub gene_chrom: Ptr<u32>,
    pub peak_chrom: Ptr<u32>,
    pub q: Ptr<f32>,
    pub uq: Ptr<f32>,
    pub k: Ptr<f32>,
    pub uk: Ptr<f32>,
    pub decay: Ptr<f32>,
    pub place: Ptr<u32>,
    pub open: Ptr<u32>,
    pub value_score: Ptr<f32>,
    pub score: Ptr<f32>,
    pub sums: Ptr<f32>,
    pub near: Ptr<f32>,
    pub cell: Ptr<f32>,
    pub x: Ptr<f32>,
    pub x_blind: Ptr<f32>,
    pub y: Ptr<f32>,
    pub blind: Ptr<f32>,
    pub d_y: Ptr<f32>,
    pub loss_part: Ptr<f32>,
    pub size_part: Ptr<f32>,
    pub edge_part: Ptr<u32>,
    pub edges: Ptr<u32>,
    pub record: Ptr<StepRecord>,
    pub d_x: Ptr<f32>,
    pub d_cell: Ptr<f32>,
    pub d_score: Ptr<f32>,
    pub d_value: Ptr<f32>,
    pub d_sums: Ptr<f32>,
    pub d_q: Ptr<f32>,
    pub d_k: Ptr<f32>,
    pub u_part: Ptr<f32>,
    pub v_part: Ptr<f32>,
    pub decay_part: Ptr<f32>,
    pub hidden: u32,
    pub components: u32,
    pub level: u32,
    pub pad: u32,
    pub weight: f32,
    pub sparsity: f32,
    pub gene_mean: f32,
    pub gene_sd: f32,
    pub peak_mean: f32,
    pub peak_sd: f32,
}

/// `ContrastArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct ContrastArgs {
    pub n_samples: Ptr<u32>,
    pub n_positives: Ptr<u32>,
    pub positive: Ptr<u32>,
    pub x_r: Ptr<f32>,
    pub x_a: Ptr<f32>,
    pub logits: Ptr<f32>,
    pub lines: Ptr<f32>,
    pub loss_part: Ptr<f32>,
    pub record: Ptr<StepRecord>,
    pub d_x_r: Ptr<f32>,
    pub d_x_a: Ptr<f32>,
    pub hidden: u32,
    pub weight: f32,
}

/// `Control` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Control {
    pub updates: u32,
    pub halted: u32,
    pub stop_on_nan: u32,
    pub apply: u32,
    pub size: f32,
    pub root: f32,
    pub pad: [u32; 2],
}

/// `AdamNormArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AdamNormArgs {
    pub g: Ptr<f32>,
    pub part: Ptr<f32>,
    pub n: u64,
}

/// `AdamGuardArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AdamGuardArgs {
    pub part: Ptr<f32>,
    pub record: Ptr<StepRecord>,
    pub control: Ptr<Control>,
    pub rate: Ptr<f64>,
    pub beta1: f64,
    pub beta2: f64,
}

/// `AdamStepArgs` of `abi.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct AdamStepArgs {
    pub p: Ptr<f32>,
    pub g: Ptr<f32>,
    pub m: Ptr<f32>,
    pub v: Ptr<f32>,
    pub control: Ptr<Control>,
    pub n: u64,
    pub beta1: f32,
    pub rest1: f32,
    pub beta2: f32,
    pub rest2: f32,
    pub eps: f32,
    pub weight_decay: f32,
}

/// How a kernel wants to be launched: its symbol `NAME_shape`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct LaunchShape {
    pub threads: u32,
    pub shared_bytes: u32,
    pub tile_x: u32,
    pub tile_y: u32,
}

/// A plain struct that a kernel takes by value.
///
/// # Safety
/// `Self` is `repr(C)`, has no padding that matters and is the argument struct of the kernels it is launched with.
#[allow(unsafe_code)]
pub unsafe trait Args: Copy + 'static {}

macro_rules! args {
    ($($name:ident),* $(,)?) => {
        $(
            // SAFETY: a `repr(C)` mirror of the struct of that name in `abi.h`; `tests/device.rs` compares the layouts.
            #[allow(unsafe_code)]
            unsafe impl Args for $name {}
        )*

        /// Name and size of every mirrored struct.
        pub const SIZES: &[(&str, usize)] = &[$((stringify!($name), size_of::<$name>()),)*];
    };
}

args!(
    Nodes,
    Side,
    ProjectForwardArgs,
    ProjectBackwardEmbeddingArgs,
    ProjectBackwardWeightArgs,
    ProjectBackwardReduceArgs,
    AttendTile,
    AttendBlock,
    AttendForwardArgs,
    AttendColumnsArgs,
    AttendBackwardLogitsArgs,
    AttendBackwardRowsArgs,
    AttendBackwardColumnsArgs,
    PoolChunk,
    PoolForwardArgs,
    PoolFinishArgs,
    PoolBackwardRowsArgs,
    PoolBackwardWeightsArgs,
    LinearForwardArgs,
    LinearBackwardXArgs,
    LinearBackwardWArgs,
    HeadGateArgs,
    StepRecord,
    CrossEntropyArgs,
    LossTotalArgs,
    ReducePartsArgs,
    Columns,
    TranslateEffectiveArgs,
    TranslateMasksArgs,
    TranslateCountArgs,
    TranslateGradientArgs,
    TranslateActiveArgs,
    TranslateBackwardArgs,
    TranslateGenesReduceArgs,
    TranslateColumnsArgs,
    CisGraph,
    CisArgs,
    ContrastArgs,
    Control,
    AdamNormArgs,
    AdamGuardArgs,
    AdamStepArgs,
    LaunchShape,
);
