//! The five public data sets that the system was published on: files, columns and features, by name.
//!
//! See docs/model.md, section 2.3.

use std::path::Path;

use super::config::{GeneFeatures, PrepareConfig};
use crate::data::anndata::list;
use crate::error::{Error, Result};

/// A published data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name for `--dataset`.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// Cells as published.
    pub cells: usize,
    /// Genes as published.
    pub genes: usize,
    /// Rows of its published id table of genes, where those are more than the genes.
    pub gene_rows: usize,
    /// Peaks as published.
    pub peaks: usize,
    /// Chosen gene features, in order.
    pub gene_features: &'static [&'static str],
    /// Column of `rna.var` with the strand; none where it is no feature.
    pub strand: Option<&'static str>,
    /// File names in the folder of the data set.
    pub rna: &'static str,
    /// See `rna`.
    pub atac: &'static str,
    /// See `rna`.
    pub fasta: &'static str,
    /// Column of `obs` with the cell types.
    pub cell_type: &'static str,
    /// Recipe with the reference hyper-parameters.
    pub recipe: &'static str,
}

const FOUR: &[&str] = &["means", "variances_norm", "strand", "highly_variable"];

const BASE: Preset = Preset {
    name: "",
    what: "",
    cells: 0,
    genes: 0,
    gene_rows: 0,
    peaks: 0,
    gene_features: FOUR,
    strand: Some("strand"),
    rna: "",
    atac: "",
    fasta: "",
    cell_type: "cell_type",
    recipe: "published",
};

/// All of them.
pub const PRESETS: [Preset; 5] = [
    Preset {
        name: "issaac",
        what: "ISSAAC-seq, mouse cortex",
        cells: 10_361,
        genes: 20_771,
        gene_rows: 32_208,
        peaks: 169_180,
        strand: Some("_"),
        rna: "ISSAAC_scRNA_format.h5ad",
        atac: "ISSAAC_scATAC_format.h5ad",
        fasta: "ISSAAC_peak_output.fa",
        ..BASE
    },
    Preset {
        name: "pbmc",
        what: "10x Multiome, human PBMC",
        cells: 9_631,
        genes: 29_095,
        gene_rows: 29_095,
        peaks: 107_194,
        rna: "10x-Multiome-Pbmc10k-RNA.h5ad",
        atac: "10x-Multiome-Pbmc10k-ATAC.h5ad",
        fasta: "PBMC_peak_output.fa",
        ..BASE
    },
    Preset {
        name: "share",
        what: "SHARE-seq, mouse skin (Ma 2020)",
        cells: 32_231,
        genes: 21_478,
        gene_rows: 21_478,
        peaks: 340_341,
        rna: "Ma-2020-RNA.h5ad",
        atac: "Ma-2020-ATAC.h5ad",
        fasta: "SHARE_peak_output.fa",
        ..BASE
    },
    Preset {
        name: "snare",
        what: "SNARE-seq, mouse cortex (Chen 2019)",
        cells: 9_190,
        genes: 28_930,
        gene_rows: 28_930,
        peaks: 241_757,
        rna: "Chen-2019-RNA.h5ad",
        atac: "Chen-2019-ATAC.h5ad",
        fasta: "SNARE_peak_output.fa",
        ..BASE
    },
    Preset {
        name: "neurips2021",
        what: "NeurIPS 2021 Multiome, human bone marrow",
        cells: 69_249,
        genes: 13_431,
        gene_rows: 13_431,
        peaks: 116_490,
        gene_features: &[],
        strand: None,
        rna: "neurips2021_multiome_scRNA.h5ad",
        atac: "neurips2021_multiome_scATAC.h5ad",
        fasta: "NeurIPS2021_peak_output.fa",
        ..BASE
    },
];

impl Preset {
    /// The data set of that name.
    ///
    /// # Errors
    /// [`Error::Usage`] that lists the names there are.
    pub fn named(name: &str) -> Result<&'static Preset> {
        PRESETS.iter().find(|p| p.name == name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|p| p.name).collect();
            Error::usage(format!("--dataset: there is no data set {name:?}; there are {}", names.join(", ")))
        })
    }

    /// How to prepare it from its folder.
    ///
    /// ```no_run
    /// use sccrossrec::prepare::presets::Preset;
    /// use sccrossrec::prepare::prepare;
    /// let config = Preset::named("neurips2021")?.config("NeurIPS2021".as_ref())?;
    /// prepare(&config, "data".as_ref(), &())?;
    /// # Ok::<(), sccrossrec::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Input`] where a file of it is missing; the message lists what is there.
    pub fn config(&self, from: &Path) -> Result<PrepareConfig> {
        let entries = std::fs::read_dir(from).map_err(|e| Error::io(from, "read", e))?;
        let files = [self.rna, self.atac, self.fasta];
        if let Some(missing) = files.iter().find(|f| !from.join(f).is_file()) {
            let mut there: Vec<String> =
                entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            there.sort();
            let fix = if *missing == self.fasta {
                "make the sequences of the peaks with `sccrossrec annotate --genome`, or prepare without them: \
                 --rna FILE --atac FILE"
            } else {
                "give the folder of the data set with --from (`sccrossrec datasets` lists the names of its files)"
            };
            return Err(Error::input(
                from,
                format!("has no {missing}, which is a part of the data set {}; it holds {}", self.name, list(&there)),
                fix,
            ));
        }
        let mut config = PrepareConfig::new(from.join(self.rna), from.join(self.atac));
        config.fasta = Some(from.join(self.fasta));
        config.cell_type_column = Some(self.cell_type.into());
        config.dataset = Some(self.name.into());
        if !self.gene_features.is_empty() {
            config.gene_features = GeneFeatures::Named(self.gene_features.iter().map(|f| f.to_string()).collect());
        }
        Ok(config)
    }
}
