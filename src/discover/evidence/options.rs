//! Settings of the evidence.

use serde::{Deserialize, Serialize};

/// Cells that a kind needs.
pub const MIN_KIND_CELLS: u32 = 15;
/// Cells that a replicate needs.
pub const MIN_REPLICATE_CELLS: u32 = 30;
/// Most replicates.
pub const MOST_REPLICATES: usize = 64;
/// Numbers of components among which the data choose.
pub const CANDIDATES: [usize; 6] = [0, 1, 2, 5, 10, 20];

/// Which column of cells tells replicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum ReplicateColumn {
    /// The first that is there of batch, sample, donor, site and the like.
    #[default]
    Auto,
    /// None: cells are not parted.
    None,
    /// This one.
    Named(String),
}

/// What evidence to gather, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct EvidenceOptions {
    /// Bases between TSS and peak up to which a pair is looked at.
    pub window: i64,
    /// Leading components of RNA taken out within kinds; `None`: as many as the data choose among [`CANDIDATES`].
    pub components: Option<usize>,
    /// Cells with both gene and peak that a pair needs to be tested.
    pub min_cells: u32,
    /// Cells that a type needs to have statistics of its own.
    pub min_type_cells: u32,
    /// Replicates.
    pub replicates: ReplicateColumn,
    /// Seed of draws.
    pub seed: u64,
}

impl Default for EvidenceOptions {
    fn default() -> Self {
        EvidenceOptions {
            window: 500_000,
            components: None,
            min_cells: 1,
            min_type_cells: 50,
            replicates: ReplicateColumn::Auto,
            seed: crate::rng::DEFAULT_SEED,
        }
    }
}
