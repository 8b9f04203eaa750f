#![no_main]

use std::sync::OnceLock;

// The parser that SCCROSSREC_PARSER names. With SCCROSSREC_CORPUS=FOLDER inputs to start from are written there instead.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static NAME: OnceLock<String> = OnceLock::new();
    let name = NAME.get_or_init(|| {
        if let Some(folder) = std::env::var_os("SCCROSSREC_CORPUS") {
            sccrossrec_fuzz::write_corpus(folder.as_ref());
            std::process::exit(0);
        }
        std::env::var("SCCROSSREC_PARSER").expect("SCCROSSREC_PARSER=NAME")
    });
    sccrossrec_fuzz::feed(name, bytes);
});
