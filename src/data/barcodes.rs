//! Names of cells that nearly meet: what libraries, samples and programs put before and after a barcode is taken off.
//!
//! A name is cut into words at whatever is no letter or digit. The barcode are its words of A, C, G, T and N with six letters
//! or more; where there are none, the words themselves. Words that tell the modality (`rna`, `atac`, …) and capitals do not
//! count. Of both lists all ways to take off are tried, and the one by which most names agree is taken; of equal ones the one
//! that takes off least. A name that another one of its list is made equal to agrees with none.

use std::collections::HashMap;

use xxhash_rust::xxh3::Xxh3;

/// What is taken off, in the order of how much.
const WAYS: [Way; 6] = [Way::Words, Way::Last, Way::First, Way::End, Way::Front, Way::Both];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing but words that tell the modality, and what parts words.
    Words,
    /// The last word.
    Last,
    /// The first word.
    First,
    /// All behind the barcode.
    End,
    /// All before it.
    Front,
    /// All but the barcode.
    Both,
}

/// How the names of two lists agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// Of each name of the first list its place in the second.
    pub place: Vec<Option<u32>>,
    /// Names of the first list that have one.
    pub agree: usize,
    /// What was taken off, to stand behind "once": `the ending -1 is taken off`.
    pub once: String,
}

/// Does the word tell the modality?
fn tells_modality(word: &str) -> bool {
    ["rna", "atac", "gex", "peaks", "scrna", "scatac", "snrna", "snatac", "arc", "dna"]
        .iter()
        .any(|m| word.eq_ignore_ascii_case(m))
}

fn is_bases(word: &str) -> bool {
    word.len() >= 6 && word.bytes().all(|b| matches!(b.to_ascii_uppercase(), b'A' | b'C' | b'G' | b'T' | b'N'))
}

/// Places of the words of a name that are kept.
fn kept(name: &str, way: Way) -> Option<Vec<(usize, usize)>> {
    let start = |word: &str| word.as_ptr() as usize - name.as_ptr() as usize;
    let words: Vec<&str> =
        name.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty() && !tells_modality(w)).collect();
    let n = words.len();
    let (first, last) = (words.iter().position(|w| is_bases(w)), words.iter().rposition(|w| is_bases(w)));
    let (first, last) = match (first, last, n) {
        (Some(first), Some(last), _) => (first, last),
        (_, _, 0) => return None,
        // Without bases: a name, with a word before and a number behind.
        _ => {
            let numbered = n > 1 && words[n - 1].bytes().all(|b| b.is_ascii_digit());
            (usize::from(n > 1 && !(n == 2 && numbered)), n - 1 - usize::from(numbered))
        }
    };
    let (from, to) = match way {
        Way::Words => (0, n),
        Way::Last => (0, (last + 1).max(n - 1)),
        Way::First => (first.min(1), n),
        Way::End => (0, last + 1),
        Way::Front => (first, n),
        Way::Both => (first, last + 1),
    };
    Some(words[from..to].iter().map(|w| (start(w), start(w) + w.len())).collect())
}

/// What a name is compared by.
fn key(name: &str, way: Way) -> Option<u64> {
    let mut hash = Xxh3::new();
    for (from, to) in kept(name, way)? {
        hash.update(name[from..to].to_ascii_uppercase().as_bytes());
        hash.update(b"-");
    }
    Some(hash.digest())
}

/// Number of each key in the list; none of those that stand for several names.
fn places(keys: &[Option<u64>]) -> HashMap<u64, Option<u32>> {
    let mut found: HashMap<u64, Option<u32>> = HashMap::with_capacity(keys.len());
    for (i, key) in (0..).zip(keys) {
        if let Some(key) = key {
            found.entry(*key).and_modify(|p| *p = None).or_insert(Some(i));
        }
    }
    found
}

/// What is taken off of a name, at its front and at its end.
fn taken_off(name: &str, way: Way) -> (&str, &str) {
    let kept = kept(name, way).unwrap_or_default();
    match (kept.first(), kept.last()) {
        (Some(first), Some(last)) => (&name[..first.0], &name[last.1..]),
        _ => ("", ""),
    }
}

/// In words what is taken off of these names.
fn in_words<'n>(names: impl Iterator<Item = &'n str>, way: Way, words: &mut Vec<String>) {
    let (mut fronts, mut ends) = (Vec::new(), Vec::new());
    for name in names {
        let (front, end) = taken_off(name, way);
        for (part, all) in [(front, &mut fronts), (end, &mut ends)] {
            if all.len() < 2 && !all.contains(&part) {
                all.push(part);
            }
        }
    }
    for (what, parts) in [("beginning", &fronts), ("ending", &ends)] {
        let mut shown = parts.iter().filter(|p| !p.is_empty());
        let Some(first) = shown.next() else { continue };
        let phrase = match parts.len() {
            1 => format!("the {what} {first}"),
            _ => format!("{what}s such as {first}"),
        };
        if !words.contains(&phrase) {
            words.push(phrase);
        }
    }
}

