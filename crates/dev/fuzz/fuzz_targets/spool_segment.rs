//! See [`fuzzing::spool_segment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzing::spool_segment::check(data));
