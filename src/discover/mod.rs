//! Regulation read back: the attention of every cell, its sums over cell types, and how well it finds known links.

pub mod attention;
pub mod evidence;
pub mod exports;
mod links;
pub mod maps;
pub mod null;
mod parts;
mod places;
mod recovery;
pub mod tf;
pub mod truth;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use attention::{AttentionWriter, Pair, VERSION as ATTENTION_VERSION};
pub use links::{Link, LinkScore, LinkTable};
pub use recovery::{
    ByChance, ByCorrelation, ByDistance, ByProduct, BySum, ByTable, Measure, NEAR, PairScorer, ReadCell, Recovered,
    Recovery, Truth, distance, recover,
};

use crate::device::Runner;
use crate::error::{Error, Result};
use crate::graph::{Cell, DataSet, Vocabulary};
use crate::model::Attention;
use crate::ops::pool::dot;
use crate::rng::Rng;
use crate::train::files::{Lock, sweep, write_text};
use evidence::Evidence;
use exports::{ChromNames, Export, Format};
use maps::{Maps, TypeMap};
use null::{Null, Strata};
use parts::{Pairing, Parts};
use tf::{PeakStrata, TfComparison, TfFile, TfTrack};

/// What to discover, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoverOptions {
    /// Only cells of these types; `None`: all cells.
    pub cell_types: Option<Vec<String>>,
    /// How attention counts towards a link.
    pub score: LinkScore,
    /// Cells a forward pass.
    pub batch_size: usize,
    /// Known links to compare with (forms: [`Truth::read_with`]).
    pub truth: Option<PathBuf>,
    /// Of known links given by place: bases around a TSS within which an end is at the gene.
    pub truth_window: i64,
    /// Binding sites of transcription factors to compare with.
    pub tf: Vec<TfFile>,
    /// Permutations behind the background of that comparison.
    pub tf_permutations: usize,
    /// Forms in which the maps are written besides tables.
    pub exports: Vec<Format>,
    /// How these name chromosomes.
    pub chrom_names: ChromNames,
    /// What links are tested against.
    pub null: Null,
    /// Bases between TSS and peak up to which a pair has a row of evidence and, with [`Null::Matched`], is tested.
    pub window: f64,
    /// Leading components of RNA that evidence takes out.
    pub components: usize,
    /// With [`Null::Shuffled`]: passes over shuffled pairings.
    pub permutations: u32,
    /// Take over what a discovery of the same cells that was stopped has left in the folder.
    pub resume: bool,
    /// Seed of shuffled pairings and of the random baseline.
    pub seed: u64,
    /// What `discover.json` says besides: where the run and the data are.
    pub about: serde_json::Map<String, serde_json::Value>,
}

impl Default for DiscoverOptions {
    fn default() -> Self {
        DiscoverOptions {
            cell_types: None,
            score: LinkScore::Weight,
            batch_size: 64,
            truth: None,
            truth_window: truth::TSS_WINDOW,
            tf: Vec::new(),
            tf_permutations: tf::PERMUTATIONS,
            exports: Vec::new(),
            chrom_names: ChromNames::default(),
            null: Null::default(),
            window: 500_000.0,
            components: evidence::COMPONENTS,
            permutations: 1,
            resume: false,
            seed: crate::cli::DEFAULT_SEED,
            about: serde_json::Map::new(),
        }
    }
}

impl DiscoverOptions {
    /// Checks cell types and known links against the data; reads, but writes nothing.
    pub fn check(&self, data: &DataSet) -> Result<()> {
        self.cells(data)?;
        let v = data.vocabulary();
        TfTrack::read_all(&self.tf, v)?;
        self.truth.as_ref().map_or(Ok(()), |t| Truth::read_with(t, v, self.truth_window).map(|_| ()))
    }

    /// Passes over the cells: one, and those over shuffled pairings.
    fn passes(&self) -> u64 {
        1 + if self.null == Null::Shuffled { u64::from(self.permutations.max(1)) } else { 0 }
    }

