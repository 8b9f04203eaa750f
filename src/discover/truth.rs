//! Known gene–peak links: eQTLs, promoter-capture Hi-C, CRISPRi and the like, brought onto the genes and peaks of a
//! data set, and how well scores find them by distance.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::links::Link;
use super::maps::TypeMap;
use super::places::{Chromosomes, Overlaps, columns, each_line, interval};
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// Bases on both sides of a TSS within which an end of a BEDPE line lies at the gene, unless told otherwise.
pub const TSS_WINDOW: i64 = 1000;
/// Most links that a file may come to.
const MAX_LINKS: usize = 50_000_000;
const FIX: &str = "give a tab-separated table with the columns gene and peak, or gene, chrom, start and end, or a BEDPE \
                   file";

/// Known links, as indices of a data set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Truth {
    /// (gene, peak), sorted, distinct, of equal chromosome.
    pub links: Vec<(u32, u32)>,
    /// Distinct links of the file whose gene or peak the data set lacks.
    pub missing: u64,
    /// Distinct links of the file whose gene and peak are not on one (known) chromosome.
    pub off_chromosome: u64,
}

/// The form of a file of links.
enum Form {
    /// Columns of the gene and of the peak's name.
    Names(usize, usize),
    /// Columns of the gene, chromosome, start and end.
    Places([usize; 4]),
    Bedpe,
}

/// What is read, and what it was read onto.
struct Reading<'v> {
    v: &'v Vocabulary,
    genes: HashMap<&'v str, u32>,
    peaks: HashMap<&'v str, u32>,
    chromosomes: Chromosomes<'v>,
    overlaps: Overlaps,
    tss: Overlaps,
    truth: Truth,
    /// Links beyond which they are sorted and duplicates dropped.
    settle_at: usize,
    /// Hashes of what could not be used, to count it once.
    unusable: HashSet<u64>,
    /// Lines with places, and those among them on no chromosome of the data.
    placed: u64,
    unplaced: u64,
}

impl<'v> Reading<'v> {
    fn add(&mut self, gene: u32, peak: u32, what: &str) {
        let chrom = self.v.genes[gene as usize].chrom;
        if chrom == self.v.peaks[peak as usize].chrom && Some(chrom) != self.v.unknown {
            self.truth.links.push((gene, peak));
        } else if self.unusable.insert(xxh3_64(what.as_bytes())) {
            self.truth.off_chromosome += 1;
        }
    }

    fn miss(&mut self, what: &str) {
        if self.unusable.insert(xxh3_64(what.as_bytes())) {
            self.truth.missing += 1;
        }
    }

    fn settle(&mut self) {
        self.truth.links.sort_unstable();
        self.truth.links.dedup();
        self.settle_at = 2 * self.truth.links.len() + (1 << 20);
    }

    fn chromosome(&mut self, name: &str) -> Option<u32> {
        self.placed += 1;
        let found = self.chromosomes.find(name);
        self.unplaced += u64::from(found.is_none());
        found
    }

    /// Peaks that overlap a place.
    fn peaks_at(&self, (chrom, start, end): (u32, i64, i64)) -> Vec<u32> {
        let mut found = Vec::new();
        self.overlaps.each(chrom, start, end, |p| found.push(p));
        found
    }

    /// Genes whose TSS, give or take the window, overlaps a place.
    fn genes_at(&self, (chrom, start, end): (u32, i64, i64)) -> Vec<u32> {
        let mut found = Vec::new();
        self.tss.each(chrom, start, end, |g| found.push(g));
        found
    }

    /// A line gene, chromosome, start, end.
    fn place(&mut self, fields: [&str; 4]) -> Result<(), String> {
        let [gene, chrom, start, end] = fields;
        let (start, end) = interval(start, end)?;
        let found = self.chromosome(chrom).map_or(vec![], |chrom| self.peaks_at((chrom, start, end)));
        let what = fields.join("\t");
        match self.genes.get(gene) {
            Some(&g) if !found.is_empty() => found.into_iter().for_each(|p| self.add(g, p, &what)),
            _ => self.miss(&what),
        }
        Ok(())
    }

