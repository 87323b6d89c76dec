//! See [`fuzzing::spool_recovery`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::spool_recovery::check(data));
