//! A packed batch: its sizes and where its parts lie.

use super::abi::{ATTEND_GENES, AttendBlock, AttendTile, Columns, Nodes, POOL_ENTRIES, PoolChunk, Ptr};
use super::arena::{ArenaPlan, Span};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::model::nodes::NodeSet;

/// How much of everything a batch has; also how much a workspace has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BatchSizes {
    /// B.
    pub samples: u32,
    /// Samples of label 1, of which translation is computed.
    pub positives: u32,
    /// Gene nodes of all samples.
    pub gene_entries: u32,
    /// Peak nodes of all samples.
    pub peak_entries: u32,
    /// Distinct genes (all of the data set where translation is computed).
    pub gene_rows: u32,
    /// Distinct peaks.
    pub peak_rows: u32,
    /// Distinct (peak, accessibility) columns of the positives.
    pub columns: u32,
    /// Peak nodes of the positives.
    pub column_entries: u32,
    /// Work items of `attend_forward`.
    pub tiles: u32,
    /// Work items of `attend_columns`.
    pub blocks: u32,
    /// Masked peaks that may take a place.
    pub pads: u32,
    /// Work items of `pool_forward`, genes.
    pub gene_chunks: u32,
    /// Work items of `pool_forward`, peaks.
    pub peak_chunks: u32,
}

impl BatchSizes {
    fn fields(&self) -> [u32; 13] {
        [
            self.samples,
            self.positives,
            self.gene_entries,
            self.peak_entries,
            self.gene_rows,
            self.peak_rows,
            self.columns,
            self.column_entries,
            self.tiles,
            self.blocks,
            self.pads,
            self.gene_chunks,
            self.peak_chunks,
        ]
    }

    fn from_fields(f: [u32; 13]) -> Self {
        BatchSizes {
            samples: f[0],
            positives: f[1],
            gene_entries: f[2],
            peak_entries: f[3],
            gene_rows: f[4],
            peak_rows: f[5],
            columns: f[6],
            column_entries: f[7],
            tiles: f[8],
            blocks: f[9],
            pads: f[10],
            gene_chunks: f[11],
            peak_chunks: f[12],
        }
    }

    /// Has a workspace of these sizes room for a batch of those?
    pub fn holds(&self, batch: &BatchSizes) -> bool {
        self.fields().iter().zip(batch.fields()).all(|(room, need)| *room >= need)
    }

    /// Room for both.
    pub fn max(&self, other: &BatchSizes) -> BatchSizes {
        let (a, b) = (self.fields(), other.fields());
        BatchSizes::from_fields(std::array::from_fn(|i| a[i].max(b[i])))
    }

    /// A quarter more of everything that grows with the cells, for the same samples.
    pub(crate) fn with_slack(&self, config: &ModelConfig) -> BatchSizes {
        let more = BatchSizes::from_fields(self.fields().map(|n| n.saturating_add(n / 4)));
        BatchSizes {
            samples: self.samples,
            positives: self.positives,
            gene_rows: more.gene_rows.min(config.genes as u32),
            peak_rows: more.peak_rows.min(config.peaks as u32),
            ..more
        }
    }

    fn min(&self, other: &BatchSizes) -> BatchSizes {
        let (a, b) = (self.fields(), other.fields());
        BatchSizes::from_fields(std::array::from_fn(|i| a[i].min(b[i])))
    }

    /// Room for more than a batch of these sizes, where the model can have more.
    pub(crate) fn more(&self, config: &ModelConfig) -> BatchSizes {
        let most = |rows: u32, all: usize| (rows + rows / 2 + 3).min(all as u32);
        BatchSizes {
            gene_rows: most(self.gene_rows, config.genes),
            peak_rows: most(self.peak_rows, config.peaks),
            ..BatchSizes::from_fields(self.fields().map(|n| if n == 0 { 0 } else { n + n / 2 + 3 }))
        }
    }

    /// The bucket of these sizes within a workspace: powers of two, no further than the room, and what follows from them.
    /// Batches of one bucket are launched with the same grids, so that one captured graph serves them all; blocks past a
    /// batch's own counts return at once.
    pub fn bucket(&self, config: &ModelConfig, room: &BatchSizes) -> BatchSizes {
        let round = |n: u32| if n == 0 { 0 } else { n.checked_next_power_of_two().unwrap_or(u32::MAX) };
        let (samples, genes, peaks) = (round(self.samples), round(self.gene_entries), round(self.peak_entries));
        // Work items are bounded by the nodes; nothing is launched over `pads` and `column_entries`.
        let items =
            BatchSizes::bound_by_totals(config, samples as usize, genes as usize, peaks as usize, 0).unwrap_or(*room);
        let sizes = BatchSizes {
            samples,
            positives: round(self.positives),
            gene_entries: genes,
            peak_entries: peaks,
            gene_rows: round(self.gene_rows),
            peak_rows: round(self.peak_rows),
            columns: round(self.columns),
            column_entries: room.column_entries,
            pads: room.pads,
            ..items
        };
        sizes.min(room)
    }