    /// A line of BEDPE.
    fn bedpe(&mut self, fields: &[&str]) -> Result<(), String> {
        let mut ends = [None; 2];
        for (end, at) in ends.iter_mut().zip([0, 3]) {
            // BEDPE writes an unknown end as `.`, -1, -1.
            if fields[at] == "." || (fields[at + 1] == "-1" && fields[at + 2] == "-1") {
                continue;
            }
            let (start, stop) = interval(fields[at + 1], fields[at + 2])?;
            *end = self.chromosome(fields[at]).map(|chrom| (chrom, start, stop));
        }
        let what = fields[..fields.len().min(7)].join("\t");
        let peaks = ends.map(|e| e.map_or(vec![], |e| self.peaks_at(e)));
        let mut pairs = Vec::new();
        if let Some(&g) = fields.get(6).and_then(|name| self.genes.get(name)) {
            let at_gene = ends.map(|e| e.is_some_and(|e| self.genes_at(e).contains(&g)));
            let both = at_gene[0] == at_gene[1];
            for side in 0..2 {
                if both || !at_gene[side] {
                    pairs.extend(peaks[side].iter().map(|&p| (g, p)));
                }
            }
        } else {
            for side in 0..2 {
                let genes = ends[1 - side].map_or(vec![], |e| self.genes_at(e));
                pairs.extend(genes.iter().flat_map(|&g| peaks[side].iter().map(move |&p| (g, p))));
            }
        }
        if pairs.is_empty() {
            self.miss(&what);
        }
        pairs.into_iter().for_each(|(g, p)| self.add(g, p, &what));
        Ok(())
    }
}

/// Tells the form of a file by its header or first line, and whether that is data already.
fn form(path: &Path, line: &str) -> Result<(Form, bool)> {
    let fields = columns(line);
    let number = |at: usize| fields.get(at).is_some_and(|f| f.parse::<i64>().is_ok());
    if fields.len() >= 6 && [1, 2, 4, 5].into_iter().all(number) {
        return Ok((Form::Bedpe, true));
    }
    let find = |names: &[&str]| fields.iter().position(|f| names.iter().any(|n| f.eq_ignore_ascii_case(n)));
    if let (Some(_), Some(_), None) =
        (find(&["chrom1", "chr1", "chromosome1"]), find(&["start1", "x1"]), find(&["gene"]))
    {
        return Ok((Form::Bedpe, false));
    }
    let column =
        |name: &str| find(&[name]).ok_or_else(|| Error::input(path, format!("its header has no column `{name}`"), FIX));
    let gene = column("gene")?;
    match (find(&["peak"]), find(&["chrom", "chr"]), find(&["start"]), find(&["end"])) {
        (None, Some(chrom), Some(start), Some(end)) => Ok((Form::Places([gene, chrom, start, end]), false)),
        _ => Ok((Form::Names(gene, column("peak")?), false)),
    }
}

impl Truth {
    /// [`Truth::read_with`] a window of [`TSS_WINDOW`] bases.
    ///
    /// # Errors
    /// Those of [`Truth::read_with`].
    pub fn read(path: &Path, v: &Vocabulary) -> Result<Truth> {
        Self::read_with(path, v, TSS_WINDOW)
    }

