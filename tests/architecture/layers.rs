//! Imports run down: the `use` lines and paths of `src` against the order of layers in `docs/design.md`.
//!
//! The block ```` ```layers ```` there has a layer a line, the lowest first, each the names of top modules. A module may import
//! from lower lines, and from its own where no circle comes of it. Within a top module the files may not import each other in
//! a circle; a folder's own file may use those below it and they may take from it, and what it hands on from one of them is of
//! that one. Comments, strings and what is under `#[cfg(test)]` are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::source::{Written, closing, code, fenced, line_of, paths, skip, texts, without_tests, word_at, words};

/// One file below `src`.
struct File {
    /// As in messages: `src/a/b.rs`.
    name: String,
    module: Vec<String>,
    code: Vec<u8>,
    children: Vec<String>,
    paths: Vec<Found>,
}

/// A path in a file, and in what module of it.
struct Found {
    written: Written,
    inside: Vec<String>,
    line: usize,
}

struct Tree(Vec<File>);

fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(String::from).collect() }
}

/// Modules written inside of a file: where each begins and ends.
fn inline_modules(t: &[u8]) -> Vec<(usize, usize, String)> {
    let block = |at: usize| {
        let (name, end) = word_at(t, at + 3);
        let open = skip(t, end);
        (t.get(open) == Some(&b'{')).then(|| (open, closing(t, open), name))
    };
    words(t, "mod").into_iter().filter_map(block).collect()
}

impl Tree {
    /// Of files by their path below `src`.
    fn new(files: &[(String, String)]) -> Self {
        // The program itself is no module of the library.
        let files = files.iter().filter(|(name, _)| name != "main.rs");
        Tree(files.map(|(name, text)| Self::file(name, text)).collect())
    }

    fn file(name: &str, text: &str) -> File {
        let mut code = code(text);
        without_tests(&mut code);
        let module = module_of(name);
        let declared = words(&code, "mod").into_iter().filter_map(|at| {
            let (child, end) = word_at(&code, at + 3);
            (code.get(skip(&code, end)) == Some(&b';')).then_some(child)
        });
        let children: Vec<String> = declared.collect();
        let inline = inline_modules(&code);
        let found = paths(&code, &children).into_iter().map(|written| {
            let around = inline.iter().filter(|m| m.0 < written.at && written.at < m.1).map(|m| m.2.clone());
            Found { inside: module.iter().cloned().chain(around).collect(), line: line_of(&code, written.at), written }
        });
        let paths = found.collect();
        File { name: format!("src/{name}"), module, paths, code, children }
    }

    fn at(&self, module: &[String]) -> Option<&File> {
        self.0.iter().find(|f| f.module == module)
    }

    /// The names of the top modules.
    fn tops(&self) -> BTreeSet<&str> {
        self.0.iter().filter_map(|f| f.module.first()).map(String::as_str).collect()
    }

    /// A path from the root of the crate; `None` for one of another crate.
    fn absolute(&self, inside: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut at = inside.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|p| p == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            first => {
                let here = self.at(inside)?;
                if !here.children.iter().any(|c| c == first) {
                    return None;
                }
            }
        }
        Some([&at[..], rest].concat())
    }

    /// The file in which what this path names is written, through what is handed on within one top module (or from the root).
    fn home(&self, path: &[String], seen: &mut Vec<Vec<String>>) -> Option<&File> {
        if seen.iter().any(|s| s == path) {
            return None;
        }
        seen.push(path.to_vec());
        // The longest module on the way.
        let n = (0..=path.len()).rev().find(|&n| self.at(&path[..n]).is_some())?;
        let file = self.at(&path[..n])?;
        let Some(name) = path.get(n).filter(|p| *p != "*") else { return Some(file) };
        let defines = |f: &File| {
            let kinds = ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "mod", "macro_rules"];
            words(&f.code, name).into_iter().any(|at| {
                let before = String::from_utf8_lossy(&f.code[at.saturating_sub(20)..at]).into_owned();
                let before = before.trim_end().trim_end_matches(" mut");
                kinds.iter().any(|k| before.ends_with(k) || before.ends_with(&format!("{k}!")))
            })
        };
        if defines(file) {
            return Some(file);
        }
        let bound = |f: &Found| f.written.used && f.written.name == *name && f.inside == file.module;
        if let Some(found) = file.paths.iter().find(|f| bound(f)) {
            let whole = [&found.written.path[..], &path[n + 1..]].concat();
            return self.absolute(&file.module, &whole).and_then(|p| self.home(&p, seen));
        }
        let globs = file.paths.iter().filter(|f| f.written.used && f.written.name == "*" && f.inside == file.module);
        for glob in globs {
            let from = &glob.written.path[..glob.written.path.len() - 1];
            if let Some(target) = self.absolute(&file.module, from).and_then(|p| self.at(&p)).filter(|t| defines(t)) {
                return Some(target);
            }
        }
        Some(file)
    }
}

