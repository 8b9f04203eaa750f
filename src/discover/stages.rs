//! The stages of a discovery, in their order.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::attention::AttentionWriter;
use super::evidence::{Cells, Evidence, co_occurrence};
use super::exports::{Export, Format, h5ad, write_maps};
use super::groups::{Detected, Group, gc, groups};
use super::links::{Link, LinkTable};
use super::maps::{LinkStat, Maps, TypeMap, file_names};
use super::null::{Null, Strata, plain};
use super::options::DiscoverOptions;
use super::parts::{KEPT, Pairing, Parts, remove};
use super::record::{ATTENTION_TRACKS, LinkFile};
use super::recovery::{Recovery, recover, write_recovery};
use super::scores::{
    ByChance, ByCorrelation, ByDistance, ByEvidence, ByProduct, BySum, ByTable, PairScorer, by_cis, by_part, by_product,
};
use super::tf::{EVIDENCE, PeakStrata, TfComparison, TfTrack, compare, write_tracks};
use super::truth::Truth;
use crate::dataset::DataSet;
use crate::engine::Runner;
use crate::engine::budget::check_memory;
use crate::error::{Error, Result};
use crate::files::atomic::sweep;
use crate::model::Model;
use crate::predict::all_embeddings;
use crate::progress::Progress;
use crate::rng::Rng;
use crate::vocabulary::Vocabulary;

/// Stream of the seeds of shuffled pairings.
const SHUFFLES: u64 = 0xD150;

/// What a discovery is of: all that is read before anything is written.
pub(super) struct Inputs<'a> {
    pub data: &'a DataSet,
    pub v: &'a Vocabulary,
    pub options: &'a DiscoverOptions,
    groups: Vec<Group>,
    /// The cells of all groups, group by group.
    pub cells: Vec<u32>,
    truth: Option<Truth>,
    tf: Vec<TfTrack>,
    /// `[P]` share of G and C.
    gc: Vec<Option<f64>>,
}

impl<'a> Inputs<'a> {
    /// Reads and checks.
    ///
    /// # Errors
    /// Data that lack a modality, a cell type or room; known links or binding sites of which none can be used.
    pub fn read(runner: Option<&Runner<'_>>, data: &'a DataSet, options: &'a DiscoverOptions) -> Result<Self> {
        data.need_both("discovery")?;
        if let Some(runner) = runner {
            check_memory("a discovery", runner.model(), data, options.batch_size, 0)?;
        }
        let v = data.vocabulary();
        let groups = groups(v, data.n_cells(), options.cell_types.as_deref())?;
        let (truth, tf) = options.compared(v)?;
        let cells = groups.iter().flat_map(|g| g.cells.iter().copied()).collect();
        Ok(Inputs { data, v, options, groups, cells, truth, tf, gc: gc(data) })
    }

    fn strata(&self, of: &Detected) -> Strata<'a> {
        Strata::new(self.v, &of.genes, &of.peaks, &self.gc)
    }
}

/// Removes what a killed discovery has left in `out` on the way to a file, and its parts unless they are to be taken up.
pub(super) fn clear(out: &Path, parts: &Path, resume: bool) -> Result<()> {
    let tables = ["links.tsv", "links-untested.tsv", "replicates.tsv"];
    let others = ["attention.h5", "attention.tsv", "peaks.tsv", "genes.tsv", "discover.json"];
    for file in tables.into_iter().chain(others).chain(ATTENTION_TRACKS) {
        sweep(&out.join(file))?;
    }
    for file in tables {
        sweep(&out.join(format!("{file}.gz")))?;
    }
    if resume { Ok(()) } else { remove(parts) }
}

/// The attention of all cells, on disk.
pub(super) struct Attended {
    own: Parts,
    /// That of each pass over shuffled pairings.
    shuffled: Vec<Parts>,
    /// Cells found done.
    pub resumed: u64,
}

