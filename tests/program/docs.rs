//! What the documentation says can be followed: links lead somewhere, commands are commands, columns are named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::common::program::{program, run};

/// Flags of other programs and of before, in running text.
const FOREIGN: [&str; 10] = [
    "--samples",
    "--release",
    "--test",
    "--lib",
    "--nocapture",
    "--no-fail-fast",
    "--open",
    "--signal",
    "--bench",
    "--flag",
];
/// Pages that are made, or that show what belongs to developers.
const MADE: [&str; 2] = ["cli.md", "messages.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// README.md and docs/*.md, by name.
fn pages() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(root().join("docs")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = docs.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    all.push(root().join("README.md"));
    all.sort();
    all
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn made(page: &Path) -> bool {
    MADE.iter().any(|m| page.ends_with(Path::new("docs").join(m)))
}

/// Lines outside of fences, with their numbers, and fences: language, the line before them, number of their first line, content.
#[derive(Default)]
struct Parts {
    prose: Vec<(usize, String)>,
    fences: Vec<(String, usize, Vec<String>)>,
}

fn parts(text: &str) -> Parts {
    let mut out = Parts::default();
    let mut fence: Option<(String, usize, Vec<String>)> = None;
    for (line, i) in text.lines().zip(1..) {
        match (line.trim_start().strip_prefix("```"), &mut fence) {
            (Some(_), Some(_)) => out.fences.extend(fence.take()),
            (Some(language), None) => fence = Some((language.trim().into(), i + 1, Vec::new())),
            (None, Some(f)) => f.2.push(line.into()),
            (None, None) => out.prose.push((i, line.into())),
        }
    }
    assert!(fence.is_none(), "a block is not closed");
    out
}

/// A line without its code spans, and these.
fn spans(line: &str) -> (String, Vec<String>) {
    let (mut plain, mut code) = (String::new(), Vec::new());
    for (piece, i) in line.split('`').zip(0..) {
        if i % 2 == 0 { plain += piece } else { code.push(piece.to_string()) }
    }
    (plain, code)
}

/// `[text](target)`: the targets.
fn targets(line: &str) -> Vec<String> {
    let mut pieces = line.split("](");
    pieces.next();
    pieces.filter_map(|p| p.split_once(')')).map(|(target, _)| target.to_string()).collect()
}

/// The anchors of a page: its headings as GitHub calls them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut out = BTreeSet::new();
    for (_, line) in parts(text).prose {
        let Some(title) = line.strip_prefix('#').map(|l| l.trim_start_matches('#')).filter(|l| l.starts_with(' '))
        else {
            continue;
        };
        let title = title.trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let n = seen.entry(slug.clone()).or_default();
        out.insert(if *n == 0 { slug } else { format!("{slug}-{n}") });
        *n += 1;
    }
    out
}

/// Where a page links to nothing.
fn broken(page: &Path, text: &str) -> Vec<String> {
    let mut told = Vec::new();
    for (i, line) in parts(text).prose {
        for target in targets(&spans(&line).0) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let at = if file.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(file) };
            // Without `..`, so that it can be compared with names.
            let mut plain = PathBuf::new();
            for part in at.components() {
                if part == std::path::Component::ParentDir {
                    plain.pop();
                } else {
                    plain.push(part)
                }
            }
            if !plain.exists() {
                told.push(format!("{}:{i}: no file {target}", name(page)));
            } else if !anchor.is_empty() && !anchors(&read(&plain)).contains(anchor) {
                told.push(format!("{}:{i}: no heading {target}", name(page)));
            }
        }
    }
    told
}

