//! Random streams of the seed. No two things are drawn from one of them.

/// Genes: places, levels.
pub(super) const GENES: u64 = 0x5100_0000;
/// Places of peaks and links.
pub(super) const PEAKS: u64 = 0x5200_0000;
/// What cell types open.
pub(super) const TYPES: u64 = 0x5300_0000;
/// One a batch.
pub(super) const BATCHES: u64 = 0x5500_0000;
/// Motifs.
pub(super) const MOTIFS: u64 = 0x5600_0000;
/// One a cell: its counts.
pub(super) const CELLS: u64 = 0x54_0000_0000;
/// One a cell: which peaks are open.
pub(super) const OPEN: u64 = 0x55_0000_0000;
/// One a peak: its bases.
pub(super) const SEQUENCES: u64 = 0x56_0000_0000;
/// Which modules genes and peaks are in; from the next on one a cell: the states of its modules.
pub(super) const MODULES: u64 = 0x57_0000_0000;
/// Of tissue: what cell types make of regulators.
pub(super) const REGULATORS: u64 = 0x5800_0000;
/// Of tissue: levels of genes.
pub(super) const TISSUE_GENES: u64 = 0x5900_0000;
/// Of tissue: places of promoters, links and other peaks.
pub(super) const TISSUE_PEAKS: u64 = 0x5A00_0000;
/// Of tissue: what opens peaks.
pub(super) const TISSUE_OPEN: u64 = 0x5B00_0000;
/// Of tissue, one a cell: the activities of its regulators.
pub(super) const ACTIVITIES: u64 = 0x58_0000_0000;