/// Computes the attention of every cell, and of shuffled pairings, in parts below the folder `parts`.
pub(super) fn attend(
    inputs: &Inputs<'_>,
    runner: &mut Runner<'_>,
    parts: &Path,
    progress: &dyn Progress,
) -> Result<Attended> {
    let Inputs { data, options, groups, cells, .. } = inputs;
    let (n, passes) = (cells.len() as u64, options.passes());
    let mut pass = |name: &str, pairings: &[Vec<Pairing>], before: u64| {
        let parts = Parts::new(parts.join(name), pairings, runner, data);
        let found = parts.compute(runner, data, options.batch_size, (before, n * passes), progress)?;
        Ok::<_, Error>((parts, found))
    };
    let own: Vec<Vec<Pairing>> = groups.iter().map(|g| g.cells.iter().map(|&c| (c, c)).collect()).collect();
    let (own, mut resumed) = pass("cells", &own, 0)?;
    let mut shuffled = Vec::new();
    for k in 0..passes - 1 {
        let mut atac = cells.clone();
        Rng::new(options.seed, SHUFFLES + k).shuffle(&mut atac);
        let mut atac = atac.into_iter();
        let pairings: Vec<Vec<Pairing>> =
            groups.iter().map(|g| g.cells.iter().copied().zip(atac.by_ref()).collect()).collect();
        let (parts, found) = pass(&format!("shuffled-{k}"), &pairings, (k + 1) * n)?;
        resumed += found;
        shuffled.push(parts);
    }
    Ok(Attended { own, shuffled, resumed })
}

/// Sums of attention over cells.
pub(super) struct Summed {
    pub maps: Maps,
    /// Over all cells, sorted by (gene, peak).
    pub links: Vec<Link>,
    /// Among all cells.
    pub detected: Detected,
    /// Tables of all cells, and of each type.
    pub all: LinkFile,
    pub cell_types: Vec<LinkFile>,
}

/// Sums attention over the cells of each type and over all, tests the links, and writes their tables and tracks into
/// `out`; then every cell goes to `writer`, in the order of the data set.
pub(super) fn sum(
    inputs: &Inputs<'_>,
    attended: &Attended,
    writer: &mut AttentionWriter,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Summed> {
    let Inputs { data, v, options, groups, cells, .. } = inputs;
    let names = file_names(&groups.iter().filter_map(|g| g.cell_type.clone()).collect::<Vec<_>>());
    let folder = PathBuf::from("attention");
    let mut all = LinkTable::new();
    let mut null_of_all: Vec<LinkTable> = attended.shuffled.iter().map(|_| LinkTable::new()).collect();
    let mut detected = Detected::none(v);
    let (mut cell_types, mut types) = (Vec::new(), Vec::new());
    for (i, group) in groups.iter().enumerate() {
        let mut table = LinkTable::new();
        attended.own.for_each(i, progress, |_, pairs| {
            table.add_cell(pairs);
            Ok(())
        })?;
        let mut null = Vec::new();
        for (parts, of_all) in attended.shuffled.iter().zip(&mut null_of_all) {
            let mut table = LinkTable::new();
            parts.for_each(i, progress, |_, pairs| {
                table.add_cell(pairs);
                Ok(())
            })?;
            null.extend_from_slice(table.links());
            of_all.merge(&mut table);
        }
        let of_type = Detected::of(data, &group.cells);
        detected.add(&of_type);
        if let Some(name) = &group.cell_type {
            let dir = out.join(&folder);
            std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, "create", e))?;
            // Of a few cells no statistic says anything.
            let null_of = if group.cells.len() < FEWEST { Null::None } else { options.null };
            let (links, tests) = tested(options, null_of, &inputs.strata(&of_type), table.links(), &null);
            let map = TypeMap {
                name: name.clone(),
                file_stem: names[i].clone(),
                cells: group.cells.len() as u64,
                ..untitled(v, table.links(), links)
            };
            let file = folder.join(format!("{}.tsv", names[i]));
            cell_types.push(LinkFile::write(&map, tests, file, out, v)?);
            types.push(TypeMap { links: Vec::new(), ..map });
        }
        all.merge(&mut table);
    }
    attended.own.in_order(progress, |cell, pairs| writer.push(cell, pairs))?;
    progress.check(KEPT)?;
    let links = all.into_links();
    let null: Vec<Link> = null_of_all.into_iter().flat_map(LinkTable::into_links).collect();
    let (stats, tests) = tested(options, options.null, &inputs.strata(&detected), &links, &null);
    let map = TypeMap {
        name: "all".into(),
        file_stem: "attention".into(),
        cells: cells.len() as u64,
        ..untitled(v, &links, stats)
    };
    let all = LinkFile::write(&map, tests, "attention.tsv".into(), out, v)?;
    let maps = Maps { all: map, types };
    maps.write_tracks(out, ATTENTION_TRACKS, v)?;
    Ok(Summed { maps, links, detected, all, cell_types })
}

