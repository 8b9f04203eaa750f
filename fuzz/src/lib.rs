//! What the targets share: the parsers and their good files, made once a process.

#[path = "../../tests/common/parsers.rs"]
mod parsers;

use std::sync::OnceLock;

use parsers::{Files, PARSERS};

/// Feeds an input to the parser of that name. It must be read, or be refused with a line that names the file: anything else
/// is a panic, which libFuzzer keeps.
pub fn feed(name: &str, bytes: &[u8]) {
    static FILES: OnceLock<Files> = OnceLock::new();
    let parser = PARSERS.iter().find(|p| p.name == name).expect("a parser of that name");
    let _ = FILES.get_or_init(Files::new).feed(parser, bytes);
}

/// Writes the good file of every parser to `FOLDER/NAME/good`, for libFuzzer to start from.
pub fn write_corpus(folder: &std::path::Path) {
    let files = Files::new();
    for p in PARSERS {
        let dir = folder.join(p.name);
        std::fs::create_dir_all(&dir).expect("the folder of a corpus can be made");
        std::fs::write(dir.join("good"), files.good(p)).expect("a corpus can be written");
    }
}
