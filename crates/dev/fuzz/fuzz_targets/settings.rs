//! See [`mailpulse_fuzz::settings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailpulse_fuzz::settings::check(data));
