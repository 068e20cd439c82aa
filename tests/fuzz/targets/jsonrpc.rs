//! libFuzzer's way into [`mpe_fuzz::jsonrpc`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mpe_fuzz::jsonrpc(data));
