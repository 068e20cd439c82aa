//! libFuzzer's way into [`mpe_fuzz::headers`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mpe_fuzz::headers(data));
