//! `cargo run --bin corpus FOLDER`: the inputs to start from.

fn main() {
    let folder = std::env::args_os().nth(1).expect("corpus FOLDER");
    sccrossrec_fuzz::write_corpus(folder.as_ref());
}
