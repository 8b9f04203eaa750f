//! A batch on its way to the device: node lists, columns and work lists, laid out in pinned memory as the kernels read
//! them (`kernels/common/abi.h`).

use std::sync::Arc;

use crate::device::BatchSizes;
use crate::device::abi::{ATTEND_GENES, AttendBlock, AttendTile, PoolChunk};
use crate::device::arena::Span;
use crate::device::gpu::Pinned;
use crate::device::slot::{NodeSpans, SlotLayout, chunks, word};
use crate::error::{Error, Result};
use crate::model::nodes::NodeSet;
use crate::model::terms::Terms;
use crate::model::{Batch, Features, ModelConfig};
use crate::ops::translate;

/// A batch arranged for the device, still in ordinary memory.
#[derive(Debug)]
pub(crate) struct Arranged {
    pub sizes: BatchSizes,
    pub positives: Vec<usize>,
    pub genes: NodeSet<f32>,
    pub peaks: NodeSet<f32>,
    columns: Option<translate::PeakColumns<f32>>,
    tiles: Vec<AttendTile>,
    blocks: Vec<AttendBlock>,
    pads: Vec<u32>,
    gene_chunks: (Vec<PoolChunk>, Vec<u32>),
    peak_chunks: (Vec<PoolChunk>, Vec<u32>),
    label: Vec<u32>,
    sample: Vec<u64>,
}

/// Arranges batches of a model.
#[derive(Debug, Clone)]
pub(crate) struct Packer {
    pub config: ModelConfig,
    pub features: Arc<Features<f32>>,
}

impl Packer {
    /// Node lists, columns and work lists of a batch for these terms.
    pub fn arrange(&self, batch: &Batch<f32>, terms: Terms) -> Result<Arranged> {
        batch.validate(&self.features)?;
        let by_column = terms.translate || terms.cis;
        let any = by_column || terms.contrast;
        let positives: Vec<usize> =
            if any { (0..batch.len()).filter(|&i| batch.label[i] == 1).collect() } else { Vec::new() };
        let all = by_column && !positives.is_empty();
        let ((genes, gene_chunks), (peaks, peak_chunks, columns)) = rayon::join(
            || {
                let genes = NodeSet::new(&batch.rna, &self.features.gene_chrom, all);
                let chunks = chunks(&genes);
                (genes, chunks)
            },
            || {
                let peaks = NodeSet::new(&batch.atac, &self.features.peak_chrom, false);
                let chunks = chunks(&peaks);
                let columns = all.then(|| translate::PeakColumns::new(&peaks, &positives));
                (peaks, chunks, columns)
            },
        );
        let (tiles, blocks, pads) = self.work(&genes, &peaks);
        let sizes = BatchSizes {
            samples: fits(batch.len(), "samples")?,
            positives: fits(positives.len(), "positives")?,
            gene_entries: fits(genes.nnz() * self.config.heads * self.config.top_k, "members")
                .and_then(|_| fits(genes.nnz(), "gene nodes"))?,
            peak_entries: fits(2 * peaks.nnz() * self.config.heads, "peak nodes")
                .and_then(|_| fits(peaks.nnz(), "peak nodes"))?,
            gene_rows: fits(genes.rows.len(), "genes")?,
            peak_rows: fits(peaks.rows.len(), "peaks")?,
            columns: columns.as_ref().map_or(0, |c| c.len() as u32),
            column_entries: columns.as_ref().map_or(0, |c| c.col.len() as u32),
            tiles: fits(tiles.len(), "tiles")?,
            blocks: fits(blocks.len(), "blocks")?,
            pads: fits(pads.len(), "pads")?,
            gene_chunks: fits(gene_chunks.0.len(), "chunks")?,
            peak_chunks: fits(peak_chunks.0.len(), "chunks")?,
        };
        Ok(Arranged {
            sizes,
            positives,
            genes,
            peaks,
            columns,
            tiles,
            blocks,
            pads,
            gene_chunks,
            peak_chunks,
            label: batch.label.iter().map(|&l| u32::from(l)).collect(),
            sample: batch.sample.clone(),
        })
    }

