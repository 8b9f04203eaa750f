//! Spelling: the known name that is nearest to a mistyped one, for messages.

/// Changes of one letter (put in, left out, replaced, or two neighbours swapped) that turn `a` into `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut d = vec![vec![0; b.len() + 1]; a.len() + 1];
    d[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        d[i][0] = i;
        for j in 1..=b.len() {
            let mut least = (d[i - 1][j] + 1).min(d[i][j - 1] + 1);
            least = least.min(d[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(d[i - 2][j - 2] + 1);
            }
            d[i][j] = least;
        }
    }
    d[a.len()][b.len()]
}

/// Up to `n` of `names` that are like `name`: equal but for case, beginning with it, holding it, or a few letters off.
pub fn near<'n>(name: &str, names: impl IntoIterator<Item = &'n str>, n: usize) -> Vec<&'n str> {
    let plain = name.to_lowercase();
    let letters: Vec<char> = plain.chars().collect();
    let allowed = letters.len().div_ceil(3).min(4);
    let mut found: Vec<(usize, &str)> = Vec::new();
    for other in names {
        let lower = other.to_lowercase();
        let theirs: Vec<char> = lower.chars().collect();
        let rank = if lower == plain {
            0
        } else if theirs.len().abs_diff(letters.len()) <= allowed && letters.len() <= 64 {
            distance(&letters, &theirs)
        } else {
            usize::MAX
        };
        let rank = match rank {
            r if r <= allowed.min(2) => r,
            _ if !plain.is_empty() && lower.starts_with(&plain) => 3,
            _ if letters.len() > 2 && lower.contains(&plain) => 4,
            r if r <= allowed => 5,
            _ => continue,
        };
        found.push((rank, other));
    }
    found.sort();
    found.dedup();
    found.truncate(n);
    found.into_iter().map(|f| f.1).collect()
}

/// What follows a name that is not there: `did you mean A, B?`, or the first of all names.
pub fn hint<'n>(name: &str, names: impl IntoIterator<Item = &'n str> + Clone) -> String {
    let close = near(name, names.clone(), 5);
    if close.is_empty() {
        let first: Vec<&str> = names.into_iter().take(5).collect();
        return format!("there are {} …", first.join(", "));
    }
    format!("did you mean {}?", close.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let d = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, n) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("gad1", "gda1", 1),
            ("gad1", "gad12", 1),
            ("abcd", "badc", 2),
            ("gad1", "gad1", 0),
        ] {
            assert_eq!((d(a, b), d(b, a)), (n, n), "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_come_first() {
        let names = ["Gad1", "Gad2", "Gda", "Actb", "XGad1x", "Slc17a7"];
        assert_eq!(near("GAD1", names, 5), ["Gad1", "Gad2", "Gda", "XGad1x"]);
        assert_eq!(near("slc17", names, 5)[0], "Slc17a7");
        assert!(near("zzzzzz", names, 5).is_empty());
        assert_eq!(hint("Gda1", names), "did you mean Gad1, Gda, Gad2?");
        assert_eq!(hint("zzzzzzz", ["a", "b"]), "there are a, b …");
    }
}
