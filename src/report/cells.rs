//! Single cells and places of a discovery, for pictures.

use crate::data::anndata::{Column, H5Context, open_hdf5, plausible, text_of};
use crate::discover::open::AGAIN;
use crate::discover::{DiscoveryFolder, Pair};
use crate::error::{Error, Result};
use crate::near::hint;
use crate::picture::Place;
use crate::vocabulary::Peak;

impl DiscoveryFolder {
    /// Chromosome and TSS of every gene.
    pub fn gene_places(&self) -> Vec<Place> {
        self.vocabulary.genes.iter().map(|g| Place { chrom: g.chrom, base: g.tss.unwrap_or(-1) }).collect()
    }

    /// Chromosome and middle of every peak.
    pub fn peak_places(&self) -> Vec<Place> {
        let middle = |p: &Peak| if p.start < 0 || p.end < 0 { -1 } else { p.start.midpoint(p.end) };
        self.vocabulary.peaks.iter().map(|p| Place { chrom: p.chrom, base: middle(p) }).collect()
    }

    /// The attention of one cell, by (gene, peak).
    ///
    /// # Errors
    /// No such cell; the message names those that are like it. A file that is missing, damaged, or of other genes and peaks.
    pub fn cell(&self, barcode: &str) -> Result<Vec<Pair>> {
        let attention = self.made.attention.as_ref().ok_or_else(|| {
            Error::input(
                &self.dir,
                "was made without a model: there is no attention in it",
                "discover again with --run",
            )
        })?;
        let path = self.dir.join(&attention.file);
        let bad = |found: String| Error::input(&path, found, AGAIN);
        if !path.exists() {
            return Err(bad("is not there".into()));
        }
        let (file, bytes) = open_hdf5(&path, AGAIN, &())?;
        let set = |name: &str| file.dataset(name).at(&path, || format!("read `{name}`"));
        let Column::Strings(names) = text_of(&path, bytes, &set("cells")?, "cells")? else {
            return Err(bad("`cells` is not text".into()));
        };
        let row = names.iter().position(|n| n == barcode).ok_or_else(|| {
            let hint = hint(barcode, names.iter().map(String::as_str));
            Error::usage(format!("--cell {barcode}: there is no such cell in {}; {hint}", path.display()))
        })?;
        for (name, n) in [("genes", self.vocabulary.genes.len()), ("peaks", self.vocabulary.peaks.len())] {
            let size = set(name)?.size();
            if size != n {
                return Err(bad(format!("has {size} {name} where {name}.tsv has {n}")));
            }
        }
        let Column::Ints(indptr) = text_of(&path, bytes, &set("indptr")?, "indptr")? else {
            return Err(bad("`indptr` does not hold whole numbers".into()));
        };
        let place = |i: usize| indptr.get(i).and_then(|&p| usize::try_from(p).ok());
        let (Some(from), Some(to)) = (place(row), place(row + 1)) else {
            return Err(bad("`indptr` is too short or damaged".into()));
        };
        let mut out = Vec::new();
        let (gene, peak) = (set("gene")?, set("peak")?);
        let (weight, score) = (set("weight")?, set("score")?);
        for (set, name) in [(&gene, "gene"), (&peak, "peak"), (&weight, "weight"), (&score, "score")] {
            let shape = set.get_shape().at(&path, || format!("read the shape of `{name}`"))?;
            plausible(&path, bytes, name, &shape, 4)?;
        }
        if from > to || [&gene, &peak, &weight, &score].iter().any(|s| s.size() < to) {
            return Err(bad("`indptr` does not fit the pairs".into()));
        }
        if from == to {
            return Ok(out);
        }
        let at = |e: hdf5::Result<_>| e.at(&path, || "read the pairs".into());
        let (gene, peak) = (at(gene.read_slice_1d::<u32, _>(from..to))?, at(peak.read_slice_1d::<u32, _>(from..to))?);
        let at = |e: hdf5::Result<_>| e.at(&path, || "read the pairs".into());
        let (weight, score) = (at(weight.read_slice_1d::<f32, _>(from..to))?, at(score.read_slice_1d(from..to))?);
        for i in 0..to - from {
            let pair = Pair { gene: gene[i], peak: peak[i], weight: weight[i], score: score[i] };
            if pair.gene as usize >= self.vocabulary.genes.len() || pair.peak as usize >= self.vocabulary.peaks.len() {
                return Err(bad(format!("pair {} is of no gene or peak", from + i)));
            }
            out.push(pair);
        }
        Ok(out)
    }
}