    /// Cells that will be computed, those of shuffled pairings included.
    pub fn work(&self, data: &DataSet) -> Result<u64> {
        Ok(self.cells(data)? * self.passes())
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
    /// Pairs tested, those without attention included: what q-values count.
    #[serde(default)]
    pub tests: u64,
    /// Links with a p-value.
    pub tested: u64,
    /// Of these with q below 0.05.
    pub significant: u64,
    /// Its table, in the folder of the discovery.
    pub file: PathBuf,
}

impl Discovery {
    /// Refuses a record (the file `at`) of files outside of its folder: it may come from elsewhere, or be damaged.
    pub(crate) fn check_files(&self, at: &Path) -> Result<()> {
        let named = self.files();
        match std::iter::once(&self.attention).chain(&named).find(|f| !is_inside(f)) {
            None => Ok(()),
            Some(file) => Err(Error::input(
                at,
                format!("names the file {}, which is not inside of its folder", file.display()),
                "run `discover` again",
            )),
        }
    }

    /// What was made beside the attention, in the folder.
    fn files(&self) -> HashSet<PathBuf> {
        let tables = self.cell_types.iter().chain([&self.all]).map(|t| t.file.clone());
        let exports = self.exports.iter().map(|e| e.file.clone());
        let tracks = exports.clone().filter(|f| f.extension().is_some_and(|e| e == "bedgraph"));
        let sizes = tracks.map(|f| f.with_file_name("chrom.sizes"));
        let tf = ["tf.tsv", "tf-peaks.tsv"].map(PathBuf::from).into_iter().filter(|_| self.tf.is_some());
        let recovery = self.recovery.iter().map(|_| PathBuf::from("recovery.tsv"));
        let evidence = self.evidence.iter().map(|e| e.file.clone());
        tables.chain(evidence).chain(exports.clone()).chain(sizes).chain(tf).chain(recovery).collect()
    }
}

impl LinkFile {
    fn write(map: &TypeMap, tests: u64, file: PathBuf, out: &Path, v: &Vocabulary) -> Result<LinkFile> {
        map.write_links(&out.join(&file), v)?;
        Ok(LinkFile {
            cell_type: map.name.clone(),
            cells: map.cells,
            links: map.links.len() as u64,
            tests,
            tested: map.links.iter().filter(|l| !l.pvalue.is_nan()).count() as u64,
            significant: map.links.iter().filter(|l| l.qvalue < 0.05).count() as u64,
            file,
        })
    }
}

/// What [`discover`] made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// How attention counts towards a link.
    pub score: LinkScore,
    /// What links were tested against.
    pub null: Null,
    /// With [`Null::Matched`]: bases up to which a pair was tested.
    pub window: f64,
    /// Cells looked at.
    pub cells: u64,
    /// Of these (and of shuffled ones) taken over from a discovery that was stopped.
    pub resumed: u64,
    /// (cell, gene, peak) with attention.
    pub pairs: u64,
    /// The attention of every cell, in the folder of the discovery.
    pub attention: PathBuf,
    /// Links over all cells looked at.
    pub all: LinkFile,
    /// Links of each cell type; empty where the data have no cell types.
    pub cell_types: Vec<LinkFile>,
    /// The evidence for pairs near their genes.
    #[serde(default)]
    pub evidence: Option<evidence::Summary>,
    /// With known links: how well they are found.
    pub recovery: Option<Recovery>,
    /// With binding sites: how attention compares with them.
    #[serde(default)]
    pub tf: Option<TfComparison>,
    /// What was written for other programs; files in the folder of the discovery.
    #[serde(default)]
    pub exports: Vec<Export>,
}

