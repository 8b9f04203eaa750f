//! The maps of cell types: links with their statistics, and the tracks of peaks and genes, in memory and on disk.
//!
//! # On disk
//! In the folder that `discover` makes; tables are parted by tabs, with a header line, coordinates 0-based and half-open:
//!
//! | file | content |
//! | --- | --- |
//! | `links.tsv`, `links/TYPE.tsv` | the columns of [`LINK_COLUMNS`], by falling score; `.` where a coordinate is unknown, `NaN` where a statistic is |
//! | `peaks.tsv` | chrom, start, end, peak, then for `all` and each cell type the attention summed over its cells and all genes |
//! | `genes.tsv` | chrom, tss, gene, then the same summed over all peaks |
//! | `discover.json` | what was made, from what |

/// Columns of a link table.
pub const LINK_COLUMNS: [&str; 14] = [
    "chrom",
    "start",
    "end",
    "gene",
    "tss",
    "distance",
    "score",
    "zscore",
    "pvalue",
    "qvalue",
    "n_cells",
    "mean",
    "cell_type",
    "peak",
];

/// A gene–peak link of the cells of one type (or of all), with its statistics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkStat {
    /// Data set index of the gene.
    pub gene: u32,
    /// Data set index of the peak.
    pub peak: u32,
    /// Attention summed over cells.
    pub score: f64,
    /// Cells that contributed.
    pub cells: u32,
    /// Standard deviations above the mean of the null; NaN where there is none.
    pub zscore: f64,
    /// Chance of such a score under the null; NaN where there is none.
    pub pvalue: f64,
    /// Benjamini–Hochberg over all pairs tested; NaN where there is no p-value.
    pub qvalue: f64,
}

/// The map of one cell type, or of all cells.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeMap {
    /// Cell type; `all` for all cells.
    pub name: String,
    /// Its name in file names.
    pub file_stem: String,
    /// Cells behind it.
    pub cells: u64,
    /// Links by falling score.
    pub links: Vec<LinkStat>,
    /// `[P]` attention summed over cells and genes.
    pub peaks: Vec<f64>,
    /// `[G]` attention summed over cells and peaks.
    pub genes: Vec<f64>,
}

/// All maps of a discovery.
#[derive(Debug, Clone, PartialEq)]
pub struct Maps {
    /// Over all cells looked at.
    pub all: TypeMap,
    /// Of each cell type, in the order of the data set.
    pub types: Vec<TypeMap>,
}