/// How most names of `ours` agree with one of `theirs`; `None` where none does.
pub(crate) fn agreement(ours: &[String], theirs: &[String]) -> Option<Agreement> {
    let keys = |names: &[String]| WAYS.map(|way| names.iter().map(|n| key(n, way)).collect::<Vec<_>>());
    let (our_keys, their_keys) = (keys(ours), keys(theirs));
    let (our_places, their_places) = (our_keys.each_ref().map(|k| places(k)), their_keys.each_ref().map(|k| places(k)));
    let mut best: Option<(usize, std::cmp::Reverse<usize>, usize, usize)> = None;
    for (i, ours) in our_places.iter().enumerate() {
        for (j, theirs) in their_places.iter().enumerate() {
            let agree = ours.iter().filter(|(k, p)| p.is_some() && theirs.get(k).is_some_and(Option::is_some)).count();
            best = best.max(Some((agree, std::cmp::Reverse(i + j), i, j)));
        }
    }
    let (agree, _, i, j) = best.filter(|b| b.0 > 0)?;
    let alone = |k: &u64| our_places[i].get(k).is_some_and(Option::is_some);
    let place: Vec<Option<u32>> = our_keys[i]
        .iter()
        .map(|k| k.filter(|k| alone(k)).and_then(|k| their_places[j].get(&k).copied().flatten()))
        .collect();
    let mut words = Vec::new();
    in_words(ours.iter().zip(&place).filter(|p| p.1.is_some()).map(|p| p.0.as_str()), WAYS[i], &mut words);
    in_words(place.iter().flatten().map(|&p| theirs[p as usize].as_str()), WAYS[j], &mut words);
    let once = match words.as_slice() {
        [] => "what parts their words, capitals and words that tell the modality are left out".to_string(),
        [one] if one.starts_with("the ") => format!("{one} is taken off"),
        all => format!("{} are taken off", all.join(" and ")),
    };
    Some(Agreement { place, agree, once })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a name is made of the number of a cell and its barcode.
    type Form<'a> = &'a dyn Fn(usize, &str) -> String;

    const CELLS: [&str; 3] = ["ACGTACGTACGTAAAA", "CCGTACGTACGTAAAA", "GGGTACGTACGTAAAA"];

    fn of(form: impl Fn(usize, &str) -> String) -> Vec<String> {
        CELLS.iter().enumerate().map(|(i, c)| form(i, c)).collect()
    }

    #[test]
    fn what_is_put_around_barcodes() {
        let plain = of(|_, c| c.to_string());
        let forms: [(Form, &str); 9] = [
            (&|_, c| format!("{c}-1"), "the ending -1 is taken off"),
            (&|_, c| format!("{c}_1"), "the ending _1 is taken off"),
            (&|_, c| format!("sample#{c}-1"), "the beginning sample# and the ending -1 are taken off"),
            (&|i, c| format!("{c}-{i}"), "endings such as -0 are taken off"),
            (&|_, c| format!("GSM1_{c}"), "the beginning GSM1_ is taken off"),
            (&|_, c| format!("rna:{c}"), "the beginning rna: is taken off"),
            (&|_, c| c.to_ascii_lowercase(), "what parts their words"),
            (&|_, c| format!("{c}-1_1"), "the ending -1_1 is taken off"),
            (&|_, c| format!("{c}.1"), "the ending .1 is taken off"),
        ];
        for (form, once) in forms {
            let found = agreement(&of(form), &plain).unwrap();
            assert_eq!((found.agree, found.place), (3, vec![Some(0), Some(1), Some(2)]), "{once}");
            assert!(found.once.starts_with(once), "{once}: {}", found.once);
            assert_eq!(agreement(&plain, &of(form)).unwrap().agree, 3);
        }
    }

    #[test]
    fn two_samples_with_one_barcode_stay_two() {
        let names = |form: &dyn Fn(&str, &str) -> String| -> Vec<String> {
            ["s1", "s2"].iter().flat_map(|s| CELLS.iter().map(move |c| (s, c))).map(|(s, c)| form(s, c)).collect()
        };
        let found = agreement(&names(&|s, c| format!("{s}#{c}-1")), &names(&|s, c| format!("{s}_{c}"))).unwrap();
        assert_eq!(found.place, (0..6).map(Some).collect::<Vec<_>>());
        // Which is which cannot be told.
        let found = agreement(&names(&|s, c| format!("{s}#{c}")), &of(|_, c| c.to_string()));
        assert_eq!(found, None);
    }

    #[test]
    fn names_without_bases() {
        let found = agreement(&["cell_1-1".to_string(), "cell_2-1".into()], &["cell_2".into(), "cell_1".into()]);
        assert_eq!(found.unwrap().place, [Some(1), Some(0)]);
        assert_eq!(agreement(&["a".to_string()], &["b".into()]), None);
        assert_eq!(agreement(&[String::new()], &["--".into()]), None);
    }
}
