//! Sizes of sources: files, functions, parameters. `docs/design.md` lists the files that may be longer in its block
//! ```` ```long files ````, a path a line.

use std::path::Path;

use crate::source::{closing, code, fenced, line_of, skip, texts, word_at, words};

const FILE: usize = 900;
const FUNCTION: usize = 120;
const PARAMETERS: usize = 7;

/// A function: its name, line, how many lines it has and how many parameters.
#[derive(Debug, PartialEq)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
    parameters: usize,
}

/// Where the `<` at `at` is closed; `->` closes nothing.
fn closing_angle(t: &[u8], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < t.len() {
        match t[i] {
            b'<' => depth += 1,
            b'>' if t[i - 1] != b'-' => depth -= 1,
            b'(' | b'[' | b'{' => i = closing(t, i),
            _ => {}
        }
        if depth == 0 {
            return i;
        }
        i += 1;
    }
    t.len()
}

/// Parameters between two brackets, `self` included.
fn parameters(t: &[u8], open: usize, close: usize) -> usize {
    let (mut n, mut i, mut any) = (0, open + 1, false);
    while i < close {
        match t[i] {
            b',' => (n, any) = (n + 1, false),
            b'<' => i = closing_angle(t, i),
            b'(' | b'[' | b'{' => (i, any) = (closing(t, i), true),
            c => any |= !c.is_ascii_whitespace(),
        }
        i += 1;
    }
    n + usize::from(any)
}

fn functions(text: &str) -> Vec<Function> {
    let t = code(text);
    let mut found = Vec::new();
    for at in words(&t, "fn") {
        let (name, mut i) = word_at(&t, at + 2);
        if name.is_empty() {
            continue; // a type of functions
        }
        i = skip(&t, i);
        if t.get(i) == Some(&b'<') {
            i = skip(&t, closing_angle(&t, i) + 1);
        }
        if t.get(i) != Some(&b'(') {
            continue; // a word in a macro
        }
        let close = closing(&t, i);
        let parameters = parameters(&t, i, close);
        // The body, behind what it gives back and the bounds; a function without one ends in a semicolon.
        let mut end = close + 1;
        while end < t.len() && t[end] != b'{' && t[end] != b';' {
            end = if matches!(t[end], b'(' | b'[') { closing(&t, end) + 1 } else { end + 1 };
        }
        if t.get(end) == Some(&b'{') {
            end = closing(&t, end);
        }
        let (line, last) = (line_of(&t, at), line_of(&t, end.min(t.len())));
        found.push(Function { name, line, lines: last - line + 1, parameters });
    }
    found
}

/// What is too large in these files, in words.
fn faults(files: &[(String, String)], long: &[&str]) -> Vec<String> {
    let mut told = Vec::new();
    for (name, text) in files {
        let lines = text.lines().count();
        match (lines > FILE, long.contains(&name.as_str())) {
            (true, false) => told.push(format!("{name}: {lines} lines, more than {FILE}")),
            (false, true) => told.push(format!("docs/design.md: {name} is no long file, with {lines} lines")),
            _ => {}
        }
        for f in functions(text) {
            if f.lines > FUNCTION {
                told.push(format!("{name}:{}: `{}` has {} lines, more than {FUNCTION}", f.line, f.name, f.lines));
            }
            if f.parameters > PARAMETERS {
                told.push(format!("{name}:{}: `{}` takes {}, more than {PARAMETERS}", f.line, f.name, f.parameters));
            }
        }
    }
    let gone = long.iter().filter(|l| !files.iter().any(|f| f.0 == **l));
    told.extend(gone.map(|l| format!("docs/design.md: there is no file {l}")));
    told
}

#[test]
fn nothing_is_too_large() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = |p: &Path| p.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
    let files: Vec<(String, String)> =
        texts(&root.join("src"), &["rs"]).into_iter().map(|(p, t)| (name(&p), t)).collect();
    let design = std::fs::read_to_string(root.join("docs/design.md")).expect("docs/design.md");
    let long = fenced(&design, "long files").unwrap_or_default();
    let told = faults(&files, &long.iter().map(|l| l.trim()).collect::<Vec<_>>());
    assert!(told.is_empty(), "{} faults:\n{}", told.len(), told.join("\n"));
}

#[test]
fn functions_are_measured() {
    let text = "type F = fn(u8, u8);\nfn a() {}\npub fn b<T: Fn(u8) -> u8, const N: usize>(\n    &self,\n    x: [T; N],\n    \
                y: BTreeMap<u8, u8>,\n) -> [u8; 4]\nwhere\n    T: X<u8>,\n{\n    \"}\"; // }\n    '}';\n}\ntrait C {\n    \
                fn d(x: &dyn Fn(u8, u8) -> u8, (y, z): (u8, u8));\n}\nmacro_rules! m { ($n:ident) => { fn $n() {} } }";
    let told: Vec<(String, usize, usize, usize)> =
        functions(text).into_iter().map(|f| (f.name, f.line, f.lines, f.parameters)).collect();
    assert_eq!(told, [("a".into(), 2, 1, 0), ("b".into(), 3, 11, 3), ("d".into(), 15, 1, 2)]);
}

#[test]
fn what_is_too_large_is_found() {
    let long = "\n".repeat(FILE + 1);
    let function =
        format!("fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) {{{}}}", "\n".repeat(FUNCTION));
    let files = [("src/a.rs", &long), ("src/b.rs", &long), ("src/c.rs", &function), ("src/d.rs", &String::new())];
    let files = files.map(|(n, t)| (n.to_string(), t.to_string()));
    assert_eq!(
        faults(&files, &["src/b.rs", "src/d.rs", "src/e.rs"]),
        [
            "src/a.rs: 901 lines, more than 900",
            "src/c.rs:1: `f` has 121 lines, more than 120",
            "src/c.rs:1: `f` takes 8, more than 7",
            "docs/design.md: src/d.rs is no long file, with 0 lines",
            "docs/design.md: there is no file src/e.rs",
        ]
    );
}