    /// Work items of the attention: gene tiles with their peaks and pads, and peak blocks with their genes.
    fn work(&self, genes: &NodeSet<f32>, peaks: &NodeSet<f32>) -> (Vec<AttendTile>, Vec<AttendBlock>, Vec<u32>) {
        let (mut tiles, mut blocks, mut pads) = (Vec::new(), Vec::new(), Vec::new());
        let top_k = self.config.top_k;
        let known = |c: u32| self.features.unknown != Some(c);
        let find = |list: &[(u32, usize, usize)], c: u32| {
            let at = list.binary_search_by_key(&c, |s| s.0).ok().filter(|_| known(c));
            at.map_or((0, 0), |i| (list[i].1 as u32, list[i].2 as u32))
        };
        let mut lowest: Vec<(u32, u32)> = Vec::new();
        for b in 0..genes.samples() {
            let places = top_k.min(peaks.count(b));
            // The lowest data set indices of each chromosome: among them are the first masked peaks of any gene.
            lowest.clear();
            for &(c, from, to) in &peaks.segments[b] {
                let index = |e: usize| peaks.rows[peaks.local[e] as usize];
                lowest.extend((from..to.min(from + top_k)).map(|e| (index(e), c)));
            }
            lowest.sort_unstable();
            for &(c, g0, g1) in &genes.segments[b] {
                let (p0, p1) = find(&peaks.segments[b], c);
                let first_pad = pads.len() as u32;
                if p0 < p1 {
                    let masked = peaks.count(b) - (p1 - p0) as usize;
                    pads.extend(lowest.iter().filter(|x| x.1 != c).take(places.min(masked)).map(|x| x.0));
                }
                for from in (g0..g1).step_by(ATTEND_GENES as usize) {
                    tiles.push(AttendTile {
                        first_gene: from as u32,
                        last_gene: g1.min(from + ATTEND_GENES as usize) as u32,
                        first_peak: p0,
                        last_peak: p1,
                        first_pad,
                        last_pad: pads.len() as u32,
                        places: places as u32,
                        zero: 0,
                    });
                }
            }
            for &(c, p0, p1) in &peaks.segments[b] {
                let (first_gene, last_gene) = find(&genes.segments[b], c);
                blocks.push(AttendBlock { first_gene, last_gene, first_peak: p0 as u32, last_peak: p1 as u32 });
            }
        }
        (tiles, blocks, pads)
    }
}

fn fits(n: usize, what: &str) -> Result<u32> {
    u32::try_from(n).ok().filter(|&n| n < u32::MAX).ok_or_else(|| {
        Error::usage(format!("a batch of {n} {what} is too large for the device; take a smaller --batch-size"))
    })
}

/// A batch in pinned memory, ready to be uploaded.
#[derive(Debug)]
pub(crate) struct Packed {
    pub sizes: BatchSizes,
    pub pinned: Pinned,
    /// Ranges of the slot that hold something: offset, bytes.
    pub ranges: Vec<(usize, usize)>,
}

/// Writes parts of a slot and remembers which ranges it wrote.
struct Writer<'a> {
    to: &'a mut [u8],
    ranges: Vec<(usize, usize)>,
}

