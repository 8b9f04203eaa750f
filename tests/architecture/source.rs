//! Rust text as far as these tests understand it: where comments, strings and tests are, names, brackets, `use` trees.

use std::path::{Path, PathBuf};

/// Files of these kinds below a folder, sorted, with their text.
pub fn texts(dir: &Path, kinds: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(texts(&path, kinds));
        } else if path.extension().is_some_and(|e| kinds.iter().any(|k| e == *k)) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found.sort();
    found
}

/// The lines of the first fenced block of a Markdown text with these words behind the fence.
pub fn fenced<'t>(text: &'t str, words: &str) -> Option<Vec<&'t str>> {
    let mut lines = text.lines();
    lines.find(|l| l.strip_prefix("```").is_some_and(|info| info.trim() == words))?;
    Some(lines.take_while(|l| !l.starts_with("```")).filter(|l| !l.trim().is_empty()).collect())
}

pub fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || !c.is_ascii()
}

/// The line of a place, from 1.
pub fn line_of(text: &[u8], at: usize) -> usize {
    1 + text[..at].iter().filter(|&&c| c == b'\n').count()
}

/// The text with blanks in the place of comments, of what is in strings and of characters; every line keeps its number.
pub fn code(text: &str) -> Vec<u8> {
    let t = text.as_bytes();
    let mut out = t.to_vec();
    let blank = |out: &mut Vec<u8>, from: usize, to: usize| {
        let to = to.min(out.len());
        out[from.min(to)..to].iter_mut().filter(|c| **c != b'\n').for_each(|c| *c = b' ');
    };
    let mut i = 0;
    while i < t.len() {
        let rest = &t[i..];
        let end = if rest.starts_with(b"//") {
            rest.iter().position(|&c| c == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            comment(rest)
        } else if let Some(n) = raw_string(t, i) {
            n
        } else if rest[0] == b'"' {
            string(rest)
        } else if rest[0] == b'\'' {
            character(rest)
        } else {
            i += 1;
            continue;
        };
        blank(&mut out, i, i + end);
        i += end;
    }
    out
}

/// Length of a comment `/* … */`, which may hold others.
fn comment(t: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < t.len() {
        match &t[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] if depth == 1 => return i + 2,
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    i
}

fn string(t: &[u8]) -> usize {
    let mut i = 1;
    while i < t.len() && t[i] != b'"' {
        i += if t[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// Length of a raw string that begins here with its `r`.
fn raw_string(t: &[u8], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|b| t[b]);
    let prefix = before == Some(b'b') || before == Some(b'c');
    if t[at] != b'r' || (before.is_some_and(is_word) && !prefix) {
        return None;
    }
    let hashes = t[at + 1..].iter().take_while(|&&c| c == b'#').count();
    let open = at + 1 + hashes;
    if t.get(open) != Some(&b'"') {
        return None;
    }
    let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let inside = &t[open + 1..];
    let n = inside.windows(close.len()).position(|w| w == close).unwrap_or(inside.len());
    Some(open + 1 + n + close.len() - at)
}

/// Length of a character such as `'"'`; of a lifetime only its mark.
fn character(t: &[u8]) -> usize {
    if t.get(1) == Some(&b'\\') {
        return 3 + t[3..].iter().position(|&c| c == b'\'').unwrap_or(0);
    }
    // One character of up to four bytes, then the other mark.
    let first = t.get(1).copied().unwrap_or_default();
    let width = match first {
        0..=0x7f => 1,
        0x80..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    if t.get(1 + width) == Some(&b'\'') { 2 + width } else { 1 }
}

/// Where the bracket that opens at `at` closes; the end of the text where it does not.
pub fn closing(t: &[u8], at: usize) -> usize {
    let mut depth = 0;
    for (i, c) in t.iter().enumerate().skip(at) {
        match c {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    t.len()
}

/// Blanks out items under `#[cfg(test)]`: they may look anywhere.
pub fn without_tests(t: &mut [u8]) {
    const MARK: &[u8] = b"#[cfg(test)]";
    while let Some(at) = t.windows(MARK.len()).position(|w| w == MARK) {
        let mut i = at + MARK.len();
        // To the end of the item: its block, or its semicolon; attributes and arguments are stepped over.
        while i < t.len() {
            match t[i] {
                b'{' => {
                    i = closing(t, i);
                    break;
                }
                b';' => break,
                b'(' | b'[' => i = closing(t, i),
                _ => {}
            }
            i += 1;
        }
        let end = (i + 1).min(t.len());
        t[at..end].iter_mut().filter(|c| **c != b'\n').for_each(|c| *c = b' ');
    }
}

/// Places of a word.
pub fn words(t: &[u8], word: &str) -> Vec<usize> {
    let w = word.as_bytes();
    let mut found = Vec::new();
    for i in 0..t.len().saturating_sub(w.len()) {
        let ends = t.get(i + w.len()).is_none_or(|&c| !is_word(c));
        if t[i..].starts_with(w) && ends && (i == 0 || !is_word(t[i - 1])) {
            found.push(i);
        }
    }
    found
}

/// The word that begins here, behind blanks, and where it ends.
pub fn word_at(t: &[u8], at: usize) -> (String, usize) {
    let begin = skip(t, at);
    let n = t[begin..].iter().take_while(|&&c| is_word(c)).count();
    (String::from_utf8_lossy(&t[begin..begin + n]).into_owned(), begin + n)
}

/// The next place that is no blank.
pub fn skip(t: &[u8], at: usize) -> usize {
    at + t[at..].iter().take_while(|c| c.is_ascii_whitespace()).count()
}

/// A path as it is written, and the name that a `use` gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub path: Vec<String>,
    pub name: String,
    pub at: usize,
    /// Of a `pub use`.
    pub public: bool,
    /// Of any `use`.
    pub used: bool,
}

/// All paths of a `use` and all that begin with `crate`, `super`, `self` or one of `children`.
pub fn paths(t: &[u8], children: &[String]) -> Vec<Written> {
    let mut found = Vec::new();
    let mut rest = t.to_vec();
    for at in words(t, "use") {
        // `impl Trait + use<…>` is none.
        if t.get(skip(t, at + 3)).is_none_or(|&c| !is_word(c) && c != b':' && c != b'{') {
            continue;
        }
        let end = at + t[at..].iter().position(|&c| c == b';').unwrap_or(t.len() - at);
        let before = String::from_utf8_lossy(&t[at.saturating_sub(80)..at]).into_owned();
        let before = before.rsplit([';', '}', '{', ']']).next().unwrap_or_default().trim_start().to_string();
        let from = found.len();
        tree(t, at + 3, end, &[], &mut found);
        found[from..].iter_mut().for_each(|w| (w.public, w.used) = (before.starts_with("pub"), true));
        rest[at..end].fill(b' ');
    }
    let heads = ["crate", "super", "self"].map(String::from);
    for head in heads.iter().chain(children) {
        for at in words(&rest, head) {
            let before = String::from_utf8_lossy(&rest[at.saturating_sub(4)..at]).into_owned();
            let deeper = before.trim_end().ends_with("::") || before.ends_with('.');
            if deeper || before.ends_with("in ") {
                continue;
            }
            let (mut path, mut i) = (vec![head.clone()], at + head.len());
            while rest[i..].starts_with(b"::") {
                let (word, end) = word_at(&rest, i + 2);
                if word.is_empty() {
                    break;
                }
                path.push(word);
                i = end;
            }
            if path.len() > 1 {
                let name = path.last().cloned().unwrap_or_default();
                found.push(Written { path, name, at, public: false, used: false });
            }
        }
    }
    found
}

/// Reads a `use` tree between two places.
fn tree(t: &[u8], from: usize, to: usize, above: &[String], found: &mut Vec<Written>) {
    let mut path = above.to_vec();
    let mut i = skip(t, from);
    if t[i..].starts_with(b"::") {
        i += 2;
        path.push(String::new()); // of another crate
    }
    let begin = i;
    loop {
        i = skip(t, i);
        if i >= to {
            break;
        }
        if t[i] == b'{' {
            let end = closing(t, i);
            let mut part = i + 1;
            while part < end {
                let mut next = part;
                while next < end && t[next] != b',' {
                    next = if t[next] == b'{' { closing(t, next) + 1 } else { next + 1 };
                }
                if skip(t, part) < next {
                    tree(t, part, next, &path, found);
                }
                part = next + 1;
            }
            return;
        }
        if t[i] == b'*' {
            path.push("*".into());
            break;
        }
        let (word, end) = word_at(t, i);
        if word.is_empty() || word == "as" {
            break;
        }
        path.push(word);
        i = skip(t, end);
        if !t[i..to].starts_with(b"::") {
            break;
        }
        i += 2;
    }
    // `use a::b::{self}` is `a::b`.
    if path.len() > 1 && path.last().is_some_and(|p| p == "self") {
        path.pop();
    }
    let mut name = path.last().cloned().unwrap_or_default();
    i = skip(t, i);
    if i < to && t[i..].starts_with(b"as") {
        name = word_at(t, i + 2).0;
    }
    found.push(Written { path, name, at: begin, public: false, used: false });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        String::from_utf8(code(text)).unwrap()
    }

    #[test]
    fn comments_and_strings_are_blanks() {
        let text =
            "a // use x\n/* b /* c */ d */ e \"f // \\\" g\" h r#\"i \" j\"# k '\"' l '\\'' m &'n o b\"p\" 'é' q";
        let left: Vec<String> = shown(text).split_whitespace().map(String::from).collect();
        assert_eq!(left, ["a", "e", "h", "k", "l", "m", "&", "n", "o", "b", "q"]);
        assert_eq!(shown("\"a\nb\"\nc").matches('\n').count(), 2);
    }

    #[test]
    fn tests_are_left_out() {
        let mut t = code("a;\n#[cfg(test)]\nmod tests { use crate::x; fn f() { } }\n#[cfg(test)]\nuse y;\nb;");
        without_tests(&mut t);
        let left = String::from_utf8(t).unwrap();
        assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["a;", "b;"]);
        assert_eq!(left.lines().count(), 6);
    }

    #[test]
    fn trees_and_inline_paths_are_read() {
        let text = "use crate::a::{self, b::{C, D as E},\n  f::*};\npub(crate) use super::g;\nfn h() -> impl X + use<'_> {\n\
                    crate::i::j(); self.k; child::m(); other::crate_::n(); a::child::o() }";
        let found = paths(&code(text), &["child".into()]);
        let told: Vec<String> = found.iter().map(|w| format!("{} {}", w.path.join("::"), w.name)).collect();
        assert_eq!(
            told,
            [
                "crate::a a",
                "crate::a::b::C C",
                "crate::a::b::D E",
                "crate::a::f::* *",
                "super::g g",
                "crate::i::j j",
                "child::m m"
            ]
        );
        assert_eq!(
            found.iter().map(|w| w.public).collect::<Vec<_>>(),
            [false, false, false, false, true, false, false]
        );
        assert_eq!(line_of(text.as_bytes(), found[3].at), 2);
    }
}
