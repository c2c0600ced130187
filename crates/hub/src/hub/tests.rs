//! A hub that makes every mistake that one has been seen to make.
use std::time::Duration;

use super::*;
use crate::Kind;
use crate::mock::{Fault, Mock};

fn hub(mock: &Mock) -> Hub {
    let limits = Limits {
        connect: Duration::from_millis(500),
        silence: Duration::from_millis(300),
        pause: Duration::from_millis(5),
    };
    let token = Some("secret".to_owned());
    Hub { endpoint: mock.url(), token, cache: None, offline: None, limits }
}

fn repository() -> Repository {
    Repository::new(Kind::Dataset, "o/n", "refs/convert/parquet").unwrap()
}

const PATH: &str = "/datasets/o/n/resolve/refs%2Fconvert%2Fparquet/a/0.parquet";

fn published() -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn fetch(mock: &Mock) -> Result<Vec<u8>> {
    hub(mock).fetch(&repository(), "a/0.parquet", 1 << 20, &|_, _| ())
}

#[test]
fn faults_that_pass_are_passed_and_the_rest_is_asked_for() {
    let bytes = published();
    for faults in [
        vec![],
        vec![Fault::Status(503); 3],
        vec![Fault::Status(429)],
        vec![Fault::Cut(70_000), Fault::Cut(30_000), Fault::Status(500), Fault::Cut(1)],
        vec![Fault::Silent],
        vec![Fault::Cut(70_000), Fault::NoRange],
        vec![Fault::Cut(70_000), Fault::WrongRange],
        vec![Fault::Cut(70_000), Fault::Status(416)],
        vec![Fault::Redirect(PATH.to_owned())],
    ] {
        let mock = Mock::new(&[(PATH, &bytes)], faults.clone());
        let found = fetch(&mock).unwrap_or_else(|error| panic!("{faults:?}: {error}"));
        assert!(found == bytes, "{faults:?}");
        if let [Fault::Cut(_), Fault::Cut(_), ..] = &faults[..] {
            let ranges: Vec<String> = mock.requests().iter().map(|r| r.range.clone()).collect();
            assert!(ranges[1].starts_with("bytes=") && ranges.len() == 5, "{ranges:?}");
        }
    }
}

#[test]
fn what_is_not_the_file_is_never_one() {
    let bytes = published();
    let html = b"<!DOCTYPE html><html>log in</html>".to_vec();
    for (fault, code, part) in [
        (vec![Fault::Status(404)], 69, "status 404"),
        (vec![Fault::Status(401)], 69, "set HF_TOKEN"),
        (vec![Fault::Status(501); 9], 69, "status 501"),
        (vec![Fault::Cut(0); 9], 69, "disconnected"),
        (vec![Fault::Other(html)], 65, "an HTML page"),
        (vec![Fault::Other(vec![7; 2 << 20])], 65, "more than the 1048576 bytes"),
        (vec![Fault::Linked("0".repeat(64))], 65, "the hub says 0000"),
        (vec![Fault::Redirect(PATH.to_owned()); 9], 69, "on and on"),
        (vec![Fault::Redirect("nowhere".to_owned())], 69, "to nowhere"),
        // Never more than before, however long it goes on.
        (vec![[Fault::Cut(70_000), Fault::WrongRange]; 9].concat(), 69, "disconnected"),
        (vec![Fault::Piece(100); 9], 69, "another part"),
    ] {
        let mock = Mock::new(&[(PATH, &bytes)], fault.clone());
        let error = fetch(&mock).unwrap_err();
        assert_eq!(error.exit_code(), code, "{fault:?}: {error}");
        assert!(error.to_string().contains(part), "{fault:?}: {error}");
        assert!(!error.to_string().contains("secret"));
    }
    let mock = Mock::new(&[(PATH, &bytes)], vec![]);
    let nobody = Hub { endpoint: "http://127.0.0.1:1".into(), ..hub(&mock) };
    let error = nobody.fetch(&repository(), "a/0.parquet", 9, &|_, _| ()).unwrap_err();
    assert_eq!(error.exit_code(), 69, "{error}");
}

