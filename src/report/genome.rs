//! Which assembly the places are of, for links to a genome browser.

use serde_json::Value;

use crate::data::species;

/// What file names say, by UCSC's name of the assembly.
const NAMED: [(&str, &[&str]); 10] = [
    ("hg38", &["hg38", "grch38"]),
    ("hg19", &["hg19", "grch37"]),
    ("mm39", &["mm39", "grcm39"]),
    ("mm10", &["mm10", "grcm38"]),
    ("mm9", &["mm9", "ncbim37"]),
    ("rn7", &["rn7", "mratbn7"]),
    ("rn6", &["rn6", "rnor_6"]),
    ("danRer11", &["danrer11", "grcz11"]),
    ("dm6", &["dm6", "bdgp6"]),
    ("galGal6", &["galgal6", "grcg6"]),
];
/// Genes without which their names say nothing.
const ENOUGH: usize = 50;

/// The number behind `word`, in a file name.
fn number_after(name: &str, word: &str) -> Option<u32> {
    let rest = &name[name.find(word)? + word.len()..];
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// UCSC's name of an assembly by the files that the data came from, or else by how genes are named; and whether it is only a guess.
pub(super) fn assembly<'n>(
    origin: &Value,
    genes: impl Iterator<Item = &'n str> + Clone,
) -> Option<(&'static str, bool)> {
    let files = ["gtf", "fasta", "atac", "rna", "dataset"].into_iter().filter_map(|k| origin[k].as_str());
    for file in files {
        let file = file.to_lowercase();
        if let Some((name, _)) = NAMED.iter().find(|n| n.1.iter().any(|word| file.contains(word))) {
            return Some((name, false));
        }
        let name = file.rsplit('/').next().unwrap_or(&file);
        if name.contains("gencode") {
            if let Some(n) = number_after(name, ".vm") {
                return Some((if n <= 25 { "mm10" } else { "mm39" }, false));
            }
            if let Some(n) = number_after(name, ".v").or_else(|| number_after(name, "-v")) {
                return Some((if n <= 19 { "hg19" } else { "hg38" }, false));
            }
        }
    }
    if genes.clone().take(ENOUGH).count() < ENOUGH {
        return None;
    }
    match species::guess(genes) {
        Some("human") => Some(("hg38", true)),
        Some("mouse") => Some(("mm10", true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn assemblies_by_files_and_names() {
        let names: Vec<String> = (0..60).map(|i| format!("GA{}D", (b'A' + i % 26) as char)).collect();
        let of = |origin: Value, names: &[String]| assembly(&origin, names.iter().map(String::as_str));
        for (file, want) in [
            ("x/gencode.vM23.genes.gtf.gz", "mm10"),
            ("gencode.vM33.annotation.gtf", "mm39"),
            ("gencode-v19.gtf", "hg19"),
            ("gencode.v43.genes.gtf.gz", "hg38"),
            ("Mus_musculus.GRCm39.110.gtf", "mm39"),
        ] {
            assert_eq!(of(json!({ "gtf": file }), &names), Some((want, false)), "{file}");
        }
        assert_eq!(of(json!({ "atac": "pbmc_hg19.h5ad" }), &[]), Some(("hg19", false)));
        assert_eq!(of(json!({}), &names), Some(("hg38", true)));
        let mouse: Vec<String> = names.iter().map(|n| format!("G{}", n[1..].to_lowercase())).collect();
        assert_eq!(of(json!({ "gtf": null }), &mouse), Some(("mm10", true)));
        assert_eq!(of(json!({}), &names[..5]), None);
    }
}
