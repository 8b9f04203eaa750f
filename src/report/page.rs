//! The page itself: HTML made here, behaviour in `page.js`, data inlined.

use std::fmt::Write;

use serde_json::{Value, json};

use super::pca::Pca;
use crate::dataset::{DataSet, SampleSet};
use crate::discover::evidence::table::{LinksSummary, short};
use crate::discover::maps::LinkStat;
use crate::discover::tf::TfComparison;
use crate::discover::{DiscoveryFolder, Source};
use crate::error::{Error, Result};
use crate::evaluate::towers::{DEPTH, EXPRESSION, PARTNERS, SPACE};
use crate::evaluate::{
    Evaluation, ExpressionMetrics, MatchingMetrics, PartnerMetrics, SpaceMetrics, TowerEvaluation, TranslationMetrics,
};
use crate::picture::{Ink, Shape, Theme, base64, category, curves, escaped, ramp, thousands, type_map};
use crate::progress::Progress;
use crate::train::{EpochRecord, Run};

/// Cells of the embedding, at most: beyond that, evenly spread ones.
const MOST_CELLS: usize = 40_000;
/// Links of all maps together, at most.
const MOST_LINKS: usize = 400_000;
/// Links of all cells that are kept for the sake of their genes, at most.
const MOST_OF_GENES: usize = 30_000;
/// Genes and peaks of a map's bars.
const TOP: usize = 20;
/// Lines of a table made here, at most.
const MOST_ROWS: usize = 300;
/// Rows of the map of genes by type, at most.
const ROWS: usize = 40;

/// Something that is shown, or why it is not.
pub type Shown<T> = std::result::Result<T, String>;

/// What goes on the page.
pub struct Page<'a> {
    /// Heading.
    pub title: String,
    /// The run and its epochs.
    pub run: Shown<(&'a Run, Vec<EpochRecord>)>,
    /// The data set, and the sample set that was trained on.
    pub data: Shown<(&'a DataSet, Option<SampleSet>)>,
    /// The model on the test part.
    pub evaluation: Shown<Evaluation>,
    /// Where each cell of the data lies.
    pub embedding: Shown<Pca>,
    /// The discovery.
    pub found: Shown<&'a DiscoveryFolder>,
    /// Links of each map, the best first; half as many again (of all cells more: ten a gene, up to 30,000) go to genes
    /// that these leave with few.
    pub links: usize,
}

/// How much of what is on the page, and its size.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Extent {
    /// Bytes.
    pub bytes: usize,
    /// Links.
    pub links: usize,
    /// Cells of the embedding.
    pub cells: usize,
}

fn numbers<T: bytemuck::Pod>(values: &[T]) -> String {
    // The page reads little-endian, as does every machine this runs on.
    base64(bytemuck::cast_slice(values))
}

fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// JSON that can stand inside a script element: no character of it can end that.
fn script_json(value: &Value) -> String {
    let text = value.to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

fn section(out: &mut String, id: &str, title: &str, body: &str) {
    let _ = writeln!(out, "<section id=\"{id}\"><h2>{}</h2>\n{body}</section>", escaped(title));
}

fn note(text: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escaped(text))
}