    /// Reads known links, plain or gzip, in one of three forms; other columns are ignored:
    /// * a tab-separated table with a header that names the columns `gene` and `peak`, both as in the data;
    /// * the same with `gene`, `chrom`, `start` and `end` (0-based, half-open): a link to every peak that shares a base;
    /// * BEDPE. Where column 7 names a gene of the data, a link from it to every peak at an end that is not at its TSS
    ///   (at either end, if both or neither are). Else from every gene with a TSS at one end, give or take `window`
    ///   bases, to every peak at the other.
    ///
    /// # Errors
    /// A table without these columns; a line with too few columns, or with a place that is none, is empty or turned
    /// round; a file of which no link remains, or that comes to more than 50 million.
    pub fn read_with(path: &Path, v: &Vocabulary, window: i64) -> Result<Truth> {
        let mut reading = Reading {
            v,
            genes: v.genes.iter().enumerate().map(|(i, g)| (g.name.as_str(), i as u32)).collect(),
            peaks: v.peaks.iter().enumerate().map(|(i, p)| (p.name.as_str(), i as u32)).collect(),
            chromosomes: Chromosomes::new(v),
            overlaps: Overlaps::of_peaks(v),
            tss: Overlaps::of_tss(v, window.max(0)),
            truth: Truth::default(),
            settle_at: 1 << 20,
            unusable: HashSet::new(),
            placed: 0,
            unplaced: 0,
        };
        // A header may be a comment, as `#gene<TAB>peak`.
        let comment = std::cell::RefCell::new(None);
        let header = |line: &str| {
            let width = columns(line).len();
            *comment.borrow_mut() = form(path, line).ok().filter(|(_, data)| !data).map(|(form, _)| (form, width));
        };
        let mut known: Option<(Form, usize)> = None;
        each_line(path, FIX, header, |number, line| {
            let fields = columns(line);
            if known.is_none() {
                match (form(path, line), comment.take()) {
                    (Ok((form, data)), _) => {
                        known = Some((form, fields.len()));
                        if !data {
                            return Ok(());
                        }
                    }
                    (Err(_), Some(header)) => known = Some(header),
                    (Err(e), None) => return Err(e),
                }
            }
            let Some((form, width)) = &known else { return Ok(()) };
            let wrong = |what: String| Error::input(path, format!("line {number} {what}"), "mend or remove that line");
            let short = || wrong(format!("has {} columns of {width}", fields.len()));
            match form {
                Form::Names(gene, peak) => {
                    let (Some(&gene), Some(&peak)) = (fields.get(*gene), fields.get(*peak)) else {
                        return Err(short());
                    };
                    match (reading.genes.get(gene), reading.peaks.get(peak)) {
                        (Some(&g), Some(&p)) => reading.add(g, p, &format!("{gene}\t{peak}")),
                        _ => reading.miss(&format!("{gene}\t{peak}")),
                    }
                }
                Form::Places(at) => {
                    if at.iter().any(|&a| a >= fields.len()) {
                        return Err(short());
                    }
                    reading.place(at.map(|a| fields[a])).map_err(wrong)?;
                }
                Form::Bedpe if fields.len() < 6 => return Err(short()),
                Form::Bedpe => reading.bedpe(&fields).map_err(wrong)?,
            }
            if reading.truth.links.len() > reading.settle_at {
                reading.settle();
                if reading.truth.links.len() > MAX_LINKS {
                    return Err(Error::input(
                        path,
                        format!("it comes to more than {MAX_LINKS} links by line {number}"),
                        "give narrower intervals",
                    ));
                }
            }
            Ok(())
        })?;
        if known.is_none() {
            form(path, "")?; // says what is lacking
        }
        reading.settle();
        let truth = reading.truth;
        if truth.links.is_empty() {
            if reading.placed > 0 && reading.placed == reading.unplaced {
                return Err(reading.chromosomes.none_known(path));
            }
            return Err(Error::input(
                path,
                format!(
                    "none of its {} links can be used ({} name a gene or peak that the data lack, {} are between \
                     chromosomes)",
                    truth.missing + truth.off_chromosome,
                    truth.missing,
                    truth.off_chromosome
                ),
                "name genes and peaks as in the var_names of the data",
            ));
        }
        Ok(truth)
    }
}

/// The links of a map, sorted by (gene, peak), as [`BySum`](crate::discover::BySum) takes them.
pub fn sums(map: &TypeMap) -> Vec<Link> {
    let link = |l: &super::maps::LinkStat| Link { gene: l.gene, peak: l.peak, weight: l.score, cells: l.cells };
    let mut links: Vec<Link> = map.links.iter().map(link).collect();
    links.sort_unstable_by_key(|l| (l.gene, l.peak));
    links
}