    /// Room for any batch of `samples` whose cells have at most `genes` and `peaks` nodes, with `values` distinct
    /// accessibilities (0: not known).
    pub fn bound(
        config: &ModelConfig,
        samples: usize,
        genes: usize,
        peaks: usize,
        values: usize,
    ) -> Result<BatchSizes> {
        Self::bound_by_totals(config, samples, samples * genes, samples * peaks, values)
    }

    /// As [`BatchSizes::bound`], for batches of at most so many gene and peak nodes in all.
    pub fn bound_by_totals(
        config: &ModelConfig,
        samples: usize,
        gene_entries: usize,
        peak_entries: usize,
        values: usize,
    ) -> Result<BatchSizes> {
        let distinct = if values == 0 { usize::MAX } else { config.peaks.saturating_mul(values) };
        let segments = (samples * config.chromosomes).min(gene_entries.max(peak_entries));
        let places = gene_entries.saturating_mul(config.heads * config.top_k);
        if peak_entries.max(places).max(peak_entries.saturating_mul(2 * config.heads)) >= u32::MAX as usize {
            return Err(Error::usage(format!(
                "--batch-size {samples}: {gene_entries} genes and {peak_entries} peaks of all cells are too many for one \
                 step on a device; take a smaller one"
            )));
        }
        let f = |n: usize| n as u32;
        Ok(BatchSizes {
            samples: f(samples),
            positives: f(samples),
            gene_entries: f(gene_entries),
            peak_entries: f(peak_entries),
            gene_rows: f(config.genes),
            peak_rows: f(config.peaks.min(peak_entries)),
            columns: f(peak_entries.min(distinct)),
            column_entries: f(peak_entries),
            tiles: f(gene_entries / ATTEND_GENES as usize + segments),
            blocks: f(segments),
            pads: f(segments * config.top_k),
            gene_chunks: f(gene_entries / POOL_ENTRIES as usize + samples),
            peak_chunks: f(peak_entries / POOL_ENTRIES as usize + samples),
        })
    }
}

/// Words of the header: counts that kernels read from device memory.
pub(crate) mod word {
    pub const SAMPLES: usize = 0;
    pub const POSITIVES: usize = 1;
    pub const GENE_ENTRIES: usize = 2;
    pub const PEAK_ENTRIES: usize = 3;
    pub const GENE_ROWS: usize = 4;
    pub const PEAK_ROWS: usize = 5;
    pub const COLUMNS: usize = 6;
    pub const TILES: usize = 7;
    pub const BLOCKS: usize = 8;
    pub const GENE_CHUNKS: usize = 9;
    pub const PEAK_CHUNKS: usize = 10;
    /// All genes: what `n_items` of the gene side of translation points at.
    pub const GENES: usize = 11;
    /// Two words.
    pub const STEP: usize = 12;
    /// Two words: the learning rate, an f64.
    pub const RATE: usize = 14;
    pub const COUNT: usize = 16;
}

/// Where the node lists of one side lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeSpans {
    pub indptr: Span<u32>,
    pub local: Span<u32>,
    pub sample: Span<u32>,
    pub value: Span<f32>,
    pub row: Span<u32>,
    pub row_ptr: Span<u32>,
    pub by_row: Span<u32>,
    pub chunk: Span<PoolChunk>,
    pub chunk_ptr: Span<u32>,
}

/// Where the parts of a batch lie in its slot.
#[derive(Debug, Clone)]
pub(crate) struct SlotLayout {
    pub layout: ArenaPlan,
    pub header: Span<u32>,
    pub label: Span<u32>,
    pub sample_key: Span<u32>,
    pub genes: NodeSpans,
    pub peaks: NodeSpans,
    pub tile: Span<AttendTile>,
    pub block: Span<AttendBlock>,
    pub pad: Span<u32>,
    pub column_row: Span<u32>,
    pub column_value: Span<f32>,
    pub column_indptr: Span<u32>,
    pub column_col: Span<u32>,
    pub column_by_ptr: Span<u32>,
    pub column_by_sample: Span<u32>,
    pub column_row_ptr: Span<u32>,
    pub positive: Span<u32>,
}