/// Cells to look at, type by type: (name, cells), types in the order of the data set.
fn groups(v: &Vocabulary, n: usize, wanted: Option<&[String]>) -> Result<Vec<(Option<String>, Vec<u32>)>> {
    if v.cell_types.is_empty() {
        return match wanted {
            Some(_) => Err(Error::usage("--cell-types: the data have no cell types; leave it out")),
            None => Ok(vec![(None, (0..n as u32).collect())]),
        };
    }
    let wanted = wanted.map(|w| crate::graph::samples::names_of(w, &v.cell_types));
    if let Some(unknown) = wanted.iter().flatten().find(|w| !v.cell_types.contains(w)) {
        return Err(Error::usage(format!(
            "--cell-types {unknown}: the data have no such cell type; there are {}",
            v.cell_types.join(", ")
        )));
    }
    let mut groups: Vec<_> = v.cell_types.iter().map(|t| (Some(t.clone()), Vec::new())).collect();
    v.cell_type.iter().enumerate().for_each(|(c, &t)| groups[t as usize].1.push(c as u32));
    groups.retain(|(t, cells)| {
        !cells.is_empty() && wanted.as_ref().is_none_or(|w| t.as_ref().is_some_and(|t| w.contains(t)))
    });
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

/// What a discovery left in `out`, by its own record; `None` where there is none.
fn earlier(out: &Path) -> Option<Discovery> {
    serde_json::from_slice(&std::fs::read(out.join("discover.json")).ok()?).ok()
}

/// Does this name, as seen from a folder, stay inside of it?
fn is_inside(file: &Path) -> bool {
    file.components().all(|c| matches!(c, std::path::Component::Normal(_)))
}

/// Removes the files of an earlier discovery that this one did not make: beside the new ones they would pass for results
/// of the same model. Only what its record names goes, and nothing outside the folder.
fn remove_earlier(out: &Path, old: &Discovery, new: &Discovery) -> Result<()> {
    let kept = new.files();
    for file in old.files().into_iter().filter(|f| !kept.contains(f) && is_inside(f)) {
        let path = out.join(&file);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&path, "remove", e)),
            _ => {}
        }
        for folder in file.ancestors().skip(1).filter(|f| !f.as_os_str().is_empty()) {
            let _ = std::fs::remove_dir(out.join(folder)); // stays where it holds anything
        }
    }
    Ok(())
}

/// The share of G and C of each peak, where its sequence is known.
fn gc(data: &DataSet) -> Vec<Option<f64>> {
    let features = data.features();
    let length = features.dna_length();
    if length == 0 {
        return vec![None; data.vocabulary().peaks.len()];
    }
    let share = |codes: &[u8]| {
        let known = codes.iter().filter(|&&c| c > 0).count();
        let gc = codes.iter().filter(|&&c| c >= 3).count(); // G 3, C 4
        (known > 0).then(|| gc as f64 / known as f64)
    };
    features.peak_dna.chunks_exact(length).map(share).collect()
}

/// Cells that have each gene, and each peak.
fn detected(data: &DataSet, cells: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let v = data.vocabulary();
    let zero = || (vec![0u32; v.genes.len()], vec![0u32; v.peaks.len()]);
    cells
        .par_chunks(1024)
        .fold(zero, |(mut genes, mut peaks), cells| {
            let mut cell = Cell::default();
            for &c in cells {
                data.cell_into(c as usize, &mut cell);
                cell.genes.iter().for_each(|&g| genes[g as usize] += 1);
                cell.peaks.iter().for_each(|&p| peaks[p as usize] += 1);
            }
            (genes, peaks)
        })
        .reduce(zero, |(mut a, mut b), (c, d)| {
            a.iter_mut().zip(c).for_each(|(a, c)| *a += c);
            b.iter_mut().zip(d).for_each(|(b, d)| *b += d);
            (a, b)
        })
}

/// Reads the attention of a model back, into the folder `out`, which must exist:
/// * `attention.h5`, the attention of every cell (its format: [`attention`]);
/// * `links.tsv`, sums over all cells looked at, and `links/TYPE.tsv`, sums over the cells of a type, with statistics
///   against `options.null`; `peaks.tsv` and `genes.tsv`, the tracks of each type (formats: [`maps`]);
/// * `evidence.tsv`, the pairs within the window with the probability that expression and accessibility say ([`evidence`]);
/// * with known links `recovery.tsv`, how well they are found by each score; with binding sites
///   `tf.tsv`, how attention compares with them, and `tf-peaks.tsv`, their scores peak by peak; `exports`, other forms;
/// * `discover.json`, what is returned.
///
/// Attention is computed in parts that are kept until the end, in the folder `.attention` of `out`: what was stopped goes
/// on with `options.resume`. `progress` is told the cells done. Memory: a part, the links of one cell type and those of
/// all together, and the tracks. What is written does not depend on the number of threads or on stops; another
/// `batch_size` may change the last bits of a score.
///
/// # Errors
/// Cell types that the data lack; known links of which none can be used; files that cannot be written;
/// [`Error::Interrupted`], which says how to go on.
pub fn discover<'m>(
    model: impl Into<Runner<'m>>,
    data: &DataSet,
    options: &DiscoverOptions,
    out: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Discovery> {
    let mut attention = false;
    discover_in(model.into(), data, options, out, progress, &mut attention).map_err(|e| match e {
        // Whichever table it was at: what is kept is the attention.
        Error::Interrupted { code, .. } if attention => Error::Interrupted { code, saved: evidence::KEPT.into() },
        e => e,
    })
}

