//! The form of a table of known links: what parts its columns, and which of them tell gene, peak, place and outcome.

use std::borrow::Cow;
use std::path::Path;

use crate::data::table::Separator;
use crate::error::{Error, Result};

/// What to do about a table whose columns are not those needed.
pub(super) const FIX: &str = "give a table with the columns gene and peak, or gene, chrom, start and end, or a BEDPE \
                              file";

/// Names of columns, as [`plain`] makes them. Of a gene, all that are there count, ids before symbols.
const GENES: [&str; 17] = [
    "geneid",
    "ensemblid",
    "ensemblgeneid",
    "geneensemblid",
    "measuredgeneensemblid",
    "targetgeneensemblid",
    "targetgeneid",
    "gene",
    "genename",
    "genesymbol",
    "symbol",
    "geneshortname",
    "measuredgene",
    "measuredgenesymbol",
    "targetgene",
    "targetgenename",
    "targetgenesymbol",
];
const PEAKS: [&str; 6] = ["peak", "peakid", "peakname", "region", "element", "elementid"];
const CHROMS: [&str; 5] = ["chrom", "chr", "chromosome", "seqnames", "seqname"];
const STARTS: [&str; 2] = ["start", "chromstart"];
const ENDS: [&str; 2] = ["end", "chromend"];
/// Columns that tell links from tested negatives; the first that is there counts.
const OUTCOMES: [&str; 6] = ["regulated", "label", "ispositive", "positive", "significant", "truth"];

/// A column's name in small letters and digits: `measuredGeneSymbol`, `gene_id` and `gene.id` lose what is written in
/// many ways.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Where a file names what is linked.
pub(super) enum Form {
    /// Columns of the genes, of the peak's name and, where there are such, of chromosome, start and end.
    Names(Vec<usize>, usize, Option<[usize; 3]>),
    /// Columns of the genes and of chromosome, start and end.
    Places(Vec<usize>, [usize; 3]),
    /// The columns of BEDPE.
    Bedpe,
}

/// How a file is read.
pub(super) struct Layout {
    /// Where it names what is linked.
    pub form: Form,
    /// Column that tells links from tested negatives, and its name.
    pub outcome: Option<(usize, String)>,
    separator: Separator,
    width: usize,
}

impl Layout {
    /// Tells the form of a file by its header or first line, and whether that is data already.
    pub fn of(path: &Path, line: &str) -> Result<(Layout, bool)> {
        let mut refused = None;
        let tabs = line.contains('\t');
        for separator in [',', ';', '|'].into_iter().filter(|&c| !tabs && line.contains(c)).map(Separator::Char) {
            match Self::parted(path, line, separator) {
                Ok(found) => return Ok(found),
                Err(e) => refused = refused.or(Some(e)),
            }
        }
        let blanks = if tabs { Separator::Char('\t') } else { Separator::Blanks };
        Self::parted(path, line, blanks).map_err(|e| refused.unwrap_or(e))
    }

    fn parted(path: &Path, line: &str, separator: Separator) -> Result<(Layout, bool)> {
        let fields = separator.split(line);
        let width = fields.len();
        let number = |at: usize| fields.get(at).is_some_and(|f: &Cow<str>| f.parse::<i64>().is_ok());
        if width >= 6 && [1, 2, 4, 5].into_iter().all(number) {
            return Ok((Layout { form: Form::Bedpe, outcome: None, separator, width: 6 }, true));
        }
        let names: Vec<String> = fields.iter().map(|f| plain(f)).collect();
        let find = |wanted: &[&str]| wanted.iter().find_map(|w| names.iter().position(|n| n == w));
        let outcome = find(&OUTCOMES).map(|at| (at, fields[at].to_string()));
        let genes: Vec<usize> = GENES.iter().filter_map(|g| find(&[g])).collect();
        if find(&["gene"]).is_none()
            && find(&["chrom1", "chr1", "chromosome1"]).is_some()
            && find(&["start1", "x1"]).is_some()
        {
            return Ok((Layout { form: Form::Bedpe, outcome, separator, width: 6 }, false));
        }
        let place = match (find(&CHROMS), find(&STARTS), find(&ENDS)) {
            (Some(chrom), Some(start), Some(end)) => Some([chrom, start, end]),
            _ => None,
        };
        let lacks = |name: &str| Error::input(path, format!("its header has no column `{name}`"), FIX);
        if genes.is_empty() {
            return Err(lacks("gene"));
        }
        let form = match (find(&PEAKS), place) {
            (Some(peak), place) => Form::Names(genes, peak, place),
            (None, Some(place)) => Form::Places(genes, place),
            (None, None) => return Err(lacks("peak")),
        };
        Ok((Layout { form, outcome, separator, width }, false))
    }

    /// Told the first line below the header: is that one field longer, then it begins with a name of its row, as R writes it.
    pub fn with_row_names(mut self, line: &str) -> Self {
        if self.separator.split(line).len() != self.width + 1 {
            return self;
        }
        match &mut self.form {
            Form::Names(genes, peak, place) => {
                genes.iter_mut().chain([peak]).chain(place.iter_mut().flatten()).for_each(|at| *at += 1);
            }
            Form::Places(genes, place) => genes.iter_mut().chain(place).for_each(|at| *at += 1),
            Form::Bedpe => return self,
        }
        self.outcome.iter_mut().for_each(|o| o.0 += 1);
        self.width += 1;
        self
    }

    /// The fields of a line; says what is wrong where those that are needed are not all there.
    pub fn fields<'l>(&self, line: &'l str) -> Result<Vec<Cow<'l, str>>, String> {
        let fields = self.separator.split(line);
        let last = match &self.form {
            Form::Names(genes, peak, _) => genes.iter().chain([peak]).max().copied(),
            Form::Places(genes, place) => genes.iter().chain(place).max().copied(),
            Form::Bedpe => Some(5),
        };
        let last = last.max(self.outcome.as_ref().map(|o| o.0)).unwrap_or(0);
        match fields.len() > last {
            true => Ok(fields),
            false => Err(format!("has {} columns of {}", fields.len(), self.width.max(last + 1))),
        }
    }

    /// What a line says of its pair: a link (also where no column tells), a tested negative, or (`None`) that it was not
    /// tested.
    pub fn outcome(&self, fields: &[&str]) -> Result<Option<bool>, String> {
        let Some((at, name)) = &self.outcome else { return Ok(Some(true)) };
        match fields[*at].to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" | "positive" | "pos" => Ok(Some(true)),
            "false" | "f" | "no" | "n" | "0" | "0.0" | "negative" | "neg" => Ok(Some(false)),
            "" | "na" | "n/a" | "nan" | "null" | "none" | "." => Ok(None),
            _ => Err(format!("has {:?} in the column `{name}`, which tells links from tested negatives", fields[*at])),
        }
    }
}
