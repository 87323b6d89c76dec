//! See [`mailpulse_fuzz::split`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailpulse_fuzz::split::check(data));