/// [`discover`]; `all_there` becomes true once all of it is there.
fn discover_in(
    mut runner: Runner<'_>,
    data: &DataSet,
    options: &DiscoverOptions,
    out: &Path,
    progress: &mut dyn FnMut(u64),
    all_there: &mut bool,
) -> Result<Discovery> {
    data.need_both("discovery")?;
    crate::predict::check_memory("a discovery", runner.model(), data, options.batch_size, 0)?;
    let v = data.vocabulary();
    let groups = groups(v, data.n_cells(), options.cell_types.as_deref())?;
    let truth = options.truth.as_ref().map(|t| Truth::read_with(t, v, options.truth_window)).transpose()?;
    let tf = TfTrack::read_all(&options.tf, v)?;
    let _lock = Lock::take(out, "discovers")?;
    let kept = out.join(PARTS);
    let old = earlier(out);
    for file in ["attention.h5", "links.tsv", "evidence.tsv", "peaks.tsv", "genes.tsv", "discover.json"] {
        sweep(&out.join(file))?;
    }
    if !options.resume {
        parts::remove(&kept)?;
    }
    let own: Vec<Vec<Pairing>> = groups.iter().map(|g| g.1.iter().map(|&c| (c, c)).collect()).collect();
    let cells: Vec<u32> = groups.iter().flat_map(|g| g.1.iter().copied()).collect();
    let n = cells.len() as u64;
    let attended = Parts::new(kept.join("cells"), &own, &runner, data);
    let mut resumed = attended.compute(&mut runner, data, options.batch_size, progress)?;
    let mut shuffled = Vec::new();
    for k in 0..options.passes() - 1 {
        let mut atac = cells.clone();
        Rng::new(options.seed, SHUFFLES + k).shuffle(&mut atac);
        let mut atac = atac.into_iter();
        let pairings: Vec<Vec<Pairing>> =
            groups.iter().map(|g| g.1.iter().copied().zip(atac.by_ref()).collect()).collect();
        let parts = Parts::new(kept.join(format!("shuffled-{k}")), &pairings, &runner, data);
        resumed += parts.compute(&mut runner, data, options.batch_size, &mut |done| progress((k + 1) * n + done))?;
        shuffled.push(parts);
    }
    *all_there = true;

    let attention = PathBuf::from("attention.h5");
    let mut writer = AttentionWriter::create(&out.join(&attention))?;
    let gc = gc(data);
    let names = file_names(&groups.iter().filter_map(|g| g.0.clone()).collect::<Vec<_>>());
    let folder = PathBuf::from("links");
    let mut all = LinkTable::new();
    let mut null_of_all: Vec<LinkTable> = shuffled.iter().map(|_| LinkTable::new()).collect();
    let mut counts_of_all = (vec![0u32; v.genes.len()], vec![0u32; v.peaks.len()]);
    let mut cell_types = Vec::new();
    let mut tracks = Vec::new();
    for (i, (cell_type, of_type)) in groups.iter().enumerate() {
        let mut table = LinkTable::new();
        attended.for_each(i, |cell, pairs| {
            for p in pairs {
                let x = options.score.contribution(f64::from(p.weight), f64::from(p.score));
                table.add(p.gene, p.peak, x);
            }
            writer.push(cell, pairs)
        })?;
        let mut null = Vec::new();
        for (parts, of_all) in shuffled.iter().zip(&mut null_of_all) {
            let mut table = LinkTable::new();
            parts.for_each(i, |_, pairs| {
                for p in pairs {
                    let x = options.score.contribution(f64::from(p.weight), f64::from(p.score));
                    table.add(p.gene, p.peak, x);
                }
                Ok(())
            })?;
            null.extend_from_slice(table.links());
            of_all.merge(&mut table);
        }
        let counts = detected(data, of_type);
        counts_of_all.0.iter_mut().zip(&counts.0).for_each(|(a, b)| *a += b);
        counts_of_all.1.iter_mut().zip(&counts.1).for_each(|(a, b)| *a += b);
        if let Some(cell_type) = cell_type {
            let dir = out.join(&folder);
            std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, "create", e))?;
            let strata = Strata::new(v, &counts.0, &counts.1, &gc);
            let (map, tests) = map_of(options, &strata, table.links(), &null, v, cell_type, &names[i], of_type.len());
            let file = folder.join(format!("{}.tsv", names[i]));
            cell_types.push(LinkFile::write(&map, tests, file, out, v)?);
            tracks.push(if options.exports.is_empty() { TypeMap { links: Vec::new(), ..map } } else { map });
        }
        all.merge(&mut table);
    }
    evidence::go_on()?;
    let pairs = writer.pairs();
    let null: Vec<Link> = null_of_all.iter_mut().flat_map(|t| t.links().to_vec()).collect();
    let strata = Strata::new(v, &counts_of_all.0, &counts_of_all.1, &gc);
    let (map, tests) = map_of(options, &strata, all.links(), &null, v, "all", "links", cells.len());
    let of_all = LinkFile::write(&map, tests, PathBuf::from("links.tsv"), out, v)?;
    let maps = Maps { all: map, types: tracks };
    maps.write_tracks(out, v)?;
    let links = all.links();
    let read = |c: u32, cell: &mut Cell| data.cell_into(c as usize, cell);
    let found = Evidence::new(v, &cells, &read, options.window as i64, options.components, options.seed)?;
    let tf = match tf.as_slice() {
        [] => None,
        tracks => {
            let strata = PeakStrata::new(v, &counts_of_all.1, &gc)?;
            let mut compared = tf::compare(tracks, &maps, &strata, options.tf_permutations, options.seed)?;
            let expected = Maps::of_peaks(tf::EVIDENCE, n, found.by_peak(v.peaks.len()));
            compared.evidence = tf::compare(tracks, &expected, &strata, options.tf_permutations, options.seed)?.rows;
            compared.write(&out.join("tf.tsv"))?;
            tf::write_tracks(&out.join("tf-peaks.tsv"), v, tracks)?;
            Some(compared)
        }
    };
    let exports = export(options, &mut runner, data, &maps, out)?;
    evidence::go_on()?;
    let file = PathBuf::from("evidence.tsv");
    let product = by_product(runner.model());
    let by_cis = by_cis(runner.model(), &product, &counts_of_all, cells.len());
    let mut columns = vec![("attention", links)];
    columns.extend(by_cis.iter().map(|t| (t.name, t.links.as_slice())));
    found.write(&out.join(&file), v, &columns)?;
    let recovered = |truth: Truth| -> Result<Recovery> {
        let both = evidence::co_occurrence(v, links, &cells, &read)?;
        let quotient = |(l, &n): (&Link, &u32)| Link { weight: l.weight / f64::from(n.max(1)), ..*l };
        let per_cell =
            ByTable { name: "attention per cell with both", links: links.iter().zip(&both).map(quotient).collect() };
        let correlation = ByCorrelation::new(v, &cells, &read);
        let partial = correlation.measuring(Measure::Partial(&found));
        let by_evidence = correlation.measuring(Measure::Evidence(&found, v));
        let (sum, distance, chance) = (BySum(links), ByDistance(v), ByChance { seed: options.seed });
        let mut scorers: Vec<&dyn PairScorer> = vec![&sum, &per_cell, &product];
        scorers.extend(by_cis.iter().map(|t| t as &dyn PairScorer));
        let of_data: [&dyn PairScorer; 5] = [&by_evidence, &partial, &correlation, &distance, &chance];
        scorers.extend(of_data);
        recover(v, &truth, &scorers)
    };
    let recovery = truth.map(recovered).transpose()?;
    if let Some(recovery) = &recovery {
        truth::write_recovery(&out.join("recovery.tsv"), recovery)?;
    }
    // Cells are read again for the tables.
    data.check()?;
    writer.finish(v)?;
    let made = Discovery {
        score: options.score,
        null: options.null,
        window: options.window,
        cells: n,
        resumed,
        pairs,
        attention,
        all: of_all,
        cell_types,
        evidence: Some(found.summary(&file)),
        recovery,
        tf,
        exports,
    };
    let internal = |e: serde_json::Error| Error::Internal(format!("discovery: {e}"));
    let mut json = serde_json::to_value(&made).map_err(internal)?;
    if let Some(fields) = json.as_object_mut() {
        fields.extend(options.about.clone());
    }
    write_text(&out.join("discover.json"), &format!("{json:#}\n"))?;
    if let Some(old) = old {
        remove_earlier(out, &old, &made)?;
    }
    parts::remove(&kept)?;
    Ok(made)
}

