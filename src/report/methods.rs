//! What a paper says of the work: methods to paste, commands to repeat it, versions.

use std::fmt::Write;
use std::path::Path;

use super::html::{counted, facts, share};
use crate::data::anndata::MatrixKind;
use crate::dataset::DataSet;
use crate::discover::DiscoveryFolder;
use crate::discover::evidence::table::short;
use crate::error::quoted;
use crate::evaluate::{Evaluation, UmapOptions};
use crate::picture::{escaped, thousands};
use crate::train::Run;

/// What was at hand.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub data: Option<&'a DataSet>,
    pub run: Option<&'a Run>,
    pub found: Option<&'a DiscoveryFolder>,
    pub evaluation: Option<&'a Evaluation>,
    /// Are cells drawn in a plane?
    pub drawn: bool,
}

fn of_data(data: &DataSet) -> String {
    let v = data.vocabulary();
    let placed = v.genes.iter().filter(|g| g.tss.is_some()).count() as u64;
    let kind = |k: Option<MatrixKind>| match k {
        Some(MatrixKind::Counts) => "raw counts",
        Some(_) => "values as they were stored",
        None => "none",
    };
    let (rna, atac) = data.kinds();
    let gtf = data.origin()["gtf"].as_str().and_then(|g| Path::new(g).file_name());
    let gtf = gtf.map_or(String::new(), |g| format!(" by {}", g.to_string_lossy()));
    format!(
        "Paired RNA and ATAC profiles of {} were prepared with sccrossrec {} (RNA: {}, {}; ATAC: {}, {}). {} had a transcription \
         start{gtf}.",
        counted(data.n_cells() as u64, "cell"),
        data.origin()["program"].as_str().unwrap_or("").trim_start_matches("sccrossrec "),
        counted(v.genes.len() as u64, "gene"),
        kind(rna),
        counted(v.peaks.len() as u64, "peak"),
        kind(atac),
        counted(placed, "gene"),
    )
}

fn of_run(run: &Run, evaluation: Option<&Evaluation>) -> String {
    let c = &run.config;
    let n = run.file.sample_counts;
    let mut out = format!(
        "A model was trained with sccrossrec {} (recipe {}, seed {}; {} training, {} validation and {} test samples).",
        run.program(),
        c.recipe,
        c.seed,
        thousands(n[0] as u64),
        thousands(n[1] as u64),
        thousands(n[2] as u64),
    );
    let Some(t) = evaluation.and_then(|e| e.towers.as_ref()) else { return out };
    if let (Some(first), Some(far)) = (t.partners.among_10, t.partners.foscttm) {
        let _ = write!(
            out,
            " Of {} test cells the true partner was among the best ten for {} (FOSCTTM {far:.3}).",
            thousands(t.partners.cells),
            share(first)
        );
    }
    if let Some((e, x)) = t.expression.and_then(|e| Some((e, e.pearson_gene?))) {
        let _ = write!(
            out,
            " Expression predicted from ATAC had a mean Pearson correlation of {x:.3} over {} genes.",
            thousands(e.genes)
        );
    }
    out
}

fn of_links(found: &DiscoveryFolder) -> String {
    let l = &found.made.links;
    let replicates = l.replicates.as_ref().map_or("Replicates were not told apart.".to_string(), |r| {
        format!("Effects were compared between {} replicates (column {}).", r.names.len(), r.column)
    });
    let kinds = if l.typed { "cell types" } else { "neighbourhoods of cells" };
    format!(
        "Links between genes and peaks within {:.0} kb of the transcription start were told from co-variation between {} {kinds} and \
         within them, against {} pairs on different chromosomes; a mixture by distance gave probabilities, and false discovery rates \
         were estimated from it. {} of {} pairs had q of at most {}. {replicates}",
        found.made.window / 1000.0,
        l.kinds.len(),
        thousands(l.draws),
        thousands(l.selected),
        thousands(l.pairs),
        short(l.selection.max_q),
    )
}