impl Writer<'_> {
    fn put<T: bytemuck::NoUninit>(&mut self, span: Span<T>, data: &[T]) {
        assert!(data.len() <= span.len, "a batch that is larger than its slot");
        let bytes: &[u8] = bytemuck::cast_slice(data);
        self.to[span.offset..span.offset + bytes.len()].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.ranges.push((span.offset, bytes.len()));
        }
    }

    fn put_from<T: bytemuck::NoUninit>(&mut self, span: Span<T>, data: impl ExactSizeIterator<Item = T>) {
        let (size, n) = (size_of::<T>(), data.len());
        assert!(n <= span.len, "a batch that is larger than its slot");
        let to = &mut self.to[span.offset..span.offset + n * size];
        for (to, x) in to.chunks_exact_mut(size).zip(data) {
            to.copy_from_slice(bytemuck::bytes_of(&x));
        }
        if n > 0 {
            self.ranges.push((span.offset, n * size));
        }
    }

    fn nodes(&mut self, s: &NodeSpans, n: &NodeSet<f32>, chunks: &(Vec<PoolChunk>, Vec<u32>)) {
        self.put_from(s.indptr, n.indptr.iter().map(|&x| x as u32));
        self.put(s.local, &n.local);
        self.put(s.sample, &n.sample);
        self.put(s.value, &n.values);
        self.put(s.row, &n.rows);
        self.put_from(s.row_ptr, n.row_ptr.iter().map(|&x| x as u32));
        self.put(s.by_row, &n.by_row);
        self.put(s.chunk, &chunks.0);
        self.put(s.chunk_ptr, &chunks.1);
    }
}

impl Arranged {
    /// Writes the batch to a slot's image, as step `step` of learning rate `rate`. The slot holds it: [`BatchSizes::holds`].
    pub fn pack(&self, s: &SlotLayout, genes: usize, step: u64, rate: f64, mut pinned: Pinned) -> Packed {
        let z = &self.sizes;
        let mut w = Writer { to: pinned.bytes_mut(), ranges: Vec::new() };
        let mut header = [0u32; word::COUNT];
        for (at, n) in [
            (word::SAMPLES, z.samples),
            (word::POSITIVES, z.positives),
            (word::GENE_ENTRIES, z.gene_entries),
            (word::PEAK_ENTRIES, z.peak_entries),
            (word::GENE_ROWS, z.gene_rows),
            (word::PEAK_ROWS, z.peak_rows),
            (word::COLUMNS, z.columns),
            (word::TILES, z.tiles),
            (word::BLOCKS, z.blocks),
            (word::GENE_CHUNKS, z.gene_chunks),
            (word::PEAK_CHUNKS, z.peak_chunks),
            (word::GENES, genes as u32),
            (word::STEP, step as u32),
            (word::STEP + 1, (step >> 32) as u32),
            (word::RATE, rate.to_bits() as u32),
            (word::RATE + 1, (rate.to_bits() >> 32) as u32),
        ] {
            header[at] = n;
        }
        w.put(s.header, &header);
        w.put(s.label, &self.label);
        let keys: Vec<u32> = self.sample.iter().flat_map(|&x| [x as u32, (x >> 32) as u32]).collect();
        w.put(s.sample_key, &keys);
        w.nodes(&s.genes, &self.genes, &self.gene_chunks);
        w.nodes(&s.peaks, &self.peaks, &self.peak_chunks);
        w.put(s.tile, &self.tiles);
        w.put(s.block, &self.blocks);
        w.put(s.pad, &self.pads);
        if let Some(c) = &self.columns {
            w.put(s.column_row, &c.row);
            w.put(s.column_value, &c.value);
            w.put_from(s.column_indptr, c.indptr.iter().map(|&x| x as u32));
            w.put(s.column_col, &c.col);
            w.put_from(s.column_by_ptr, c.by_ptr().iter().map(|&x| x as u32));
            w.put(s.column_by_sample, c.by_sample());
            let mut row_ptr = vec![0u32; self.peaks.rows.len() + 1];
            c.row.iter().for_each(|&r| row_ptr[r as usize + 1] += 1);
            for i in 1..row_ptr.len() {
                row_ptr[i] += row_ptr[i - 1];
            }
            w.put(s.column_row_ptr, &row_ptr);
        }
        w.put_from(s.positive, self.positives.iter().map(|&i| i as u32));
        let ranges = w.ranges;
        Packed { sizes: *z, pinned, ranges }
    }
}
