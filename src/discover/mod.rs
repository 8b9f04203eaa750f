//! Regulation read back: the attention of every cell, its sums over cell types, and how well it finds known links.

pub mod attention;
pub mod exports;
mod links;
pub mod maps;
mod places;
mod recovery;
pub mod tf;
pub mod truth;

use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use attention::{AttentionWriter, Pair, VERSION as ATTENTION_VERSION};
pub use links::{Link, LinkScore, LinkTable};
pub use recovery::{
    ByChance, ByCorrelation, ByDistance, BySum, PairScorer, ReadCell, Recovered, Recovery, Truth, distance, recover,
};

use crate::device::Runner;
use crate::error::{Error, Result};
use crate::graph::{Cell, DataSet, Vocabulary};
use crate::model::{Attention, Want};
use crate::train::files::write_atomic;

/// What to discover, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoverOptions {
    /// Only cells of these types; `None`: all cells.
    pub cell_types: Option<Vec<String>>,
    /// How attention counts towards a link.
    pub score: LinkScore,
    /// Cells a forward pass.
    pub batch_size: usize,
    /// Known links (a table with the columns gene and peak) to compare with.
    pub truth: Option<PathBuf>,
    /// Seed of the random baseline.
    pub seed: u64,
}

impl Default for DiscoverOptions {
    fn default() -> Self {
        DiscoverOptions {
            cell_types: None,
            score: LinkScore::Weight,
            batch_size: 64,
            truth: None,
            seed: crate::cli::DEFAULT_SEED,
        }
    }
}

impl DiscoverOptions {
    /// Checks cell types and known links against the data; reads, but writes nothing.
    pub fn check(&self, data: &DataSet) -> Result<()> {
        self.cells(data)?;
        self.truth.as_ref().map_or(Ok(()), |t| Truth::read(t, data.vocabulary()).map(|_| ()))
    }

    /// Cells that will be looked at.
    pub fn cells(&self, data: &DataSet) -> Result<u64> {
        let groups = groups(data.vocabulary(), data.n_cells(), self.cell_types.as_deref())?;
        Ok(groups.iter().map(|g| g.1.len() as u64).sum())
    }
}

/// The links of some cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkFile {
    /// The cell type, or `all` for all cells looked at.
    pub cell_type: String,
    /// Cells behind it.
    pub cells: u64,
    /// Links with attention in at least one of them.
    pub links: u64,
    /// Its table.
    pub file: PathBuf,
}

/// What [`discover`] made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// How attention counts towards a link.
    pub score: LinkScore,
    /// Cells looked at.
    pub cells: u64,
    /// (cell, gene, peak) with attention.
    pub pairs: u64,
    /// The attention of every cell.
    pub attention: PathBuf,
    /// Links over all cells looked at.
    pub all: LinkFile,
    /// Links of each cell type; empty where the data have no cell types.
    pub cell_types: Vec<LinkFile>,
    /// With known links: how well they are found.
    pub recovery: Option<Recovery>,
}

/// Cells to look at, type by type: (name, cells), types in the order of the data set.
fn groups(v: &Vocabulary, n: usize, wanted: Option<&[String]>) -> Result<Vec<(Option<String>, Vec<u32>)>> {
    if v.cell_types.is_empty() {
        return match wanted {
            Some(_) => Err(Error::usage("--cell-types: the data have no cell types; leave it out")),
            None => Ok(vec![(None, (0..n as u32).collect())]),
        };
    }
    if let Some(unknown) = wanted.unwrap_or(&[]).iter().find(|w| !v.cell_types.contains(w)) {
        return Err(Error::usage(format!(
            "--cell-types {unknown}: the data have no such cell type; there are {}",
            v.cell_types.join(", ")
        )));
    }
    let mut groups: Vec<_> = v.cell_types.iter().map(|t| (Some(t.clone()), Vec::new())).collect();
    v.cell_type.iter().enumerate().for_each(|(c, &t)| groups[t as usize].1.push(c as u32));
    groups.retain(|(t, cells)| !cells.is_empty() && wanted.is_none_or(|w| t.as_ref().is_some_and(|t| w.contains(t))));
    match groups.iter().any(|(_, c)| !c.is_empty()) {
        true => Ok(groups),
        false => Err(Error::usage("--cell-types: no cell is of these types; choose others")),
    }
}

/// The attention of one sample as pairs sorted by (gene, peak), averaged over heads.
fn pairs_of(a: &Attention<f32>, genes: &[u32], peaks: &[u32], heads: usize) -> Vec<Pair> {
    let mut all: Vec<(u32, u32, f32, f32)> = (0..a.weight.len())
        .map(|i| (genes[a.gene_row[i] as usize], peaks[a.peak_row[i] as usize], a.weight[i], a.score[i]))
        .collect();
    all.sort_by_key(|p| (p.0, p.1)); // stable: heads stay in order
    all.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .map(|same| Pair {
            gene: same[0].0,
            peak: same[0].1,
            weight: same.iter().map(|p| p.2).sum::<f32>() / heads as f32,
            score: same.iter().map(|p| p.3).sum::<f32>() / same.len() as f32,
        })
        .collect()
}

