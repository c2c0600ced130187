//! vae
fn main() {}
