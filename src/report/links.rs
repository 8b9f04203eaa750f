//! The links: those that go on the page, and how far to trust them.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::{Value, json};

use super::html::{facts, note, numbers};
use crate::discover::evidence::table::{LinksSummary, short};
use crate::discover::maps::LinkStat;
use crate::discover::{DiscoveryFolder, Source};
use crate::error::{Error, Result};
use crate::picture::thousands;
use crate::progress::Progress;
use crate::vocabulary::distance;

/// Pairs on the page, at most.
const MOST_LINKS: usize = 400_000;
/// Pairs of all cells that are kept for the sake of their genes, at most.
const MOST_OF_GENES: usize = 20_000;
/// Bases from a transcription start within which a peak is rather its promoter.
const PROMOTER: f64 = 2000.0;
/// Genes and peaks of a map's bars.
const TOP: usize = 20;

/// What the summary tells of the links.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LinksFound {
    /// Pairs on the page.
    pub shown: usize,
    /// Genes and peaks of those that count.
    pub genes: usize,
    pub peaks: usize,
    /// Median distance of those that count, in bases, and how many lie beyond 2 kb.
    pub median: Option<f64>,
    pub distal: usize,
    /// Genes with most of them, and how many.
    pub top: Vec<(String, usize)>,
}

/// The best `n` of a map, and up to `more` of genes that these leave with fewer than ten, those with none first. They stay
/// in the order of the map's table, which tells apart links whose probabilities are both written as 1.
fn chosen(links: &[LinkStat], n: usize, more: usize, genes: usize) -> Vec<LinkStat> {
    let n = n.min(links.len());
    let mut of_gene = vec![0u8; genes];
    for l in &links[..n] {
        of_gene[l.gene as usize] = of_gene[l.gene as usize].saturating_add(1);
    }
    let mut taken: Vec<bool> = (0..links.len()).map(|i| i < n).collect();
    let mut left = more;
    for most in [1, 3, 10] {
        for (l, taken) in links.iter().zip(&mut taken).skip(n) {
            if left == 0 {
                break;
            }
            let of_gene = &mut of_gene[l.gene as usize];
            if *of_gene < most && !*taken {
                (*of_gene, *taken, left) = (*of_gene + 1, true, left - 1);
            }
        }
    }
    links.iter().zip(taken).filter(|x| x.1).map(|x| *x.0).collect()
}

/// The numbers of the largest values above 0, the largest first.
pub(super) fn largest(values: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| values[i] > 0.0).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(n);
    order
}

/// Numbers of pairs by gene and peak.
type Rows = HashMap<(u32, u32), u32>;

/// Only genes and peaks that occur, by new numbers: the old ones, and `[n]` the new number of each.
fn renumbered(used: impl Iterator<Item = u32>, n: usize) -> (Vec<usize>, Vec<u32>) {
    let mut there = vec![false; n];
    used.for_each(|i| there[i as usize] = true);
    let kept: Vec<usize> = (0..n).filter(|&i| there[i]).collect();
    let mut new = vec![0u32; n];
    kept.iter().enumerate().for_each(|(k, &i)| new[i] = k as u32);
    (kept, new)
}

/// The links that count, in short.
fn in_short(found: &DiscoveryFolder, all: &[LinkStat]) -> LinksFound {
    let (v, selection) = (&found.vocabulary, found.made.links.selection);
    let count: Vec<&LinkStat> = all.iter().filter(|l| selection.holds(l.qvalue, l.score)).collect();
    let mut of_gene: HashMap<u32, usize> = HashMap::new();
    count.iter().for_each(|l| *of_gene.entry(l.gene).or_default() += 1);
    let peaks: HashSet<u32> = count.iter().map(|l| l.peak).collect();
    let mut far: Vec<f64> = count.iter().filter_map(|l| distance(v, l.gene, l.peak)).collect();
    far.sort_by(f64::total_cmp);
    let mut top: Vec<(u32, usize)> = of_gene.iter().map(|(&g, &n)| (g, n)).collect();
    top.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    LinksFound {
        shown: 0,
        genes: of_gene.len(),
        peaks: peaks.len(),
        median: far.get(far.len() / 2).copied(),
        distal: far.iter().filter(|&&d| d > PROMOTER).count(),
        top: top.into_iter().take(8).map(|(g, n)| (v.genes[g as usize].name.clone(), n)).collect(),
    }
}

