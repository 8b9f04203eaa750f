//! `annotate`: files with gaps → files without.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

use super::context::{Context, check_output_dir, output_dir};
use crate::annotate::{AnnotateConfig, AnnotateReport, Written, annotate};
use crate::data::source::Select;
use crate::error::{Error, Result, quoted};

/// Flags of `annotate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// RNA, cells × genes: .h5ad, .h5mu, 10x .h5, or a folder with matrix.mtx.gz
    #[arg(long, value_name = "FILE")]
    rna: PathBuf,
    /// ATAC, cells × peaks, in any of these forms; may be the same file
    #[arg(long, value_name = "FILE")]
    atac: PathBuf,
    /// Folder for rna.h5ad, atac.h5ad and peaks.fa
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Gene annotation (GTF or GFF3, plain or gzip): chromosome, start, end, strand and TSS of genes
    #[arg(long, value_name = "FILE")]
    gtf: Option<PathBuf>,
    /// Take an annotation in which fewer than a fifth of the genes are found
    #[arg(long)]
    force_annotation: bool,
    /// Genome (FASTA, plain or bgzip) to read the peaks from; its .fai is made where it is not there
    #[arg(long, value_name = "FILE")]
    genome: Option<PathBuf>,
    /// Sequences of the peaks that are there already (FASTA); the genome fills in what it lacks
    #[arg(long, value_name = "FILE")]
    fasta: Option<PathBuf>,
    /// Further names of chromosomes: a table such as UCSC's chromAlias.txt
    #[arg(long, value_name = "FILE")]
    aliases: Option<PathBuf>,
    /// Number of highly variable genes
    #[arg(long, value_name = "N", default_value_t = 2000)]
    n_top_genes: usize,
    /// Layer of the RNA file with counts [default: X where it holds counts, else the layer counts]
    #[arg(long, value_name = "NAME", conflicts_with = "no_variable_genes")]
    counts_layer: Option<String>,
    /// Leave out means, variances, variances_norm, highly_variable and highly_variable_rank
    #[arg(long)]
    no_variable_genes: bool,
    /// Replace values that are there by those of the GTF and of the counts, instead of filling gaps only
    #[arg(long)]
    overwrite: bool,
    /// Layer of the RNA file in the place of X, for its counts and where the file is written anew; raw takes .raw
    #[arg(long, value_name = "NAME")]
    rna_layer: Option<String>,
    /// Layer of the ATAC file in the place of X, where it has none or is written anew; raw takes .raw
    #[arg(long, value_name = "NAME")]
    atac_layer: Option<String>,
    /// Modality of a MuData file that is the RNA [default: rna, gex, …]
    #[arg(long, value_name = "NAME")]
    rna_modality: Option<String>,
    /// Modality of a MuData file that is the ATAC [default: atac, peaks, …]
    #[arg(long, value_name = "NAME")]
    atac_modality: Option<String>,
    /// Genome of a 10x file with several
    #[arg(long, value_name = "NAME")]
    tenx_genome: Option<String>,
    /// Replace files of the same name in --out
    #[arg(long)]
    force: bool,
}