/// File names of cell types: letters, digits and `.+-_` stay, anything else becomes `_`; equal ones are numbered.
fn file_names(types: &[String]) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut names = Vec::new();
    for t in types {
        let plain: String =
            t.chars().map(|c| if c.is_ascii_alphanumeric() || "+-_.".contains(c) { c } else { '_' }).collect();
        let plain = plain.trim_start_matches('.');
        let mut name = plain.to_string();
        let mut k = 2;
        // Case is folded, as some file systems do.
        while name.is_empty() || !taken.insert(name.to_lowercase()) {
            name = format!("{plain}_{k}");
            k += 1;
        }
        names.push(name);
    }
    names
}

/// Removes the tables of cell types that an earlier run left in `folder` and this one did not make: beside the new
/// ones they would pass for results of the same model.
fn remove_others(folder: &Path, made: &[LinkFile]) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, "read", e))?.path();
        let table = path.extension().is_some_and(|e| e == "tsv");
        if table && !made.iter().any(|m| m.file == path) {
            std::fs::remove_file(&path).map_err(|e| Error::io(&path, "remove", e))?;
        }
    }
    Ok(())
}

/// Writes links by falling weight: chrom, start, end, gene, weight, cells, mean (weight / cells of the type),
/// cell_type, tss, distance (|TSS − peak midpoint|), peak. Coordinates are 0-based, half-open; unknown ones are `.`.
fn write_links(path: &Path, v: &Vocabulary, links: &[Link], cell_type: &str, cells: u64) -> Result<()> {
    let known = |x: i64| if x < 0 { ".".to_string() } else { x.to_string() };
    // A name is one field, whatever it holds.
    let plain = |name: &str| name.replace(['\t', '\n', '\r'], " ");
    let cell_type = plain(cell_type);
    write_atomic(path, |out| {
        writeln!(out, "chrom\tstart\tend\tgene\tweight\tcells\tmean\tcell_type\ttss\tdistance\tpeak")?;
        for l in links {
            let (g, p) = (&v.genes[l.gene as usize], &v.peaks[l.peak as usize]);
            let chrom = v.chromosomes.get(p.chrom as usize).map_or(".".into(), |c| plain(c));
            let tss = g.tss.map_or(".".into(), |t| t.to_string());
            let distance = distance(v, l.gene, l.peak).map_or(".".into(), |d| format!("{d:.0}"));
            writeln!(
                out,
                "{chrom}\t{}\t{}\t{}\t{:.9e}\t{}\t{:.9e}\t{cell_type}\t{tss}\t{distance}\t{}",
                known(p.start),
                known(p.end),
                plain(&g.name),
                l.weight,
                l.cells,
                l.weight / cells as f64,
                plain(&p.name),
            )?;
        }
        Ok(())
    })
}