/// The text to paste.
pub(super) fn text(w: Work<'_>) -> String {
    let mut parts = Vec::new();
    parts.extend(w.data.map(of_data));
    parts.extend(w.run.filter(|r| r.file.origin == "trained").map(|r| of_run(r, w.evaluation)));
    parts.extend(w.found.map(of_links));
    if w.drawn {
        let how = UmapOptions::default();
        parts.push(format!(
            "Cells were drawn by UMAP (McInnes et al. 2018) of the joint embedding with {} neighbours and a least distance of {}.",
            how.neighbours, how.min_dist
        ));
    }
    parts.join(" ")
}

/// Commands that repeat the work.
pub(super) fn commands(w: Work<'_>, page: &str) -> String {
    let path = |p: &Path| quoted(p).to_string();
    let data_dir = w.data.map(|d| d.dir()).or(w.run.map(|r| r.data_dir()));
    let mut lines = Vec::new();
    if let Some(d) = w.data {
        let o = d.origin();
        let flag =
            |name: &str| o[name].as_str().map(|f| format!(" --{name} {}", path(Path::new(f)))).unwrap_or_default();
        let all: String = ["dataset", "rna", "atac", "gtf", "obs", "fasta", "aliases"].map(flag).concat();
        lines.push(format!("sccrossrec prepare{all} --out {}", path(d.dir())));
    }
    if let (Some(r), Some(dir)) = (w.run.filter(|r| r.file.origin == "trained"), data_dir) {
        lines.push(format!(
            "sccrossrec train --data {} --recipe {} --seed {} --out {}",
            path(dir),
            r.config.recipe,
            r.config.seed,
            path(r.dir())
        ));
    }
    if let Some(f) = w.found {
        let l = &f.made.links;
        let of = match (&f.run, w.run, data_dir) {
            (Some(_), Some(r), _) => format!("--run {}", path(r.dir())),
            (Some(r), None, _) => format!("--run {}", path(r)),
            (None, _, Some(d)) => format!("--data {}", path(d)),
            (None, ..) => "--data DATA".into(),
        };
        let replicates =
            l.replicates.as_ref().map_or(String::new(), |r| format!(" --replicates {}", path(Path::new(&r.column))));
        lines.push(format!(
            "sccrossrec discover {of} --max-q {}{replicates} --out {}",
            short(l.selection.max_q),
            path(&f.dir)
        ));
    }
    let of = match (w.run, w.found) {
        (Some(r), Some(f)) => format!("{} --discovery {}", path(r.dir()), path(&f.dir)),
        (Some(r), None) => path(r.dir()),
        (None, Some(f)) => path(&f.dir),
        (None, None) => "RUN".into(),
    };
    lines.push(format!("sccrossrec report {of} --out {page}"));
    lines.join("\n")
}

/// The section's body.
pub(super) fn methods(w: Work<'_>, page: &str) -> String {
    let mut out = format!(
        "<h3>Methods, to paste</h3>\n<p id=\"methods-text\" class=\"paste\" tabindex=\"0\">{}</p>\n\
         <div class=\"controls\"><button type=\"button\" class=\"copy\" data-copy=\"methods-text\">copy</button></div>\n\
         <h3>Commands</h3>\n<code class=\"code\" id=\"commands\" tabindex=\"0\">{}</code>\n\
         <div class=\"controls\"><button type=\"button\" class=\"copy\" data-copy=\"commands\">copy</button></div>\n\
         <p class=\"note\">Flags that are not named here were the defaults, or are in run.json and discover.json.</p>\n<h3>Versions</h3>\n",
        escaped(&text(w)),
        commands(w, page).lines().map(escaped).collect::<Vec<_>>().join("\n")
    );
    let mut rows = vec![("this page", format!("sccrossrec {}", env!("CARGO_PKG_VERSION")))];
    rows.extend(w.run.map(|r| ("run", format!("sccrossrec {}", r.program()))));
    rows.extend(w.data.and_then(|d| d.origin()["program"].as_str()).map(|p| ("data set", p.to_string())));
    rows.extend(w.data.map(|d| ("data hash", d.hash().to_string())));
    out += &facts(&rows);
    out
}