/// Cells that a type needs for its attention to be tested.
const FEWEST: usize = 10;

/// Links with their statistics against the null `kind`, by falling score, and the number of pairs tested. See docs/model.md,
/// section 8.4.
fn tested(
    options: &DiscoverOptions,
    kind: Null,
    strata: &Strata<'_>,
    links: &[Link],
    null: &[Link],
) -> (Vec<LinkStat>, u64) {
    let (mut stats, tests) = match kind {
        Null::Matched => strata.matched(links, options.window),
        Null::Shuffled => strata.shuffled(links, null, options.passes() - 1),
        Null::None => (links.iter().map(plain).collect(), 0),
    };
    stats.par_sort_by(|a, b| b.score.total_cmp(&a.score).then((a.gene, a.peak).cmp(&(b.gene, b.peak))));
    (stats, tests)
}

/// A map without a name: links, sorted by (gene, peak), along peaks and genes, and with their statistics.
fn untitled(v: &Vocabulary, links: &[Link], stats: Vec<LinkStat>) -> TypeMap {
    let (mut peaks, mut genes) = (vec![0.0; v.peaks.len()], vec![0.0; v.genes.len()]);
    for l in links {
        peaks[l.peak as usize] += l.weight;
        genes[l.gene as usize] += l.weight;
    }
    TypeMap { name: String::new(), file_stem: String::new(), cells: 0, links: stats, peaks, genes }
}