#[test]
fn the_token_goes_to_the_hub_and_to_no_other_host() {
    let bytes = published();
    let other = Mock::new(&[("/file", &bytes)], vec![]);
    let mock = Mock::new(&[(PATH, &bytes)], vec![Fault::Redirect(format!("{}/file", other.url()))]);
    assert!(fetch(&mock).unwrap() == bytes);
    assert_eq!(mock.requests()[0].authorization, "Bearer secret");
    assert_eq!(other.requests()[0].authorization, "");
    assert!(!format!("{:?}", hub(&mock)).contains("secret"));
}

#[test]
fn offline_sends_nothing() {
    let mock = Mock::new(&[(PATH, b"x")], vec![]);
    let offline = Hub { offline: Some("HF_HUB_OFFLINE"), ..hub(&mock) };
    let error = offline.fetch(&repository(), "a/0.parquet", 9, &|_, _| ()).unwrap_err();
    assert!(error.exit_code() == 69 && error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    assert!(mock.requests().is_empty());
}

#[test]
fn a_model_arrives_whole_and_nothing_leaves_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("/o/n/resolve/main/{name}");
    let (model, config, evil) = (file("model.safetensors"), file("config.toml"), file("../evil"));
    let mock = Mock::new(&[(&model, b"weights"), (&config, b"seed = 1\n"), (&evil, b"x")], vec![]);
    let (folder, repository) = (root.path().join("m"), "o/n".parse().unwrap());
    hub(&mock).pull(&repository, &folder, &|_, _, _| ()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), b"weights");
    assert_eq!(fs::read(folder.join("config.toml")).unwrap(), b"seed = 1\n");
    let names: Vec<_> =
        fs::read_dir(root.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["m"]);
    let again = hub(&mock).pull(&repository, &folder, &|_, _, _| ()).unwrap_err();
    assert!(again.exit_code() == 2 && again.to_string().contains("there already"));
    let mock = Mock::new(&[(&config, b"seed = 1\n")], vec![]);
    let none = hub(&mock).pull(&repository, &root.path().join("n"), &|_, _, _| ()).unwrap_err();
    assert!(none.to_string().contains("no model.safetensors"), "{none}");
}

#[test]
fn a_cache_of_the_hubs_programs_is_read_and_not_believed() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("datasets--o--n");
    let mock = Mock::serve(b"", vec![]);
    let hub = Hub { cache: Some(root.path().into()), ..hub(&mock) };
    assert_eq!(hub.cached(&repository(), "a/0.parquet"), None);
    fs::create_dir_all(folder.join("refs/refs/convert")).unwrap();
    fs::create_dir_all(folder.join("snapshots/abc123/a")).unwrap();
    let file = folder.join("snapshots/abc123/a/0.parquet");
    fs::write(&file, b"x").unwrap();
    fs::write(folder.join("refs/refs/convert/parquet"), "abc123").unwrap();
    assert_eq!(hub.cached(&repository(), "a/0.parquet"), Some(file));
    fs::write(folder.join("refs/refs/convert/parquet"), "../abc123").unwrap();
    assert_eq!(hub.cached(&repository(), "a/0.parquet"), None);
}

#[cfg(feature = "push")]
#[test]
fn what_is_pushed_can_be_pulled() {
    use crate::Visibility;

    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("m");
    fs::create_dir(&folder).unwrap();
    let weights: Vec<u8> = published();
    fs::write(folder.join("model.safetensors"), &weights).unwrap();
    fs::write(folder.join("README.md"), "# a model\n").unwrap();
    let mock = Mock::new(&[], vec![]);
    let repository: Repository = "o/n".parse().unwrap();
    hub(&mock).push(&repository, &folder, Visibility::Private).unwrap();
    assert!(mock.requests().iter().all(|request| request.authorization == "Bearer secret"));
    let back = root.path().join("back");
    hub(&mock).pull(&repository, &back, &|_, _, _| ()).unwrap();
    assert!(fs::read(back.join("model.safetensors")).unwrap() == weights);
    let nobody = Hub { token: None, ..hub(&mock) };
    assert_eq!(nobody.push(&repository, &folder, Visibility::Private).unwrap_err().exit_code(), 2);
    let empty = hub(&mock).push(&repository, root.path(), Visibility::Private).unwrap_err();
    assert!(empty.to_string().contains("no model.safetensors"), "{empty}");
}