/// Queries and keys of a model, of all genes and peaks at an expression and an accessibility of 1.
fn by_product(model: &crate::model::Model<f32>) -> ByProduct {
    let (queries, keys) = model.queries_and_keys();
    ByProduct { queries, keys, width: model.config.hidden }
}

/// Of a model with a cis term: the weight of each peak on each gene near it, and what it contributes, the weight times the
/// share of cells whose peak is open times how far the prediction follows its logit, rate × (1 − rate) of the gene.
/// `(genes, peaks)` are the cells of `n` that have each. Sorted by (gene, peak); empty without a cis term.
fn by_cis(
    model: &crate::model::Model<f32>,
    product: &ByProduct,
    (genes, peaks): &(Vec<u32>, Vec<u32>),
    n: usize,
) -> Vec<ByTable> {
    let (Some(graph), Some(decay)) = (&model.cis, model.params.get("cis.decay")) else { return Vec::new() };
    let (h, n) = (product.width, n.max(1) as f64);
    let mut weights: Vec<Link> = (0..peaks.len())
        .into_par_iter()
        .flat_map_iter(|p| {
            let (near, bins) = graph.of_peak(p);
            let key = &product.keys[p * h..][..h];
            near.iter().zip(bins).map(move |(&gene, &bin)| {
                let raw = dot(&product.queries[gene as usize * h..][..h], key) / (h as f32).sqrt();
                let weight = f64::from(decay[bin as usize].exp() * raw);
                Link { gene, peak: p as u32, weight, cells: peaks[p] }
            })
        })
        .collect();
    weights.par_sort_unstable_by_key(|l| (l.gene, l.peak));
    let rate = |g: u32| f64::from(genes[g as usize]) / n;
    let contribution = |l: &Link| {
        let open = f64::from(peaks[l.peak as usize]) / n;
        Link { weight: l.weight * open * rate(l.gene) * (1.0 - rate(l.gene)), ..*l }
    };
    let contributions = weights.iter().map(contribution).collect();
    vec![ByTable { name: "cis weight", links: weights }, ByTable { name: "cis contribution", links: contributions }]
}

