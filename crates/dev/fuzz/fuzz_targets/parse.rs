//! See [`fuzzing::parse`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::parse::check(data));
