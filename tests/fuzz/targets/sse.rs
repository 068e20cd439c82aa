//! libFuzzer's way into [`mpe_fuzz::sse`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mpe_fuzz::sse(data));