fn facts(rows: &[(&str, String)]) -> String {
    let mut out = "<table class=\"facts\"><tbody>\n".to_string();
    for (name, value) in rows {
        let _ = writeln!(out, "<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value));
    }
    out + "</tbody></table>\n"
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.2} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn run_section(run: &Run, log: &[EpochRecord]) -> String {
    let (c, m) = (&run.config, &run.sizes);
    let counts = run.file.sample_counts;
    let mut rows = vec![
        ("recipe", c.recipe.clone()),
        ("run", run.dir().display().to_string()),
        ("made by", format!("sccrossrec {}; {}", run.program(), run.file.origin)),
        ("seed", c.seed.to_string()),
    ];
    if run.file.origin == "trained" {
        let best = log.iter().filter(|r| r.best).map(|r| r.epoch).next_back();
        let best = best.map_or(String::new(), |b| format!(", best by validation: {b}"));
        let seconds: f64 = log.iter().map(|r| r.seconds).sum();
        rows.push(("epochs", format!("{} of at most {}{best}", log.len(), c.epochs)));
        rows.push(("training time", format!("{seconds:.0} s")));
        rows.push((
            "samples",
            format!(
                "{} training, {} validation, {} test; set “{}”",
                thousands(counts[0] as u64),
                thousands(counts[1] as u64),
                thousands(counts[2] as u64),
                c.samples
            ),
        ));
    }
    let mut left = facts(&rows);
    let _ = write!(
        left,
        "</div><div>{}",
        facts(&[
            ("parameters", thousands(run.parameters() as u64)),
            ("sizes", format!("H {}, d {}, {} heads, alpha {}", m.hidden, m.embedding_dim, m.heads, m.alpha)),
            ("model’s vocabulary", format!("{} genes, {} peaks", thousands(m.genes as u64), thousands(m.peaks as u64))),
            ("batch", format!("{} samples, {:?} products", c.batch_size, c.precision).to_lowercase()),
            (
                "optimiser",
                format!(
                    "Adam, rate {:e} ({}), weight decay {:e}, dropout {}",
                    c.adam.lr,
                    c.schedule.words(),
                    c.adam.weight_decay,
                    c.model.dropout
                )
            ),
            ("data hash", run.data_hash().to_string()),
        ])
    );
    format!("<div class=\"side\"><div>{left}</div></div>\n")
}

fn data_section(data: &DataSet, set: Option<&SampleSet>) -> String {
    let v = data.vocabulary();
    let (rna, atac) = data.entries();
    let cells = data.n_cells() as u64;
    let (kr, ka) = data.kinds();
    let kind =
        |k: Option<crate::data::anndata::MatrixKind>| k.map_or("none".into(), |k| format!("{k:?}").to_lowercase());
    let all = |n: usize| cells * n as u64;
    let mut rows = vec![
        ("data", data.dir().display().to_string()),
        ("hash", data.hash().to_string()),
        ("cells", thousands(cells)),
        (
            "genes",
            format!("{}, {} with a TSS", thousands(v.genes.len() as u64), {
                thousands(v.genes.iter().filter(|g| g.tss.is_some()).count() as u64)
            }),
        ),
        ("peaks", thousands(v.peaks.len() as u64)),
        ("chromosomes", v.chromosomes.len().to_string()),
        (
            "RNA",
            format!("{}; {:.0} genes a cell ({})", kind(kr), rna as f64 / cells.max(1) as f64, {
                percent(rna, all(v.genes.len()))
            }),
        ),
        (
            "ATAC",
            format!("{}; {:.0} peaks a cell ({})", kind(ka), atac as f64 / cells.max(1) as f64, {
                percent(atac, all(v.peaks.len()))
            }),
        ),
    ];
    if let Some(set) = set {
        let recipe = set.recipe["split"].as_str().unwrap_or("–");
        let positive = set.samples.iter().filter(|s| s.label == 1).count() as u64;
        let of = thousands(set.samples.len() as u64);
        rows.push(("sample set", format!("{of} samples, {} positive, split by {recipe}", thousands(positive))));
    }
    let mut body = format!("<div class=\"side\"><div>{}</div>", facts(&rows));
    if !v.cell_types.is_empty() {
        let mut counts = vec![0u64; v.cell_types.len()];
        v.cell_type.iter().for_each(|&t| counts[t as usize] += 1);
        let most = counts.iter().copied().max().unwrap_or(1).max(1);
        let mut order: Vec<usize> = (0..counts.len()).collect();
        order.sort_by_key(|&t| std::cmp::Reverse(counts[t]));
        body += "<div class=\"scroll\"><table class=\"wide\"><thead><tr><th>cell type</th><th>cells</th><th></th></tr></thead><tbody>\n";
        for &t in order.iter().take(30) {
            let _ = writeln!(
                body,
                "<tr><td>{}</td><td>{}</td><td class=\"bars\"><svg class=\"bar-svg\" viewBox=\"0 0 100 8\" width=\"100%\" height=\"12\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect width=\"{:.1}\" height=\"8\" fill=\"#0072b2\"/></svg></td></tr>",
                escaped(&v.cell_types[t]),
                thousands(counts[t]),
                100.0 * counts[t] as f64 / most as f64
            );
        }
        body += "</tbody></table>";
        if order.len() > 30 {
            body += &note(&format!("and {} smaller ones", order.len() - 30));
        }
        body += "</div>";
    }
    body + "</div>\n"
}

/// A metric: name, is higher better, and its number.
type Metric<M> = (&'static str, bool, fn(&M) -> Option<f64>);

const MATCHING: [Metric<MatchingMetrics>; 7] = [
    ("accuracy", true, |m| m.accuracy),
    ("AUROC", true, |m| m.auroc),
    ("AUPRC", true, |m| m.auprc),
    ("precision, label 1", true, |m| m.precision_1),
    ("recall, label 1", true, |m| m.recall_1),
    ("precision, label 0", true, |m| m.precision_0),
    ("recall, label 0", true, |m| m.recall_0),
];

const TRANSLATION: [Metric<TranslationMetrics>; 10] = [
    ("F1", true, |m| m.f1),
    ("precision", true, |m| m.precision),
    ("recall", true, |m| m.recall),
    ("RMSE", false, |m| m.rmse),
    ("MAE", false, |m| m.mae),
    ("Pearson per cell", true, |m| m.pearson),
    ("RMSE, as stored", false, |m| m.rmse_expression),
    ("MAE, as stored", false, |m| m.mae_expression),
    ("Pearson per cell, as stored", true, |m| m.pearson_expression),
    ("FOSCTTM (chance 0.5)", false, |m| m.foscttm),
];

/// A table of metrics, the best number of each line marked; baselines without the number have a dash.
fn metrics<M>(name: &str, metrics: &[Metric<M>], columns: &[(String, &M)]) -> String {
    let mut out = format!("<div class=\"scroll\"><table><thead><tr><th>{}</th>", escaped(name));
    columns.iter().for_each(|(c, _)| out += &format!("<th>{}</th>", escaped(c)));
    out += "</tr></thead><tbody>\n";
    for (name, higher, of) in metrics {
        let row: Vec<Option<f64>> = columns.iter().map(|(_, m)| of(m).filter(|x| x.is_finite())).collect();
        let best = row.iter().flatten().copied().reduce(|a, b| if (a > b) == *higher { a } else { b });
        out += &format!("<tr><td>{}</td>", escaped(name));
        for x in &row {
            let class =
                if x.is_some() && *x == best && row.iter().flatten().count() > 1 { " class=\"best\"" } else { "" };
            out += &x.map_or("<td>–</td>".into(), |x| format!("<td{class}>{x:.4}</td>"));
        }
        out += "</tr>\n";
    }
    out + "</tbody></table></div>\n"
}

/// The towers beside what would be fitted in a minute.
fn towers_section(t: &TowerEvaluation) -> String {
    let b = t.baselines.as_ref();
    let mut out = note(&format!(
        "Partners, expression and types of {} cells that training has not seen. The best number of a line is bold.",
        thousands(t.cells)
    ));
    out += "<div class=\"side\"><div>";
    let mut columns = vec![("towers".to_string(), &t.partners)];
    columns.extend(b.map(|b| ("CCA".to_string(), &b.cca_partners)));
    columns.extend(b.map(|b| ("depth alone".to_string(), &b.depth_partners)));
    columns.extend(b.map(|b| ("chance".to_string(), &b.chance)));
    let rows: Vec<Metric<PartnerMetrics>> = PARTNERS.iter().map(|&(name, of, less)| (name, !less, of)).collect();
    out += &metrics("partners", &rows, &columns);
    out += "</div><div>";
    if let Some(told) = &t.expression {
        let mut columns = vec![("towers".to_string(), told)];
        columns.extend(b.map(|b| ("ridge on LSI".to_string(), &b.ridge)));
        columns.extend(b.map(|b| ("gene mean".to_string(), &b.gene_mean)));
        columns.extend(b.and_then(|b| b.type_mean.as_ref()).map(|m| ("gene × type (told)".to_string(), m)));
        let rows: Vec<Metric<ExpressionMetrics>> =
            EXPRESSION.iter().map(|&(name, of, less)| (name, !less, of)).collect();
        out += &metrics("expression", &rows, &columns);
    }
    out += "</div></div>\n";
    let spaces: Vec<(String, &SpaceMetrics)> = t.spaces.iter().map(|s| (s.name.clone(), &s.measures)).collect();
    let rows: Vec<Metric<SpaceMetrics>> = SPACE.iter().map(|&(name, of)| (name, name != DEPTH, of)).collect();
    out += &metrics("embedding", &rows, &spaces);
    if !t.below.is_empty() {
        out += &note(&format!("A baseline is better in: {}.", t.below.join("; ")));
    }
    out
}

fn metrics_section(e: &Evaluation) -> String {
    let m = &e.matching;
    let mut out = e.towers.as_ref().map_or(String::new(), |t| towers_section(t) + "<h3>The attention model</h3>\n");
    out += &note(&format!(
        "{} samples of the part “{}”, {} of them positive. The best number of a line is bold; where that is not the model’s, a \
         trivial rule does better.",
        thousands(m.model.samples),
        e.part.name(),
        thousands(m.model.positives)
    ));
    out += "<div class=\"side\"><div>";
    let majority = format!("all {}", m.majority_class);
    out += &match m.model.samples - m.model.positives {
        0 => note("Matching: –, no negatives: of pairs of one cell alone nothing can be told."),
        _ => metrics("matching", &MATCHING, &[("model".into(), &m.model), (majority, &m.majority)]),
    };
    out += "</div><div>";
    match &e.translation {
        Some(t) => {
            let mut columns = vec![("model".to_string(), &t.model), ("all zeros".into(), &t.all_zeros)];
            columns.extend(t.gene_mean.as_ref().map(|m| ("gene mean".to_string(), m)));
            columns.extend(t.gene_majority.as_ref().map(|m| ("gene majority".to_string(), m)));
            out += &metrics("translation", &TRANSLATION, &columns);
            out += &note(&format!(
                "Truth is [expression > 0], or the expression as stored where said so; gene means are over {} training cells.",
                thousands(t.training_cells)
            ));
        }
        None => out += &note("No positive sample: no translation."),
    }
    out + "</div></div>\n"
}

fn shape_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Disc => "disc",
        Shape::Triangle => "triangle",
        Shape::Square => "square",
        Shape::Diamond => "diamond",
        Shape::Plus => "plus",
        Shape::Drop => "drop",
    }
}

