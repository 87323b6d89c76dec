//! See [`mailpulse_fuzz::pseudonyms`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailpulse_fuzz::pseudonyms::check(data));