/// Reads the attention of a model back, into the folder `out`, which must exist:
/// * `attention.h5`, the attention of every cell (its format: [`attention`]);
/// * `links.tsv`, sums over all cells looked at, and `links/TYPE.tsv`, sums over the cells of a type;
/// * with known links, how well they are found by attention and by three baselines, returned.
///
/// `progress` is told the cells done. Memory: a batch, the links of one cell type, and those of all together. The
/// tables do not depend on the number of threads or on `batch_size`.
///
/// # Errors
/// Cell types that the data lack; known links of which none can be used; files that cannot be written;
/// [`Error::Interrupted`]. Tables finished by then stay in `out`, each whole; the attention file does not.
pub fn discover<'m>(
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    options: &DiscoverOptions,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Discovery> {
    let mut runner = model.into();
    let model = runner.model();
    data.need_both("discovery")?;
    let v = data.vocabulary();
    let groups = groups(v, data.n_cells(), options.cell_types.as_deref())?;
    let truth = options.truth.as_ref().map(|t| Truth::read(t, v)).transpose()?;
    let attention = out.join("attention.h5");
    let mut writer = AttentionWriter::create(&attention)?;
    let mut all = LinkTable::new();
    let mut cell_types = Vec::new();
    let mut done = 0;
    let names = file_names(&groups.iter().filter_map(|g| g.0.clone()).collect::<Vec<_>>());
    let folder = out.join("links");
    let want = Want { attention: true, ..Want::default() };
    for (i, (cell_type, cells)) in groups.iter().enumerate() {
        let mut table = LinkTable::new();
        for chunk in cells.chunks(options.batch_size.max(1)) {
            crate::interrupt::check(match cell_types.len() {
                0 => "nothing was written",
                _ => "the link tables finished so far are complete, the attention file is not kept",
            })?;
            let batch = data.batch_of_cells(chunk);
            let attended = runner.forward(&batch, want)?.attention;
            if attended.len() != chunk.len() {
                return Err(Error::Internal(format!("attention of {} samples for {}", attended.len(), chunk.len())));
            }
            for (b, (&cell, a)) in chunk.iter().zip(&attended).enumerate() {
                let pairs = pairs_of(a, batch.rna.row(b).0, batch.atac.row(b).0, model.config.heads);
                for p in &pairs {
                    let x = options.score.contribution(f64::from(p.weight), f64::from(p.score));
                    table.add(p.gene, p.peak, x);
                }
                writer.push(cell, &pairs)?;
            }
            done += chunk.len() as u64;
            progress(done);
        }
        if let Some(cell_type) = cell_type {
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
            let (file, n) = (folder.join(format!("{}.tsv", names[i])), cells.len() as u64);
            write_links(&file, v, &table.ranked(), cell_type, n)?;
            let links = table.links().len() as u64;
            cell_types.push(LinkFile { cell_type: cell_type.clone(), cells: n, links, file });
        }
        all.merge(&mut table);
    }
    remove_others(&folder, &cell_types)?;
    let pairs = writer.pairs();
    let file = out.join("links.tsv");
    write_links(&file, v, &all.ranked(), "all", done)?;
    let links = all.links();
    let recovery = truth.map(|truth| {
        let cells: Vec<u32> = groups.iter().flat_map(|g| g.1.iter().copied()).collect();
        let read = |c: u32, cell: &mut Cell| data.cell_into(c as usize, cell);
        let correlation = ByCorrelation::new(v, &cells, &read);
        let (sum, distance, chance) = (BySum(links), ByDistance(v), ByChance { seed: options.seed });
        recover(v, &truth, &[&sum, &correlation, &distance, &chance])
    });
    writer.finish(v)?;
    Ok(Discovery {
        score: options.score,
        cells: done,
        pairs,
        attention,
        all: LinkFile { cell_type: "all".into(), cells: done, links: links.len() as u64, file },
        cell_types,
        recovery,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_become_file_names() {
        let types: Vec<String> = ["CD4+ T", "CD4+_T", "a/b", "", "..", "cd4+_t"].map(String::from).to_vec();
        assert_eq!(file_names(&types), ["CD4+_T", "CD4+_T_2", "a_b", "_2", "_3", "cd4+_t_3"]);
    }

    #[test]
    fn a_name_is_one_field() {
        let gene = |name: &str| crate::graph::Gene { name: name.into(), chrom: 0, tss: Some(5) };
        let v = Vocabulary {
            chromosomes: vec!["chr\t1".into()],
            genes: vec![gene("a\tb"), gene("c\nd")],
            peaks: vec![crate::graph::Peak { name: "p\rq".into(), chrom: 0, start: 10, end: 20 }],
            ..Vocabulary::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("links.tsv");
        let link = |gene, weight| Link { gene, peak: 0, weight, cells: 2 };
        write_links(&path, &v, &[link(0, 2.0), link(1, 1.0)], "T\tcell", 4).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[1],
            ["chr 1", "10", "20", "a b", "2.000000000e0", "2", "5.000000000e-1", "T cell", "5", "10", "p q"]
        );
        assert_eq!((rows[2][3], rows[2].len()), ("c d", 11));
    }

    #[test]
    fn tables_of_an_earlier_run_go() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "x").unwrap();
            path
        };
        let (new, old, note) = (file("B.tsv"), file("T.tsv"), file("note.txt"));
        let made = LinkFile { cell_type: "B".into(), cells: 1, links: 1, file: new.clone() };
        remove_others(dir.path(), &[made]).unwrap();
        assert!(new.exists() && note.exists() && !old.exists());
        remove_others(&dir.path().join("absent"), &[]).unwrap();
    }

    #[test]
    fn heads_are_averaged() {
        let a = Attention {
            head: vec![0, 0, 1],
            gene_row: vec![0, 1, 1],
            peak_row: vec![1, 0, 0],
            weight: vec![0.5f32, 0.25, 0.75],
            score: vec![0.9f32, 0.8, 1.0],
        };
        let pair = |gene, peak, weight, score| Pair { gene, peak, weight, score };
        let p = pairs_of(&a, &[7, 3], &[4, 9], 2);
        assert_eq!(p[0], pair(3, 4, 0.5, 0.9));
        assert_eq!(p[1], pair(7, 9, 0.25, 0.9));
    }
}