/// Coordinates as 16 bits, types, and where the labels go.
fn embedding_json(p: &Pca, data: &DataSet) -> (Value, usize) {
    let v = data.vocabulary();
    let step = p.points.len().div_ceil(MOST_CELLS).max(1);
    let kept: Vec<usize> =
        (0..p.points.len()).step_by(step).filter(|&i| p.points[i].0.is_finite() && p.points[i].1.is_finite()).collect();
    let span = |f: fn(&(f64, f64)) -> f64| {
        let all = kept.iter().map(|&i| f(&p.points[i]));
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)))
    };
    let (sx, sy) = (span(|p| p.0), span(|p| p.1));
    let small = |x: f64, (lo, hi): (f64, f64)| ((x - lo) / (hi - lo).max(1e-300) * 65535.0).round() as u16;
    let x: Vec<u16> = kept.iter().map(|&i| small(p.points[i].0, sx)).collect();
    let y: Vec<u16> = kept.iter().map(|&i| small(p.points[i].1, sy)).collect();
    let none = u16::MAX;
    let type_of = |i: usize| v.cell_type.get(i).and_then(|&t| u16::try_from(t).ok()).unwrap_or(none);
    let kind: Vec<u16> = kept.iter().map(|&i| type_of(i)).collect();
    let median = |mut values: Vec<u16>| {
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let types: Vec<Value> = v
        .cell_types
        .iter()
        .enumerate()
        .map(|(t, name)| {
            let of =
                |values: &[u16]| (0..kept.len()).filter(|&k| usize::from(kind[k]) == t).map(|k| values[k]).collect();
            let (ink, shape) = category(t);
            let colour = if ink == Ink::Text { "ink".into() } else { hex(ink.rgb()) };
            let count = v.cell_type.iter().filter(|&&c| c as usize == t).count();
            json!({ "name": name, "colour": colour, "shape": shape_name(shape), "count": count,
                "middle": [median(of(&x)), median(of(&y))] })
        })
        .collect();
    let axis = |i: usize| format!("principal component {} ({:.1} % of the variance)", i + 1, 100.0 * p.share[i]);
    let value = json!({ "x": numbers(&x), "y": numbers(&y), "type": numbers(&kind), "types": types,
        "axes": [axis(0), axis(1)] });
    (value, kept.len())
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
fn largest(values: &[f64], n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| values[i] > 0.0).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(n);
    order
}

