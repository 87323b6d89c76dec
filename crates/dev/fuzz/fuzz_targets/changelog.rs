//! See [`fuzzing::changelog`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::changelog::check(data));