/// Everything of the discovery that the page's script reads: pairs in the order of their table, with a bit for each type that they
/// are active in; what attention says; the bars of each map. Returns what the summary tells, and the genes and peaks on the
/// page.
///
/// # Errors
/// Tables that cannot be read; [`Error::Interrupted`].
pub(super) fn found_json(
    found: &DiscoveryFolder,
    per_map: usize,
    data: &mut Value,
    progress: &dyn Progress,
) -> Result<(LinksFound, [Vec<usize>; 2])> {
    let v = &found.vocabulary;
    let per_map = per_map.min(MOST_LINKS * 2 / 3 / (found.maps().len() + 1));
    let all = found.links(Source::Links, 0)?;
    let details = found.link_details()?;
    if details.len() != all.len() {
        return Err(Error::Internal(format!("{} pairs with {} details", all.len(), details.len())));
    }
    let row_of: Rows = (0..).zip(&all).map(|(i, l)| ((l.gene, l.peak), i)).collect();
    let rows_of =
        |links: &[LinkStat]| links.iter().filter_map(|l| row_of.get(&(l.gene, l.peak)).copied()).collect::<Vec<u32>>();
    let tops = |values: &[f64], per: f64, name: &dyn Fn(usize) -> String| -> Vec<Value> {
        let rounded = |x: f64| (x / per * 1e6).round() / 1e6;
        largest(values, TOP).into_iter().map(|k| json!([name(k), rounded(values[k])])).collect()
    };
    let (gene_name, peak_name) = (|g: usize| v.genes[g].name.clone(), |p: usize| found.peak_name(p as u32));
    let (mut maps, mut kept, mut active) = (Vec::new(), HashSet::new(), Vec::new());
    for (i, file) in found.maps().into_iter().enumerate() {
        progress.check("nothing was written")?;
        let mut of_type = Vec::new();
        let more = if i == 0 { (per_map / 2).max((10 * v.genes.len()).min(MOST_OF_GENES)) } else { per_map / 2 };
        let of_map = if i == 0 {
            &all
        } else {
            of_type = found.links(Source::Links, i)?;
            &of_type
        };
        kept.extend(rows_of(&chosen(of_map, per_map, more, v.genes.len())));
        if i > 0 {
            active.push(rows_of(&of_type).into_iter().collect::<HashSet<u32>>());
        }
        maps.push(json!({
            "name": file.name, "unit": "links expected", "cells": file.cells, "links": file.links,
            "genes": tops(&found.gene_tracks[i], 1.0, &gene_name), "peaks": tops(&found.peak_tracks[i], 1.0, &peak_name),
        }));
    }
    let mut kept: Vec<u32> = kept.into_iter().collect();
    kept.sort_unstable();
    let mut told: Vec<LinkStat> = Vec::new();
    if let Some(attention) = &found.made.attention {
        let pairs = found.links(Source::Attention, 0)?;
        told = chosen(&pairs, per_map, per_map / 2, v.genes.len());
        let (mut of_genes, mut of_peaks) = (vec![0.0; v.genes.len()], vec![0.0; v.peaks.len()]);
        for l in &pairs {
            of_genes[l.gene as usize] += l.score;
            of_peaks[l.peak as usize] += l.score;
        }
        let cells = attention.all.cells.max(1) as f64;
        maps.push(json!({
            "name": "attention", "cells": attention.all.cells, "links": attention.all.links,
            "genes": tops(&of_genes, cells, &gene_name), "peaks": tops(&of_peaks, cells, &peak_name),
        }));
    }
    let pairs: Vec<&LinkStat> = kept.iter().map(|&i| &all[i as usize]).collect();
    let (genes, new_gene) = renumbered(pairs.iter().copied().chain(&told).map(|l| l.gene), v.genes.len());
    let (peaks, new_peak) = renumbered(pairs.iter().copied().chain(&told).map(|l| l.peak), v.peaks.len());
    places_json(found, [&genes, &peaks], data);
    let width = active.len().div_ceil(8);
    let mut bits = vec![0u8; kept.len() * width];
    for (t, rows) in active.iter().enumerate() {
        for (k, _) in kept.iter().enumerate().filter(|x| rows.contains(x.1)) {
            bits[k * width + t / 8] |= 1 << (t % 8);
        }
    }
    let column = |f: &dyn Fn(&LinkStat) -> f64| numbers(&pairs.iter().map(|l| f(l) as f32).collect::<Vec<f32>>());
    let small = |x: u32| u8::try_from(x).unwrap_or(u8::MAX);
    let replicates =
        |c: usize| numbers(&kept.iter().map(|&i| small(details[i as usize].replicates[c])).collect::<Vec<u8>>());
    let (selection, most) = (found.made.links.selection, |x: u32| u16::try_from(x).unwrap_or(u16::MAX));
    data["maps"] = Value::from(maps);
    data["links"] = json!({
        "gene": numbers(&pairs.iter().map(|l| new_gene[l.gene as usize]).collect::<Vec<u32>>()),
        "peak": numbers(&pairs.iter().map(|l| new_peak[l.peak as usize]).collect::<Vec<u32>>()),
        "probability": column(&|l| l.score), "q": column(&|l| l.qvalue),
        "effect": numbers(&kept.iter().map(|&i| details[i as usize].effect[0] as f32).collect::<Vec<f32>>()),
        "cells": numbers(&pairs.iter().map(|l| most(l.cells)).collect::<Vec<u16>>()),
        "replicates": replicates(0), "agree": replicates(1), "types": numbers(&bits), "width": width,
        "max_q": selection.max_q, "selected": found.made.links.selected, "pairs": found.made.links.pairs,
        "has_replicates": found.made.links.replicates.is_some(),
    });
    data["told_by_attention"] = json!({
        "gene": numbers(&told.iter().map(|l| new_gene[l.gene as usize]).collect::<Vec<u32>>()),
        "peak": numbers(&told.iter().map(|l| new_peak[l.peak as usize]).collect::<Vec<u32>>()),
        "score": numbers(&told.iter().map(|l| l.score as f32).collect::<Vec<f32>>()),
        "cells": numbers(&told.iter().map(|l| l.cells).collect::<Vec<u32>>()),
    });
    Ok((LinksFound { shown: pairs.len(), ..in_short(found, &all) }, [genes, peaks]))
}

