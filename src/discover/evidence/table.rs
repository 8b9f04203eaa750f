//! Evidence as tables: `links.tsv`, `links-untested.tsv`, `links/TYPE.tsv`, `replicates.tsv`.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::agreement::Agreement;
use super::by_type::{OfType, TypeSummary};
use super::combine::Choice;
use super::mixture::Mixture;
use super::replicates::ReplicateSummary;
use super::{Evidence, PairEvidence, Selection};
use crate::discover::links::Link;
use crate::discover::maps::{LinkStat, Maps, TypeMap, chromosome, field, file_names, known};
use crate::error::{Error, Result};
use crate::files::atomic::write_atomic;
use crate::files::text::{open_text, text_error};
use crate::vocabulary::{Vocabulary, signed_distance};

/// Columns of `links.tsv`; those of a model may follow.
pub const COLUMNS: [&str; 26] = [
    "chrom",
    "start",
    "end",
    "score",
    "gene",
    "peak",
    "zscore",
    "pvalue",
    "probability",
    "log_odds",
    "qvalue",
    "lfdr",
    "effect",
    "error",
    "effect_low",
    "effect_high",
    "distance",
    "tss",
    "n_cells",
    "z_between",
    "z_within",
    "q_within",
    "replicates",
    "replicates_agree",
    "heterogeneity",
    "cell_types",
];
/// Columns of `links/TYPE.tsv`.
pub const TYPE_COLUMNS: [&str; 22] = [
    "chrom",
    "start",
    "end",
    "score",
    "gene",
    "peak",
    "zscore",
    "pvalue",
    "qvalue",
    "active",
    "activity",
    "gene_log_ratio",
    "peak_log_ratio",
    "gene_cp10k",
    "peak_open",
    "z_within",
    "z_interaction",
    "n_cells",
    "probability",
    "link_qvalue",
    "distance",
    "cell_type",
];
/// Normal quantile of the interval of an effect: 95 %.
const INTERVAL: f64 = 1.96;

/// A number as people read it: four significant digits, with an exponent where it is very small or large; `NaN` where there is
/// none.
pub fn short(x: f64) -> String {
    let size = x.abs();
    match x {
        _ if x.is_nan() => "NaN".into(),
        _ if x.is_infinite() => if x > 0.0 { "Inf" } else { "-Inf" }.into(),
        _ if size == 0.0 => "0".into(),
        _ if !(1e-3..1e6).contains(&size) => format!("{x:.2e}"),
        _ => {
            let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
            let text = format!("{x:.digits$}");
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_string(),
                false => text,
            }
        }
    }
}

