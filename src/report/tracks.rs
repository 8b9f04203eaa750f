//! What the view of a gene shows above its links: how open each peak is in each cell type, and the models of genes.

use serde_json::{Value, json};

use super::html::numbers;
use crate::dataset::DataSet;
use crate::error::Result;
use crate::picture::thousands;
use crate::progress::Progress;
use crate::region::Profiles;

/// Heights are kept in steps of the root of the greatest, so that low ones keep their proportions.
const STEPS: f32 = 255.0;

/// Of the peaks on the page the coverage by type, `[types × peaks]`, as roots of the share of the greatest in 255 steps; of
/// the genes on the page their models, where the data set keeps them: `[models]` number of the gene, begin, end, strand (1
/// forward, 0 reverse, 2 unknown), and begins and ends of its exons.
///
/// # Errors
/// Data that cannot be read; [`Error::Interrupted`](crate::error::Error::Interrupted).
pub(super) fn tracks_json(
    data: &DataSet,
    [genes, peaks]: [&[usize]; 2],
    progress: &dyn Progress,
    page: &mut Value,
) -> Result<()> {
    let v = data.vocabulary();
    if data.kinds().1.is_some() {
        let profiles = Profiles::of(data, progress)?;
        let heights: Vec<f32> = profiles.types.iter().flat_map(|t| peaks.iter().map(|&p| t.per_kb(p, v))).collect();
        let greatest = heights.iter().copied().fold(0.0, f32::max);
        let step = |h: f32| if greatest > 0.0 { (STEPS * (h.max(0.0) / greatest).sqrt()).round() as u8 } else { 0 };
        let heights: Vec<u8> = heights.into_iter().map(step).collect();
        let unit = match profiles.median {
            Some(m) => format!("per kb in a cell of median depth ({} in peaks)", thousands(m as u64)),
            None => "per kb, mean of the cells".into(),
        };
        page["coverage"] = json!({
            "types": profiles.types.iter().map(|t| &t.name).collect::<Vec<_>>(),
            "cells": profiles.types.iter().map(|t| t.cells).collect::<Vec<_>>(),
            "greatest": greatest, "heights": numbers(&heights), "unit": unit,
        });
    }
    let Some(models) = data.gene_models()? else { return Ok(()) };
    let by_name: std::collections::HashMap<(&str, &str), usize> =
        models.iter().enumerate().map(|(i, m)| ((m.name.as_str(), m.chrom.as_str()), i)).collect();
    let (mut of, mut spans, mut strand, mut first, mut exons) = (vec![], vec![], vec![], vec![0u32], vec![]);
    let small = |x: i64| i32::try_from(x).unwrap_or(-1);
    for (k, &g) in genes.iter().enumerate() {
        let gene = &v.genes[g];
        let chrom = v.chromosomes.get(gene.chrom as usize).map_or("", String::as_str);
        let Some(m) = by_name.get(&(gene.name.as_str(), chrom)).map(|&i| &models[i]) else { continue };
        of.push(k as u32);
        spans.extend([small(m.start), small(m.end)]);
        strand.push(m.forward.map_or(2u8, u8::from));
        exons.extend(m.exons.iter().flatten().map(|&x| small(x)));
        first.push(exons.len() as u32 / 2);
    }
    page["models"] = json!({
        "gene": numbers(&of), "span": numbers(&spans), "strand": numbers(&strand), "first": numbers(&first),
        "exons": numbers(&exons),
    });
    Ok(())
}
