//! See [`fuzzing::pseudonyms`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::pseudonyms::check(data));
