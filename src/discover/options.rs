//! Settings of a discovery: which cells, which null model, which known links and exports.

use std::path::PathBuf;

use super::evidence::replicates::Replicates;
use super::evidence::{EvidenceOptions, ReplicateColumn, Selection};
use super::exports::{ChromNames, Format};
use super::groups::groups;
use super::null::Null;
use super::tf::{PERMUTATIONS, TfFile, TfTrack};
use super::truth::{TSS_WINDOW, Truth};
use crate::data::chromosomes::Aliases;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::rng::DEFAULT_SEED;
use crate::vocabulary::Vocabulary;

/// What to discover, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoverOptions {
    /// Only cells of these types; `None`: all cells.
    pub cell_types: Option<Vec<String>>,
    /// Cells a forward pass; 0 counts as 1.
    pub batch_size: usize,
    /// Known links to compare with (forms: [`Truth::read_with`]).
    pub truth: Option<PathBuf>,
    /// Further names of chromosomes in these files: see [`Aliases::read`].
    pub aliases: Option<PathBuf>,
    /// Of known links given by place: bases around a TSS within which an end is at the gene.
    pub truth_window: i64,
    /// Binding sites of transcription factors to compare with.
    pub tf: Vec<TfFile>,
    /// Permutations behind the background of that comparison.
    pub tf_permutations: usize,
    /// Forms in which the maps are written besides tables.
    pub exports: Vec<Format>,
    /// How these name chromosomes.
    pub chrom_names: ChromNames,
    /// What links are tested against.
    pub null: Null,
    /// Bases between TSS and peak up to which a pair is looked at and, with [`Null::Matched`], its attention is tested.
    pub window: f64,
    /// Leading components of RNA that are taken out within kinds of cells; `None`: as the data choose.
    pub components: Option<usize>,
    /// Cells with both gene and peak that a pair needs.
    pub min_cells: u32,
    /// Cells that a type needs for a table of its own.
    pub min_type_cells: u32,
    /// Which column of cells tells replicates.
    pub replicates: ReplicateColumn,
    /// Which pairs count as links, in exports and tables by type.
    pub selection: Selection,
    /// Compress the tables of links.
    pub gzip: bool,
    /// Compress them where they would be of more bytes than this; `None`: never for that reason.
    pub gzip_above: Option<u64>,
    /// With [`Null::Shuffled`]: passes over shuffled pairings.
    pub permutations: u32,
    /// Take over what a discovery of the same cells that was stopped has left in the folder.
    pub resume: bool,
    /// Seed of shuffled pairings and of the random baseline.
    pub seed: u64,
    /// What `discover.json` says besides: where the run and the data are.
    pub about: serde_json::Map<String, serde_json::Value>,
}

impl Default for DiscoverOptions {
    /// All cells, tested against matched peaks within 500 kb; nothing to compare with, no exports.
    fn default() -> Self {
        let of_evidence = EvidenceOptions::default();
        DiscoverOptions {
            cell_types: None,
            batch_size: 64,
            truth: None,
            aliases: None,
            truth_window: TSS_WINDOW,
            tf: Vec::new(),
            tf_permutations: PERMUTATIONS,
            exports: Vec::new(),
            chrom_names: ChromNames::default(),
            null: Null::default(),
            window: 500_000.0,
            components: None,
            min_cells: of_evidence.min_cells,
            min_type_cells: of_evidence.min_type_cells,
            replicates: ReplicateColumn::Auto,
            selection: Selection::default(),
            gzip: false,
            gzip_above: None,
            permutations: 1,
            resume: false,
            seed: DEFAULT_SEED,
            about: serde_json::Map::new(),
        }
    }
}

impl DiscoverOptions {
    /// Checks cell types, known links and binding sites against the data; reads, but writes nothing.
    ///
    /// # Errors
    /// Those of the same causes that [`discover`](super::discover) has.
    pub fn check(&self, data: &DataSet) -> Result<()> {
        let v = data.vocabulary();
        let groups = groups(v, data.n_cells(), self.cell_types.as_deref())?;
        let cells: Vec<u32> = groups.iter().flat_map(|g| g.cells.iter().copied()).collect();
        Replicates::choose(v, &cells, &self.replicates)?;
        self.compared(v)?;
        Ok(())
    }

    /// Reads the known links and the binding sites.
    pub(super) fn compared(&self, v: &Vocabulary) -> Result<(Option<Truth>, Vec<TfTrack>)> {
        let aliases = self.aliases.as_deref().map(Aliases::read).transpose()?.unwrap_or_default();
        let truth = self.truth.as_ref().map(|t| Truth::read_named(t, v, self.truth_window, &aliases)).transpose()?;
        Ok((truth, TfTrack::read_all_named(&self.tf, v, &aliases)?))
    }

    /// Those of the evidence.
    pub(super) fn evidence(&self) -> EvidenceOptions {
        EvidenceOptions {
            window: self.window as i64,
            components: self.components,
            min_cells: self.min_cells,
            min_type_cells: self.min_type_cells,
            replicates: self.replicates.clone(),
            seed: self.seed,
        }
    }

    /// Passes over the cells: one, and those over shuffled pairings.
    pub(super) fn passes(&self) -> u64 {
        1 + if self.null == Null::Shuffled { u64::from(self.permutations.max(1)) } else { 0 }
    }

    /// Cells that will be computed, those of shuffled pairings included.
    ///
    /// # Errors
    /// Cell types that the data lack.
    pub fn work(&self, data: &DataSet) -> Result<u64> {
        Ok(self.cells(data)? * self.passes())
    }

    /// Cells that will be looked at.
    ///
    /// # Errors
    /// Cell types that the data lack.
    pub fn cells(&self, data: &DataSet) -> Result<u64> {
        let groups = groups(data.vocabulary(), data.n_cells(), self.cell_types.as_deref())?;
        Ok(groups.iter().map(|g| g.cells.len() as u64).sum())
    }
}
