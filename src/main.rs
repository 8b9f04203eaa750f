//! The program. Everything is in the library; see [`sccrossrec::cli`].

fn main() {
    std::process::exit(sccrossrec::cli::main(std::env::args_os()));
}
