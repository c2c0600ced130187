//! `device-check`: what it says where it can be run everywhere.
use std::io;
use std::process::{Command, Output};

fn device_check(device: &str) -> io::Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_device-check")).args(["--device", device]).output()
}

/// The processor does what it does, twice.
#[test]
fn the_processor_agrees_with_itself() {
    let output = device_check("cpu").unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for check in
        ["noise: gumbel", "gumbel_softmax, straight-through [[64, 50257]]", "a step of Adam"]
    {
        let line = text.lines().find(|line| line.contains(check));
        let agrees =
            line.is_some_and(|line| line.contains("| 0.0e0 |") && line.ends_with("| ok |"));
        assert!(agrees, "{check}: {text}");
    }
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    for device in ["cuda:97", "gpu"] {
        assert_eq!(device_check(device).unwrap().status.code(), Some(2));
    }
}
