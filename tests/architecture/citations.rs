//! What sources cite of `docs/model.md` is there: its sections (`## 4. T`, `### 4.2 T`) and its equations (a number in brackets
//! at the end of a line of a fenced block).

use std::collections::BTreeSet;
use std::path::Path;

use crate::source::{line_of, texts};

const MODEL: &str = "docs/model.md";

/// Sections and equations of a Markdown text.
fn numbered(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut sections, mut equations, mut fence) = (BTreeSet::new(), BTreeSet::new(), false);
    for line in text.lines() {
        if line.starts_with("```") {
            fence = !fence;
        } else if fence {
            let number = line.trim_end().strip_suffix(')').and_then(|l| l.rsplit_once('('));
            if let Some((_, n)) = number.filter(|(_, n)| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit())) {
                equations.insert(n.to_string());
            }
        } else if let Some(title) = line.strip_prefix('#') {
            let number = title.trim_start_matches('#').split_whitespace().next().unwrap_or_default();
            if number.starts_with(|c: char| c.is_ascii_digit()) {
                sections.insert(number.trim_end_matches('.').to_string());
            }
        }
    }
    (sections, equations)
}

/// The numbers that are listed at the begin of a text: `3`, `3.1 and 4`, `(3), (4) to (6)`.
fn listed(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start().trim_start_matches('(');
        let n = rest.bytes().take_while(|c| c.is_ascii_digit() || *c == b'.').count();
        let number = rest[..n].trim_end_matches('.');
        if number.is_empty() {
            return found;
        }
        found.push(number.to_string());
        rest = &rest[number.len()..];
        rest = rest.strip_prefix(')').unwrap_or(rest);
        let next = [", and ", ", ", " and ", " to ", "-", "–"].into_iter().find_map(|s| rest.strip_prefix(s));
        match next {
            Some(next) => rest = next,
            None => return found,
        }
    }
}

/// Numbers, each with the line that it stands in.
type Numbers = Vec<(String, usize)>;

/// What a source cites: sections, equations.
fn cited(text: &str) -> (Numbers, Numbers) {
    // Comments go on from line to line; places stay.
    let mut flat = text.as_bytes().to_vec();
    let mut i = 0;
    while i < flat.len() {
        if flat[i] == b'\n' {
            while i < flat.len() && matches!(flat[i], b'\n' | b' ' | b'\t' | b'/' | b'!' | b'*') {
                flat[i] = b' ';
                i += 1;
            }
        }
        i += 1;
    }
    let flat = String::from_utf8(flat).unwrap();
    // Several blanks are one, and marks of Markdown none.
    let plain = |text: &str| -> String {
        let text: String = text.chars().take(600).filter(|c| !"`[]".contains(*c)).collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let (mut sections, mut equations) = (Vec::new(), Vec::new());
    for (at, _) in flat.match_indices(MODEL) {
        let behind = plain(&flat[at + MODEL.len()..]);
        let words = behind.trim_start_matches([',', ')', ':', ' ']);
        if let Some(list) = ["sections ", "section "].into_iter().find_map(|w| words.strip_prefix(w)) {
            sections.extend(listed(list).into_iter().map(|n| (n, line_of(text.as_bytes(), at))));
        }
    }
    for word in ["eq.", "eqs."] {
        for (at, _) in flat.match_indices(word) {
            if flat[..at].ends_with(|c: char| c.is_alphanumeric()) {
                continue;
            }
            let numbers = listed(&plain(&flat[at + word.len()..]));
            equations.extend(numbers.into_iter().map(|n| (n, line_of(text.as_bytes(), at))));
        }
    }
    (sections, equations)
}

#[test]
fn what_is_cited_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [texts(&root.join("src"), &["rs"]), texts(&root.join("kernels"), &["cu", "h", "cuh", "md"])].concat();
    let all: Vec<_> = files.iter().map(|(path, text)| (path, cited(text))).collect();
    let n: usize = all.iter().map(|(_, c)| c.0.len() + c.1.len()).sum();
    let model = match std::fs::read_to_string(root.join(MODEL)) {
        Ok(model) => model,
        Err(e) => return assert_eq!(n, 0, "{MODEL} is cited and cannot be read: {e}"),
    };
    let (sections, equations) = numbered(&model);
    assert!(n > 0, "nobody cites {MODEL}");
    let mut told = Vec::new();
    for (path, cited) in all {
        let name = path.strip_prefix(root).unwrap().display();
        let gone = |what: &str, there: &BTreeSet<String>, list: &[(String, usize)]| -> Vec<String> {
            let gone = list.iter().filter(|c| !there.contains(&c.0));
            gone.map(|(n, line)| format!("{name}:{line}: {MODEL} has no {what} {n}")).collect()
        };
        told.extend(gone("section", &sections, &cited.0));
        told.extend(gone("equation", &equations, &cited.1));
    }
    assert!(told.is_empty(), "{} faults:\n{}", told.len(), told.join("\n"));
}

#[test]
fn numbers_are_found() {
    let text = "# The model\n## 4. Model\n### 4.2 Scores (3)\n```\nx = y   (12)\nf(x)\nz  (13) \n```\nno (14)\n";
    let (sections, equations) = numbered(text);
    assert_eq!(sections.iter().collect::<Vec<_>>(), ["4", "4.2"]);
    assert_eq!(equations.iter().collect::<Vec<_>>(), ["12", "13"]);
}

#[test]
fn citations_are_found() {
    let text = "//! As `docs/model.md`, section 4.2, has it.\n// (docs/model.md,\n//  sections 3 and 4.1). \nf(); // eq. (12)\n\
                /* docs/model.md, eqs. 3, 4 and (5); freq. 7 */";
    let numbers = |list: Vec<(String, usize)>| list.into_iter().map(|(n, l)| format!("{n}@{l}")).collect::<Vec<_>>();
    let (sections, equations) = cited(text);
    assert_eq!(numbers(sections), ["4.2@1", "3@2", "4.1@2"]);
    assert_eq!(numbers(equations), ["12@4", "3@5", "4@5", "5@5"]);
}
