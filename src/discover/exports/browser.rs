//! Links for genome browsers: BEDPE, UCSC interact, WashU longrange.

use std::io::Write;
use std::path::Path;

use super::chrom_names::ChromNames;
use super::export::Export;
use super::fields::{chrom, number, token};
use crate::discover::maps::{LinkStat, TypeMap};
use crate::error::Result;
use crate::files::atomic::write_atomic;
use crate::vocabulary::Vocabulary;

/// A link with both ends on one known chromosome.
struct Placed<'a> {
    link: &'a LinkStat,
    chrom: &'a str,
    peak: (i64, i64),
    tss: (i64, i64),
}

impl Placed<'_> {
    fn span(&self) -> (i64, i64) {
        (self.peak.0.min(self.tss.0), self.peak.1.max(self.tss.1))
    }
}

/// Names of the chromosomes, by number.
fn chroms(v: &Vocabulary, names: ChromNames) -> Vec<Option<String>> {
    (0..v.chromosomes.len() as u32).map(|c| chrom(v, c, names)).collect()
}

/// The links that can be drawn.
fn placed<'a>(v: &Vocabulary, links: &'a [LinkStat], chroms: &'a [Option<String>]) -> Vec<Placed<'a>> {
    let place = |link: &'a LinkStat| {
        let (g, p) = (v.genes.get(link.gene as usize)?, v.peaks.get(link.peak as usize)?);
        let tss = g.tss.filter(|&t| t >= 0)?;
        let chrom = chroms.get(p.chrom as usize)?.as_deref()?;
        let sound = link.score.is_finite() && g.chrom == p.chrom && p.start >= 0 && p.start < p.end;
        sound.then_some(Placed { link, chrom, peak: (p.start, p.end), tss: (tss, tss + 1) })
    };
    links.iter().filter_map(place).collect()
}

fn export(path: &Path, links: &[LinkStat], placed: &[Placed<'_>]) -> Export {
    Export { file: path.to_path_buf(), written: placed.len() as u64, left_out: (links.len() - placed.len()) as u64 }
}

/// Writes BEDPE: a header line `#chrom1 start1 end1 chrom2 start2 end2 name score`, then a line a link: the peak, the
/// TSS, the gene's name and the score as it is.
///
/// # Errors
/// A file that cannot be written.
pub fn write_bedpe(path: &Path, v: &Vocabulary, map: &TypeMap, names: ChromNames) -> Result<Export> {
    let chroms = chroms(v, names);
    let mut links = placed(v, &map.links, &chroms);
    links.sort_by_key(|l| (l.chrom, l.peak, l.tss, l.link.gene, l.link.peak));
    write_atomic(path, |out| {
        writeln!(out, "#chrom1\tstart1\tend1\tchrom2\tstart2\tend2\tname\tscore")?;
        for l in &links {
            let gene = token(&v.genes[l.link.gene as usize].name);
            let (c, p, t) = (l.chrom, l.peak, l.tss);
            writeln!(out, "{c}\t{}\t{}\t{c}\t{}\t{}\t{gene}\t{}", p.0, p.1, t.0, t.1, number(l.link.score))?;
        }
        Ok(())
    })?;
    Ok(export(path, &map.links, &links))
}

/// Writes a UCSC interact track (bed5+13), source the peak and target the TSS: `score` is 1000 times the link's share
/// of the highest score, `value` the score as it is, `exp` the cell type; links of q above 0.1, the usual bound, are grey.
///
/// # Errors
/// A file that cannot be written.
pub fn write_interact(path: &Path, v: &Vocabulary, map: &TypeMap, names: ChromNames) -> Result<Export> {
    let chroms = chroms(v, names);
    let mut links = placed(v, &map.links, &chroms);
    links.sort_by_key(|l| (l.chrom, l.span(), l.link.gene, l.link.peak));
    let highest = links.iter().map(|l| l.link.score).fold(0.0, f64::max);
    // Within quotes, so that these may not hold any.
    let title = map.name.replace(|c: char| c.is_control() || c == '"' || c == '\'', " ");
    let cell_type = token(&map.name);
    write_atomic(path, |out| {
        writeln!(
            out,
            "track type=interact name=\"sccrossrec {title}\" description=\"Gene-peak links of {title}\" \
             interactDirectional=true maxHeightPixels=200:100:50 visibility=full"
        )?;
        for l in &links {
            let (start, end) = l.span();
            let gene = token(&v.genes[l.link.gene as usize].name);
            let peak = token(&v.peaks[l.link.peak as usize].name);
            let share = if highest > 0.0 { (l.link.score / highest).clamp(0.0, 1.0) } else { 0.0 };
            let color = if l.link.qvalue > 0.1 { "160,160,160" } else { "31,119,180" };
            let (c, p, t) = (l.chrom, l.peak, l.tss);
            writeln!(
                out,
                "{c}\t{start}\t{end}\t{}\t{:.0}\t{}\t{cell_type}\t{color}\t{c}\t{}\t{}\t{peak}\t.\t{c}\t{}\t{}\t{gene}\t.",
                token(&format!("{peak}/{gene}")),
                1000.0 * share,
                number(l.link.score),
                p.0,
                p.1,
                t.0,
                t.1,
            )?;
        }
        Ok(())
    })?;
    Ok(export(path, &map.links, &links))
}

/// Writes a WashU longrange track: chromosome, start, end and `chromosome:start-end,score`, a line from each end of a
/// link to the other.
///
/// # Errors
/// A file that cannot be written.
pub fn write_longrange(path: &Path, v: &Vocabulary, map: &TypeMap, names: ChromNames) -> Result<Export> {
    let chroms = chroms(v, names);
    let links = placed(v, &map.links, &chroms);
    let mut lines: Vec<_> =
        links.iter().flat_map(|l| [(l.chrom, l.peak, l.tss, l.link), (l.chrom, l.tss, l.peak, l.link)]).collect();
    lines.sort_by_key(|&(c, from, to, l)| (c, from, to, l.gene, l.peak));
    write_atomic(path, |out| {
        for (c, from, to, l) in &lines {
            writeln!(out, "{c}\t{}\t{}\t{c}:{}-{},{}", from.0, from.1, to.0, to.1, number(l.score))?;
        }
        Ok(())
    })?;
    Ok(export(path, &map.links, &links))
}
