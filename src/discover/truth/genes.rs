//! Genes of a data set by the names that tables give them: as they are, without version, in any case.

use std::collections::HashMap;
use std::path::Path;

use crate::error::Error;
use crate::vocabulary::Vocabulary;

/// Names given as examples in a message.
const EXAMPLES: usize = 3;

/// The id without its version, `ENSG00000187634.13` as `ENSG00000187634`; `None` for what is no Ensembl id.
fn ensembl(name: &str) -> Option<&str> {
    let letters = name.bytes().take_while(u8::is_ascii_uppercase).count();
    let digits = name[letters..].bytes().take_while(u8::is_ascii_digit).count();
    if !name.starts_with("ENS") || letters < 4 || digits < 6 {
        return None;
    }
    let (id, version) = name.split_at(letters + digits);
    let number = |v: &str| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit());
    (version.is_empty() || version.strip_prefix('.').is_some_and(number)).then_some(id)
}

const IDS: &str = "Ensembl ids";
const SYMBOLS: &str = "symbols";

/// What most of some names are.
fn form<'n>(names: impl Iterator<Item = &'n str>) -> &'static str {
    let (mut ids, mut all) = (0, 0);
    for name in names {
        ids += usize::from(ensembl(name).is_some());
        all += 1;
    }
    match (10 * ids >= 9 * all, 10 * ids <= all) {
        (true, false) => IDS,
        (false, true) | (true, true) => SYMBOLS,
        (false, false) => "symbols and Ensembl ids",
    }
}

/// Genes by name; what stands for several has no number.
pub(super) struct GeneNames<'v> {
    v: &'v Vocabulary,
    exact: HashMap<&'v str, u32>,
    ids: HashMap<&'v str, Option<u32>>,
    folded: HashMap<String, Option<u32>>,
    /// Whether any gene that a table named was found.
    any: bool,
    /// The first names that the data lack.
    lacking: Vec<String>,
}

impl<'v> GeneNames<'v> {
    /// Of a data set; none is looked for yet.
    pub fn new(v: &'v Vocabulary) -> Self {
        let (mut exact, mut ids, mut folded) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (i, g) in (0..).zip(&v.genes) {
            exact.insert(g.name.as_str(), i);
            folded.entry(g.name.to_lowercase()).and_modify(|g| *g = None).or_insert(Some(i));
            if let Some(id) = ensembl(&g.name) {
                ids.entry(id).and_modify(|g| *g = None).or_insert(Some(i));
            }
        }
        GeneNames { v, exact, ids, folded, any: false, lacking: Vec::new() }
    }

    /// The gene that goes by one of these names: exactly, else but for the version of an Ensembl id, else but for the
    /// case where that leaves one.
    pub fn find(&self, names: &[&str]) -> Option<u32> {
        let exact = || names.iter().find_map(|n| self.exact.get(n).copied());
        let by_id = || names.iter().find_map(|n| self.ids.get(ensembl(n)?).copied().flatten());
        let folded = || names.iter().find_map(|n| self.folded.get(&n.to_lowercase()).copied().flatten());
        exact().or_else(by_id).or_else(folded)
    }

    /// [`GeneNames::find`] for a column of genes: what is lacking is noted for [`GeneNames::none_known`].
    pub fn find_noting(&mut self, names: &[&str]) -> Option<u32> {
        let found = self.find(names);
        self.any |= found.is_some();
        if !self.any && self.lacking.len() < EXAMPLES {
            for name in names.iter().filter(|n| !n.is_empty()) {
                if !self.lacking.iter().any(|l| l == name) {
                    self.lacking.push(name.to_string());
                }
            }
        }
        found
    }

    /// The refusal of a table of which no gene was found; `None` where one was.
    pub fn none_known(&self, path: &Path) -> Option<Error> {
        if self.any || self.lacking.is_empty() {
            return None;
        }
        let (table, data) = (self.lacking.iter().map(String::as_str), self.v.genes.iter().map(|g| g.name.as_str()));
        let fix = match (form(table.clone()), form(data.clone())) {
            (IDS, SYMBOLS) => "add a column gene_symbol to it, or prepare the data with Ensembl ids as var_names",
            (SYMBOLS, IDS) => "add a column gene_id to it, or prepare the data with symbols as var_names",
            (IDS, IDS) => "give a table of the same species and annotation",
            _ => "name genes as in the var_names of the data",
        };
        let (of_table, of_data) = (form(table.clone()), form(data.clone()));
        let (lacking, theirs): (Vec<&str>, Vec<&str>) = (table.collect(), data.take(EXAMPLES).collect());
        let (lacking, theirs) = (lacking.join(", "), theirs.join(", "));
        let found =
            format!("none of its genes is in the data: it names {of_table} ({lacking}), the data {of_data} ({theirs})");
        Some(Error::input(path, found, fix))
    }
}

#[cfg(test)]
mod tests {
    use super::ensembl;

    #[test]
    fn ensembl_ids() {
        for (name, want) in [
            ("ENSG00000187634.13", Some("ENSG00000187634")),
            ("ENSMUSG00000051951", Some("ENSMUSG00000051951")),
            ("ENSG00000187634.", None),
            ("ENSG00000182378.15_PAR_Y", None),
            ("ENS00000187634", None),
            ("ENSA", None),
            ("AC012345.1", None),
            ("ensg00000187634", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(ensembl(name), want, "{name}");
        }
    }
}
