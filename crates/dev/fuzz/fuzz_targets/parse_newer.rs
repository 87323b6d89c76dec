//! See [`mailpulse_fuzz::parse`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailpulse_fuzz::parse::check_newer(data));
