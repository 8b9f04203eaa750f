//! The files of a simulation.

use std::io::Write;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::cells::SimulatedCell;
use super::simulation::Simulation;
use crate::csr::Csr;
use crate::data::anndata::{AnnDataWriter, Column, Frame};
use crate::error::Result;
use crate::files::atomic::{write_atomic, write_text};
use crate::prepare::presets::Preset;
use crate::progress::Progress;

/// Cells drawn and written at a time.
const BLOCK: usize = 512;
/// Peaks whose sequences are drawn and written at a time.
const SEQUENCES: usize = 4096;
/// Sites that the batches are spread over.
const SITES: usize = 4;

/// Names of the files that differ between data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// RNA.
    pub rna: &'static str,
    /// ATAC.
    pub atac: &'static str,
    /// Sequences of the peaks.
    pub fasta: &'static str,
}

impl Default for Names {
    fn default() -> Self {
        Names { rna: "rna.h5ad", atac: "atac.h5ad", fasta: "peaks.fa" }
    }
}

impl From<&Preset> for Names {
    fn from(p: &Preset) -> Self {
        Names { rna: p.rna, atac: p.atac, fasta: p.fasta }
    }
}

/// What [`Simulation::write`] made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Simulated {
    /// The RNA file.
    pub rna: PathBuf,
    /// The ATAC file.
    pub atac: PathBuf,
    /// Sequences of the peaks.
    pub fasta: PathBuf,
    /// Places of the genes.
    pub gtf: PathBuf,
    /// The planted links.
    pub truth: PathBuf,
    /// The motif of each cell type.
    pub motifs: PathBuf,
    /// Where motifs were planted.
    pub sites: PathBuf,
    /// Planted links.
    pub links: usize,
    /// Planted motifs.
    pub planted_motifs: usize,
    /// Non-zero entries of the RNA matrix.
    pub rna_entries: u64,
    /// Non-zero entries of the ATAC matrix.
    pub atac_entries: u64,
}

impl Simulation {
    fn frames(&self) -> [Frame; 3] {
        let strings = |f: &mut dyn Iterator<Item = String>| Column::Strings(f.collect());
        let chrom = |k: usize| self.chromosome(k).to_string();
        let c = &self.config;
        let labels: Vec<(usize, usize)> = (0..c.cells).map(|i| self.label(i)).collect();
        let column =
            |of: &dyn Fn(usize, usize) -> usize, n: usize, name: &dyn Fn(usize) -> String| Column::Categorical {
                codes: labels.iter().map(|&(t, b)| of(t, b) as i32).collect(),
                categories: (0..n).map(name).collect(),
            };
        let mut columns = vec![("cell_type".into(), column(&|t, _| t, c.cell_types, &|t| format!("type{}", t + 1)))];
        if let Some(t) = &self.tissue {
            let lineages = t.lineage.iter().max().map_or(0, |l| l + 1);
            columns.push(("lineage".into(), column(&|k, _| t.lineage[k], lineages, &|l| format!("lineage{}", l + 1))));
        }
        if c.batches > 1 {
            // Each site has measured the same donors.
            let sites = SITES.min(c.batches);
            let donors = c.batches.div_ceil(sites);
            let name = |b: usize| format!("s{}d{}", b / donors + 1, b % donors + 1);
            columns.push(("batch".into(), column(&|_, b| b, c.batches, &name)));
            columns.push(("site".into(), column(&|_, b| b / donors, sites, &|s| format!("site{}", s + 1))));
            columns.push(("donor".into(), column(&|_, b| b % donors, donors, &|d| format!("donor{}", d + 1))));
        }
        let obs = Frame { index: (0..c.cells).map(|i| format!("cell{:06}", i + 1)).collect(), columns };
        let g = &self.genes;
        let rna = Frame {
            index: g.iter().map(|g| g.name.clone()).collect(),
            columns: vec![
                ("chrom".into(), strings(&mut g.iter().map(|g| chrom(g.chrom)))),
                ("strand".into(), strings(&mut g.iter().map(|g| if g.forward { "+" } else { "-" }.to_string()))),
                ("chromStart".into(), Column::Ints(g.iter().map(|g| g.body()[0]).collect())),
                ("chromEnd".into(), Column::Ints(g.iter().map(|g| g.body()[1]).collect())),
                ("tss".into(), Column::Ints(g.iter().map(|g| g.tss).collect())),
            ],
        };
        let p = &self.peaks;
        let atac = Frame {
            index: p.iter().map(|p| p.name.clone()).collect(),
            columns: vec![
                ("chrom".into(), strings(&mut p.iter().map(|p| chrom(p.chrom)))),
                ("chromStart".into(), Column::Ints(p.iter().map(|p| p.start).collect())),
                ("chromEnd".into(), Column::Ints(p.iter().map(|p| p.end).collect())),
            ],
        };
        [obs, rna, atac]
    }

