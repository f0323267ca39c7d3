//! The fuzzer's entry to `tests/fuzz/targets/proxy.rs`.
#![no_main]

#[path = "../../tests/fuzz/targets/all.rs"]
#[allow(dead_code)] // each program runs one of them
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::proxy::run(data));