/// What imports what, with the place of the first import.
type Arrows<'t> = BTreeMap<(&'t str, &'t str), (&'t str, usize)>;

/// Imports among the top modules.
fn among_tops(tree: &Tree) -> Arrows<'_> {
    let tops = tree.tops();
    let mut arrows = Arrows::new();
    for file in &tree.0 {
        let Some(from) = file.module.first() else { continue };
        for found in &file.paths {
            let Some(path) = tree.absolute(&found.inside, &found.written.path) else { continue };
            // The root hands names on.
            let to = match path.first().and_then(|p| tops.get(p.as_str())) {
                Some(top) => Some(*top),
                None => tree.home(&path, &mut Vec::new()).and_then(|f| f.module.first()).map(String::as_str),
            };
            if let Some(to) = to.filter(|to| to != from) {
                arrows.entry((from, to)).or_insert((&file.name, found.line));
            }
        }
    }
    arrows
}

/// Imports among the files of one top module.
fn among_files<'t>(tree: &'t Tree, top: &str) -> Arrows<'t> {
    let mut arrows = Arrows::new();
    for file in tree.0.iter().filter(|f| f.module.first().is_some_and(|m| m == top)) {
        for found in &file.paths {
            let Some(path) = tree.absolute(&found.inside, &found.written.path) else { continue };
            if path.first().is_none_or(|p| p != top) {
                continue;
            }
            let Some(home) = tree.home(&path, &mut Vec::new()) else { continue };
            // A folder's own file directs those below it, which take from it what they share.
            let below = home.module.starts_with(&file.module);
            if !below && home.module.first() == file.module.first() {
                arrows.entry((&file.name, &home.name)).or_insert((&file.name, found.line));
            }
        }
    }
    arrows
}

/// The shortest circle through each name, each once, in words.
fn circles(arrows: &Arrows<'_>) -> Vec<String> {
    let names: BTreeSet<&str> = arrows.keys().map(|k| k.0).collect();
    let (mut told, mut covered) = (Vec::new(), BTreeSet::new());
    for begin in names {
        if covered.contains(begin) {
            continue;
        }
        let mut ways: Vec<Vec<&str>> = vec![vec![begin]];
        let mut met = BTreeSet::new();
        let circle = 'search: loop {
            let mut longer = Vec::new();
            for way in &ways {
                for (_, to) in arrows.keys().filter(|k| Some(&k.0) == way.last()) {
                    if *to == begin {
                        break 'search Some(way.clone());
                    }
                    if met.insert(*to) {
                        longer.push([&way[..], &[*to]].concat());
                    }
                }
            }
            if longer.is_empty() {
                break None;
            }
            ways = longer;
        };
        let Some(way) = circle else { continue };
        let steps = way.iter().zip(way.iter().skip(1).chain([&begin])).map(|(a, b)| {
            let (file, line) = arrows[&(*a, *b)];
            format!("{a} → {b} ({file}:{line})")
        });
        told.push(format!("a circle: {}", steps.collect::<Vec<_>>().join(", ")));
        covered.extend(way);
    }
    told
}

/// What is wrong with the imports of these files, in words.
fn faults(files: &[(String, String)], layers: &[&str]) -> Vec<String> {
    let tree = Tree::new(files);
    let mut told = Vec::new();
    let mut place: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, name) in layers.iter().enumerate().flat_map(|(i, l)| l.split_whitespace().map(move |n| (i, n))) {
        if place.insert(name, i).is_some() {
            told.push(format!("docs/design.md: `{name}` is in two layers"));
        }
    }
    let tops = tree.tops();
    told.extend(
        tops.iter().filter(|t| !place.contains_key(*t)).map(|t| format!("docs/design.md: `{t}` is in no layer")),
    );
    let gone = place.keys().filter(|n| !tops.contains(*n));
    told.extend(gone.map(|n| format!("docs/design.md: there is no module `{n}`")));
    let mut level = Arrows::new();
    for (&(from, to), &(file, line)) in &among_tops(&tree) {
        match (place.get(from), place.get(to)) {
            (Some(a), Some(b)) if a < b => {
                told.push(format!("{file}:{line}: `{from}` imports `{to}`, which is above it"))
            }
            (Some(a), Some(b)) if a == b => drop(level.insert((from, to), (file, line))),
            _ => {}
        }
    }
    told.extend(circles(&level));
    for top in &tops {
        told.extend(circles(&among_files(&tree, top)));
    }
    told
}

