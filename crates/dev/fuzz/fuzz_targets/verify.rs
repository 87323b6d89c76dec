//! See [`fuzzing::verify`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::verify::check(data));
