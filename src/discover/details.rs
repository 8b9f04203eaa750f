//! What `links.tsv` says of pairs beside their scores.

use std::io::BufRead;

use super::DiscoveryFolder;
use crate::error::{Error, Result};
use crate::files::text::{open_text, text_error};

/// Effect and replicates of a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkDetail {
    /// Effect, and the ends of its 95 % interval; NaN where there is none.
    pub effect: [f64; 3],
    /// Replicates that tell of it, and those of them that agree in sign.
    pub replicates: [u32; 2],
}

impl DiscoveryFolder {
    /// Details of every pair of `links.tsv`, in the order of [`DiscoveryFolder::links`] of all cells.
    ///
    /// # Errors
    /// A table that is missing or damaged.
    pub fn link_details(&self) -> Result<Vec<LinkDetail>> {
        let path = self.dir.join(&self.made.links.file);
        let bad = |found: String| Error::input(&path, found, super::open::AGAIN);
        let file = std::fs::File::open(&path).map_err(|e| Error::io(&path, "read", e))?;
        let mut lines = open_text(&path, file)?.lines().zip(1..);
        let header = lines.next().and_then(|l| l.0.ok()).unwrap_or_default();
        let names: Vec<&str> = header.split('\t').collect();
        let wanted = ["effect", "effect_low", "effect_high", "replicates", "replicates_agree"];
        let mut at = [0usize; 5];
        for (at, name) in at.iter_mut().zip(wanted) {
            let found = names.iter().position(|n| *n == name);
            *at = found.ok_or_else(|| bad(format!("its header has no column {name}")))?;
        }
        lines
            .map(|(line, i)| {
                let line = line.map_err(|e| text_error(&path, i, e))?;
                let fields: Vec<&str> = line.split('\t').collect();
                let field = |k: usize| fields.get(at[k]).copied().unwrap_or("");
                let row = || {
                    let effect = [field(0).parse().ok()?, field(1).parse().ok()?, field(2).parse().ok()?];
                    Some(LinkDetail { effect, replicates: [field(3).parse().ok()?, field(4).parse().ok()?] })
                };
                row().ok_or_else(|| bad(format!("line {i} is no link of these data")))
            })
            .collect()
    }
}
