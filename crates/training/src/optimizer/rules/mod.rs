//! The rules by which parameters move.
mod adam;
mod radam;
mod update;

#[cfg(test)]
mod tests;
