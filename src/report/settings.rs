//! How the run was made and what the data are: settings, sizes, hashes.

use std::fmt::Write;

use super::html::{facts, note, percent};
use crate::dataset::{DataSet, SampleSet};
use crate::picture::{escaped, thousands};
use crate::train::{EpochRecord, Run};

pub(super) fn run_section(run: &Run, log: &[EpochRecord]) -> String {
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

pub(super) fn data_section(data: &DataSet, set: Option<&SampleSet>) -> String {
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
