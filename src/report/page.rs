//! The page itself: HTML made here and beside, behaviour in `page/*.js`, data inlined.

use std::fmt::Write;

use serde_json::{Value, json};

use super::genome::assembly;
use super::html::{hex, note, script_json, section};
use super::links::{GENE, LINKS, LinksFound, found_json, trust};
use super::measures::{TOLD, metrics_section, partners_in_short, told_json};
use super::methods::{Work, methods};
use super::places::{PLANE, embedding_json};
use super::settings::{data_section, run_section};
use super::summary::summary;
use super::tracks::tracks_json;
use super::types::types_section;
use crate::dataset::{DataSet, SampleSet};
use crate::discover::DiscoveryFolder;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, GeneTold};
use crate::picture::{Theme, curves, escaped, ramp, thousands};
use crate::progress::Progress;
use crate::train::{EpochRecord, Run};

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
    /// `[N]` where each cell of the data lies in the plane; NaN where it has no place.
    pub embedding: Shown<Vec<[f32; 2]>>,
    /// How well the expression of each gene is told.
    pub told: Shown<Vec<GeneTold>>,
    /// The discovery.
    pub found: Shown<&'a DiscoveryFolder>,
    /// UCSC's name of the assembly; `None`: guessed.
    pub genome: Option<String>,
    /// Links of each map, the best first; half as many again (of all cells more: ten a gene, up to 20,000) go to genes
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

/// Sections that the reader can go to, by id and name, where they are there.
const SECTIONS: [(&str, &str); 13] = [
    ("summary", "Summary"),
    ("links", "Links"),
    ("gene", "Gene"),
    ("types", "Cell types"),
    ("cells", "Cells"),
    ("translation", "Translation"),
    ("metrics", "Numbers"),
    ("known", "Known links"),
    ("factors", "Binding sites"),
    ("training", "Training"),
    ("data-set", "Data"),
    ("run", "Settings"),
    ("methods", "Methods"),
];

/// What the page's script is made of, in order.
const SCRIPT: [&str; 8] = [
    include_str!("page/base.js"),
    include_str!("page/cells.js"),
    include_str!("page/told.js"),
    include_str!("page/links.js"),
    include_str!("page/tracks.js"),
    include_str!("page/gene.js"),
    include_str!("page/types.js"),
    include_str!("page/end.js"),
];

/// Links, one gene, cell types.
fn of_links(body: &mut String, p: &Page<'_>, links: &LinksFound) -> Result<()> {
    let found = match &p.found {
        Ok(found) => found,
        Err(how) => {
            let text = format!(
                "{}<code class=\"code\">{}</code>\n",
                note("No discovery was given. To make one:"),
                how.lines().map(escaped).collect::<Vec<_>>().join("\n")
            );
            section(body, "links", "Links", &text);
            return Ok(());
        }
    };
    let l = &found.made.links;
    let text = note(&format!(
        "{} pairs: the best of all cells and of each type, and some of genes that would have none. The full tables are {} and \
         links/ in {}. Probability is that of a link, q its false discovery rate: claims are made by q.",
        thousands(links.shown as u64),
        l.file.display(),
        found.dir.display()
    ));
    let trusted = format!("<details><summary>How the links were told</summary>\n{}</details>\n", trust(l));
    section(body, "links", "Links", &format!("{text}{LINKS}{trusted}"));
    section(body, "gene", "One gene", GENE);
    types_section(body, found)
}

/// Cells in the plane, translation by gene, measures.
fn of_cells(body: &mut String, p: &Page<'_>, data: &mut Value, extent: &mut Extent) -> Result<()> {
    let missing = |why: &String| note(why);
    let cells = match (&p.embedding, &p.data) {
        (Ok(at), Ok((d, _))) => {
            let linked = p.found.as_ref().ok().map(|f| f.gene_tracks[0].as_slice());
            let (value, n) = embedding_json(at, d, linked.filter(|t| t.len() == d.vocabulary().genes.len()))?;
            data["embedding"] = value;
            extent.cells = n;
            let of = at.len();
            let some = if n < of {
                format!("{} of {} cells. ", thousands(n as u64), thousands(of as u64))
            } else {
                String::new()
            };
            note(&format!(
                "{some}Joint embedding of RNA and ATAC by UMAP: what lies together is alike; distances between groups mean little. A \
                 click on a name shows its cells alone."
            )) + PLANE
        }
        (Err(why), _) | (_, Err(why)) => missing(why),
    };
    let towers = p.evaluation.as_ref().ok().and_then(|e| e.towers.as_ref());
    let partners = towers.map_or(String::new(), partners_in_short);
    section(body, "cells", "Partners and embedding", &format!("{cells}{partners}"));
    let told = match (&p.told, &p.data) {
        (Ok(told), Ok((d, _))) if !told.is_empty() => {
            data["told"] = told_json(told, d.vocabulary());
            note(
                "How well the expression of each gene is told from ATAC, over cells that training has not seen: the correlation of \
                 told and measured levels. Genes near 0 are not told at all.",
            ) + TOLD
        }
        (Ok(_), Ok(_)) => note("The model does not tell expression, or no gene is found in enough cells."),
        (Err(why), _) | (_, Err(why)) => missing(why),
    };
    section(body, "translation", "Translation by gene", &told);
    let of_metrics = p.evaluation.as_ref().map(metrics_section).unwrap_or_else(missing);
    section(body, "metrics", "Numbers beside simple methods", &of_metrics);
    Ok(())
}