/// Writes a table, compressed if its name ends in `.gz`.
pub(crate) fn write_table(path: &Path, text: impl Fn(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let gzip = path.extension().is_some_and(|e| e == "gz");
    write_atomic(path, |out| {
        if !gzip {
            return text(out);
        }
        let mut packed = GzEncoder::new(out, Compression::default());
        text(&mut packed)?;
        packed.finish().map(|_| ())
    })
}

/// The name of a table, compressed or not.
pub(crate) fn named(name: &str, gzip: bool) -> PathBuf {
    PathBuf::from(if gzip { format!("{name}.gz") } else { name.to_string() })
}

/// chrom, start, end of the peak.
fn place(v: &Vocabulary, peak: u32) -> String {
    let p = &v.peaks[peak as usize];
    format!("{}\t{}\t{}", chromosome(v, p.chrom), known(p.start), known(p.end))
}

fn far(v: &Vocabulary, gene: u32, peak: u32) -> String {
    signed_distance(v, gene, peak).map_or(".".into(), |d| format!("{d:.0}"))
}

impl Evidence {
    /// `[pairs]` cell types in which each is active, parted by commas.
    fn active_in(&self) -> Vec<String> {
        let mut types = vec![String::new(); self.pairs.len()];
        for t in &self.by_type {
            for l in t.links.iter().filter(|l| l.active) {
                let list = &mut types[l.pair as usize];
                if !list.is_empty() {
                    list.push(',');
                }
                *list += &field(&t.cell_type);
            }
        }
        types
    }

    fn row(&self, out: &mut dyn Write, v: &Vocabulary, x: &PairEvidence, types: &str) -> io::Result<()> {
        let (g, e) = (&v.genes[x.gene as usize], &x.effect);
        let half = INTERVAL * e.error;
        write!(
            out,
            "{}\t{}\t{}\t{}",
            place(v, x.peak),
            short(x.score),
            field(&g.name),
            field(&v.peaks[x.peak as usize].name)
        )?;
        let numbers = [
            x.zscore,
            x.pvalue,
            x.probability(),
            x.log_odds,
            x.qvalue,
            x.lfdr,
            e.value,
            e.error,
            e.value - half,
            e.value + half,
        ];
        numbers.iter().try_for_each(|&x| write!(out, "\t{}", short(x)))?;
        let tss = g.tss.map_or(".".into(), |t| t.to_string());
        write!(out, "\t{}\t{tss}\t{}", far(v, x.gene, x.peak), x.cells)?;
        [x.z_between, x.z_within, x.q_within].iter().try_for_each(|&x| write!(out, "\t{}", short(x)))?;
        let types = if types.is_empty() { "." } else { types };
        write!(out, "\t{}\t{}\t{}\t{types}", e.replicates, e.agree, short(e.heterogeneity))
    }

    /// Writes `links.tsv`: the columns of [`COLUMNS`], by falling log odds, then those of `more` (spaces become `_`), whose
    /// links are sorted by (gene, peak); 0 for pairs that these lack, `.` where a coordinate is unknown.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path, v: &Vocabulary, more: &[(&str, &[Link])]) -> Result<()> {
        let types = self.active_in();
        write_table(path, |out| {
            write!(out, "{}", COLUMNS.join("\t"))?;
            more.iter().try_for_each(|(name, _)| write!(out, "\t{}", name.replace(' ', "_")))?;
            writeln!(out)?;
            for (x, types) in self.pairs.iter().zip(&types) {
                self.row(out, v, x, types)?;
                for (_, links) in more {
                    let at = links.binary_search_by_key(&(x.gene, x.peak), |l| (l.gene, l.peak));
                    write!(out, "\t{}", short(at.map_or(0.0, |at| links[at].weight)))?;
                }
                writeln!(out)?;
            }
            Ok(())
        })
    }

    /// Writes `links-untested.tsv`: pairs that too few cells have both of, with what their distance alone lets expect.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_untested(&self, path: &Path, v: &Vocabulary) -> Result<()> {
        write_table(path, |out| {
            writeln!(out, "chrom\tstart\tend\tgene\tpeak\tprior_probability\tprior_log_odds\tdistance\tn_cells")?;
            for x in &self.untested {
                let (gene, peak) = (&v.genes[x.gene as usize].name, &v.peaks[x.peak as usize].name);
                writeln!(
                    out,
                    "{}\t{}\t{}\t{}\t{}\t{}\t{}",
                    place(v, x.peak),
                    field(gene),
                    field(peak),
                    short(x.probability()),
                    short(x.log_odds),
                    far(v, x.gene, x.peak),
                    x.cells
                )?;
            }
            Ok(())
        })
    }

    /// Writes `replicates.tsv`: gene, peak, and the effect of each pair in each replicate.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_replicates(&self, path: &Path, v: &Vocabulary) -> Result<()> {
        let Some(replicates) = &self.replicates else { return Ok(()) };
        let r = replicates.names.len();
        write_table(path, |out| {
            let names: Vec<_> = replicates.names.iter().map(|n| field(n)).collect();
            writeln!(out, "gene\tpeak\t{}", names.join("\t"))?;
            for (x, effects) in self.pairs.iter().zip(self.replicate_effects.chunks_exact(r.max(1))) {
                write!(out, "{}\t{}", field(&v.genes[x.gene as usize].name), field(&v.peaks[x.peak as usize].name))?;
                effects.iter().try_for_each(|&e| write!(out, "\t{}", short(f64::from(e))))?;
                writeln!(out)?;
            }
            Ok(())
        })
    }

    /// Writes `links/TYPE.tsv`: the columns of [`TYPE_COLUMNS`], by falling z-score.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_type(&self, path: &Path, v: &Vocabulary, of: &OfType) -> Result<()> {
        let cell_type = field(&of.cell_type);
        write_table(path, |out| {
            writeln!(out, "{}", TYPE_COLUMNS.join("\t"))?;
            for l in &of.links {
                let x = &self.pairs[l.pair as usize];
                let (gene, peak) = (&v.genes[x.gene as usize].name, &v.peaks[x.peak as usize].name);
                write!(out, "{}\t{}\t{}\t{}", place(v, x.peak), short(x.score), field(gene), field(peak))?;
                [l.zscore, l.pvalue, l.qvalue].iter().try_for_each(|&x| write!(out, "\t{}", short(x)))?;
                write!(out, "\t{}", u8::from(l.active))?;
                let numbers = [
                    l.activity,
                    l.gene_log_ratio,
                    l.peak_log_ratio,
                    l.gene_cp10k,
                    l.peak_open,
                    l.z_within,
                    l.z_interaction,
                ];
                numbers.iter().try_for_each(|&x| write!(out, "\t{}", short(x)))?;
                write!(out, "\t{}\t{}\t{}", l.cells, short(x.probability()), short(x.qvalue))?;
                writeln!(out, "\t{}\t{cell_type}", far(v, x.gene, x.peak))?;
            }
            Ok(())
        })
    }

    /// About how many bytes `links.tsv` has where it is not compressed.
    pub(crate) fn bytes(&self) -> u64 {
        /// Of a row, as rows of real data have.
        const ROW: u64 = 170;
        ROW * self.pairs.len() as u64
    }

    /// Writes all tables into the folder `out`, whose folder `links` is made where there are types: `links.tsv` with the
    /// columns of `more`, and the others; each with `.gz` if `gzip`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write_all(
        &self,
        out: &Path,
        v: &Vocabulary,
        more: &[(&str, &[Link])],
        selection: Selection,
        gzip: bool,
    ) -> Result<LinksSummary> {
        let (file, untested_file) = (named("links.tsv", gzip), named("links-untested.tsv", gzip));
        self.write(&out.join(&file), v, more)?;
        self.write_untested(&out.join(&untested_file), v)?;
        let replicates_file = self.replicates.as_ref().map(|_| named("replicates.tsv", gzip));
        if let Some(file) = &replicates_file {
            self.write_replicates(&out.join(file), v)?;
        }
        let names = file_names(&self.by_type.iter().map(|t| t.cell_type.clone()).collect::<Vec<_>>());
        let mut cell_types = Vec::new();
        for (of, name) in self.by_type.iter().zip(names) {
            let folder = out.join("links");
            std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "create", e))?;
            let file = PathBuf::from("links").join(named(&format!("{name}.tsv"), gzip));
            self.write_type(&out.join(&file), v, of)?;
            cell_types.push(TypeSummary {
                cell_type: of.cell_type.clone(),
                cells: u64::from(of.cells),
                links: of.links.len() as u64,
                active: of.links.iter().filter(|l| l.active).count() as u64,
                file,
            });
        }
        let selected = |p: &&PairEvidence| selection.holds(p.qvalue, p.probability());
        Ok(LinksSummary {
            pairs: self.pairs.len() as u64,
            untested: self.untested.len() as u64,
            expected: self.pairs.iter().map(PairEvidence::probability).sum(),
            likely: self.pairs.iter().filter(|p| p.log_odds > 0.0).count() as u64,
            selected: self.pairs.iter().filter(selected).count() as u64,
            selection,
            choice: self.choice.clone(),
            mixture: self.mixture.clone(),
            kinds: self.kinds.clone(),
            typed: self.typed,
            replicates: self.replicates.clone(),
            agreement: self.agreement.clone(),
            draws: self.draws,
            cell_types,
            small_types: self.small_types.clone(),
            notes: self.notes.clone(),
            file,
            untested_file,
            replicates_file,
        })
    }

    /// The links as maps: of all cells those that `selection` holds, of each type those of them that are active in it, by
    /// probability. Tracks along peaks and genes are sums of the probabilities of all pairs, and of a type's active links.
    pub fn maps(&self, v: &Vocabulary, cells: u64, selection: Selection) -> Maps {
        let stat = |p: &PairEvidence| LinkStat {
            gene: p.gene,
            peak: p.peak,
            score: p.probability(),
            cells: p.cells,
            zscore: p.zscore,
            pvalue: p.pvalue,
            qvalue: p.qvalue,
        };
        let names = file_names(&self.by_type.iter().map(|t| t.cell_type.clone()).collect::<Vec<_>>());
        let map = |name: &str,
                   stem: &str,
                   cells: u64,
                   links: Vec<LinkStat>,
                   tracked: &mut dyn Iterator<Item = &PairEvidence>| {
            let (mut peaks, mut genes) = (vec![0.0; v.peaks.len()], vec![0.0; v.genes.len()]);
            // In an order of its own: pairs are sorted by what is summed.
            let mut order: Vec<&PairEvidence> = tracked.collect();
            order.sort_unstable_by_key(|p| (p.peak, p.gene));
            for p in order {
                peaks[p.peak as usize] += p.probability();
                genes[p.gene as usize] += p.probability();
            }
            TypeMap { name: name.into(), file_stem: stem.into(), cells, links, peaks, genes }
        };
        let selected = |p: &&PairEvidence| selection.holds(p.qvalue, p.probability());
        let all = self.pairs.iter().filter(selected).map(stat).collect();
        let of_type = |(t, stem): (&OfType, String)| {
            let mut active: Vec<u32> = t.links.iter().filter(|l| l.active).map(|l| l.pair).collect();
            active.sort_unstable();
            let active = || active.iter().map(|&i| &self.pairs[i as usize]).filter(selected);
            map(&t.cell_type, &stem, u64::from(t.cells), active().map(stat).collect(), &mut active())
        };
        Maps {
            all: map("all", "links", cells, all, &mut self.pairs.iter()),
            types: self.by_type.iter().zip(names).map(of_type).collect(),
        }
    }
}