/// Names and places of the genes and peaks that occur.
fn places_json(found: &DiscoveryFolder, [genes, peaks]: [&[usize]; 2], data: &mut Value) {
    let v = &found.vocabulary;
    let small = |x: i64| i32::try_from(x).unwrap_or(-1);
    let chrom = |c: u32| u16::try_from(c).unwrap_or(u16::MAX);
    // A name is written only where it says something else than the place.
    let own_names: serde_json::Map<String, Value> = peaks
        .iter()
        .enumerate()
        .filter_map(|(k, &p)| {
            let (name, peak) = (found.peak_name(p as u32), &v.peaks[p]);
            let place = format!("{}:{}-{}", v.chromosomes[peak.chrom as usize], peak.start, peak.end);
            (name != place).then(|| (k.to_string(), Value::from(name)))
        })
        .collect();
    data["chroms"] = json!(v.chromosomes);
    data["genes"] = json!({
        "names": genes.iter().map(|&g| &v.genes[g].name).collect::<Vec<_>>(),
        "chrom": numbers(&genes.iter().map(|&g| chrom(v.genes[g].chrom)).collect::<Vec<u16>>()),
        "tss": numbers(&genes.iter().map(|&g| small(v.genes[g].tss.unwrap_or(-1))).collect::<Vec<i32>>()),
    });
    data["peaks"] = json!({
        "names": own_names,
        "chrom": numbers(&peaks.iter().map(|&p| chrom(v.peaks[p].chrom)).collect::<Vec<u16>>()),
        "start": numbers(&peaks.iter().map(|&p| small(v.peaks[p].start)).collect::<Vec<i32>>()),
        "end": numbers(&peaks.iter().map(|&p| small(v.peaks[p].end)).collect::<Vec<i32>>()),
    });
}

/// Where the table of links goes.
pub(super) const LINKS: &str = r#"<div class="controls filters" role="group" aria-label="filters">
<label>gene or peak <input type="search" id="links-filter" placeholder="Gad1, chr2:…"></label>
<label>cell type <select id="links-map"></select></label>
<label>q at most <input type="number" id="links-q" min="0" max="1" step="0.01"></label>
<label>probability at least <input type="number" id="links-probability" min="0" max="1" step="0.05"></label>
<label>effect at least <input type="number" id="links-effect" step="0.05"></label>
<label>distance at most (kb) <input type="number" id="links-distance" min="0" step="10"></label>
<label>cells at least <input type="number" id="links-cells" min="0" step="10"></label>
<label>replicates at least <input type="number" id="links-replicates" min="0" step="1"></label>
<label>genome (UCSC) <input type="text" id="links-genome" size="8" autocomplete="off" spellcheck="false"></label>
</div>
<div class="controls"><span id="links-count" class="note" role="status"></span>
<button type="button" id="links-back">‹ back</button><button type="button" id="links-next">next ›</button>
<button type="button" id="links-clear">clear filters</button>
<button type="button" id="links-csv">download as CSV</button></div>
<div id="links-table" class="scroll" tabindex="0" role="region" aria-label="table of links"></div>
"#;
/// Where one gene goes: coverage and gene models have a place above the arcs.
pub(super) const GENE: &str = r#"<div class="controls"><input type="search" id="gene-name" placeholder="gene" aria-label="gene" autocomplete="off"></div>
<h3 id="gene-title"></h3>
<div class="suggest" id="gene-suggest"></div><div class="chips" id="gene-types"></div>
<div id="gene-tracks"></div><div id="gene-arcs"></div><div id="gene-links" class="scroll"></div>
"#;

