//! The model beside what would be fitted in a minute, and how well each gene is told.

use serde_json::{Value, json};

use super::html::{note, numbers};
use crate::evaluate::towers::{DEPTH, EXPRESSION, PARTNERS, SPACE};
use crate::evaluate::{
    Evaluation, ExpressionMetrics, GeneTold, MatchingMetrics, PartnerMetrics, SpaceMetrics, TowerEvaluation,
    TranslationMetrics,
};
use crate::picture::{escaped, thousands};
use crate::vocabulary::Vocabulary;

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

/// How often the true partner is near the top.
pub(super) fn partners_in_short(t: &TowerEvaluation) -> String {
    let b = t.baselines.as_ref();
    let mut columns = vec![("towers".to_string(), &t.partners)];
    columns.extend(b.map(|b| ("CCA".to_string(), &b.cca_partners)));
    columns.extend(b.map(|b| ("chance".to_string(), &b.chance)));
    let rows: [Metric<PartnerMetrics>; 4] = [
        ("true partner first", true, |m| m.first),
        ("among the first 10", true, |m| m.among_10),
        ("among the first 50", true, |m| m.among_50),
        ("first has the cell’s type", true, |m| m.type_of_first),
    ];
    let of = thousands(t.partners.cells);
    format!(
        "<h3>Partners among {of} cells that training has not seen</h3>\n{}",
        metrics("share of cells", &rows, &columns)
    )
}

/// Every measure of the model.
pub(super) fn metrics_section(e: &Evaluation) -> String {
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

/// Where the table of genes and its histogram go.
pub(super) const TOLD: &str = r#"<div class="plane"><div><div class="controls"><input type="search" id="told-filter" placeholder="gene" aria-label="gene">
<span id="told-count" class="note" role="status"></span></div><div id="told-table" class="scroll"></div></div>
<div id="told-histogram"></div></div>
"#;

/// Genes by how well they are told, the best first, as the page's script reads them.
pub(super) fn told_json(told: &[GeneTold], v: &Vocabulary) -> Value {
    let mut told: Vec<GeneTold> = told.to_vec();
    told.sort_by(|a, b| b.pearson.total_cmp(&a.pearson).then(a.gene.cmp(&b.gene)));
    let numbers_of = |f: fn(&GeneTold) -> f64| numbers(&told.iter().map(|g| f(g) as f32).collect::<Vec<f32>>());
    json!({
        "names": told.iter().map(|g| v.genes[g.gene as usize].name.as_str()).collect::<Vec<_>>(),
        "pearson": numbers_of(|g| g.pearson), "spearman": numbers_of(|g| g.spearman), "auroc": numbers_of(|g| g.auroc),
        "cells": numbers(&told.iter().map(|g| g.cells).collect::<Vec<u32>>()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