#[test]
fn imports_run_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let src = root.join("src");
    let name = |p: &Path| p.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
    let files: Vec<(String, String)> = texts(&src, &["rs"]).into_iter().map(|(p, t)| (name(&p), t)).collect();
    let design = std::fs::read_to_string(root.join("docs/design.md")).expect("docs/design.md");
    let layers = fenced(&design, "layers").expect("docs/design.md: no block `layers`");
    let told = faults(&files, &layers);
    assert!(told.is_empty(), "{} faults:\n{}", told.len(), told.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(files: &[(&str, &str)], layers: &[&str]) -> Vec<String> {
        faults(&files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect::<Vec<_>>(), layers)
    }

    #[test]
    fn an_import_that_runs_up_is_found() {
        let files = [
            ("lib.rs", "pub mod low;\npub mod high;\npub use low::{Error, Result};"),
            ("low.rs", "use std::fmt;\n\nuse {crate::{\n  high::Up}};\npub struct Error;\npub type Result = ();"),
            ("high.rs", "use crate::Error;\nuse crate::low::Result;\npub struct Up;"),
            ("main.rs", "fn main() { crate::high::f() }"),
        ];
        assert_eq!(told(&files, &["low", "high"]), ["src/low.rs:4: `low` imports `high`, which is above it"]);
        // The root stands for what it hands on.
        let upside = told(&files, &["high", "low"]);
        assert_eq!(upside, ["src/high.rs:1: `high` imports `low`, which is above it"]);
        assert_eq!(
            told(&files, &["low", "high high", "more"])[..2],
            ["docs/design.md: `high` is in two layers", "docs/design.md: there is no module `more`"]
        );
        assert_eq!(told(&files, &["high"])[0], "docs/design.md: `low` is in no layer");
    }

    #[test]
    fn inline_paths_count_and_comments_strings_and_tests_do_not() {
        let low = |body: &str| told(&[("low/mod.rs", body), ("high.rs", "")], &["low", "high"]);
        for up in [
            "fn f() {\n    crate::high::g::<u8>(1) }",
            "mod inner {\n fn f() { super::super::high::g() } }",
            "use super::high as other;",
            "fn f(x: &crate::high::X) {}",
        ] {
            let found = low(up);
            assert!(found.len() == 1 && found[0].contains("`low` imports `high`"), "{up}: {found:?}");
        }
        for harmless in [
            "// use crate::high;\n/* crate::high::g() */",
            "/// [`crate::high::X`]\nfn f() { \"crate::high\"; r\"crate::high\"; }",
            "#[cfg(test)]\nmod tests { use crate::high::X; }",
            "#[cfg(test)]\nfn only() { crate::high::g() }",
            "fn f() { other::high::g() }",
        ] {
            assert_eq!(low(harmless), [""; 0], "{harmless}");
        }
    }

    #[test]
    fn circles_of_modules_are_found() {
        let files = [
            ("a.rs", "use crate::b::X;"),
            ("b.rs", "\nuse crate::c;"),
            ("c.rs", "use crate::a;"),
            ("d.rs", "use crate::a;"),
        ];
        let found = told(&files, &["a b c d"]);
        assert_eq!(found, ["a circle: a → b (src/a.rs:1), b → c (src/b.rs:2), c → a (src/c.rs:1)"]);
        assert_eq!(told(&files[1..], &["b c d"]), [""; 0]);
    }

    #[test]
    fn circles_of_files_are_found() {
        let folder = |a: &str, b: &str, c: &str| {
            told(&[("m/mod.rs", c), ("m/a.rs", a), ("m/b.rs", b), ("m/b/deep.rs", "use super::super::a::A;")], &["m"])
        };
        let mods = "mod a; mod b; pub use a::A; pub use b::B;";
        assert_eq!(folder("pub struct A;", "mod deep; use super::A; pub struct B;", mods), [""; 0]);
        let found = folder("use super::B; pub struct A;", "use super::a::A; pub struct B;", mods);
        assert_eq!(found, ["a circle: src/m/a.rs → src/m/b.rs (src/m/a.rs:1), src/m/b.rs → src/m/a.rs (src/m/b.rs:1)"]);
        // A folder works with its files, and they take from it.
        assert_eq!(folder("use super::C; pub struct A;", "", "mod a; mod b; use a::A; struct C(A);"), [""; 0]);
        // What is handed on with a star.
        assert_eq!(folder("pub struct A;", "mod deep; use super::A;", "mod a; mod b; pub use a::*;"), [""; 0]);
    }
}
