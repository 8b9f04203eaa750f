//! Files with gaps become files without: where genes and peaks lie, how variable genes are, what peaks read.

pub mod loess;
pub mod report;
pub mod variable_genes;
pub mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::data::anndata::{Axis, Column, Matrix, Streaming, list};
use crate::data::chromosomes::Aliases;
use crate::data::fasta::read_peak_sequences;
use crate::data::genome::Genome;
use crate::data::gtf::{By, Gtf};
use crate::data::region::Region;
use crate::data::source;
use crate::data::source::columns::{
    chrom_column, coordinates, locate_peaks, number_column, refuse_swapped, strand_column, text_column,
};
use crate::data::source::{Modality, Select, Source};
use crate::error::{Error, Result};
use crate::interrupt;
use crate::prepare::vocabulary::GENE_IDS as IDS;
use crate::progress::Hooks;
use crate::vocabulary::UNKNOWN;
use report::{AnnotateReport, GeneCounts, PeakCounts, SequenceCounts, VariableCounts};
use variable_genes::{Found, VariableGenes, variable_genes};
use write::{Stage, write, write_fasta};

/// The columns of [`VariableGenes`], as scanpy names them.
const VARIABLE: [&str; 5] = ["means", "variances", "variances_norm", "highly_variable", "highly_variable_rank"];

/// Bytes of a file copied between two looks whether to stop.
const COPIED: u64 = 256 << 20;

/// What an interrupted run has saved.
const NOTHING: &str = "nothing was written";

/// What [`annotate`] is to do.
#[derive(Debug, Clone)]
pub struct AnnotateConfig {
    /// RNA, in any form that [`source::open`] reads.
    pub rna: PathBuf,
    /// ATAC; may be the same file.
    pub atac: PathBuf,
    /// What of the RNA file.
    pub rna_select: Select,
    /// What of the ATAC file.
    pub atac_select: Select,
    /// Gene annotation.
    pub gtf: Option<PathBuf>,
    /// Further names of chromosomes: see [`Aliases::read`].
    pub aliases: Option<PathBuf>,
    /// Genome to read the peaks from: see [`Genome::open`].
    pub genome: Option<PathBuf>,
    /// Sequences of the peaks that are there already; the genome fills in what is missing.
    pub fasta: Option<PathBuf>,
    /// Number of top genes; `None` leaves the columns of variable genes out.
    pub top_genes: Option<usize>,
    /// Layer with the counts; `X` if it holds counts, else the layer `counts`, where `None`.
    pub counts_layer: Option<String>,
    /// Replace values that are there by those of the GTF and of the counts.
    pub overwrite: bool,
    /// Bases of DNA a peak.
    pub dna_length: usize,
    /// Sizes of the blocks in memory.
    pub streaming: Streaming,
}

