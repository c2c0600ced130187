//! The programs as their users run them. One test binary: each more would link everything once more.
#![cfg(test)]

mod bench;
mod data;
mod device;
mod lab;
mod lm;
mod predict;
mod reliability;
mod reproduce;
mod runs;
mod semi;
mod sweep;
mod vae;
