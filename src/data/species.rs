//! Of what species names of genes seem to be, for messages.

/// Prefixes of Ensembl's ids of genes.
const IDS: [(&str, &str); 10] = [
    ("ENSMUSG", "mouse"),
    ("ENSRNOG", "rat"),
    ("ENSDARG", "zebrafish"),
    ("ENSMMUG", "macaque"),
    ("ENSGALG", "chicken"),
    ("ENSSSCG", "pig"),
    ("ENSBTAG", "cow"),
    ("ENSCAFG", "dog"),
    ("FBgn", "fly"),
    ("ENSG", "human"),
];

/// Names that are looked at.
const LOOKED_AT: usize = 20_000;

/// What most names say: by the prefixes of ids, else by capitals (`GAD1` human, `Gad1` mouse or rat, `gad1` zebrafish). `None`
/// where they do not agree.
pub(crate) fn guess<'n>(names: impl Iterator<Item = &'n str>) -> Option<&'static str> {
    let (mut by_id, mut by_case, mut ids, mut symbols) = ([0usize; IDS.len()], [0usize; 3], 0usize, 0usize);
    for name in names.take(LOOKED_AT) {
        if let Some(i) = IDS.iter().position(|(prefix, _)| name.starts_with(prefix)) {
            by_id[i] += 1;
            ids += 1;
            continue;
        }
        let letters: Vec<char> = name.chars().filter(|c| c.is_ascii_alphabetic()).collect();
        let Some((first, rest)) = letters.split_first().filter(|l| l.1.len() > 1) else { continue };
        let upper = |c: &char| c.is_ascii_uppercase();
        let case = match (upper(first), rest.iter().all(upper), rest.iter().any(upper)) {
            (true, true, _) => 0,
            (true, _, false) => 1,
            (false, _, false) => 2,
            _ => continue,
        };
        by_case[case] += 1;
        symbols += 1;
    }
    let most = |counts: &[usize], all: usize| {
        let best = (0..counts.len()).max_by_key(|&i| counts[i])?;
        (all > 0 && counts[best] * 10 >= all * 6).then_some(best)
    };
    if let Some(i) = most(&by_id, ids) {
        return Some(IDS[i].1);
    }
    most(&by_case, symbols).map(|i| ["human", "mouse", "zebrafish"][i])
}

#[cfg(test)]
mod tests {
    use super::guess;

    #[test]
    fn species_by_ids_and_capitals() {
        for (names, want) in [
            (&["GAD1", "ACTB", "C1orf112"][..], Some("human")),
            (&["Gad1", "Actb", "H2-K1", "Malat1"], Some("mouse")),
            (&["gad1b", "actb1", "sox2"], Some("zebrafish")),
            (&["ENSMUSG00000051951", "ENSMUSG00000051951.5", "GAD1"], Some("mouse")),
            (&["ENSG00000000001", "gene"], Some("human")),
            (&["GAD1", "Gad2"], None),
            (&[], None),
        ] {
            assert_eq!(guess(names.iter().copied()), want, "{names:?}");
        }
    }
}