/// How the links were told, and how far to trust them.
pub(super) fn trust(l: &LinksSummary) -> String {
    let mut rows = vec![
        ("pairs tested", thousands(l.pairs)),
        ("links (q of at most)", format!("{} ({})", thousands(l.selected), short(l.selection.max_q))),
        ("sum of probabilities (generous: claims are made by q)", format!("{:.0}", l.expected)),
        ("compared with", format!("{} pairs between chromosomes, open as often", thousands(l.draws))),
    ];
    let kind = if l.typed { "cell types" } else { "neighbourhoods of cells" };
    rows.push(("kinds of cells", format!("{} {kind}", l.kinds.len())));
    if let Some(r) = &l.replicates {
        rows.push(("replicates", format!("{} (column {})", r.names.len(), r.column)));
    }
    if let Some(a) = &l.agreement {
        let of = a.spearman.map_or("–".into(), |x| format!("{x:.2}"));
        rows.push((
            "halves of the cells",
            format!("parted by {}; Spearman of scores {of} over {} pairs", a.by, thousands(a.pairs)),
        ));
        rows.push(("same sign in the other half", format!("{} of {} claimed", a.claimed[1], a.claimed[0])));
    }
    let mut body = format!("<div class=\"side\"><div>{}</div><div>", facts(&rows));
    if let Some(c) = l.choice.as_ref().filter(|c| !c.curve.is_empty()) {
        let most = c.curve.iter().map(|p| p.stands_out).fold(0.0, f64::max).max(1e-9);
        body += "<table class=\"wide\"><thead><tr><th>components taken out</th><th>promoter pairs stand out by (sd)</th><th></th></tr></thead><tbody>\n";
        for p in &c.curve {
            let _ = writeln!(
                body,
                "<tr><td>{}</td><td>{:.3}</td><td class=\"bars\"><svg class=\"bar-svg\" viewBox=\"0 0 100 8\" width=\"100%\" height=\"12\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"{:.1}\" height=\"8\" fill=\"#0072b2\"/></svg></td></tr>",
                p.components,
                p.stands_out,
                100.0 * p.stands_out.max(0.0) / most
            );
        }
        body += "</tbody></table>";
        body += &note(&format!(
            "Taken: {} and {} (each half of the chromosomes by the other); weights between kinds {:.2} and {:.2}, within {:.2} and {:.2}.",
            c.weights[0].components,
            c.weights[1].components,
            c.weights[0].between,
            c.weights[1].between,
            c.weights[0].within,
            c.weights[1].within
        ));
    }
    l.notes.iter().for_each(|n| body += &note(n));
    body + "</div></div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(gene: u32, peak: u32, score: f64) -> LinkStat {
        LinkStat { gene, peak, score, cells: 1, zscore: f64::NAN, pvalue: f64::NAN, qvalue: f64::NAN }
    }

    #[test]
    fn the_best_and_some_of_every_gene() {
        let links: Vec<LinkStat> = (0..20).map(|i| link(u32::from(i >= 15) * (i - 14), i, f64::from(20 - i))).collect();
        let kept = chosen(&links, 6, 3, 6);
        assert_eq!(kept.len(), 9);
        assert!(kept.windows(2).all(|w| w[0].score > w[1].score));
        assert_eq!(kept.iter().map(|l| l.gene).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 1, 2, 3]);
        assert_eq!(chosen(&links, 50, 25, 6).len(), 20);
        // Then further ones of genes that have few.
        let more: Vec<LinkStat> = (0..20).map(|i| link(u32::from(i >= 4), i, f64::from(20 - i))).collect();
        assert_eq!(chosen(&more, 2, 4, 2).iter().map(|l| l.peak).collect::<Vec<_>>(), [0, 1, 2, 4, 5, 6]);
        assert!(chosen(&[], 5, 2, 0).is_empty());
    }
}
