//! Files with gaps become files without: where genes and peaks lie, how variable genes are, what peaks read.

pub(crate) mod columns;
pub(crate) mod config;
pub mod loess;
pub(crate) mod places;
pub(crate) mod report;
pub(crate) mod variable_genes;
pub(crate) mod write;

use std::path::Path;

use crate::data::anndata::{Axis, Column, Matrix, list};
use crate::data::chromosomes::Aliases;
use crate::data::fasta::read_peak_sequences;
use crate::data::genome::Genome;
use crate::data::gtf::Gtf;
use crate::data::region::Region;
use crate::data::source;
use crate::data::source::columns::refuse_swapped;
use crate::data::source::{Modality, Source};
use crate::error::{Error, Result};
use crate::progress::Progress;
use columns::has_all;
use places::{genes, peaks};
use report::{SequenceCounts, VariableCounts};
use variable_genes::{Found, VariableGenes, variable_genes};
use write::{NOTHING, Stage, write, write_fasta};

pub use config::AnnotateConfig;
pub use report::{AnnotateReport, Written};

/// The columns of [`VariableGenes`], as scanpy names them.
const VARIABLE: [&str; 5] = ["means", "variances", "variances_norm", "highly_variable", "highly_variable_rank"];

/// Writes `OUT/rna.h5ad` and `OUT/atac.h5ad` with what can be told of genes and peaks, and `OUT/peaks.fa` where a
/// genome or a FASTA is given. `OUT` is made where it is not there, files in it are replaced; inputs are only read.
/// Values that are there stay, gaps are filled. Columns of `var`, 0-based and half-open:
///
/// | file | columns |
/// | --- | --- |
/// | RNA | `chrom`, `chromStart`, `chromEnd`, `strand` (`+`, `-`, `.`), `tss`; `means`, `variances`, `variances_norm`, `highly_variable`, `highly_variable_rank` |
/// | ATAC | `chrom`, `chromStart`, `chromEnd` |
///
/// A gene or peak without a chromosome is on `chrUnknown`; missing numbers are NaN. Chromosomes from the GTF are
/// called as the peaks call them.
///
/// ```
/// use sccrossrec::{AnnotateConfig, SimulateConfig, Simulation, annotate};
/// # let dir = std::env::temp_dir().join(format!("sccrossrec-doc-annotate-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// let small = SimulateConfig { cells: 40, genes: 12, peaks: 24, chromosomes: 2, cell_types: 2, ..Default::default() };
/// let files = Simulation::new(small)?.write(&dir, &())?;
///
/// let config = AnnotateConfig { top_genes: Some(5), ..AnnotateConfig::new(&files.rna, &files.atac) };
/// let report = annotate(&config, &dir.join("full"), &())?;
/// assert_eq!(report.variable_genes.map(|v| v.top), Some(5));
/// assert_eq!((report.genes.unknown, report.peaks.unknown), (0, 0));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Inputs that cannot be read or would be replaced; no gene found in the GTF, no peak with a chromosome, no peak in
/// the genome; counts that were asked for by name and are none;
/// [`Error::Interrupted`] where `progress` says stop.
pub fn annotate(config: &AnnotateConfig, out: &Path, progress: &dyn Progress) -> Result<AnnotateReport> {
    if config.top_genes == Some(0) || config.dna_length == 0 {
        return Err(Error::usage("at least one top gene and one base a peak are needed"));
    }
    let (to_rna, to_atac, to_fasta) = (out.join("rna.h5ad"), out.join("atac.h5ad"), out.join("peaks.fa"));
    refuse_inputs(config, &[&to_rna, &to_atac, &to_fasta])?;
    let rna = source::open(&config.rna, Modality::Rna, &config.rna_select, progress)?;
    let atac = source::open(&config.atac, Modality::Atac, &config.atac_select, progress)?;
    let (rna, atac) = (rna.as_ref(), atac.as_ref());
    let (gene_names, peak_names) = (rna.names(Axis::Var)?, atac.names(Axis::Var)?);
    refuse_swapped(&config.rna, &gene_names)?;
    let aliases = config.aliases.as_deref().map(Aliases::read).transpose()?.unwrap_or_default();

    let (peaks, regions, chroms, atac_columns) = peaks(atac, &peak_names)?;
    let gtf = config.gtf.as_deref().map(Gtf::read).transpose()?;
    let (genes, mut rna_columns) = genes(config, rna, &gene_names, gtf.as_ref(), &chroms, &aliases, progress)?;
    let (sequences, bases) = match sequences(config, &regions, &aliases, progress)? {
        Some((counts, bases)) => (Some(counts), bases),
        None => (None, Vec::new()),
    };

    std::fs::create_dir_all(out).map_err(|e| Error::io(out, "create", e))?;
    let stage = Stage::new(out)?;
    let (mut counts, mut no_counts) = (None, None);
    match config.top_genes {
        None => no_counts = Some("not asked for".to_string()),
        Some(_) if !config.overwrite && has_all(rna, &VARIABLE)? => {
            rna_columns.kept.extend(VARIABLE.map(String::from));
            no_counts = Some("the file has all their columns".to_string());
        }
        Some(top) => match variable(config, rna, &gene_names, top, &stage, progress)? {
            Ok((at, v)) => {
                let varying = v.variances.iter().filter(|v| **v > 0.0).count();
                counts = Some(VariableCounts { counts: at, varying, top: v.rank.iter().flatten().count() });
                for (name, column) in VARIABLE.into_iter().zip(variable_columns(v)) {
                    rna_columns.fill(rna, name, Some(column), config.overwrite)?;
                }
            }
            Err(why) => {
                progress.note(&format!("variable genes are left out: {why}"));
                no_counts = Some(why);
            }
        },
    }
    let rna_written = write(rna, &stage.path("rna.h5ad"), &to_rna, rna_columns, &stage, config.streaming, progress)?;
    let atac_written =
        write(atac, &stage.path("atac.h5ad"), &to_atac, atac_columns, &stage, config.streaming, progress)?;
    if sequences.is_some() {
        write_fasta(&stage.path("peaks.fa"), &to_fasta, &peak_names, &regions, &bases, config.dna_length)?;
    }
    progress.check(NOTHING)?;
    let files = [Some(&to_rna), Some(&to_atac), sequences.as_ref().map(|_| &to_fasta)];
    for to in files.into_iter().flatten() {
        stage.keep(to)?;
    }
    Ok(AnnotateReport {
        genes,
        peaks,
        peaks_fasta: sequences.as_ref().map(|_| to_fasta),
        sequences,
        variable_genes: counts,
        no_variable_genes: no_counts,
        rna: rna_written,
        atac: atac_written,
    })
}

