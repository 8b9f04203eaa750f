//! Models of genes that a data set keeps of its annotation: those near its peaks.

use std::collections::HashMap;
use std::path::Path;

use crate::data::chromosomes::Aliases;
use crate::data::exons::gene_models;
use crate::dataset::models::pack;
use crate::error::Result;
use crate::progress::Progress;
use crate::vocabulary::Vocabulary;

/// Bases from a gene to a peak, beyond which no picture of these data shows it.
const REACH: i64 = 2_000_000;

/// The genes of an annotation within [`REACH`] of a peak, those that the data do not measure among them, on chromosomes named
/// as in the data, as a data set keeps them.
pub(crate) fn models_near(gtf: &Path, v: &Vocabulary, aliases: &Aliases, progress: &dyn Progress) -> Result<Vec<u8>> {
    let names: HashMap<_, u32> = (0..).zip(&v.chromosomes).map(|(i, n)| (aliases.key(n), i)).collect();
    let mut peaks: Vec<Vec<i64>> = vec![Vec::new(); v.chromosomes.len()];
    v.peaks.iter().filter(|p| p.start >= 0).for_each(|p| peaks[p.chrom as usize].push(p.start));
    peaks.iter_mut().for_each(|p| p.sort_unstable());
    let mut kept = Vec::new();
    for mut model in gene_models(gtf)? {
        let Some(&chrom) = names.get(&aliases.key(&model.chrom)) else { continue };
        let near = &peaks[chrom as usize];
        let next = near.partition_point(|&p| p < model.start - REACH);
        if near.get(next).is_some_and(|&p| p <= model.end + REACH) {
            model.chrom.clone_from(&v.chromosomes[chrom as usize]);
            kept.push((chrom, model));
        }
    }
    kept.sort_by(|a, b| (a.0, a.1.start, a.1.end, &a.1.name).cmp(&(b.0, b.1.start, b.1.end, &b.1.name)));
    let kept: Vec<_> = kept.into_iter().map(|k| k.1).collect();
    let exons = kept.iter().filter(|m| !m.exons.is_empty()).count();
    progress.note(&format!("gene models kept for pictures: {}, {exons} of them with exons", kept.len()));
    pack(&kept)
}