/// Everything of the discovery that the page's script reads; and the number of links.
fn found_json(found: &DiscoveryFolder, per_map: usize, data: &mut Value, progress: &dyn Progress) -> Result<usize> {
    let v = &found.vocabulary;
    let per_map = per_map.min(MOST_LINKS * 2 / 3 / (found.maps().len() + 1));
    let mut all: Vec<LinkStat> = Vec::new();
    let mut maps = Vec::new();
    let tops = |values: &[f64], per: f64, name: &dyn Fn(usize) -> String| -> Vec<Value> {
        let rounded = |x: f64| (x / per * 1e6).round() / 1e6;
        largest(values, TOP).into_iter().map(|k| json!([name(k), rounded(values[k])])).collect()
    };
    let (gene_name, peak_name) = (|g: usize| v.genes[g].name.clone(), |p: usize| found.peak_name(p as u32));
    for (i, file) in found.maps().into_iter().enumerate() {
        progress.check("nothing was written")?;
        let more = if i == 0 { (per_map / 2).max((10 * v.genes.len()).min(MOST_OF_GENES)) } else { per_map / 2 };
        let kept = chosen(&found.links(Source::Links, i)?, per_map, more, v.genes.len());
        maps.push(json!({
            "name": file.name, "unit": "links expected", "cells": file.cells, "links": file.links,
            "from": all.len(), "kept": kept.len(),
            "genes": tops(&found.gene_tracks[i], 1.0, &gene_name), "peaks": tops(&found.peak_tracks[i], 1.0, &peak_name),
        }));
        all.extend(kept);
    }
    // What attention says of all cells, as one more map.
    if let Some(attention) = &found.made.attention {
        let pairs = found.links(Source::Attention, 0)?;
        let kept = chosen(&pairs, per_map, per_map / 2, v.genes.len());
        let (mut of_genes, mut of_peaks) = (vec![0.0; v.genes.len()], vec![0.0; v.peaks.len()]);
        for l in &pairs {
            of_genes[l.gene as usize] += l.score;
            of_peaks[l.peak as usize] += l.score;
        }
        let cells = attention.all.cells.max(1) as f64;
        maps.push(json!({
            "name": "attention", "cells": attention.all.cells, "links": attention.all.links,
            "from": all.len(), "kept": kept.len(),
            "genes": tops(&of_genes, cells, &gene_name), "peaks": tops(&of_peaks, cells, &peak_name),
        }));
        all.extend(kept);
    }
    // Only genes and peaks that are linked, by new numbers.
    let renumber = |of: &dyn Fn(&LinkStat) -> u32, n: usize| {
        let mut used = vec![false; n];
        all.iter().for_each(|l| used[of(l) as usize] = true);
        let kept: Vec<usize> = (0..n).filter(|&i| used[i]).collect();
        let mut new = vec![0u32; n];
        kept.iter().enumerate().for_each(|(k, &i)| new[i] = k as u32);
        (kept, new)
    };
    let (genes, new_gene) = renumber(&|l| l.gene, v.genes.len());
    let (peaks, new_peak) = renumber(&|l| l.peak, v.peaks.len());
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
    data["maps"] = Value::from(maps);
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
    data["links"] = json!({
        "gene": numbers(&all.iter().map(|l| new_gene[l.gene as usize]).collect::<Vec<u32>>()),
        "peak": numbers(&all.iter().map(|l| new_peak[l.peak as usize]).collect::<Vec<u32>>()),
        "score": numbers(&all.iter().map(|l| l.score as f32).collect::<Vec<f32>>()),
        "z": numbers(&all.iter().map(|l| l.zscore as f32).collect::<Vec<f32>>()),
        "q": numbers(&all.iter().map(|l| l.qvalue as f32).collect::<Vec<f32>>()),
        "cells": numbers(&all.iter().map(|l| l.cells).collect::<Vec<u32>>()),
    });
    data["ramp"] = (0..64).map(|i| hex(ramp(f64::from(i) / 63.0))).collect::<Vec<_>>().into();
    Ok(all.len())
}

