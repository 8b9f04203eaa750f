//! Genes and peaks with most links in each cell type.

use super::html::{note, section};
use super::links::largest;
use crate::discover::DiscoveryFolder;
use crate::error::Result;
use crate::picture::{Theme, thousands, type_map};

/// Rows of the map of genes by type, at most.
const ROWS: usize = 40;

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

/// The section.
pub(super) fn types_section(out: &mut String, found: &DiscoveryFolder) -> Result<()> {
    let mut body = note(&format!(
        "Links active in each type, of {} cells; the last map is what attention says, where there is a model.",
        thousands(found.made.cells)
    ));
    body += TYPES;
    if let Some(svg) = type_map_of(found)? {
        body += &format!("<div class=\"scroll\">{svg}</div>");
    }
    section(out, "types", "Cell types", &body);
    Ok(())
}