/// Writes the maps in the forms asked for, below `out/exports`; `discovery.h5ad` carries the embedding of all cells.
fn export(
    options: &DiscoverOptions,
    runner: &mut Runner<'_>,
    data: &DataSet,
    maps: &Maps,
    out: &Path,
) -> Result<Vec<Export>> {
    if options.exports.is_empty() {
        return Ok(Vec::new());
    }
    let folder = out.join("exports");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    let v = data.vocabulary();
    let mut made = exports::write_maps(&folder, v, maps, &options.exports, options.chrom_names)?;
    if options.exports.contains(&Format::H5ad) {
        let how = crate::predict::Options { batch_size: options.batch_size, ..Default::default() };
        let values = crate::predict::all_embeddings(runner, data, &how)?;
        let embedding = exports::Embedding { width: 2 * runner.model().config.hidden, values: &values };
        let config = serde_json::to_string(&runner.model().config)
            .map_err(|e| Error::Internal(format!("model configuration: {e}")))?;
        let meta = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("model", config.as_str()),
            ("data_hash", data.hash()),
            ("seed", &options.seed.to_string()),
        ];
        made.push(exports::write_h5ad(&folder.join("discovery.h5ad"), v, maps, Some(embedding), &meta)?);
    }
    for export in &mut made {
        if let Ok(inner) = export.file.strip_prefix(out) {
            export.file = inner.to_path_buf();
        }
    }
    Ok(made)
}

