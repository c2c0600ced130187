//! The `data` program as its users run it.
use std::path::Path;
use std::process::Command;

fn data(home: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_data"))
        .args(args)
        .current_dir(home)
        .env("HOME", home)
        .env_remove("XDG_CACHE_HOME")
        .env_remove("GUMBEL_DATA_DIR")
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn it_says_where_sets_are_and_how_they_can_be_had() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data/e2e");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["e2e.train.txt", "e2e.valid.txt"] {
        std::fs::write(folder.join(file), "something else\n").unwrap();
    }
    let (code, list) = data(home.path(), &["list"]);
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert_eq!(code, Some(0));
    assert!(line("mnist").contains("data fetch mnist") && line("mnist").contains("11.6 MB"));
    assert!(line("omniglot").contains("made from others"));
    assert!(line("e2e").ends_with("data/e2e"), "{}", line("e2e"));

    let (code, text) = data(home.path(), &["verify"]);
    assert!(code == Some(65) && text.contains("e2e.train.txt: not the file"), "{text}");
    let (code, text) = data(home.path(), &["verify", "mnist"]);
    assert!(code == Some(69) && text.contains("mnist is not on this machine"), "{text}");
    let (code, text) = data(home.path(), &["fetch", "mnist"]);
    assert!(code == Some(69) && text.contains("no download: HF_HUB_OFFLINE is set"), "{text}");
    let (code, text) = data(home.path(), &["fetch", "mnits"]);
    assert!(code == Some(2) && text.contains("`mnits`; there are mnist, "), "{text}");
}