/// Genes with most active links in each type.
fn type_map_of(found: &DiscoveryFolder) -> Result<Option<String>> {
    let v = &found.vocabulary;
    let types = &found.made.links.cell_types;
    if types.len() < 2 {
        return Ok(None);
    }
    let mean = |t: usize, g: usize| found.gene_tracks[t + 1][g];
    // Each type in turn gives its next gene, so that every type has some.
    let orders: Vec<Vec<usize>> =
        (0..types.len()).map(|t| largest(&(0..v.genes.len()).map(|g| mean(t, g)).collect::<Vec<_>>(), ROWS)).collect();
    let mut rows: Vec<usize> = Vec::new();
    for rank in 0..ROWS {
        for order in &orders {
            if let Some(&g) = order.get(rank)
                && rows.len() < ROWS
                && !rows.contains(&g)
            {
                rows.push(g);
            }
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let strongest = |g: usize| (0..types.len()).max_by(|&a, &b| mean(a, g).total_cmp(&mean(b, g))).unwrap_or(0);
    rows.sort_by(|&a, &b| {
        (strongest(a), mean(strongest(b), b))
            .partial_cmp(&(strongest(b), mean(strongest(a), a)))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let names: Vec<String> = rows.iter().map(|&g| v.genes[g].name.clone()).collect();
    let columns: Vec<String> = types.iter().map(|t| t.cell_type.clone()).collect();
    let values: Vec<f64> =
        rows.iter().flat_map(|&g| (0..types.len()).map(move |t| (t, g))).map(|(t, g)| mean(t, g)).collect();
    let scene = type_map(
        &names,
        &columns,
        &values,
        "Genes by cell type",
        "links active in each type, by probability; the genes with most of them in each type",
    );
    scene.svg(Theme::Page).map(Some)
}

const TYPES: &str = r#"<div class="controls"><label>Cell type <select id="type-pick"></select></label></div>
<div class="side"><div><h3>Top genes</h3><div id="top-genes" class="scroll"></div></div>
<div><h3>Top peaks</h3><div id="top-peaks" class="scroll"></div></div></div>
"#;
const LINKS: &str = r#"<div class="controls"><input type="search" id="links-filter" placeholder="gene, peak or cell type" aria-label="filter">
<select id="links-map" aria-label="cell type"></select><span id="links-count" class="note" role="status"></span>
<button type="button" id="links-back">‹ back</button><button type="button" id="links-next">next ›</button></div>
<div id="links-table" class="scroll"></div>
"#;
const GENE: &str = r#"<div class="controls"><input type="search" id="gene-name" placeholder="gene" aria-label="gene" autocomplete="off">
<strong id="gene-title"></strong></div>
<div class="suggest" id="gene-suggest"></div><div class="chips" id="gene-types"></div>
<div id="gene-arcs"></div><div id="gene-links" class="scroll"></div>
"#;
const PLANE: &str = r#"<div class="plane"><canvas id="plane" role="img" aria-label="cells by the first two principal components"></canvas>
<div class="legend" id="legend"></div></div>
"#;

/// How the links were told, and how far to trust them.
fn trust(l: &LinksSummary) -> String {
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

fn found_sections(out: &mut String, found: &DiscoveryFolder, links: usize) -> Result<()> {
    let m = &found.made;
    section(out, "trust", "How far to trust the links", &trust(&m.links));
    let mut body = note(&format!(
        "Links active in each type, of {} cells; the last map is what attention says, where there is a model.",
        thousands(m.cells)
    ));
    body += TYPES;
    if let Some(svg) = type_map_of(found)? {
        let _ = write!(body, "<div class=\"scroll\">{svg}</div>");
    }
    section(out, "types", "Cell types", &body);
    let body = note(&format!(
        "{} pairs: the best of each map, and some of genes that would have none. The full tables are {} and links/ in {}. Score is \
         the probability of a link, q its false discovery rate; under \u{201c}attention\u{201d} the attention summed over the \
         cells, which mostly follows how many cells have both.",
        thousands(links as u64),
        m.links.file.display(),
        found.dir.display()
    )) + LINKS;
    section(out, "links", "Links", &body);
    section(out, "gene", "One gene", GENE);
    if let Some(r) = &m.recovery {
        let mut body = note(&format!(
            "{} known links among {} {} (chance AUPRC {}).",
            thousands(r.links),
            thousands(r.pairs),
            if r.tested { "tested pairs" } else { "pairs of equal chromosome" },
            r.chance.map_or("–".into(), |c| format!("{c:.5}"))
        ));
        body += "<table><thead><tr><th>links found by</th><th>AUROC</th><th>AUPRC</th><th>AUPRC / chance</th></tr></thead><tbody>\n";
        for s in &r.scores {
            let n = |x: Option<f64>, d: usize| x.map_or("–".into(), |x| format!("{x:.d$}"));
            let (a, b, c) = (n(s.auroc, 4), n(s.auprc, 4), n(s.auprc_over_chance, 2));
            let _ = writeln!(body, "<tr><td>{}</td><td>{a}</td><td>{b}</td><td>{c}</td></tr>", escaped(&s.score));
        }
        body += "</tbody></table>\n";
        section(out, "known", "Known links", &body);
    }
    if let Some(t) = &m.tf {
        section(out, "factors", "Binding sites", &factors(t));
    }
    Ok(())
}

/// Tracks of binding sites against the maps: each measure with its distance from the background in standard deviations.
fn factors(t: &TfComparison) -> String {
    let mut out = note(&format!(
        "Links expected at peaks, and their attention, against binding sites: the measure, and in brackets how many standard deviations that is above {} \
         permutations among peaks alike in accessibility, width and GC. Jaccard is of the top {}.",
        thousands(t.permutations),
        thousands(t.top)
    ));
    out += "<div class=\"scroll\"><table><thead><tr><th>track</th><th>cell type</th>";
    for measure in t.rows.first().iter().flat_map(|r| &r.measures) {
        out += &format!("<th>{}</th>", escaped(&measure.measure));
    }
    out += "</tr></thead><tbody>\n";
    for row in t.evidence.iter().chain(&t.rows).take(MOST_ROWS) {
        out += &format!("<tr><td>{}</td><td>{}</td>", escaped(&row.tf), escaped(&row.cell_type));
        for m in &row.measures {
            let value = m.value.map_or("–".into(), |x| format!("{x:.3}"));
            let z = m.zscore.map_or(String::new(), |z| format!(" ({z:.1})"));
            out += &format!("<td>{value}{z}</td>");
        }
        out += "</tr>\n";
    }
    out += "</tbody></table></div>\n";
    if t.rows.len() > MOST_ROWS {
        out += &note(&format!("The first {MOST_ROWS} of {} lines; all are in tf.tsv.", thousands(t.rows.len() as u64)));
    }
    out
}

/// The page, and how much is on it.
///
/// # Errors
/// Link tables that cannot be read; [`Error::Interrupted`].
pub fn page(p: &Page<'_>, progress: &dyn Progress) -> Result<(String, Extent)> {
    let mut data = json!({});
    let mut body = String::new();
    let mut extent = Extent { bytes: 0, links: 0, cells: 0 };
    let missing = |why: &String| note(why);
    let run = p.run.as_ref().map(|(run, log)| run_section(run, log)).unwrap_or_else(missing);
    section(&mut body, "run", "Run", &run);
    let of_data = p.data.as_ref().map(|(d, s)| data_section(d, s.as_ref())).unwrap_or_else(missing);
    section(&mut body, "data-set", "Data", &of_data);
    let training = match &p.run {
        Ok((run, log)) if log.is_empty() && run.file.origin != "trained" => {
            note("The weights were imported: there is no log.")
        }
        Ok((_, log)) => format!("<div class=\"curves\">{}</div>", curves(log, "").svg(Theme::Page)?),
        Err(why) => note(why),
    };
    section(&mut body, "training", "Training", &training);
    let of_metrics = p.evaluation.as_ref().map(metrics_section).unwrap_or_else(missing);
    section(&mut body, "metrics", "Metrics beside trivial baselines", &of_metrics);
    let cells = match (&p.embedding, &p.data) {
        (Ok(pca), Ok((d, _))) => {
            let (value, n) = embedding_json(pca, d);
            data["embedding"] = value;
            extent.cells = n;
            let of = pca.points.len();
            let some = if n < of {
                format!("{} of {} cells. ", thousands(n as u64), thousands(of as u64))
            } else {
                String::new()
            };
            note(&format!("{some}Joint embedding, first two principal components. A click on a type shows it alone."))
                + PLANE
        }
        (Err(why), _) | (_, Err(why)) => note(why),
    };
    section(&mut body, "cells", "Cells", &cells);
    match &p.found {
        Ok(found) => {
            extent.links = found_json(found, p.links, &mut data, progress)?;
            found_sections(&mut body, found, extent.links)?;
        }
        Err(how) => {
            for (id, title) in [("types", "Cell types"), ("links", "Links"), ("gene", "One gene")] {
                let text = format!(
                    "{}<code class=\"code\">{}</code>\n",
                    note("No discovery was given. To make one:"),
                    escaped(how)
                );
                section(&mut body, id, title, &text);
            }
        }
    }
    let json = script_json(&data);
    // A number that nothing on the page can have known beforehand: only the page's own scripts carry it.
    let nonce = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(format!("{body}{json}").as_bytes()));
    let title = escaped(&p.title);
    let mut links = String::new();
    for (id, name) in [
        ("run", "Run"),
        ("data-set", "Data"),
        ("training", "Training"),
        ("metrics", "Metrics"),
        ("cells", "Cells"),
        ("types", "Cell types"),
        ("links", "Links"),
        ("gene", "One gene"),
        ("known", "Known links"),
        ("factors", "Binding sites"),
    ] {
        if body.contains(&format!("<section id=\"{id}\">")) {
            let _ = write!(links, "<a href=\"#{id}\">{name}</a>");
        }
    }
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'nonce-{nonce}'; style-src \
         'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style nonce=\"{nonce}\">\n{css}</style></head>\n<body>\n<header><h1>{title}</h1><p>sccrossrec {version}</p></header>\n\
         <nav><div>{links}</div></nav>\n<main>\n{body}</main>\n\
         <script type=\"application/json\" id=\"data\">{json}</script>\n<script nonce=\"{nonce}\">\n{js}</script>\n</body></html>\n",
        css = include_str!("page.css"),
        js = include_str!("page.js"),
        version = env!("CARGO_PKG_VERSION"),
    );
    extent.bytes = html.len();
    if html.len() > u32::MAX as usize {
        return Err(Error::Internal(format!("a page of {} bytes", html.len())));
    }
    Ok((html, extent))
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

    #[test]
    fn nothing_ends_the_script() {
        let text = script_json(&json!({ "a": "</script><!-- & \u{2028}" }));
        assert!(!text.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["a"], "</script><!-- & \u{2028}");
    }

    #[test]
    fn the_best_number_is_marked() {
        let m = |accuracy| MatchingMetrics {
            samples: 1,
            positives: 1,
            accuracy,
            precision_0: None,
            recall_0: None,
            precision_1: None,
            recall_1: None,
            auroc: None,
            auprc: None,
        };
        let (a, b) = (m(Some(0.4)), m(Some(0.5)));
        let higher = metrics("x", &MATCHING[..1], &[("a".into(), &a), ("b".into(), &b)]);
        assert!(higher.contains("<td>0.4000</td><td class=\"best\">0.5000</td>"));
        let lower: [Metric<MatchingMetrics>; 1] = [("err", false, |m| m.accuracy)];
        let lower = metrics("x", &lower, &[("a".into(), &a), ("b".into(), &b)]);
        assert!(lower.contains("<td class=\"best\">0.4000</td><td>0.5000</td>"));
    }
}