/// What the columns of a table of links are needed for: place of gene, peak, and numbers.
fn read(
    path: &Path,
    v: &Vocabulary,
    score: &str,
    keep: impl Fn(&dyn Fn(&str) -> Option<f64>) -> bool,
) -> Result<Vec<LinkStat>> {
    let file = std::fs::File::open(path).map_err(|e| Error::io(path, "read", e))?;
    let lines = open_text(path, file)?.lines().zip(1..);
    let mut lines = lines.map(|(line, i)| line.map(|l| (l, i)).map_err(|e| text_error(path, i, e)));
    let genes: HashMap<_, u32> = (0..).zip(&v.genes).map(|(i, g)| (field(&g.name), i)).collect();
    let peaks: HashMap<_, u32> = (0..).zip(&v.peaks).map(|(i, p)| (field(&p.name), i)).collect();
    let header = lines.next().transpose()?.unwrap_or_default().0;
    let header: HashMap<&str, usize> = header.split('\t').zip(0..).collect();
    let fix = "run `discover` again";
    let wanted = ["gene", "peak", score, "zscore", "pvalue", "qvalue", "n_cells"];
    if let Some(missing) = wanted.iter().find(|w| !header.contains_key(*w)) {
        return Err(Error::input(path, format!("its header has no column {missing}"), fix));
    }
    let row = |line: &str| -> Option<Option<LinkStat>> {
        let f: Vec<&str> = line.split('\t').collect();
        let number = |name: &str| f.get(*header.get(name)?)?.parse::<f64>().ok();
        if f.len() != header.len() {
            return None;
        }
        let link = LinkStat {
            gene: *genes.get(f[header["gene"]])?,
            peak: *peaks.get(f[header["peak"]])?,
            score: number(score)?,
            cells: f[header["n_cells"]].parse().ok()?,
            zscore: number("zscore")?,
            pvalue: number("pvalue")?,
            qvalue: number("qvalue")?,
        };
        Some(keep(&number).then_some(link))
    };
    let found = lines.map(|line| {
        let (line, i) = line?;
        row(&line).ok_or_else(|| Error::input(path, format!("line {i} is no link of these data"), fix))
    });
    found.filter_map(Result::transpose).collect()
}