#[test]
fn links_lead_somewhere() {
    let told: Vec<String> = pages().iter().filter(|p| !made(p)).flat_map(|p| broken(p, &read(p))).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn broken_links_are_found() {
    let page = root().join("docs/README.md");
    let text = "# A b\n[x](#a-b) [y](nothing.md) `[z](no.md)`\n```sh\n[w](no.md)\n```\n[v](model.md#none) [u](../LICENSE-MIT)\n";
    let told = broken(&page, text);
    assert_eq!(told.len(), 3, "{told:?}"); // #a-b is a heading of the text, not of the file
    assert!(told[1].contains("no file nothing.md") && told[2].contains("no heading model.md#none"), "{told:?}");
}

#[test]
fn readme_is_short_and_has_its_commands() {
    let text = read(&root().join("README.md"));
    assert!(text.lines().count() <= 150, "README.md has {} lines: 150 at most", text.lines().count());
    for (mark, command) in
        [("main job", "cargo run --release -- demo --out demo"), ("test command", "cargo test --release")]
    {
        let found = text.split(&format!("<!-- {mark} -->\n```sh\n")).nth(1).and_then(|t| t.lines().next());
        assert!(found.is_some_and(|l| l.contains(command)), "README.md: {mark}: {found:?}");
    }
}

/// What `--help` says, kept.
#[derive(Default)]
struct Help(BTreeMap<String, Option<String>>);

impl Help {
    /// Of a verb (and the one within it); `None` where there is none of that name.
    fn of(&mut self, verb: &str) -> Option<&str> {
        let ask = || {
            let mut args: Vec<&str> = verb.split_whitespace().collect();
            args.push("--help");
            let out = run(root(), &args);
            out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
        };
        self.0.entry(verb.into()).or_insert_with(ask).as_deref()
    }

    /// Verbs below one (`""`: of the program).
    fn verbs(&mut self, below: &str) -> Vec<String> {
        let text = self.of(below).unwrap_or_default();
        // Under headings of their own, before the flags of all verbs.
        let listed = text.lines().skip_while(|l| !l.starts_with("Usage:")).skip(1);
        let listed = listed.take_while(|l| *l != "Common:");
        let first = |l: &str| {
            l.strip_prefix("  ")
                .filter(|l| !l.starts_with([' ', '-', '<', '[']))
                .and_then(|l| l.split_whitespace().next())
                .map(String::from)
        };
        listed.filter_map(first).filter(|v| v != "help").collect()
    }

    fn flags(&mut self, verb: &str) -> Option<BTreeSet<String>> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let words = self.of(verb)?.split(move |c| !is_part(c));
        Some(words.filter(|w| w.starts_with("--") && w.len() > 2).map(String::from).collect())
    }
}

/// The commands of a block that call the program, as words, with the number of their line.
fn commands(first: usize, lines: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut out = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (line, i) in lines.iter().zip(first..) {
        // A comment begins behind a blank: `sample#` is a word.
        let line = line.split(" #").next().unwrap_or_default().trim();
        let (at, text) = begun.take().map_or((i, line.to_string()), |(at, text)| (at, format!("{text} {line}")));
        match text.strip_suffix('\\') {
            Some(text) => begun = Some((at, text.to_string())),
            None => {
                for part in text.split([';', '|', '&', '(', ')']) {
                    let mut words = part.split_whitespace().skip_while(|w| ["do", "then", "+"].contains(w));
                    if words.next() == Some("sccrossrec") {
                        out.push((at, words.map(String::from).collect()));
                    }
                }
            }
        }
    }
    out
}

/// What is wrong with a command.
fn wrong(words: &[String], help: &mut Help) -> Option<String> {
    let first = words.first()?;
    if first.starts_with("--") {
        let known = help.flags("")?;
        return (!known.contains(first)).then(|| format!("no flag {first}"));
    }
    let within = words.get(1).map(|second| format!("{first} {second}"));
    let nested = !help.verbs(first).is_empty();
    let verb = if nested { within? } else { first.clone() };
    let Some(known) = help.flags(&verb) else {
        return Some(format!("no verb {verb}"));
    };
    let flags = words.iter().filter(|w| w.starts_with("--")).map(|w| w.split('=').next().unwrap_or(w).to_string());
    let unknown: Vec<String> = flags.filter(|f| !known.contains(f)).collect();
    (!unknown.is_empty()).then(|| format!("{verb} has no {}", unknown.join(", ")))
}

