//! See [`mailpulse_fuzz::spool_recovery`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mailpulse_fuzz::spool_recovery::check(data));
