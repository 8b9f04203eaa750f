#![no_main]

use std::sync::OnceLock;

// The parser that SCCROSSREC_PARSER names.
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static NAME: OnceLock<String> = OnceLock::new();
    let name = NAME.get_or_init(|| std::env::var("SCCROSSREC_PARSER").expect("SCCROSSREC_PARSER=NAME"));
    sccrossrec_fuzz::feed(name, bytes);
});
