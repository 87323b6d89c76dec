//! See [`mailpulse_fuzz::verify`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailpulse_fuzz::verify::check(data));
