//! The reference page is that of this program.

/// `UPDATE=1` writes it.
#[test]
fn reference_page_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let page = sccrossrec::cli::reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(found.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or_else(|| page.lines().count().min(found.lines().count())) + 1;
    assert!(
        page == found,
        "docs/cli.md is out of date from line {line}: UPDATE=1 cargo test --release --test program reference"
    );
}
