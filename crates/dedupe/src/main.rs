//! dedupe
fn main() {}