/// Training curves, data and settings.
fn of_making(body: &mut String, p: &Page<'_>) -> Result<()> {
    let training = match &p.run {
        Ok((run, log)) if log.is_empty() && run.file.origin != "trained" => {
            note("The weights were imported: there is no log.")
        }
        Ok((_, log)) => format!("<div class=\"curves\">{}</div>", curves(log, "").svg(Theme::Page)?),
        Err(why) => note(why),
    };
    section(body, "training", "Training", &training);
    let missing = |why: &String| note(why);
    let of_data = p.data.as_ref().map(|(d, s)| data_section(d, s.as_ref())).unwrap_or_else(missing);
    section(body, "data-set", "Data", &of_data);
    let run = p.run.as_ref().map(|(run, log)| run_section(run, log)).unwrap_or_else(missing);
    section(body, "run", "Settings of the run", &run);
    Ok(())
}

/// The page, and how much is on it.
///
/// # Errors
/// Link tables that cannot be read; [`Error::Interrupted`].
pub fn page(p: &Page<'_>, progress: &dyn Progress) -> Result<(String, Extent)> {
    let (mut data, mut body) = (json!({}), String::new());
    data["ramp"] = (0..64).map(|i| hex(ramp(f64::from(i) / 63.0))).collect::<Vec<_>>().into();
    let mut extent = Extent { bytes: 0, links: 0, cells: 0 };
    let mut links = LinksFound::default();
    if let Ok(found) = &p.found {
        let shown;
        (links, shown) = found_json(found, p.links, &mut data, progress)?;
        if let Ok((d, _)) = &p.data
            && found.check_data(d.hash(), d.vocabulary()).is_ok()
        {
            tracks_json(d, [&shown[0], &shown[1]], progress, &mut data)?;
        }
        extent.links = links.shown;
    }
    let (dataset, run) = (p.data.as_ref().ok().map(|d| d.0), p.run.as_ref().ok().map(|r| r.0));
    let (found, evaluation) = (p.found.as_ref().ok().copied(), p.evaluation.as_ref().ok());
    let origin = dataset.map_or(&Value::Null, |d| d.origin());
    let names = found.map(|f| &f.vocabulary).or(dataset.map(DataSet::vocabulary)).map_or(&[][..], |v| &v.genes);
    data["genome"] = match (&p.genome, assembly(origin, names.iter().map(|g| g.name.as_str()))) {
        (Some(told), _) => json!({ "name": told, "guess": false }),
        (None, Some((name, guess))) => json!({ "name": name, "guess": guess }),
        (None, None) => json!({ "name": "", "guess": true }),
    };
    let first = summary(dataset, run, found.map(|f| (f, &links)), evaluation, progress)?;
    section(&mut body, "summary", "Summary", &first);
    of_links(&mut body, p, &links)?;
    of_cells(&mut body, p, &mut data, &mut extent)?;
    if let Some(found) = found {
        super::known::known_sections(&mut body, found);
    }
    of_making(&mut body, p)?;
    let work = Work { data: dataset, run, found, evaluation, drawn: p.embedding.is_ok() };
    section(&mut body, "methods", "Methods", &methods(work, "F.html"));
    let html = whole(&p.title, &body, &script_json(&data));
    extent.bytes = html.len();
    if html.len() > u32::MAX as usize {
        return Err(Error::Internal(format!("a page of {} bytes", html.len())));
    }
    Ok((html, extent))
}

/// Head, body, data and script.
fn whole(title: &str, body: &str, json: &str) -> String {
    // A number that nothing on the page can have known beforehand: only the page's own scripts carry it.
    let nonce = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(format!("{body}{json}").as_bytes()));
    let title = escaped(title);
    let mut links = String::new();
    for (id, name) in SECTIONS {
        if body.contains(&format!("<section id=\"{id}\">")) {
            let _ = write!(links, "<a href=\"#{id}\">{name}</a>");
        }
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'nonce-{nonce}'; style-src \
         'nonce-{nonce}'; img-src data:; base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style nonce=\"{nonce}\">\n{css}</style></head>\n<body>\n<a class=\"skip\" href=\"#summary\">to the summary</a>\n\
         <header><h1>{title}</h1><p>sccrossrec {version}</p></header>\n\
         <nav aria-label=\"sections\"><div>{links}</div></nav>\n<main>\n{body}</main>\n\
         <script type=\"application/json\" id=\"data\">{json}</script>\n<script nonce=\"{nonce}\">\n{js}</script>\n</body></html>\n",
        css = include_str!("page/page.css"),
        js = SCRIPT.concat(),
        version = env!("CARGO_PKG_VERSION"),
    )
}
