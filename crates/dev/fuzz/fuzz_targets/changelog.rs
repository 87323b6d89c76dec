//! See [`mailpulse_fuzz::changelog`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailpulse_fuzz::changelog::check(data));
