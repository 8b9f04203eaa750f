//! What the library shows is little: the names at its root, and the modules for those who write ops.

use std::path::Path;

/// Modules whose documentation is shown.
const SHOWN: [&str; 2] = ["ops", "tape"];

/// Names at the root, at most.
const NAMES: usize = 70;

/// The modules of a `lib.rs` that are public and not hidden, and the names it exports.
fn surface(text: &str) -> (Vec<&str>, Vec<String>) {
    let (mut modules, mut names) = (Vec::new(), Vec::new());
    let mut attributes: Vec<&str> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if line.starts_with("#[") {
            attributes.push(line);
            rest = after;
            continue;
        }
        rest = after;
        if let Some(name) = line.strip_prefix("pub mod ").and_then(|l| l.strip_suffix(';')) {
            if !attributes.contains(&"#[doc(hidden)]") {
                modules.push(name);
            }
        } else if let Some(begun) = line.strip_prefix("pub use ") {
            // A tree of names ends at its semicolon.
            let whole = if begun.ends_with(';') {
                begun.to_string()
            } else {
                let end = rest.find(';').expect("a `pub use` that ends");
                let tree = format!("{begun}{}", &rest[..=end]);
                rest = rest[end + 1..].trim_start_matches('\n');
                tree
            };
            let list = whole.trim_end_matches(';').rsplit_once("::").map_or(whole.as_str(), |(_, last)| last);
            let list = list.trim_matches(|c| c == '{' || c == '}');
            let last = |name: &str| name.rsplit(" as ").next().unwrap_or(name).trim().to_string();
            names.extend(list.split(',').map(last).filter(|n| !n.is_empty()));
        }
        attributes.clear();
    }
    (modules, names)
}

#[test]
fn what_the_library_shows_is_little() {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = std::fs::read_to_string(lib).unwrap();
    let (modules, names) = surface(&text);
    assert_eq!(modules, SHOWN, "src/lib.rs: modules that are public and not `#[doc(hidden)]`");
    assert!((40..=NAMES).contains(&names.len()), "{} names at the root: {names:?}", names.len());
    for name in ["DataSet", "Model", "TrainConfig", "evaluate", "discover", "Page", "Progress"] {
        assert!(names.iter().any(|n| n == name), "{name} is not at the root");
    }
}

#[test]
fn names_and_modules_are_recognised() {
    let text = "#[doc(hidden)]\npub mod a;\n#[doc(hidden)]\n#[forbid(unsafe_code)]\npub mod b;\n#[forbid(unsafe_code)]\npub mod c;\n\
                pub use a::X;\npub use b::{Y, z as w};\npub use c::{\n    P,\n    Q,\n};\nmod d;\n";
    let (modules, names) = surface(text);
    assert_eq!(modules, ["c"]);
    assert_eq!(names, ["X", "Y", "w", "P", "Q"]);
}