#[test]
fn printed_commands_are_known() {
    let (mut help, mut told, mut seen) = (Help::default(), Vec::new(), 0);
    for page in pages().iter().filter(|p| !made(p)) {
        for (language, first, lines) in parts(&read(page)).fences {
            if language != "sh" {
                continue;
            }
            for (i, words) in commands(first, &lines) {
                seen += 1;
                told.extend(wrong(&words, &mut help).map(|w| format!("{}:{i}: {w}", name(page))));
            }
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(seen > 40, "only {seen} commands were found");
}

#[test]
fn unknown_commands_are_found() {
    let mut help = Help::default();
    let lines = [
        "a && sccrossrec train --data d \\",
        "  --no-such x # --none",
        "sccrossrec tray; sccrossrec plot arcs --gene G",
    ];
    let found = commands(7, &lines.map(String::from));
    assert_eq!(found.iter().map(|c| c.0).collect::<Vec<_>>(), [7, 9, 9]);
    let told: Vec<Option<String>> = found.iter().map(|c| wrong(&c.1, &mut help)).collect();
    assert_eq!(told[0].as_deref(), Some("train has no --no-such"));
    assert_eq!(told[1].as_deref(), Some("no verb tray"));
    assert_eq!(told[2], None);
}

/// Flags in running text are flags of some verb.
#[test]
fn flags_in_the_text_are_known() {
    let mut help = Help::default();
    let mut verbs = vec![String::new()];
    for verb in help.verbs("") {
        verbs.extend(help.verbs(&verb).iter().map(|v| format!("{verb} {v}")));
        verbs.push(verb);
    }
    assert!(verbs.len() > 20, "{verbs:?}");
    let known: BTreeSet<String> = verbs.iter().filter_map(|v| help.flags(v)).flatten().collect();
    let mut told = Vec::new();
    for page in pages().iter().filter(|p| !made(p) && !p.ends_with("results.md") && !p.ends_with("settings.md")) {
        for (i, line) in parts(&read(page)).prose {
            for span in spans(&line).1 {
                let words = span.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                let unknown =
                    words.filter(|w| w.starts_with("--") && w.len() > 2 && !known.contains(*w) && !FOREIGN.contains(w));
                told.extend(unknown.map(|w| format!("{}:{i}: {w}", name(page))));
            }
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn every_verb_is_in_the_contents() {
    let text = read(&root().join("docs/README.md")) + &read(&root().join("README.md"));
    let code: BTreeSet<String> = text.lines().flat_map(|l| spans(l).1).collect();
    let missing: Vec<String> = Help::default().verbs("").into_iter().filter(|v| !code.contains(v)).collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
    assert!(program().arg("--version").output().unwrap().status.success());
}

#[test]
fn every_page_is_in_the_contents() {
    let contents = read(&root().join("docs/README.md"));
    let there: Vec<String> = pages()
        .iter()
        .filter(|p| p.parent() == Some(root().join("docs").as_path()))
        .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let missing: Vec<&String> = there
        .iter()
        .filter(|p| *p != "README.md" && *p != "reference.md" && !contents.contains(&format!("({p})")))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}

#[test]
fn outputs_name_every_column_of_links() {
    use sccrossrec::discover::{evidence::table, maps};
    let text = read(&root().join("docs/outputs.md"));
    let section = |title: &str| {
        let behind =
            text.split(&format!("\n### {title}\n")).nth(1).unwrap_or_else(|| panic!("docs/outputs.md: no {title}"));
        behind.split("\n### ").next().unwrap_or_default().to_string()
    };
    let tables: [(&str, &[&str]); 3] =
        [("links.tsv", &table::COLUMNS), ("links/TYPE.tsv", &table::TYPE_COLUMNS), ("attention", &maps::LINK_COLUMNS)];
    for (title, columns) in tables {
        let of = section(title);
        let missing: Vec<_> = columns.iter().filter(|c| !of.contains(&format!("`{c}`"))).collect();
        assert!(missing.is_empty(), "docs/outputs.md, {title}: {missing:?}");
    }
}
