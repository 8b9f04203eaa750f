//! Known gene–peak links: eQTLs, promoter-capture Hi-C, CRISPRi and the like, brought onto the genes and peaks of a
//! data set, and how well scores find them by distance.

mod genes;
mod table;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use self::genes::GeneNames;
use self::table::{Form, Layout};
use super::links::Link;
use super::maps::TypeMap;
use super::places::{Chromosomes, Overlaps, each_line, interval};
use crate::data::chromosomes::Aliases;
use crate::data::region::parse_region;
use crate::error::{Error, Result};
use crate::vocabulary::Vocabulary;

/// Bases on both sides of a TSS within which an end of a BEDPE line lies at the gene, unless told otherwise.
pub const TSS_WINDOW: i64 = 1000;
/// Most pairs that a file may come to.
const MAX_PAIRS: usize = 50_000_000;

/// Known links, as indices of a data set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Truth {
    /// (gene, peak), sorted, distinct, of equal chromosome.
    pub links: Vec<(u32, u32)>,
    /// Where the file has tested negatives: all pairs that were tested, the links among them; sorted, distinct, of equal
    /// chromosome. `None`: every pair that is no link counts as none.
    pub tested: Option<Vec<(u32, u32)>>,
    /// Distinct links (and tested negatives) of the file whose gene or peak the data set lacks.
    pub missing: u64,
    /// Distinct links (and tested negatives) of the file whose gene and peak are not on one (known) chromosome.
    pub off_chromosome: u64,
    /// Lines that do not say whether they are a link or a tested negative, where others do.
    pub untested: u64,
    /// Lines that cannot be read, among others that can.
    pub unread: u64,
}

/// What is read, and what it was read onto.
struct Reading<'v> {
    v: &'v Vocabulary,
    genes: GeneNames<'v>,
    peaks: HashMap<&'v str, u32>,
    chromosomes: Chromosomes<'v>,
    overlaps: Overlaps,
    tss: Overlaps,
    truth: Truth,
    /// Tested negatives; links may be among them until the end.
    negatives: Vec<(u32, u32)>,
    /// Whether the line being read is one.
    negative: bool,
    /// Pairs beyond which they are sorted and duplicates dropped.
    settle_at: usize,
    /// Hashes of what could not be used, to count it once.
    unusable: HashSet<u64>,
    /// Lines with places, and those among them on no chromosome of the data.
    placed: u64,
    unplaced: u64,
    /// Lines that are links, and that are tested negatives.
    lines: [u64; 2],
    /// What was wrong with the first line that could not be read.
    wrong: Option<Error>,
}

/// What is wrong with a line.
enum Wrong {
    /// It cannot be read.
    Line(String),
    /// It says neither that it is a link nor that it is none.
    Label(String),
}

impl From<String> for Wrong {
    fn from(what: String) -> Wrong {
        Wrong::Line(what)
    }
}

impl<'v> Reading<'v> {
    fn new(v: &'v Vocabulary, aliases: &'v Aliases, window: i64) -> Self {
        Reading {
            v,
            genes: GeneNames::new(v),
            peaks: v.peaks.iter().enumerate().map(|(i, p)| (p.name.as_str(), i as u32)).collect(),
            chromosomes: Chromosomes::new(v, aliases),
            overlaps: Overlaps::of_peaks(v),
            tss: Overlaps::of_tss(v, window.max(0)),
            truth: Truth::default(),
            negatives: Vec::new(),
            negative: false,
            settle_at: 1 << 20,
            unusable: HashSet::new(),
            placed: 0,
            unplaced: 0,
            lines: [0; 2],
            wrong: None,
        }
    }

    fn add(&mut self, gene: u32, peak: u32, what: &str) {
        let chrom = self.v.genes[gene as usize].chrom;
        if chrom == self.v.peaks[peak as usize].chrom && Some(chrom) != self.v.unknown {
            let pairs = if self.negative { &mut self.negatives } else { &mut self.truth.links };
            pairs.push((gene, peak));
        } else if self.unusable.insert(xxh3_64(what.as_bytes())) {
            self.truth.off_chromosome += 1;
        }
    }

    fn miss(&mut self, what: &str) {
        if self.unusable.insert(xxh3_64(what.as_bytes())) {
            self.truth.missing += 1;
        }
    }

    fn pairs(&self) -> usize {
        self.truth.links.len() + self.negatives.len()
    }

