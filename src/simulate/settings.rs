//! Settings of a tissue.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Links and peaks around a gene lie at least and at most so far from its TSS.
pub(super) const REACH: [f64; 2] = [1_500.0, 5e5];

/// How tissue is built. The defaults are near SNARE-seq mouse cortex.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tissue {
    /// Lineages; types that follow each other are of one.
    pub lineages: usize,
    /// Regulators.
    pub regulators: usize,
    /// Share of the regulators that go on within types (cell cycle, stress) rather than between lineages and types.
    pub continuous: f64,
    /// Share of the genes that one to three regulators raise or lower by other ways than through a peak.
    pub regulated: f64,
    /// Mean size of what a fully active regulator adds to the logit of a peak's chance to be open, and to a gene's log level.
    pub regulator_effect: [f64; 2],
    /// Share of the genes with a peak at their TSS.
    pub promoters: f64,
    /// Mean and standard deviation of the logit of a promoter's chance to be open.
    pub promoter_openness: [f64; 2],
    /// What one unit of the log level of its gene, between types, adds to the logit of a promoter.
    pub promoter_coupling: f64,
    /// Links: median distance from the TSS in bases, and standard deviation of its logarithm.
    pub distance: [f64; 2],
    /// Share of the links at peaks that are open in some types, and that act in those types alone.
    pub specific_links: f64,
    /// Share of the peaks that are neither promoters nor linked and lie around genes, rather than anywhere.
    pub around_genes: f64,
    /// Chance of a peak right at a gene to follow the gene's main regulator, linked or not; and the distance in bases over which
    /// it falls to a third.
    pub domain: [f64; 2],
}

impl Default for Tissue {
    fn default() -> Self {
        Tissue {
            lineages: 3,
            regulators: 30,
            continuous: 0.2,
            regulated: 0.9,
            regulator_effect: [2.2, 0.8],
            promoters: 0.8,
            promoter_openness: [-0.5, 1.3],
            promoter_coupling: 1.3,
            distance: [30_000.0, 1.2],
            specific_links: 0.7,
            around_genes: 0.5,
            domain: [0.95, 500_000.0],
        }
    }
}

impl Tissue {
    /// What is left of a domain at this distance.
    pub(super) fn nearness(&self, distance: i64) -> f64 {
        (-distance as f64 / self.domain[1]).exp()
    }

    /// Checks the numbers; the message names the field.
    pub(super) fn validate(&self) -> Result<()> {
        let bad = |m: String| Err(Error::usage(format!("simulation: {m}")));
        for (name, n) in [("lineages", self.lineages), ("regulators", self.regulators)] {
            if !(1..=10_000).contains(&n) {
                return bad(format!("`tissue.{name}` is {n}; it must lie in [1, 10000]"));
            }
        }
        for (name, x, least, most) in [
            ("continuous", self.continuous, 0.0, 1.0),
            ("regulated", self.regulated, 0.0, 1.0),
            ("regulator_effect[0]", self.regulator_effect[0], 0.0, 5.0),
            ("regulator_effect[1]", self.regulator_effect[1], 0.0, 3.0),
            ("promoters", self.promoters, 0.0, 1.0),
            ("promoter_openness[0]", self.promoter_openness[0], -20.0, 20.0),
            ("promoter_openness[1]", self.promoter_openness[1], 0.0, 10.0),
            ("promoter_coupling", self.promoter_coupling, 0.0, 5.0),
            ("distance[0]", self.distance[0], REACH[0], REACH[1]),
            ("distance[1]", self.distance[1], 0.0, 5.0),
            ("specific_links", self.specific_links, 0.0, 1.0),
            ("around_genes", self.around_genes, 0.0, 1.0),
            ("domain[0]", self.domain[0], 0.0, 1.0),
            ("domain[1]", self.domain[1], 1.0, 1e9),
        ] {
            if !(least..=most).contains(&x) {
                return bad(format!("`tissue.{name}` is {x}; it must lie in [{least}, {most}]"));
            }
        }
        Ok(())
    }
}