/// Compares links, and attention where there is a model, with binding sites, and writes both tables; `None` without sites.
pub(super) fn compare_sites(
    inputs: &Inputs<'_>,
    summed: Option<&Summed>,
    links: &Maps,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Option<TfComparison>> {
    let Inputs { data, v, options, tf, cells, .. } = inputs;
    if tf.is_empty() {
        return Ok(None);
    }
    let peaks = match summed {
        Some(s) => s.detected.peaks.clone(),
        None => Detected::of(data, cells).peaks,
    };
    let strata = PeakStrata::new(v, &peaks, &inputs.gc)?;
    let against = |maps: &Maps| compare(tf, maps, &strata, options.tf_permutations, options.seed, progress);
    let mut compared = against(&links.of_all(EVIDENCE))?;
    compared.evidence = std::mem::take(&mut compared.rows);
    if let Some(summed) = summed {
        compared.rows = against(&summed.maps)?.rows;
    }
    compared.write(&out.join("tf.tsv"))?;
    write_tracks(&out.join("tf-peaks.tsv"), v, tf)?;
    Ok(Some(compared))
}

/// Writes the links in the forms asked for, below `out/exports`; `discovery.h5ad` carries attention, and the embedding of all
/// cells, where there is a model.
pub(super) fn export(
    inputs: &Inputs<'_>,
    runner: Option<&mut Runner<'_>>,
    links: &Maps,
    attention: Option<&Maps>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Export>> {
    let Inputs { data, v, options, .. } = inputs;
    if options.exports.is_empty() {
        return Ok(Vec::new());
    }
    let folder = out.join("exports");
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
    let mut made = write_maps(&folder, v, links, &options.exports, options.chrom_names, progress)?;
    if options.exports.contains(&Format::H5ad) {
        let mut meta = vec![
            ("version", env!("CARGO_PKG_VERSION").to_string()),
            ("data_hash", data.hash().to_string()),
            ("seed", options.seed.to_string()),
        ];
        let embedded = match runner {
            None => None,
            Some(runner) => {
                let config = serde_json::to_string(&runner.model().config)
                    .map_err(|e| Error::Internal(format!("model configuration: {e}")))?;
                meta.push(("model", config));
                let width = 2 * runner.model().config.hidden;
                Some((width, all_embeddings(runner, data, options.batch_size, progress)?))
            }
        };
        let embedding = embedded.as_ref().map(|(width, values)| h5ad::Embedding { width: *width, values });
        let meta: Vec<(&str, &str)> = meta.iter().map(|(k, x)| (*k, x.as_str())).collect();
        made.push(h5ad::write_h5ad(&folder.join("discovery.h5ad"), v, links, attention, embedding, &meta)?);
    }
    for export in &mut made {
        if let Ok(inner) = export.file.strip_prefix(out) {
            export.file = inner.to_path_buf();
        }
    }
    Ok(made)
}

/// Scores of pairs that a model has whatever the cells.
pub(super) struct OfModel {
    product: ByProduct,
    /// Of the cis term; none without one.
    cis: Vec<ByTable>,
}

impl OfModel {
    /// Of a model whose genes and peaks so many of `cells` have.
    pub fn new(model: &Model<f32>, detected: &Detected, cells: usize) -> Self {
        let product = by_product(model);
        OfModel { cis: by_cis(model, &product, detected, cells), product }
    }

    /// The columns that the links get besides their own: summed attention, and the cis term.
    pub fn columns<'a>(&'a self, links: &'a [Link]) -> Vec<(&'a str, &'a [Link])> {
        let of_cis = self.cis.iter().map(|t| (t.name, t.links.as_slice()));
        std::iter::once(("attention", links)).chain(of_cis).collect()
    }
}

/// How well each score finds the known links, and its table; `None` without known links.
pub(super) fn recover_known(
    inputs: &Inputs<'_>,
    of_model: Option<(&[Link], &OfModel)>,
    evidence: &Evidence,
    cells: Cells<'_>,
    out: &Path,
) -> Result<Option<Recovery>> {
    let Inputs { v, options, truth: Some(truth), .. } = inputs else { return Ok(None) };
    let correlation = ByCorrelation::new(v, cells.numbers, cells.read);
    let (by_evidence, by_part) = (ByEvidence::new(evidence, v), by_part(evidence));
    let (distance, chance) = (ByDistance(v), ByChance { seed: options.seed });
    let of_attention = match of_model {
        None => None,
        Some((links, _)) => {
            let both = co_occurrence(v, links, cells)?;
            let quotient = |(l, &n): (&Link, &u32)| Link { weight: l.weight / f64::from(n.max(1)), ..*l };
            let links_per_cell = links.iter().zip(&both).map(quotient).collect();
            Some((BySum(links), ByTable { name: "attention per cell with both", links: links_per_cell }))
        }
    };
    let mut scorers: Vec<&dyn PairScorer> = vec![&by_evidence];
    scorers.extend(by_part.iter().map(|t| t as &dyn PairScorer));
    let of_data: [&dyn PairScorer; 3] = [&correlation, &distance, &chance];
    scorers.extend(of_data);
    if let (Some((sum, per_cell)), Some((_, of_model))) = (&of_attention, of_model) {
        let by_attention: [&dyn PairScorer; 3] = [sum, per_cell, &of_model.product];
        scorers.extend(by_attention);
        scorers.extend(of_model.cis.iter().map(|t| t as &dyn PairScorer));
    }
    let recovery = recover(v, truth, &scorers, cells.progress)?;
    write_recovery(&out.join("recovery.tsv"), &recovery)?;
    Ok(Some(recovery))
}
