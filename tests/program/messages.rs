//! The page of messages is what the sources say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Messages

What the program refuses, and what it says to do about it: every `Error::input` and `Error::usage` of the sources, in their order.
This page is made from them: `UPDATE=1 cargo test --release --test program messages` writes it anew, and the test `messages` fails
where it is out of date. `{…}` is filled in; `…` is told by another part of the program; ` / ` parts what is said in different cases.
A message begins with the file it is about. Exit code 2.
";

/// Source without comments and tests; strings stay.
fn bare(text: &str) -> Vec<char> {
    let text = text.find("#[cfg(test)]\nmod tests").map_or(text, |at| &text[..at]);
    let (mut out, mut quoted) = (Vec::new(), false);
    let chars: Vec<char> = text.chars().collect();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        let next = chars.get(i + 1).copied();
        match c {
            '\\' if quoted => {
                out.extend([c, next.unwrap_or(' ')]);
                i += 1;
            }
            // A character, in which a quote is none.
            '\'' if !quoted && next == Some('"') => i += 2,
            '"' => {
                quoted = !quoted;
                out.push(c);
            }
            '/' if !quoted && next == Some('/') => {
                while i < chars.len() && chars[i] != '\n' {
                    i += 1;
                }
                continue;
            }
            _ => out.push(c),
        }
        i += 1;
    }
    out
}

/// The string that begins with the quote at `at`, as the compiler reads it, and the place behind it.
fn string(code: &[char], at: usize) -> (String, usize) {
    let (mut out, mut i) = (String::new(), at + 1);
    while i < code.len() && code[i] != '"' {
        if code[i] == '\\' {
            i += 1;
            match code.get(i) {
                Some('\n') => {
                    while code.get(i + 1).is_some_and(|c| c.is_whitespace()) {
                        i += 1;
                    }
                }
                Some('n') => out.push(' '),
                Some(c) => out.push(*c),
                None => {}
            }
        } else {
            out.push(code[i]);
        }
        i += 1;
    }
    (out, i + 1)
}

/// Arguments of the call whose bracket is at `at`: the strings in each, and its words outside of them.
fn arguments(code: &[char], at: usize) -> Vec<(Vec<String>, String)> {
    let (mut out, mut depth, mut i) = (vec![(Vec::new(), String::new())], 0, at);
    while i < code.len() {
        let last = out.len() - 1;
        match code[i] {
            '"' => {
                let (text, behind) = string(code, i);
                out[last].0.push(text);
                i = behind;
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            ',' if depth == 1 => out.push((Vec::new(), String::new())),
            c => out[last].1.push(c),
        }
        i += 1;
    }
    out
}

/// Constants of text, by name.
fn constants(code: &[char]) -> BTreeMap<String, String> {
    let text: String = code.iter().collect();
    let mut out = BTreeMap::new();
    for (at, _) in text.match_indices(": &str =") {
        let name: String = text[..at].chars().rev().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        let rest: Vec<char> = text[at + 8..].trim_start().chars().collect();
        if !name.is_empty() && rest.first() == Some(&'"') {
            out.insert(name.chars().rev().collect(), string(&rest, 0).0);
        }
    }
    out
}

fn cell(argument: Option<&(Vec<String>, String)>, known: &BTreeMap<String, String>) -> String {
    let Some((strings, words)) = argument else { return "…".into() };
    let named = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter_map(|w| known.get(w));
    // A message has blanks; other strings are parts of it.
    let all: Vec<&String> = strings.iter().filter(|s| s.contains(' ')).chain(named).collect();
    if all.is_empty() {
        return strings.first().cloned().filter(|s| !s.is_empty()).unwrap_or_else(|| "…".into());
    }
    all.into_iter().map(|s| s.trim().to_string()).collect::<Vec<_>>().join(" / ")
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, out),
            false if path.extension().is_some_and(|e| e == "rs") => out.push(path),
            false => {}
        }
    }
}

fn page(root: &Path) -> String {
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    files.sort();
    let code: Vec<(String, Vec<char>)> = files
        .iter()
        .map(|f| (f.strip_prefix(root).unwrap().display().to_string(), bare(&std::fs::read_to_string(f).unwrap())))
        .collect();
    let all: BTreeMap<String, String> = code.iter().flat_map(|c| constants(&c.1)).collect();
    let escape = |s: &str| s.replace('|', "\\|").replace('\n', " ");
    let mut page = HEAD.to_string();
    for (file, code) in &code {
        let mut known = all.clone();
        known.extend(constants(code));
        let mut rows = String::new();
        for (call, first) in [("Error::input(", 1), ("Error::usage(", 0)] {
            let wanted: Vec<char> = call.chars().collect();
            for at in (0..code.len().saturating_sub(wanted.len())).filter(|&i| code[i..].starts_with(&wanted)) {
                let arguments = arguments(code, at + wanted.len() - 1);
                let found = cell(arguments.get(first), &known);
                let fix = if first == 1 { cell(arguments.get(2), &known) } else { String::new() };
                if found != "…" || fix != "…" {
                    let _ = writeln!(rows, "| {} | {} |", escape(&found), escape(&fix));
                }
            }
        }
        if !rows.is_empty() {
            let _ = write!(page, "\n## `{file}`\n\n| found | what to do |\n| --- | --- |\n{rows}");
        }
    }
    page
}

#[test]
fn messages() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (page, path) = (page(root), root.join("docs/messages.md"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap();
    assert!(there == page, "{} is out of date: UPDATE=1 cargo test --release --test program messages", path.display());
}

#[test]
fn strings_and_arguments_are_read_as_the_compiler_does() {
    let source = "const FIX: &str = \"give \\\n     it\"; // Error::input(x)\nf(Error::input(p, format!(\"a, {}\\\"b\", g(1, 2)), FIX))";
    let code = bare(source);
    let at = code.iter().collect::<String>().find("Error::input(").unwrap() + 12;
    let arguments = arguments(&code, at);
    assert_eq!(arguments.len(), 3);
    assert_eq!(arguments[1].0, ["a, {}\"b"]);
    assert_eq!(cell(arguments.get(2), &constants(&code)), "give it");
}
