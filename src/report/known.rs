//! Known links and binding sites beside what was found.

use std::fmt::Write;

use super::html::{note, section};
use crate::discover::DiscoveryFolder;
use crate::discover::tf::TfComparison;
use crate::picture::{escaped, thousands};

/// Lines of a table made here, at most.
const MOST_ROWS: usize = 300;

/// Sections of what the discovery was compared with.
pub(super) fn known_sections(out: &mut String, found: &DiscoveryFolder) {
    let m = &found.made;
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
