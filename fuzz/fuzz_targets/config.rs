#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gumbel_fuzz::read("config", bytes));