    fn settle(&mut self) {
        for pairs in [&mut self.truth.links, &mut self.negatives] {
            pairs.sort_unstable();
            pairs.dedup();
        }
        self.settle_at = 2 * self.pairs() + (1 << 20);
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

    /// Peaks that overlap a place, on a chromosome by the file's name.
    fn peaks_on(&mut self, chrom: &str, start: i64, end: i64) -> Vec<u32> {
        self.chromosome(chrom).map_or(vec![], |chrom| self.peaks_at((chrom, start, end)))
    }

    /// Genes whose TSS, give or take the window, overlaps a place.
    fn genes_at(&self, (chrom, start, end): (u32, i64, i64)) -> Vec<u32> {
        let mut found = Vec::new();
        self.tss.each(chrom, start, end, |g| found.push(g));
        found
    }

    /// The peak of that name, or those at the place that the name or else these fields are.
    fn peaks_named(&mut self, name: &str, place: Option<[&str; 3]>) -> Vec<u32> {
        if let Some(&p) = self.peaks.get(name) {
            return vec![p];
        }
        if let Some(r) = parse_region(name) {
            return self.peaks_on(&r.chrom, r.start, r.end);
        }
        let place = place.and_then(|[chrom, start, end]| Some((chrom, interval(start, end).ok()?)));
        place.map_or(vec![], |(chrom, (start, end))| self.peaks_on(chrom, start, end))
    }

    /// Links a gene by any of its names to peaks.
    fn link(&mut self, names: &[&str], peaks: Vec<u32>, what: &str) {
        match self.genes.find_noting(names) {
            Some(g) if !peaks.is_empty() => peaks.into_iter().for_each(|p| self.add(g, p, what)),
            _ => self.miss(what),
        }
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
        if let Some(g) = fields.get(6).and_then(|name| self.genes.find(&[name])) {
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

    /// A line of a file; says what is wrong with it.
    fn line(&mut self, layout: &Layout, line: &str) -> Result<(), Wrong> {
        let fields = layout.fields(line)?;
        let fields: Vec<&str> = fields.iter().map(AsRef::as_ref).collect();
        let Some(link) = layout.outcome(&fields).map_err(Wrong::Label)? else {
            self.truth.untested += 1;
            return Ok(());
        };
        self.negative = !link;
        self.lines[usize::from(self.negative)] += 1;
        let names = |at: &[usize]| at.iter().map(|&a| fields[a]).collect::<Vec<_>>();
        match &layout.form {
            Form::Names(genes, peak, place) => {
                let genes = names(genes);
                let field = |at: usize| fields.get(at).copied().unwrap_or_default();
                let found = self.peaks_named(fields[*peak], place.map(|at| at.map(field)));
                self.link(&genes, found, &[genes.join("\t"), fields[*peak].to_string()].join("\t"));
            }
            Form::Places(genes, place) => {
                let (genes, [chrom, start, end]) = (names(genes), place.map(|a| fields[a]));
                let what = [&genes.join("\t"), chrom, start, end].join("\t");
                // Nobody asks where the link of a gene is that the data lack.
                if self.genes.find_noting(&genes).is_none() {
                    self.miss(&what);
                    return Ok(());
                }
                let (from, to) = interval(start, end)?;
                let found = self.peaks_on(chrom, from, to);
                self.link(&genes, found, &what);
            }
            Form::Bedpe => self.bedpe(&fields)?,
        }
        Ok(())
    }

    /// What was read, if it is of any use.
    fn finish(mut self, path: &Path, outcome: Option<&str>) -> Result<Truth> {
        self.settle();
        let [links, negatives] = self.lines;
        let mut truth = self.truth;
        if let Some(wrong) = self.wrong.take().filter(|_| truth.links.is_empty()) {
            return Err(wrong);
        }
        if let (0, Some(column)) = (links, outcome) {
            let (found, fix) = match negatives {
                0 => (format!("its column `{column}` has no value in any line"), "fill it, or leave it out"),
                n => (
                    format!("all of its {n} pairs are negatives by its column `{column}`, and no link is left to find"),
                    "give a table with links, too",
                ),
            };
            return Err(Error::input(path, found, fix));
        }
        // With tested negatives, "links" in a message would be less than is counted.
        let pairs = if negatives > 0 { "tested pairs" } else { "links" };
        let lost = format!(
            "{} name a gene or peak that the data lack, {} are between chromosomes",
            truth.missing, truth.off_chromosome
        );
        if truth.links.is_empty() {
            if self.placed > 0 && self.placed == self.unplaced {
                return Err(self.chromosomes.none_known(path));
            }
            if let Some(e) = self.genes.none_known(path) {
                return Err(e);
            }
            let all = truth.missing + truth.off_chromosome;
            let found = match negatives {
                0 => format!("none of its {all} links can be used ({lost})"),
                _ => format!("none of its links can be used (of its {pairs}, {lost})"),
            };
            return Err(Error::input(path, found, "name genes and peaks as in the var_names of the data"));
        }
        if negatives > 0 {
            let mut tested = self.negatives;
            tested.extend(&truth.links);
            tested.sort_unstable();
            tested.dedup();
            if tested.len() == truth.links.len() {
                return Err(Error::input(
                    path,
                    format!(
                        "none of its tested negatives can be used (of its {pairs}, {lost}; the others are links, too)"
                    ),
                    "name genes and peaks as in the var_names of the data, or leave out the column of negatives to count \
                     every other pair as no link",
                ));
            }
            truth.tested = Some(tested);
        }
        Ok(truth)
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
    /// * a table with a header that names the columns `gene` and `peak`. A peak that goes by no name of the data but is a
    ///   place (`chr1:100-200`, `chr1-100-200`, `chr1_100_200`) is every peak that shares a base with it, whatever parts its words;
    /// * the same with `gene`, `chrom`, `start` and `end` (0-based, half-open): a link to every peak that shares a base;
    /// * BEDPE. Where column 7 names a gene of the data, a link from it to every peak at an end that is not at its TSS
    ///   (at either end, if both or neither are). Else from every gene with a TSS at one end, give or take `window`
    ///   bases, to every peak at the other.
    ///
    /// Columns are parted by tabs, blanks, commas or semicolons, and go by other usual names, too (`gene_name`, `gene_id`,
    /// `measuredGeneSymbol`, `chromStart`, `seqnames`, `element`). A gene is found by any of its columns: exactly, else
    /// but for the version of an Ensembl id, else but for the case.
    ///
    /// A column `Regulated`, `label`, `is_positive`, `positive`, `significant` or `truth` (the first of these that is
    /// there) tells links from tested negatives: true, yes, 1, positive; false, no, 0, negative; a line without a value
    /// is left out. A pair that several lines name is a link if one says so. Without a negative line, every pair that is
    /// no link counts as none.
    ///
    /// # Errors
    /// A table without these columns; a file of which no link remains, or no negative of those that it has, or that comes to
    /// more than 50 million pairs; another value in the column of negatives, as others may be misread as well. A line with too
    /// few columns, or with a place that is none, is empty or turned round is left out and counted, and an error where no link
    /// remains.
    pub fn read_with(path: &Path, v: &Vocabulary, window: i64) -> Result<Truth> {
        Self::read_named(path, v, window, &Aliases::default())
    }

    /// [`Truth::read_with`] further names of chromosomes.
    ///
    /// # Errors
    /// Those of [`Truth::read_with`].
    pub fn read_named(path: &Path, v: &Vocabulary, window: i64, aliases: &Aliases) -> Result<Truth> {
        let mut reading = Reading::new(v, aliases, window);
        // A header may be a comment, as `#gene<TAB>peak`.
        let comment = std::cell::RefCell::new(None);
        let header = |line: &str| {
            *comment.borrow_mut() = Layout::of(path, line).ok().filter(|(_, data)| !data).map(|(layout, _)| layout);
        };
        let mut known: Option<Layout> = None;
        let mut first = false;
        each_line(path, header, |number, line| {
            if known.is_none() {
                match (Layout::of(path, line), comment.take()) {
                    (Ok((layout, true)), header) => {
                        // Both are BEDPE; the header may name a column of negatives.
                        known = header.filter(|h| matches!(h.form, Form::Bedpe)).or(Some(layout));
                    }
                    (Ok((layout, false)), _) => {
                        (known, first) = (Some(layout), true);
                        return Ok(());
                    }
                    (Err(_), Some(header)) => known = Some(header),
                    (Err(e), None) => return Err(e),
                }
            }
            if std::mem::take(&mut first) {
                known = known.take().map(|layout| layout.with_row_names(line));
            }
            let Some(layout) = &known else { return Ok(()) };
            let told = |what: String| Error::input(path, format!("line {number} {what}"), "mend or remove that line");
            match reading.line(layout, line) {
                Ok(()) => {}
                Err(Wrong::Label(what)) => return Err(told(what)),
                Err(Wrong::Line(what)) => {
                    reading.wrong.get_or_insert_with(|| told(what));
                    reading.truth.unread += 1;
                }
            }
            if reading.pairs() > reading.settle_at {
                reading.settle();
                if reading.pairs() > MAX_PAIRS {
                    return Err(Error::input(
                        path,
                        format!("it comes to more than {MAX_PAIRS} pairs by line {number}"),
                        "give narrower intervals",
                    ));
                }
            }
            Ok(())
        })?;
        if known.is_none() {
            Layout::of(path, "")?; // says what is lacking
        }
        let outcome = known.as_ref().and_then(|l| l.outcome.as_ref());
        reading.finish(path, outcome.map(|o| o.1.as_str()))
    }
}

/// The links of a map, sorted by (gene, peak), as [`BySum`](crate::discover::BySum) takes them.
pub fn sums(map: &TypeMap) -> Vec<Link> {
    let link = |l: &super::maps::LinkStat| Link { gene: l.gene, peak: l.peak, weight: l.score, cells: l.cells };
    let mut links: Vec<Link> = map.links.iter().map(link).collect();
    links.sort_unstable_by_key(|l| (l.gene, l.peak));
    links
}
