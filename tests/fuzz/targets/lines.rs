//! libFuzzer's way into [`mpe_fuzz::lines`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mpe_fuzz::lines(data));
