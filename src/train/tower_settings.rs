//! Settings of the towers.
//!
//! See docs/model.md, sections 4.10 and 5.9.

/// Numbers that stand for depth, and between the ATAC tower and the genes.
pub(crate) const DEPTH_SIZE: usize = 8;
pub(crate) const FACTORS: usize = 64;

/// Settings of the towers.
#[derive(Debug, Clone, PartialEq)]
pub struct TowerSettings {
    /// Passes over the training cells; 0: no towers; `None`: chosen, see docs/model.md, section 5.9.
    pub epochs: Option<u32>,
    /// Cells a step; `None`: chosen.
    pub batch_size: Option<usize>,
    /// Learning rate, which rises over the first steps and falls as a cosine.
    pub lr: f64,
    /// Width of a tower.
    pub width: usize,
    /// Numbers of a cell in the common space.
    pub size: usize,
    /// Share of a cell's genes that a step leaves out.
    pub drop_genes: f64,
    /// Share of its peaks.
    pub drop_peaks: f64,
    /// Dropout behind the activation.
    pub dropout: f64,
    /// Weight of the prediction of expression; 0: none.
    pub predict: f64,
    /// Column of `obs` that all cells of a batch share: what differs between batches of an experiment is then no help.
    pub batch: Option<String>,
    /// Share of the cells that are put into batches of one cell type.
    pub hard_negatives: f64,
}

impl Default for TowerSettings {
    fn default() -> Self {
        TowerSettings {
            epochs: None,
            batch_size: None,
            lr: 3e-3,
            width: 128,
            size: 64,
            drop_genes: 0.5,
            drop_peaks: 0.5,
            dropout: 0.3,
            predict: 1.0,
            batch: None,
            hard_negatives: 0.0,
        }
    }
}

/// Numbers of the parameters of towers for so many genes and peaks.
pub(crate) fn tower_parameters(s: &TowerSettings, genes: usize, peaks: usize) -> u64 {
    let (rows, width) = ((genes + peaks) as u64, s.width as u64);
    let decoder = if s.predict > 0.0 { FACTORS as u64 * (width + 2 * genes as u64) + 4 * genes as u64 } else { 0 };
    rows * width + 2 * (width * s.size as u64 + 3 * width) + decoder
}