/// Reads `links.tsv`: every pair by falling probability, which is its score.
///
/// # Errors
/// [`Error::Input`] with the line of what cannot be read, or of a name that the vocabulary lacks.
pub fn read_links(path: &Path, v: &Vocabulary) -> Result<Vec<LinkStat>> {
    read(path, v, "probability", |_| true)
}

/// Reads `links/TYPE.tsv`: the links that are active in the type and that `selection` holds, by probability, which is their
/// score; z-score and the like are those of the type.
///
/// # Errors
/// As [`read_links`].
pub fn read_type(path: &Path, v: &Vocabulary, selection: Selection) -> Result<Vec<LinkStat>> {
    let active = |number: &dyn Fn(&str) -> Option<f64>| {
        let link = number("link_qvalue").zip(number("probability"));
        number("active") == Some(1.0) && link.is_some_and(|(q, p)| selection.holds(q, p))
    };
    let mut links = read(path, v, "probability", active)?;
    links.sort_by(|a, b| b.score.total_cmp(&a.score).then((a.gene, a.peak).cmp(&(b.gene, b.peak))));
    Ok(links)
}

/// Links in short.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LinksSummary {
    /// Pairs tested.
    pub pairs: u64,
    /// Pairs within the window that too few cells have both of.
    pub untested: u64,
    /// Sum of the probabilities of those tested; generous where much goes together: claims are made by q.
    pub expected: f64,
    /// Pairs rather a link than not.
    pub likely: u64,
    /// Pairs that count as links: `selection`.
    pub selected: u64,
    /// Which pairs count as links.
    pub selection: Selection,
    /// Weights and components, and why.
    pub choice: Option<Choice>,
    /// The mixture; `shares` by the distance bins of `evidence::bins`, then beyond, then unknown.
    pub mixture: Option<Mixture>,
    /// Kinds that were compared, with their cells.
    pub kinds: Vec<(String, u32)>,
    /// Are these cell types? Else neighbourhoods.
    pub typed: bool,
    /// Replicates.
    pub replicates: Option<ReplicateSummary>,
    /// How well parts of the cells agree.
    pub agreement: Option<Agreement>,
    /// Draws of pairs that are no links.
    pub draws: u64,
    /// Links by cell type.
    pub cell_types: Vec<TypeSummary>,
    /// Cell types with too few cells for that.
    pub small_types: Vec<String>,
    /// What was done otherwise than one might expect.
    pub notes: Vec<String>,
    /// The table, in the folder of the discovery.
    pub file: PathBuf,
    /// The table of pairs not tested.
    pub untested_file: PathBuf,
    /// The table of effects by replicate.
    #[serde(default)]
    pub replicates_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.5, 1.0, -3.512_34, 123.456, 98_765.4, 1.234e-5, 3e9, 0.001_234_5, 1e6];
        let text: Vec<String> = all.iter().map(|&x| short(x)).collect();
        assert_eq!(text, ["0", "0.5", "1", "-3.512", "123.5", "98765", "1.23e-5", "3.00e9", "0.001234", "1.00e6"]);
        assert_eq!((short(f64::NAN), short(f64::NEG_INFINITY)), ("NaN".into(), "-Inf".into()));
    }
}