/// Runs `annotate` and prints what was found and what was not.
pub fn run(args: &Args, ctx: &Context) -> Result<()> {
    let start = Instant::now();
    check_output_dir(&args.out, args.force)?;
    let select = |layer: &Option<String>, modality: &Option<String>| Select {
        layer: layer.clone(),
        modality: modality.clone(),
        genome: args.tenx_genome.clone(),
    };
    let config = AnnotateConfig {
        rna_select: select(&args.rna_layer, &args.rna_modality),
        atac_select: select(&args.atac_layer, &args.atac_modality),
        gtf: args.gtf.clone(),
        force_annotation: args.force_annotation,
        aliases: args.aliases.clone(),
        genome: args.genome.clone(),
        fasta: args.fasta.clone(),
        top_genes: (!args.no_variable_genes).then_some(args.n_top_genes),
        counts_layer: args.counts_layer.clone(),
        overwrite: args.overwrite,
        ..AnnotateConfig::new(&args.rna, &args.atac)
    };
    let _made = output_dir(&args.out, args.force)?;
    let report = annotate(&config, &args.out, &ctx.follow())?;
    let seconds = start.elapsed().as_secs_f64();
    let mut json = serde_json::to_value(&report).map_err(|e| Error::Internal(format!("report: {e}")))?;
    if let Value::Object(map) = &mut json {
        map.insert("seconds".into(), json!(seconds));
    }
    ctx.result(&table(&report, config.gtf.is_some(), config.genome.is_some(), seconds), &json);
    let [rna, atac] = [&report.rna.path, &report.atac.path].map(|p| quoted(p));
    let fasta = report.peaks_fasta.as_ref().map_or(String::new(), |p| format!(" --fasta {}", quoted(p)));
    let placed = report.genes.all - report.genes.unknown.min(report.genes.all);
    ctx.next(
        &format!("{placed} of {} genes have a chromosome", report.genes.all),
        &format!("sccrossrec prepare --rna {rna} --atac {atac}{fasta} --out data"),
    );
    Ok(())
}

fn table(r: &AnnotateReport, gtf: bool, genome: bool, seconds: f64) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| out += &format!("{name:<30} {value}\n");
    let such = |n: usize, names: &[String]| match names {
        [] => n.to_string(),
        _ => format!("{n} (such as {})", names.join(", ")),
    };
    let g = &r.genes;
    row("genes", g.all.to_string());
    row("  with a chromosome before", g.had_chromosome.to_string());
    if gtf {
        row("  in the GTF by id", g.by_id.to_string());
        row("  in the GTF by name", g.by_name.to_string());
        row("  not in the GTF", such(g.not_in_gtf, &g.not_in_gtf_names));
    }
    if g.other_chromosome > 0 {
        row(
            "  elsewhere in the GTF",
            format!("{}; kept as in the file (--overwrite takes the GTF)", g.other_chromosome),
        );
    }
    let hint = if g.unknown > 0 && !gtf { " (--gtf may tell)" } else { "" };
    row("  without a chromosome", format!("{}{hint}", g.unknown));
    match (&r.variable_genes, &r.no_variable_genes) {
        (Some(v), _) => row("  highly variable", format!("{} of {} that vary in `{}`", v.top, v.varying, v.counts)),
        (None, why) => row("  highly variable", format!("left out: {}", why.as_deref().unwrap_or("no reason"))),
    }
    let p = &r.peaks;
    row("peaks", p.all.to_string());
    row("  place from columns", p.from_columns.to_string());
    row("  place from names", p.from_names.to_string());
    row("  without a place", such(p.not_parsed, &p.not_parsed_names));
    row("  without a chromosome", p.unknown.to_string());
    if let Some(s) = &r.sequences {
        row("sequences", format!("{} bases a peak", s.length));
        if let Some(by_header) = s.fasta_by_header {
            let how = if by_header { "header" } else { "position" };
            row("  from the FASTA", format!("{} (matched by {how})", s.from_fasta));
            row("  not in the FASTA", (p.all - s.from_fasta).to_string());
        }
        if genome {
            row("  whole from the genome", s.whole.to_string());
            row("  beyond a chromosome's end", s.beyond.to_string());
            row("  chromosome not in genome", such(s.no_chromosome, &s.lacking[..s.lacking.len().min(3)]));
        }
        row("  without a place", s.no_place.to_string());
    }
    let mut file = |w: &Written| {
        row("wrote", format!("{} ({})", w.path.display(), if w.copied { "copy of the input" } else { "anew" }));
        let names = |n: &[String]| if n.is_empty() { "none".to_string() } else { n.join(", ") };
        row("  columns added or filled", names(&w.columns));
        if !w.kept.is_empty() {
            row("  kept as they were", names(&w.kept));
        }
    };
    file(&r.rna);
    file(&r.atac);
    if let Some(path) = &r.peaks_fasta {
        row("wrote", path.display().to_string());
    }
    row("seconds", format!("{seconds:.1}"));
    out
}
