//! The benchmark as another program runs it.
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn it_answers_requests_line_by_line_until_its_input_ends() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--serve", "--threads", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    bench.stdin.take().unwrap().write_all(b"W3c 0\nW0 0\nW3ch 0\n").unwrap();
    let output = bench.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[0]["ready"].as_str().unwrap().contains("1 threads"), "{text}");
    for (line, name) in [(1, "W3c"), (3, "W3ch")] {
        assert_eq!(lines[line]["w"], name);
        assert!(lines[line]["ms"].as_array().unwrap().len() >= 5, "{text}");
    }
    assert!(lines[2]["error"].as_str().unwrap().contains("W0"), "{text}");
}

#[test]
fn losses_are_written_with_what_they_depend_on() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("--dump")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(directory.path().join("losses.json")).unwrap();
    let losses: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (name, noise) in [("W1", "gumbel"), ("W2", "logistic")] {
        assert!(losses[name]["loss"].as_f64().unwrap() > 100.);
        let file = std::fs::read(directory.path().join(format!("{name}.safetensors"))).unwrap();
        let header = String::from_utf8_lossy(&file[8..2000.min(file.len())]);
        for part in ["encoder.0.weight", "\"x\"", noise] {
            assert!(header.contains(part), "{name} has no {part}");
        }
    }
}
