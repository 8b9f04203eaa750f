//! Regulation read back: the attention of every cell, its sums over cell types, and how well it finds known links.

pub mod attention;
pub mod evidence;
pub mod exports;
pub mod links;
pub mod maps;
pub mod null;
pub mod open;
pub mod parts;
pub mod places;
pub mod record;
pub mod recovery;
pub mod scores;
pub mod stages;
pub mod stop;
pub mod tf;
pub mod truth;

use std::path::{Path, PathBuf};

use crate::dataset::{Cell, DataSet};
use crate::engine::Runner;
use crate::error::{Error, Result};
use crate::files::atomic::{Lock, sweep, write_text};
use crate::rng::Rng;
use evidence::Evidence;
use exports::{ChromNames, Format};
use maps::{Maps, TypeMap};
use null::{Null, Strata};
use parts::{Pairing, Parts};
use record::{Discovery, LinkFile, earlier, file_names, remove_earlier};
use scores::{by_cis, by_product};
use stages::{detected, export, gc, groups, map_of};
use tf::{PeakStrata, TfFile, TfTrack};

pub use attention::{AttentionWriter, Pair, VERSION as ATTENTION_VERSION};
pub use links::{Link, LinkScore, LinkTable};
pub use open::Found;
pub use recovery::{NEAR, Recovered, Recovery, recover};
pub use scores::{ByChance, ByCorrelation, ByDistance, ByProduct, BySum, ByTable, Measure, PairScorer};
pub use truth::Truth;

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
            seed: crate::rng::DEFAULT_SEED,
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
        Error::Interrupted { code, .. } if attention => Error::Interrupted { code, saved: stop::KEPT.into() },
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
    crate::engine::room::check_memory("a discovery", runner.model(), data, options.batch_size, 0)?;
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
    stop::go_on()?;
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
    stop::go_on()?;
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
        recovery::write_recovery(&out.join("recovery.tsv"), recovery)?;
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

/// Folder of the parts of a discovery on its way, in the folder of the discovery.
pub(crate) const PARTS: &str = ".attention";
/// Stream of the seeds of shuffled pairings.
const SHUFFLES: u64 = 0xD150;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::exports::Export;
    use crate::discover::parts::pairs_of;
    use crate::model::output::Attention;
    use crate::vocabulary::Vocabulary;

    #[test]
    fn types_become_file_names() {
        let types: Vec<String> = ["CD4+ T", "CD4+_T", "a/b", "", "..", "cd4+_t"].map(String::from).to_vec();
        assert_eq!(file_names(&types), ["CD4+_T", "CD4+_T_2", "a_b", "_2", "_3", "cd4+_t_3"]);
    }

    #[test]
    fn a_name_is_one_field() {
        let gene = |name: &str| crate::vocabulary::Gene { name: name.into(), chrom: 0, tss: Some(5) };
        let v = Vocabulary {
            chromosomes: vec!["chr\t1".into()],
            genes: vec![gene("a\tb"), gene("c\nd")],
            peaks: vec![crate::vocabulary::Peak { name: "p\rq".into(), chrom: 0, start: 10, end: 20 }],
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