/// Refuses outputs that are one of the inputs.
fn refuse_inputs(config: &AnnotateConfig, outputs: &[&Path]) -> Result<()> {
    let inputs = [Some(&config.rna), Some(&config.atac), config.gtf.as_ref(), config.aliases.as_ref()];
    let inputs = inputs.into_iter().chain([config.genome.as_ref(), config.fasta.as_ref()]).flatten();
    for input in inputs {
        let Ok(real) = input.canonicalize() else { continue }; // told where it is opened
        if outputs.iter().any(|o| o.canonicalize().is_ok_and(|o| o == real)) {
            return Err(Error::input(input, "is an input and would be replaced", "choose another --out"));
        }
    }
    Ok(())
}

/// Sequences `[P, length]` of the peaks; `None` where neither a FASTA nor a genome is given.
fn sequences(
    config: &AnnotateConfig,
    regions: &[Option<Region>],
    aliases: &Aliases,
    progress: &dyn Progress,
) -> Result<Option<(SequenceCounts, Vec<u8>)>> {
    let length = config.dna_length;
    let mut counts = SequenceCounts { length, ..SequenceCounts::default() };
    let mut bases = vec![b'N'; regions.len() * length];
    let mut wanted = regions.to_vec();
    let mut there_already = vec![false; regions.len()];
    if let Some(fasta) = &config.fasta {
        let there = read_peak_sequences(fasta, regions, length)?;
        counts.fasta_by_header = Some(there.by_header);
        counts.from_fasta = regions.len() - there.missing.len();
        for (base, code) in bases.iter_mut().zip(&there.codes) {
            *base = match code {
                1 => b'A',
                2 => b'T',
                3 => b'G',
                4 => b'C',
                _ => b'N',
            };
        }
        there_already.fill(true);
        there.missing.iter().for_each(|&i| there_already[i] = false);
        wanted.iter_mut().zip(&there_already).filter(|(_, there)| **there).for_each(|(r, _)| *r = None);
    }
    counts.no_place = regions.iter().zip(&there_already).filter(|(r, there)| r.is_none() && !**there).count();
    match &config.genome {
        Some(genome) if wanted.iter().any(Option::is_some) => {
            let mut genome = Genome::open(genome, aliases.clone(), progress)?;
            let there = genome.peak_sequences(&wanted, length, progress)?;
            for (i, _) in wanted.iter().enumerate().filter(|(_, r)| r.is_some()) {
                bases[i * length..][..length].copy_from_slice(&there.bases[i * length..][..length]);
            }
            (counts.whole, counts.beyond, counts.no_chromosome) = (there.whole, there.beyond, there.no_chromosome);
            counts.lacking = there.lacking;
        }
        Some(_) => {}
        None if config.fasta.is_some() => counts.not_in_fasta = wanted.iter().flatten().count(),
        None => return Ok(None),
    }
    Ok(Some((counts, bases)))
}

