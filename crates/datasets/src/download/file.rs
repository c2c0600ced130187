//! One file, from the first mirror that has it.
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use gumbel_hub::network::{Patience, host, is_unreachable, part};
use ureq::http::{StatusCode, header};
use ureq::{Agent, Body};

use super::lock::lock;
use super::{Limits, Watcher};
use crate::catalogue::DataFile;
use crate::verify::{likeness, sha256};

/// Most servers that send on to another.
const REDIRECTS: u32 = 10;
/// Bytes between two reports.
const PIECE: usize = 1 << 16;

/// A file on its way into a folder.
pub(super) struct Transfer<'a> {
    pub(super) folder: &'a Path,
    pub(super) file: &'a DataFile,
    pub(super) limits: Limits,
    pub(super) watcher: &'a dyn Watcher,
}

/// Why a try failed.
enum Failure {
    /// It may go better in a moment.
    Passing(String),
    /// This mirror does not have the file.
    Mirror(String),
    /// Nothing will do.
    Final(String),
}

impl From<std::io::Error> for Failure {
    /// Of this machine's own files.
    fn from(error: std::io::Error) -> Self {
        Self::Final(format!("cannot write here: {error}"))
    }
}

impl Transfer<'_> {
    /// Puts the file into the folder, unless it is there; else what was tried, a line each.
    pub(super) fn fetch(&self, mirrors: &[&str]) -> Result<(), Vec<String>> {
        let here = |error: String| vec![error];
        fs::create_dir_all(self.folder)
            .map_err(|error| here(format!("{}: {error}", self.folder.display())))?;
        let name = self.file.name;
        let _lock =
            lock(&self.folder.join(format!(".{name}.lock")), self.limits.lock).map_err(here)?;
        // Another process may have fetched it meanwhile. Whether it is right is seen when it is read.
        if self.folder.join(name).exists() {
            return Ok(());
        }
        let mut tried = Vec::new();
        for mirror in mirrors {
            match self.ask(&format!("{mirror}{name}")) {
                Ok(()) => return Ok(()),
                Err(Failure::Final(why)) => {
                    tried.push(why);
                    break;
                }
                Err(Failure::Passing(why) | Failure::Mirror(why)) => {
                    tried.push(format!("{} ({why})", host(mirror)));
                }
            }
        }
        Err(tried)
    }

    /// Asks a mirror as long as it sends something or seems to be busy.
    fn ask(&self, url: &str) -> Result<(), Failure> {
        let agent = self.limits.network.agent(url, REDIRECTS);
        let mut patience = Patience::new(&self.limits.network, self.held());
        loop {
            self.watcher.begin(self.file.name, self.file.bytes, self.held());
            let outcome = self.attempt(&agent, url);
            self.watcher.end();
            match outcome {
                Err(Failure::Passing(why)) => {
                    if !patience.again(self.held()) {
                        return Err(Failure::Mirror(why));
                    }
                }
                other => return other,
            }
        }
    }

    /// What came so far is named by the hash of the whole, so that it is never continued as another file.
    fn part(&self) -> PathBuf {
        self.folder.join(format!(".{}.part", self.file.sha256))
    }

    fn held(&self) -> u64 {
        fs::metadata(self.part()).map_or(0, |part| part.len())
    }

    fn attempt(&self, agent: &Agent, url: &str) -> Result<(), Failure> {
        let mut held = self.held();
        if held > self.file.bytes {
            fs::remove_file(self.part())?;
            held = 0;
        }
        if held < self.file.bytes {
            self.receive(agent, url, held)?;
        }
        self.check()
    }

    /// Adds to the part what follows its first `held` bytes.
    fn receive(&self, agent: &Agent, url: &str, held: u64) -> Result<(), Failure> {
        let mut request = agent.get(url);
        if held > 0 {
            request = request.header(header::RANGE, format!("bytes={held}-"));
        }
        let response = request.call().map_err(|error| {
            let why = error.to_string();
            if is_unreachable(&error) { Failure::Mirror(why) } else { Failure::Passing(why) }
        })?;
        let goes_on = match response.status() {
            StatusCode::OK => false,
            StatusCode::PARTIAL_CONTENT
                if part(&response).is_some_and(|(start, _)| start == held) =>
            {
                true
            }
            // Nothing after what is held, or another part than asked for: from the beginning.
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PARTIAL_CONTENT => {
                fs::remove_file(self.part())?;
                return Err(Failure::Passing("it sent another part than was asked for".into()));
            }
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::Passing(format!("status {status}")));
            }
            status => return Err(Failure::Mirror(format!("status {status}"))),
        };
        self.write(response.into_body(), if goes_on { held } else { 0 })
    }

    fn write(&self, body: Body, mut held: u64) -> Result<(), Failure> {
        let mut part = File::options()
            .create(true)
            .append(held > 0)
            .write(true)
            .truncate(held == 0)
            .open(self.part())?;
        let mut body = body.into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read =
                body.read(&mut piece).map_err(|error| Failure::Passing(error.to_string()))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            // A file that is too long is not the file, and must not fill the disk.
            if held + read as u64 > self.file.bytes {
                drop(part);
                fs::remove_file(self.part())?;
                let wanted = self.file.bytes;
                return Err(Failure::Mirror(format!(
                    "it sent more than the {wanted} bytes of the file"
                )));
            }
            part.write_all(bytes)?;
            held += read as u64;
            self.watcher.progress(held);
        }
        part.sync_all()?;
        if held < self.file.bytes {
            let wanted = self.file.bytes;
            return Err(Failure::Passing(format!(
                "the connection ended after {held} of {wanted} bytes"
            )));
        }
        Ok(())
    }

    /// Gives the complete part its name if its SHA-256 is the pinned one, and removes it if not.
    fn check(&self) -> Result<(), Failure> {
        let bytes = fs::read(self.part())?;
        let sha256 = sha256(&bytes);
        if sha256 == self.file.sha256 {
            fs::rename(self.part(), self.folder.join(self.file.name))?;
            // So that a loss of power does not undo it; not every file system can.
            let _ = File::open(self.folder).and_then(|folder| folder.sync_all());
            return Ok(());
        }
        fs::remove_file(self.part())?;
        Err(Failure::Mirror(format!(
            "not the file that was published{}: sha256 {sha256}",
            likeness(&bytes)
        )))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use gumbel_hub::mock::{Fault, Mock};

    const LIMITS: Limits = Limits {
        network: gumbel_hub::network::Limits {
            connect: Duration::from_millis(500),
            silence: Duration::from_millis(300),
            pause: Duration::from_millis(5),
        },
        lock: Duration::from_secs(20),
    };

    #[derive(Default)]
    struct Log(Mutex<Vec<(u64, u64)>>);

    impl Watcher for Log {
        fn begin(&self, _: &str, bytes: u64, held: u64) {
            self.0.lock().unwrap().push((bytes, held));
        }
        fn progress(&self, held: u64) {
            self.0.lock().unwrap().last_mut().unwrap().1 = held;
        }
        fn end(&self) {}
    }

    /// 200 kB that do not repeat, and their pins.
    fn published() -> (Vec<u8>, DataFile) {
        let bytes: Vec<u8> =
            (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let sha256 = Box::leak(crate::verify::sha256(&bytes).into_boxed_str());
        let file = DataFile { name: "images.gz", bytes: bytes.len() as u64, sha256 };
        (bytes, file)
    }

    /// The folder of the file.
    fn folder_of(mock: &Mock) -> String {
        format!("{}/", mock.url())
    }

    fn fetch(folder: &Path, file: &DataFile, mirrors: &[&str]) -> Result<(), Vec<String>> {
        Transfer { folder, file, limits: LIMITS, watcher: &Log::default() }.fetch(mirrors)
    }

    fn arrived(folder: &Path, bytes: &[u8]) {
        assert_eq!(fs::read(folder.join("images.gz")).unwrap(), bytes);
        let others = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
        let others: Vec<_> = others.filter(|name| name != "images.gz").collect();
        assert_eq!(others, [".images.gz.lock"]);
    }

    #[test]
    fn a_file_arrives_and_is_asked_for_once() {
        let ((bytes, file), folder) = (published(), tempfile::tempdir().unwrap());
        let (mock, log) = (Mock::serve(&bytes, vec![]), Log::default());
        let transfer =
            Transfer { folder: folder.path(), file: &file, limits: LIMITS, watcher: &log };
        for _ in 0..2 {
            transfer.fetch(&[&folder_of(&mock)]).unwrap();
        }
        arrived(folder.path(), &bytes);
        let asked = mock.requests();
        assert_eq!((asked.len(), asked[0].path.as_str()), (1, "/images.gz"));
        assert_eq!(*log.0.lock().unwrap(), [(200_000, 200_000)]);
    }

    /// Everything that a server has been seen to do; the first answers are at fault, and those that follow are right.
    #[test]
    fn faults_that_pass_are_passed() {
        let (bytes, file) = published();
        for faults in [
            vec![Fault::Status(503); 3],
            vec![Fault::Status(429)],
            vec![Fault::Cut(70_000)],
            vec![Fault::Cut(70_000), Fault::Cut(30_000), Fault::Status(500), Fault::Cut(1)],
            vec![Fault::Short(100_000)],
            vec![Fault::Silent],
            vec![Fault::Cut(70_000), Fault::NoRange],
            vec![Fault::Cut(70_000), Fault::WrongRange],
            vec![Fault::Cut(70_000), Fault::Status(416)],
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mock = Mock::serve(&bytes, faults.clone());
            fetch(folder.path(), &file, &[&folder_of(&mock)])
                .unwrap_or_else(|e| panic!("{faults:?}: {e:?}"));
            arrived(folder.path(), &bytes);
        }
    }

    #[test]
    fn what_came_is_kept_and_the_rest_asked_for() {
        let ((bytes, file), folder) = (published(), tempfile::tempdir().unwrap());
        let mock = Mock::serve(&bytes, vec![Fault::Cut(70_000)]);
        fetch(folder.path(), &file, &[&folder_of(&mock)]).unwrap();
        let requests = mock.requests();
        let from = requests[1].range.trim_start_matches("bytes=").trim_end_matches('-');
        let from: u64 = from.parse().unwrap();
        assert!(requests.len() == 2 && (1..=70_000).contains(&from), "{requests:?}");
    }

    /// A mirror that sends something else is left, and nothing of it stays.
    #[test]
    fn no_other_file_is_ever_accepted() {
        let (bytes, file) = published();
        let mut flipped = bytes.clone();
        flipped[100_000] ^= 1;
        let page = b"<!DOCTYPE html><html>log in</html>".repeat(6000)[..200_000].to_vec();
        let longer = [bytes.as_slice(), b"x"].concat();
        let good = Mock::serve(&bytes, vec![]);
        for (wrong, said) in [(flipped, "sha256"), (page, "HTML"), (longer, "more than the 200000")]
        {
            let folder = tempfile::tempdir().unwrap();
            let bad = Mock::serve(&wrong, vec![]);
            let tried = fetch(folder.path(), &file, &[&folder_of(&bad)]).unwrap_err();
            assert!(tried.len() == 1 && tried[0].contains(said), "{tried:?}");
            assert!(tried[0].contains("127.0.0.1"), "{tried:?}");
            assert!(!folder.path().join("images.gz").exists());
            fetch(folder.path(), &file, &[&folder_of(&bad), &folder_of(&good)]).unwrap();
            arrived(folder.path(), &bytes);
        }
        for (faults, said) in [
            (vec![Fault::Status(404)], "404"),
            (vec![Fault::Status(500); 9], "500"),
            (vec![Fault::Silent; 9], "timeout"),
            (vec![Fault::Short(0); 9], "0 of 200000"),
            // Never more than before, however long it goes on.
            (vec![vec![Fault::Cut(70_000), Fault::WrongRange]; 9].concat(), "disconnected"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let tried = fetch(folder.path(), &file, &[&folder_of(&Mock::serve(&bytes, faults))])
                .unwrap_err();
            assert!(tried[0].contains(said), "{said}: {tried:?}");
        }
    }

    #[test]
    fn several_at_once_fetch_it_once() {
        let ((bytes, file), folder) = (published(), tempfile::tempdir().unwrap());
        let mock = Mock::serve(&bytes, vec![]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| fetch(folder.path(), &file, &[&folder_of(&mock)]).unwrap());
            }
        });
        arrived(folder.path(), &bytes);
        assert_eq!(mock.requests().len(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_said_once() {
        let (bytes, file) = published();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("file");
        fs::write(&folder, b"").unwrap();
        let mock = Mock::serve(&bytes, vec![]);
        let tried = fetch(&folder, &file, &[&folder_of(&mock), &folder_of(&mock)]).unwrap_err();
        assert!(tried.len() == 1 && mock.requests().is_empty(), "{tried:?}");
    }
}