impl AnnotateConfig {
    /// These two files, everything else as usual.
    pub fn new(rna: impl Into<PathBuf>, atac: impl Into<PathBuf>) -> Self {
        AnnotateConfig {
            rna: rna.into(),
            atac: atac.into(),
            rna_select: Select::default(),
            atac_select: Select::default(),
            gtf: None,
            aliases: None,
            genome: None,
            fasta: None,
            top_genes: Some(2000),
            counts_layer: None,
            overwrite: false,
            dna_length: 256,
            streaming: Streaming::default(),
        }
    }
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Its path.
    pub path: PathBuf,
    /// Columns of `var` that are new or were filled.
    pub columns: Vec<String>,
    /// Columns of `var` that were complete and stayed as they were.
    pub kept: Vec<String>,
    /// A copy of the input with these columns (else written anew: names, columns, matrices).
    pub copied: bool,
}

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
/// use sccrossrec::annotate::{AnnotateConfig, annotate};
/// use sccrossrec::simulate::{SimulateConfig, Simulation};
/// use sccrossrec::progress::Hooks;
/// # let dir = std::env::temp_dir().join(format!("sccrossrec-doc-annotate-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// let small = SimulateConfig { cells: 40, genes: 12, peaks: 24, chromosomes: 2, cell_types: 2, ..Default::default() };
/// let files = Simulation::new(small)?.write(&dir, &|_| {})?;
///
/// let config = AnnotateConfig { top_genes: Some(5), ..AnnotateConfig::new(&files.rna, &files.atac) };
/// let report = annotate(&config, &dir.join("full"), Hooks::default())?;
/// assert_eq!(report.variable_genes.map(|v| v.top), Some(5));
/// assert_eq!((report.genes.unknown, report.peaks.unknown), (0, 0));
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Inputs that cannot be read or would be replaced; no gene found in the GTF, no peak with a chromosome, no peak in
/// the genome; counts that were asked for by name and are none.
pub fn annotate(config: &AnnotateConfig, out: &Path, hooks: Hooks<'_>) -> Result<AnnotateReport> {
    let say = hooks.say;
    if config.top_genes == Some(0) || config.dna_length == 0 {
        return Err(Error::usage("at least one top gene and one base a peak are needed"));
    }
    let (to_rna, to_atac, to_fasta) = (out.join("rna.h5ad"), out.join("atac.h5ad"), out.join("peaks.fa"));
    refuse_inputs(config, &[&to_rna, &to_atac, &to_fasta])?;
    let rna = source::open(&config.rna, Modality::Rna, &config.rna_select)?;
    let atac = source::open(&config.atac, Modality::Atac, &config.atac_select)?;
    let (rna, atac) = (rna.as_ref(), atac.as_ref());
    let (gene_names, peak_names) = (rna.names(Axis::Var)?, atac.names(Axis::Var)?);
    refuse_swapped(&config.rna, &gene_names)?;
    let aliases = config.aliases.as_deref().map(Aliases::read).transpose()?.unwrap_or_default();

    let (peaks, regions, chroms, atac_columns) = peaks(atac, &peak_names)?;
    let gtf = config.gtf.as_deref().map(Gtf::read).transpose()?;
    let (genes, mut rna_columns) = genes(config, rna, &gene_names, gtf.as_ref(), &chroms, &aliases, say)?;
    let (sequences, bases) = match sequences(config, &regions, &aliases, say)? {
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
        Some(top) => match variable(config, rna, &gene_names, top, &stage, hooks)? {
            Ok((at, v)) => {
                let varying = v.variances.iter().filter(|v| **v > 0.0).count();
                counts = Some(VariableCounts { counts: at, varying, top: v.rank.iter().flatten().count() });
                for (name, column) in VARIABLE.into_iter().zip(variable_columns(v)) {
                    rna_columns.fill(rna, name, Some(column), config.overwrite)?;
                }
            }
            Err(why) => {
                say(&format!("variable genes are left out: {why}"));
                no_counts = Some(why);
            }
        },
    }
    let rna_written = write(rna, &stage.path("rna.h5ad"), &to_rna, rna_columns, &stage, config.streaming, hooks)?;
    let atac_written = write(atac, &stage.path("atac.h5ad"), &to_atac, atac_columns, &stage, config.streaming, hooks)?;
    if sequences.is_some() {
        write_fasta(&stage.path("peaks.fa"), &to_fasta, &peak_names, &regions, &bases, config.dna_length)?;
    }
    interrupt::check(NOTHING)?;
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

/// Columns for a file.
#[derive(Default)]
pub(crate) struct Columns {
    new: Vec<(String, Column)>,
    kept: Vec<String>,
}

impl Columns {
    /// Adds a column, unless it is there and nothing of it was filled; nothing known adds nothing.
    fn fill(&mut self, data: &dyn Source, name: &str, values: Option<Column>, filled: bool) -> Result<()> {
        let there = data.columns(Axis::Var)?.iter().any(|c| c == name);
        match values {
            Some(values) if filled || !there => self.new.push((name.to_string(), values)),
            _ if there => self.kept.push(name.to_string()),
            _ => {}
        }
        Ok(())
    }
}

fn has_all(data: &dyn Source, names: &[&str]) -> Result<bool> {
    let there = data.columns(Axis::Var)?;
    Ok(names.iter().all(|n| there.iter().any(|c| c == n)))
}

/// Numbers as whole ones where none is missing, else with NaN; `None` where all are missing.
fn number(values: &[Option<i64>]) -> Option<Column> {
    if values.iter().all(Option::is_none) {
        return None;
    }
    let whole: Option<Vec<i64>> = values.iter().copied().collect();
    Some(match whole {
        Some(v) => Column::Ints(v),
        None => Column::Floats(values.iter().map(|v| v.map_or(f64::NAN, |v| v as f64)).collect()),
    })
}

/// Chromosomes with `chrUnknown` for the missing; `None` where all are missing.
fn chromosomes(values: &[Option<String>]) -> Option<Column> {
    let named = |c: &Option<String>| c.clone().unwrap_or_else(|| UNKNOWN.to_string());
    values.iter().any(Option::is_some).then(|| Column::Strings(values.iter().map(named).collect()))
}

/// A place that can be one: 0-based, not negative, small enough for a whole number.
fn place(x: f64) -> Option<i64> {
    (0.0..9e15).contains(&x).then_some(x as i64)
}

type Peaks = (PeakCounts, Vec<Option<Region>>, Vec<Option<String>>, Columns);

fn peaks(atac: &dyn Source, names: &[String]) -> Result<Peaks> {
    let places = locate_peaks(atac, names)?;
    let bounds = coordinates(atac)?;
    let mut counts = PeakCounts { all: names.len(), ..PeakCounts::default() };
    for (i, (p, name)) in places.iter().zip(names).enumerate() {
        let column = |v: &Vec<f64>| place(v[i]);
        let in_file = bounds.as_ref().and_then(|(s, e)| column(s).zip(column(e)));
        match &p.region {
            Some(r) if in_file == Some((r.start, r.end)) => counts.from_columns += 1,
            Some(_) => counts.from_names += 1,
            None => {
                counts.not_parsed += 1;
                if counts.not_parsed_names.len() < 3 {
                    counts.not_parsed_names.push(name.clone());
                }
            }
        }
        counts.unknown += usize::from(p.chrom.is_none());
    }
    let chroms: Vec<Option<String>> = places.iter().map(|p| p.chrom.clone()).collect();
    let regions: Vec<Option<Region>> = places.into_iter().map(|p| p.region).collect();
    let mut columns = Columns::default();
    let chrom_gaps = match text_column(atac, Axis::Var, "chrom")? {
        Some(old) => old.iter().zip(&chroms).any(|(old, new)| new.is_some() && old != new),
        None => false,
    };
    columns.fill(atac, "chrom", chromosomes(&chroms), chrom_gaps)?;
    for (name, value) in [("chromStart", true), ("chromEnd", false)] {
        let new: Vec<Option<i64>> =
            regions.iter().map(|r| r.as_ref().map(|r| if value { r.start } else { r.end })).collect();
        let old = number_column(atac, Axis::Var, name)?;
        let gaps = old.is_some_and(|old| old.iter().zip(&new).any(|(old, new)| place(*old).is_none() && new.is_some()));
        columns.fill(atac, name, number(&new), gaps)?;
    }
    Ok((counts, regions, chroms, columns))
}

/// What is known of the genes.
#[derive(Default, Clone)]
struct Gene {
    chrom: Option<String>,
    start: Option<i64>,
    end: Option<i64>,
    forward: Option<bool>,
    tss: Option<i64>,
}

fn genes(
    config: &AnnotateConfig,
    rna: &dyn Source,
    names: &[String],
    gtf: Option<&Gtf>,
    peak_chroms: &[Option<String>],
    aliases: &Aliases,
    say: &(dyn Fn(&str) + Sync),
) -> Result<(GeneCounts, Columns)> {
    let mut genes = vec![Gene::default(); names.len()];
    if let Some(chroms) = chrom_column(rna)? {
        genes.iter_mut().zip(chroms).for_each(|(g, c)| g.chrom = c.filter(|c| c != UNKNOWN));
    }
    if let Some((start, end)) = coordinates(rna)? {
        for ((g, start), end) in genes.iter_mut().zip(start).zip(end) {
            (g.start, g.end) = (place(start), place(end));
        }
    }
    if let Some(strands) = strand_column(rna)? {
        genes.iter_mut().zip(strands).for_each(|(g, s)| g.forward = s);
    }
    if let Some(tss) = number_column(rna, Axis::Var, "tss")? {
        genes.iter_mut().zip(tss).for_each(|(g, t)| g.tss = place(t));
    }
    let mut counts = GeneCounts { all: names.len(), ..GeneCounts::default() };
    counts.had_chromosome = genes.iter().filter(|g| g.chrom.is_some()).count();
    let before = genes.clone();
    if let Some(gtf) = gtf {
        let mut ids = None;
        for name in IDS {
            if let Some(column) = text_column(rna, Axis::Var, name)? {
                ids = Some(column.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>());
                break;
            }
        }
        let mut called = HashMap::new();
        for chrom in peak_chroms.iter().flatten() {
            called.entry(aliases.key(chrom)).or_insert(chrom);
        }
        let found = gtf.locate(names, ids.as_deref())?;
        for ((gene, found), name) in genes.iter_mut().zip(found).zip(names) {
            let Some((there, by)) = found else {
                counts.not_in_gtf += 1;
                if counts.not_in_gtf_names.len() < 3 {
                    counts.not_in_gtf_names.push(name.clone());
                }
                continue;
            };
            match by {
                By::Id => counts.by_id += 1,
                By::Name => counts.by_name += 1,
            }
            let key = aliases.key(&there.chrom);
            let differs = gene.chrom.as_deref().is_some_and(|c| aliases.key(c) != key);
            if config.overwrite {
                *gene = Gene::default();
            } else if differs {
                counts.other_chromosome += 1;
                continue;
            }
            gene.chrom.get_or_insert_with(|| called.get(&key).map_or(&there.chrom, |c| *c).clone());
            // Start and end are of one source.
            if gene.start.is_none() || gene.end.is_none() {
                (gene.start, gene.end) = (Some(there.start), Some(there.end));
            }
            gene.forward = gene.forward.or(there.forward);
            gene.tss = gene.tss.or(Some(there.tss));
        }
    }
    for gene in &mut genes {
        if let (None, Some(start), Some(end), Some(forward)) = (gene.tss, gene.start, gene.end, gene.forward) {
            gene.tss = Some(if forward { start } else { end - 1 });
        }
    }
    counts.unknown = genes.iter().filter(|g| g.chrom.is_none()).count();
    if 2 * (counts.by_id + counts.by_name) < counts.by_id + counts.by_name + counts.not_in_gtf {
        say(&format!(
            "warning: only {} of {} genes are in the GTF: is it the one of this genome?",
            counts.by_id + counts.by_name,
            counts.all
        ));
    }

    let mut columns = Columns::default();
    let changed = |same: fn(&Gene, &Gene) -> bool| genes.iter().zip(&before).any(|(new, old)| !same(new, old));
    let numbers = |of: fn(&Gene) -> Option<i64>| number(&genes.iter().map(of).collect::<Vec<_>>());
    let chroms: Vec<Option<String>> = genes.iter().map(|g| g.chrom.clone()).collect();
    columns.fill(rna, "chrom", chromosomes(&chroms), changed(|a, b| a.chrom == b.chrom))?;
    columns.fill(rna, "chromStart", numbers(|g| g.start), changed(|a, b| a.start == b.start))?;
    columns.fill(rna, "chromEnd", numbers(|g| g.end), changed(|a, b| a.end == b.end))?;
    let sign = |g: &Gene| match g.forward {
        Some(true) => "+".to_string(),
        Some(false) => "-".to_string(),
        None => ".".to_string(),
    };
    let strands = genes.iter().any(|g| g.forward.is_some()).then(|| Column::Strings(genes.iter().map(sign).collect()));
    columns.fill(rna, "strand", strands, changed(|a, b| a.forward == b.forward))?;
    columns.fill(rna, "tss", numbers(|g| g.tss), changed(|a, b| a.tss == b.tss))?;
    Ok((counts, columns))
}

/// Sequences `[P, length]` of the peaks; `None` where neither a FASTA nor a genome is given.
fn sequences(
    config: &AnnotateConfig,
    regions: &[Option<Region>],
    aliases: &Aliases,
    say: &(dyn Fn(&str) + Sync),
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
            let mut genome = Genome::open(genome, aliases.clone(), say)?;
            let there = genome.peak_sequences(&wanted, length)?;
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
    hooks: Hooks<'_>,
) -> Result<Variable> {
    const FLAG: &str = "--counts-layer";
    if let Some(layer) = &config.counts_layer {
        let matrix = rna.matrix(Some(layer), FLAG)?;
        return match counted(config, rna, &matrix, genes, top, stage, hooks)? {
            Ok(v) => Ok(Ok((matrix.at().to_string(), v))),
            Err(why) => Err(Error::input(rna.path(), why, format!("name a layer with counts with {FLAG}"))),
        };
    }
    let mut layers = vec![None];
    layers.extend(rna.layers().iter().any(|l| l == "counts").then_some(Some("counts")));
    let mut why = Vec::new();
    for layer in layers {
        let matrix = rna.matrix(layer, FLAG)?;
        match counted(config, rna, &matrix, genes, top, stage, hooks) {
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
    hooks: Hooks<'_>,
) -> Result<std::result::Result<VariableGenes, String>> {
    let cells = rna.names(Axis::Obs)?;
    let (total, mut done) = (2 * matrix.rows() as u64, 0);
    (hooks.step)("variable genes", 0, total);
    let found = variable_genes(genes.len(), top, |sink| {
        matrix.for_each_block(config.streaming, &stage.dir, &cells, genes, |block| {
            interrupt::check(NOTHING)?;
            sink(&block)?;
            done += block.rows() as u64;
            (hooks.step)("variable genes", done, total);
            Ok(())
        })
    });
    (hooks.step)("variable genes", total, total);
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
