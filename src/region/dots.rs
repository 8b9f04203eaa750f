//! Genes by cell type: the share of cells that have each, and its mean expression.

use serde::{Deserialize, Serialize};

use super::profiles::{Detection, Profiles};
use crate::dataset::DataSet;
use crate::dataset::draw::names_of;
use crate::error::{Error, Result};
use crate::near::hint;
use crate::progress::Progress;

/// Genes by cell type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dots {
    /// Names of the genes.
    pub genes: Vec<String>,
    /// Each type: name, cells.
    pub types: Vec<(String, usize)>,
    /// `[types][genes]`.
    pub dots: Vec<Vec<Detection>>,
    /// What the expression is, in words.
    pub expression: String,
}

/// Reads genes by cell type, both in the order they are named; all types where none is.
///
/// # Errors
/// Data without RNA; a gene or a type that is not there, with names that are like it.
pub fn dots(data: &DataSet, genes: &[String], cell_types: &[String], progress: &dyn Progress) -> Result<Dots> {
    if data.kinds().0.is_none() {
        let what = "has no RNA, and so no expression";
        return Err(Error::input(data.dir(), what, "prepare both modalities (--rna and --atac)"));
    }
    let v = data.vocabulary();
    let known: Vec<String> = v.genes.iter().map(|g| g.name.clone()).collect();
    let mut numbers: Vec<usize> = Vec::new();
    for name in names_of(genes, &known).iter().map(|n| n.trim()).filter(|n| !n.is_empty()) {
        let at = known.iter().position(|k| k == name).ok_or_else(|| {
            let hint = hint(name, known.iter().map(String::as_str));
            Error::usage(format!("--genes {name}: there is no such gene in {}; {hint}", data.dir().display()))
        })?;
        if !numbers.contains(&at) {
            numbers.push(at);
        }
    }
    if numbers.is_empty() {
        return Err(Error::usage("--genes names no gene; give some, parted by commas"));
    }
    let profiles = Profiles::of(data, progress)?;
    let chosen = profiles.rows(cell_types)?;
    let of = |t: &usize| &profiles.types[*t];
    Ok(Dots {
        genes: numbers.iter().map(|&g| known[g].clone()).collect(),
        types: chosen.iter().map(|t| (of(t).name.clone(), of(t).cells)).collect(),
        dots: chosen.iter().map(|t| numbers.iter().map(|&g| of(t).genes[g]).collect()).collect(),
        expression: profiles.expression().into(),
    })
}
