//! archive
fn main() {}