type Variable = std::result::Result<(String, VariableGenes), String>;

/// The statistics and where their counts are, or why there are none.
fn variable(
    config: &AnnotateConfig,
    rna: &dyn Source,
    genes: &[String],
    top: usize,
    stage: &Stage,
    progress: &dyn Progress,
) -> Result<Variable> {
    const FLAG: &str = "--counts-layer";
    if let Some(layer) = &config.counts_layer {
        let matrix = rna.matrix(Some(layer), FLAG)?;
        return match counted(config, rna, &matrix, genes, top, stage, progress)? {
            Ok(v) => Ok(Ok((matrix.at().to_string(), v))),
            Err(why) => Err(Error::input(rna.path(), why, format!("name a layer with counts with {FLAG}"))),
        };
    }
    let mut layers = vec![None];
    layers.extend(rna.layers().iter().any(|l| l == "counts").then_some(Some("counts")));
    let mut why = Vec::new();
    for layer in layers {
        let matrix = rna.matrix(layer, FLAG)?;
        match counted(config, rna, &matrix, genes, top, stage, progress) {
            Ok(Ok(v)) => return Ok(Ok((matrix.at().to_string(), v))),
            Ok(Err(no)) => why.push(no),
            // Such as negative values of scaled data.
            Err(Error::Input { found, .. }) => why.push(found),
            Err(e) => return Err(e),
        }
    }
    let others: Vec<String> = rna.layers().into_iter().filter(|l| l != "counts").collect();
    let fix = match others.is_empty() {
        true => "no other layer is there".to_string(),
        false => format!("{FLAG} can name another layer: {}", list(&others)),
    };
    Ok(Err(format!("{}; {fix}", why.join(", "))))
}

fn counted(
    config: &AnnotateConfig,
    rna: &dyn Source,
    matrix: &Matrix,
    genes: &[String],
    top: usize,
    stage: &Stage,
    progress: &dyn Progress,
) -> Result<std::result::Result<VariableGenes, String>> {
    let cells = rna.names(Axis::Obs)?;
    let (total, mut done) = (2 * matrix.rows() as u64, 0);
    progress.at("variable genes", 0, total);
    let found = variable_genes(genes.len(), top, |sink| {
        matrix.for_each_block(config.streaming, &stage.dir, &cells, genes, |block| {
            progress.check(NOTHING)?;
            sink(&block)?;
            done += block.rows() as u64;
            progress.at("variable genes", done, total);
            Ok(())
        })
    });
    progress.at("variable genes", total, total);
    Ok(match found? {
        Found::Genes(v) => Ok(v),
        Found::NotCounts { gene, value } => {
            let gene = genes.get(gene).map_or("?", String::as_str);
            Err(format!("`{}` holds no counts ({value} at gene {gene})", matrix.at()))
        }
        Found::NothingVaries => Err(format!("no gene varies in `{}`", matrix.at())),
    })
}

/// In the order of [`VARIABLE`].
fn variable_columns(v: VariableGenes) -> [Column; 5] {
    let top = v.rank.iter().map(Option::is_some).collect();
    let rank = v.rank.iter().map(|r| r.map_or(f64::NAN, f64::from)).collect();
    [
        Column::Floats(v.means),
        Column::Floats(v.variances),
        Column::Floats(v.variances_norm),
        Column::Bools(top),
        Column::Floats(rank),
    ]
}