/// Folder of the parts of a discovery on its way, in the folder of the discovery.
pub(crate) const PARTS: &str = ".attention";
/// Stream of the seeds of shuffled pairings.
const SHUFFLES: u64 = 0xD150;

/// The map of some cells from their links, sorted by (gene, peak).
#[allow(clippy::too_many_arguments)]
fn map_of(
    options: &DiscoverOptions,
    strata: &Strata<'_>,
    links: &[Link],
    null: &[Link],
    v: &Vocabulary,
    name: &str,
    file_stem: &str,
    cells: usize,
) -> (TypeMap, u64) {
    let (mut stats, tests) = match options.null {
        Null::Matched => strata.matched(links, options.window),
        Null::Shuffled => strata.shuffled(links, null, options.passes() - 1),
        Null::None => (links.iter().map(null::plain).collect(), 0),
    };
    let (mut peaks, mut genes) = (vec![0.0; v.peaks.len()], vec![0.0; v.genes.len()]);
    for l in links {
        peaks[l.peak as usize] += l.weight;
        genes[l.gene as usize] += l.weight;
    }
    stats.par_sort_by(|a, b| b.score.total_cmp(&a.score).then((a.gene, a.peak).cmp(&(b.gene, b.peak))));
    let map = TypeMap {
        name: name.to_string(),
        file_stem: file_stem.to_string(),
        cells: cells as u64,
        links: stats,
        peaks,
        genes,
    };
    (map, tests)
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
        let link = |gene, weight| null::plain(&Link { gene, peak: 0, weight, cells: 2 });
        let map = TypeMap {
            name: "T\tcell".into(),
            file_stem: "T_cell".into(),
            cells: 4,
            links: vec![link(0, 2.0), link(1, 1.0)],
            peaks: vec![],
            genes: vec![],
        };
        map.write_links(&path, &v).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split('\t').collect()).collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(
            rows[1],
            ["chr 1", "10", "20", "a b", "5", "10", "2e0", "NaN", "NaN", "NaN", "2", "5e-1", "T cell", "p q"]
        );
        assert_eq!((rows[2][3], rows[2].len()), ("c d", 14));
        let back = TypeMap::read_links(&path, &v).unwrap();
        assert_eq!(back.len(), 2);
        assert!(back.iter().zip(&map.links).all(|(a, b)| (a.gene, a.peak, a.score) == (b.gene, b.peak, b.score)));
    }

    #[test]
    fn files_of_an_earlier_discovery_go() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("links")).unwrap();
        std::fs::create_dir_all(dir.path().join("exports/bedpe")).unwrap();
        let files = ["links/B.tsv", "links/T.tsv", "links/notes.tsv", "links.tsv", "exports/bedpe/T.bedpe", "tf.tsv"];
        for file in files {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let table = |name: &str, file: &str| LinkFile {
            cell_type: name.into(),
            cells: 1,
            links: 1,
            tests: 0,
            tested: 0,
            significant: 0,
            file: file.into(),
        };
        let new = Discovery {
            score: LinkScore::Weight,
            null: Null::None,
            window: 1.0,
            cells: 1,
            resumed: 0,
            pairs: 1,
            attention: "attention.h5".into(),
            all: table("all", "links.tsv"),
            cell_types: vec![table("B", "links/B.tsv")],
            evidence: None,
            recovery: None,
            tf: None,
            exports: vec![],
        };
        let outside = dir.path().join("../outside-of-it.tsv");
        let mut old = new.clone();
        old.cell_types.extend([table("T", "links/T.tsv"), table("bad", outside.to_str().unwrap())]);
        old.exports.push(Export { file: "exports/bedpe/T.bedpe".into(), written: 1, left_out: 0 });
        std::fs::write(&outside, "x").unwrap();
        remove_earlier(dir.path(), &old, &new).unwrap();
        let there = |f: &str| dir.path().join(f).exists();
        assert!(there("links/B.tsv") && there("links/notes.tsv") && there("links.tsv") && there("tf.tsv"));
        assert!(!there("links/T.tsv") && !there("exports") && outside.exists());
        std::fs::remove_file(outside).unwrap();
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
