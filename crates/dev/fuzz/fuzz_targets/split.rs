//! See [`fuzzing::split`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::split::check(data));