impl SlotLayout {
    pub fn new(room: &BatchSizes) -> Self {
        let mut l = ArenaPlan::default();
        let n = |x: u32| x as usize;
        let header = l.add("header", word::COUNT);
        let label = l.add("label", n(room.samples));
        let sample_key = l.add("sample_key", 2 * n(room.samples));
        let mut nodes = |entries: u32, rows: u32, chunks: u32| NodeSpans {
            indptr: l.add("indptr", n(room.samples) + 1),
            local: l.add("local", n(entries)),
            sample: l.add("sample", n(entries)),
            value: l.add("value", n(entries)),
            row: l.add("row", n(rows)),
            row_ptr: l.add("row_ptr", n(rows) + 1),
            by_row: l.add("by_row", n(entries)),
            chunk: l.add("chunk", n(chunks)),
            chunk_ptr: l.add("chunk_ptr", n(room.samples) + 1),
        };
        let genes = nodes(room.gene_entries, room.gene_rows, room.gene_chunks);
        let peaks = nodes(room.peak_entries, room.peak_rows, room.peak_chunks);
        SlotLayout {
            header,
            label,
            sample_key,
            genes,
            peaks,
            tile: l.add("tile", n(room.tiles)),
            block: l.add("block", n(room.blocks)),
            pad: l.add("pad", n(room.pads)),
            column_row: l.add("column_row", n(room.columns)),
            column_value: l.add("column_value", n(room.columns)),
            column_indptr: l.add("column_indptr", n(room.positives) + 1),
            column_col: l.add("column_col", n(room.column_entries)),
            column_by_ptr: l.add("column_by_ptr", n(room.columns) + 1),
            column_by_sample: l.add("column_by_sample", n(room.column_entries)),
            column_row_ptr: l.add("column_row_ptr", n(room.peak_rows) + 1),
            positive: l.add("positive", n(room.positives)),
            layout: l,
        }
    }
}

/// A batch's parts on the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchPtrs {
    pub genes: Nodes,
    pub peaks: Nodes,
    pub columns: Columns,
    pub n_samples: Ptr<u32>,
    pub n_genes: Ptr<u32>,
    pub step_key: Ptr<u32>,
    pub rate: Ptr<f64>,
    pub sample_key: Ptr<u32>,
    pub label: Ptr<u32>,
    pub n_tiles: Ptr<u32>,
    pub tile: Ptr<AttendTile>,
    pub pad: Ptr<u32>,
    pub n_blocks: Ptr<u32>,
    pub block: Ptr<AttendBlock>,
    pub gene_chunks: (Ptr<u32>, Ptr<PoolChunk>, Ptr<u32>),
    pub peak_chunks: (Ptr<u32>, Ptr<PoolChunk>, Ptr<u32>),
}

impl BatchPtrs {
    /// The parts of a slot that starts at `base`.
    pub fn new(s: &SlotLayout, base: u64) -> Self {
        fn at<T>(base: u64, span: Span<T>) -> Ptr<T> {
            Ptr::new(base + span.offset as u64)
        }
        let count = |word: usize| at(base, s.header).add(word);
        let nodes = |n: &NodeSpans, entries: usize, rows: usize| Nodes {
            n_samples: count(word::SAMPLES),
            n_entries: count(entries),
            n_rows: count(rows),
            indptr: at(base, n.indptr),
            local: at(base, n.local),
            sample: at(base, n.sample),
            value: at(base, n.value),
            row: at(base, n.row),
            row_ptr: at(base, n.row_ptr),
            by_row: at(base, n.by_row),
        };
        let chunks = |n: &NodeSpans, word: usize| (count(word), at(base, n.chunk), at(base, n.chunk_ptr));
        BatchPtrs {
            genes: nodes(&s.genes, word::GENE_ENTRIES, word::GENE_ROWS),
            peaks: nodes(&s.peaks, word::PEAK_ENTRIES, word::PEAK_ROWS),
            columns: Columns {
                n_columns: count(word::COLUMNS),
                n_positives: count(word::POSITIVES),
                row: at(base, s.column_row),
                value: at(base, s.column_value),
                indptr: at(base, s.column_indptr),
                col: at(base, s.column_col),
                by_ptr: at(base, s.column_by_ptr),
                by_sample: at(base, s.column_by_sample),
                row_ptr: at(base, s.column_row_ptr),
                positive: at(base, s.positive),
            },
            n_samples: count(word::SAMPLES),
            n_genes: count(word::GENES),
            step_key: count(word::STEP),
            rate: count(word::RATE).cast(),
            sample_key: at(base, s.sample_key),
            label: at(base, s.label),
            n_tiles: count(word::TILES),
            tile: at(base, s.tile),
            pad: at(base, s.pad),
            n_blocks: count(word::BLOCKS),
            block: at(base, s.block),
            gene_chunks: chunks(&s.genes, word::GENE_CHUNKS),
            peak_chunks: chunks(&s.peaks, word::PEAK_CHUNKS),
        }
    }
}

/// Pieces of at most `POOL_ENTRIES` entries of one sample, and where the pieces of each sample start.
pub(crate) fn chunks(nodes: &NodeSet<f32>) -> (Vec<PoolChunk>, Vec<u32>) {
    let (mut list, mut ptr) = (Vec::new(), vec![0]);
    for b in 0..nodes.samples() {
        for first in (nodes.indptr[b]..nodes.indptr[b + 1]).step_by(POOL_ENTRIES as usize) {
            let last = nodes.indptr[b + 1].min(first + POOL_ENTRIES as usize);
            list.push(PoolChunk { sample: b as u32, first: first as u32, last: last as u32, zero: 0 });
        }
        ptr.push(list.len() as u32);
    }
    (list, ptr)
}