    /// The planted links as a table: gene, peak, chrom, start, end, tss, distance (|TSS − peak midpoint|), effect;
    /// of tissue also types, the cell types in which the link acts, separated by commas.
    pub fn truth_tsv(&self) -> String {
        let mut out = String::from("gene\tpeak\tchrom\tstart\tend\ttss\tdistance\teffect");
        out.push_str(if self.tissue.is_some() { "\ttypes\n" } else { "\n" });
        for (i, l) in self.links.iter().enumerate() {
            let (g, p) = (&self.genes[l.gene], &self.peaks[l.peak]);
            let distance = (g.tss - (p.start + p.end) / 2).abs();
            out.push_str(&format!(
                "{}\t{}\t{}\t{}\t{}\t{}\t{distance}\t{:.6}",
                g.name,
                p.name,
                self.chromosome(p.chrom),
                p.start,
                p.end,
                g.tss,
                l.effect
            ));
            if self.tissue.is_some() {
                let types = (0..self.config.cell_types).filter(|&t| self.acts_in(i, t));
                out.push_str(&format!("\t{}", types.map(|t| format!("type{}", t + 1)).collect::<Vec<_>>().join(",")));
            }
            out.push('\n');
        }
        out
    }

    /// The genes as a GTF.
    pub fn gtf(&self) -> String {
        let mut out = String::new();
        for (i, g) in self.genes.iter().enumerate() {
            let [start, end] = g.body();
            out.push_str(&format!(
                "{}\tsccrossrec\tgene\t{}\t{end}\t.\t{}\t.\tgene_id \"SIMG{:08}\"; gene_name \"{}\";\n",
                self.chromosome(g.chrom),
                start + 1,
                if g.forward { '+' } else { '-' },
                i + 1,
                g.name
            ));
        }
        out
    }

    /// Writes sequences and where motifs lie in them; gives the number of motifs.
    fn write_sequences(&self, fasta: &Path, sites: &Path, progress: &dyn Progress) -> Result<usize> {
        let (mut bed, mut n) = (String::new(), 0);
        let mut stopped = Ok(());
        write_atomic(fasta, |out| {
            for from in (0..self.peaks.len()).step_by(SEQUENCES) {
                stopped = progress.check("the matrices are written, their sequences are not");
                if stopped.is_err() {
                    return Err(std::io::ErrorKind::Interrupted.into());
                }
                let block: Vec<_> = (from..(from + SEQUENCES).min(self.peaks.len()))
                    .into_par_iter()
                    .map(|j| (j, self.sequence(j)))
                    .collect();
                for (j, (bases, site)) in block {
                    let p = &self.peaks[j];
                    let chrom = self.chromosome(p.chrom);
                    writeln!(out, ">{chrom}:{}-{}", p.start, p.end)?;
                    out.write_all(&bases)?;
                    out.write_all(b"\n")?;
                    if let Some(s) = site {
                        let start = p.start + s.at as i64;
                        let (end, strand) = (start + s.length as i64, if s.forward { '+' } else { '-' });
                        bed.push_str(&format!("{chrom}\t{start}\t{end}\ttype{}\t0\t{strand}\n", s.cell_type + 1));
                        n += 1;
                    }
                }
            }
            Ok(())
        })
        .or_else(|e| stopped.and(Err(e)))?;
        write_text(sites, &bed)?;
        Ok(n)
    }

    /// Writes the data set into the folder `out`, which must exist, under the names of [`Names::default`].
    ///
    /// # Errors
    /// As [`Simulation::write_as`].
    pub fn write(&self, out: &Path, progress: &dyn Progress) -> Result<Simulated> {
        self.write_as(out, Names::default(), progress)
    }

    /// Writes the data set into the folder `out`, which must exist; `progress` is told the cells done, and asked
    /// whether to stop. RNA: X =
    /// ln(1 + count × depth / total), with depth the configured median; ATAC: X = 1 where there are fragments. Counts are
    /// in `layers/counts` of both. Beside them sequences of the peaks, `genes.gtf`, `truth.tsv` (planted links),
    /// `motifs.tsv` and `motifs.bed` (planted motifs). Memory: the plan and a block of cells.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) where a file cannot be written, [`Error::Interrupted`](crate::Error::Interrupted) where
    /// `progress` says stop; a file is whole
    /// or not there.
    pub fn write_as(&self, out: &Path, names: Names, progress: &dyn Progress) -> Result<Simulated> {
        let n = self.config.cells;
        let draw = |from: usize| -> Vec<SimulatedCell> {
            (from..(from + BLOCK).min(n)).into_par_iter().map(|i| self.cell(i)).collect()
        };
        let [obs, rna_var, atac_var] = self.frames();
        let mut made = Simulated {
            rna: out.join(names.rna),
            atac: out.join(names.atac),
            fasta: out.join(names.fasta),
            gtf: out.join("genes.gtf"),
            truth: out.join("truth.tsv"),
            motifs: out.join("motifs.tsv"),
            sites: out.join("motifs.bed"),
            links: self.links.len(),
            planted_motifs: 0,
            rna_entries: 0,
            atac_entries: 0,
        };
        let (genes, peaks) = (self.genes.len(), self.peaks.len());
        let mut rna = AnnDataWriter::create(&made.rna, &obs, &rna_var)?;
        let mut atac = AnnDataWriter::create(&made.atac, &obs, &atac_var)?;
        let mut sinks = [
            rna.csr("X", genes)?,
            rna.csr("layers/counts", genes)?,
            atac.csr("X", peaks)?,
            atac.csr("layers/counts", peaks)?,
        ];
        for from in (0..n).step_by(BLOCK) {
            progress.check("nothing was written")?;
            let mut blocks: [Csr<f32>; 4] = [Csr::new(), Csr::new(), Csr::new(), Csr::new()];
            for cell in draw(from) {
                let total: f64 = cell.rna.iter().map(|&(_, k)| f64::from(k)).sum();
                let log = |k: u32| (f64::from(k) * self.config.rna_depth / total).ln_1p() as f32;
                blocks[0].push_row(cell.rna.iter().map(|&(g, k)| (g, log(k))));
                blocks[1].push_row(cell.rna.iter().map(|&(g, k)| (g, k as f32)));
                blocks[2].push_row(cell.atac.iter().map(|&(p, _)| (p, 1.0)));
                blocks[3].push_row(cell.atac.iter().map(|&(p, k)| (p, k as f32)));
                made.rna_entries += cell.rna.len() as u64;
                made.atac_entries += cell.atac.len() as u64;
            }
            for (sink, block) in sinks.iter_mut().zip(&blocks) {
                sink.append(block)?;
            }
            progress.at("simulate", (from + BLOCK).min(n) as u64, n as u64);
        }
        for sink in sinks {
            sink.finish()?;
        }
        rna.finish()?;
        atac.finish()?;
        made.planted_motifs = self.write_sequences(&made.fasta, &made.sites, progress)?;
        let motifs = self.motifs.iter().enumerate().map(|(t, m)| format!("type{}\t{m}\n", t + 1));
        write_text(&made.motifs, &format!("cell_type\tmotif\n{}", motifs.collect::<String>()))?;
        write_text(&made.gtf, &self.gtf())?;
        write_text(&made.truth, &self.truth_tsv())?;
        Ok(made)
    }
}
