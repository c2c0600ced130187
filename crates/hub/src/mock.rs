//! A hub of one process, that makes mistakes; for tests.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper of tests, which end where it cannot go on"
)]
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

/// The commit that every branch is at.
pub const COMMIT: &str = "0123456789012345678901234567890123456789";

/// What is wrong with an answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A status and no file.
    Status(u16),
    /// The connection ends after so many bytes.
    Cut(usize),
    /// So many bytes, called the whole.
    Short(usize),
    /// Nothing at all, for three seconds.
    Silent,
    /// The whole where a part was asked for.
    NoRange,
    /// Another part than was asked for.
    WrongRange,
    /// So many bytes where the whole was asked for, and called a part.
    Piece(usize),
    /// Other bytes.
    Other(Vec<u8>),
    /// It is elsewhere.
    Redirect(String),
    /// With the mark of a large file: its SHA-256.
    Linked(String),
}

#[derive(Debug, Default)]
struct State {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What is served whatever is asked for.
    any: Option<Vec<u8>>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<Request>>,
}

/// What was asked.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `GET`, `POST`, ….
    pub method: String,
    /// The path.
    pub path: String,
    /// The header `Range`.
    pub range: String,
    /// The header `Authorization`.
    pub authorization: String,
    body: Vec<u8>,
}

/// A server as long as the test runs.
#[derive(Debug)]
pub struct Mock {
    address: SocketAddr,
    state: Arc<State>,
}

impl Mock {
    /// Serves files by their paths; the first answers have these faults.
    #[must_use]
    pub fn new(files: &[(&str, &[u8])], faults: Vec<Fault>) -> Self {
        let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec()));
        Self::start(State { files: Mutex::new(files.collect()), ..State::default() }, faults)
    }

    /// Serves `bytes` whatever it is asked for.
    #[must_use]
    pub fn serve(bytes: &[u8], faults: Vec<Fault>) -> Self {
        Self::start(State { any: Some(bytes.to_vec()), ..State::default() }, faults)
    }

    fn start(mut state: State, mut faults: Vec<Fault>) -> Self {
        faults.reverse();
        state.faults = Mutex::new(faults);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its number");
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that goes away is no concern of a server.
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Self { address, state }
    }

    /// The address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let request = Request::read(&stream)?;
        self.requests.lock().unwrap().push(request.clone());
        if request.method != "GET" {
            return reply(&mut stream, "200 OK", &[], self.post(&request).to_string().as_bytes());
        }
        let bytes = match &self.any {
            Some(bytes) => Some(bytes.clone()),
            None => self.listing(&request.path).or_else(|| self.file(&request.path)),
        };
        let fault = self.faults.lock().unwrap().pop();
        match (bytes, fault) {
            (None, _) => reply(&mut stream, "404 Not Found", &[], b""),
            (Some(bytes), fault) => faulty(&mut stream, &request, &bytes, fault),
        }
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let files = self.files.lock().unwrap();
        files.get(path).or_else(|| files.get(&path.replace(COMMIT, "main"))).cloned()
    }

    /// Which files a repository has.
    fn listing(&self, path: &str) -> Option<Vec<u8>> {
        let (name, revision) = path.strip_prefix("/api/models/")?.split_once("/revision/")?;
        let before = format!("/{name}/resolve/{revision}/");
        let files = self.files.lock().unwrap();
        let names = files.keys().filter_map(|path| path.strip_prefix(&before));
        let siblings: Vec<Value> = names.map(|name| json!({ "rfilename": name })).collect();
        Some(json!({ "id": name, "sha": COMMIT, "siblings": siblings }).to_string().into_bytes())
    }

    /// What is put here.
    fn post(&self, request: &Request) -> Value {
        let lines = || request.body.split(|byte| *byte == b'\n');
        let values = || lines().filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        if request.path.contains("/preupload/") {
            let files = values().next().map(|value| value["files"].clone()).unwrap_or_default();
            let regular = |file: &Value| json!({ "path": file["path"], "uploadMode": "regular", "shouldIgnore": false });
            let files: Vec<Value> = files.as_array().into_iter().flatten().map(regular).collect();
            return json!({ "files": files });
        }
        if let Some((name, revision)) =
            request.path.trim_start_matches("/api/models/").split_once("/commit/")
        {
            for file in values().filter(|value| value["key"] == "file") {
                let content = file["value"]["content"].as_str().unwrap_or_default();
                let bytes = base64::engine::general_purpose::STANDARD.decode(content);
                let path = file["value"]["path"].as_str().unwrap_or_default();
                let path = format!("/{name}/resolve/{revision}/{path}");
                self.files.lock().unwrap().insert(path, bytes.unwrap_or_default());
            }
        }
        let url = format!("http://localhost/commit/{COMMIT}");
        json!({ "url": url, "commitUrl": url, "commitOid": COMMIT })
    }
}

impl Request {
    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut request, mut length, mut chunked) = (Self::default(), 0, false);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            if request.method.is_empty() {
                let mut words = line.split(' ').map(str::to_owned);
                request.method = words.next().unwrap_or_default();
                request.path = words.next().unwrap_or_default();
            } else if let Some((name, value)) = line.split_once(':') {
                let value = value.trim().to_owned();
                match name.to_ascii_lowercase().as_str() {
                    "range" => request.range = value,
                    "authorization" => request.authorization = value,
                    "content-length" => length = value.parse().unwrap_or(0),
                    "transfer-encoding" => chunked = value == "chunked",
                    _ => {}
                }
            }
            line.clear();
        }
        if chunked {
            loop {
                line.clear();
                reader.read_line(&mut line)?;
                let size = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
                reader.by_ref().take(size).read_to_end(&mut request.body)?;
                reader.read_line(&mut String::new())?;
                if size == 0 {
                    break;
                }
            }
        } else {
            reader.take(length).read_to_end(&mut request.body)?;
        }
        Ok(request)
    }
}

fn reply(
    stream: &mut TcpStream,
    status: &str,
    headers: &[String],
    body: &[u8],
) -> std::io::Result<()> {
    let length = body.len();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n"
    )?;
    stream.write_all(body)
}

fn faulty(
    stream: &mut TcpStream,
    request: &Request,
    bytes: &[u8],
    fault: Option<Fault>,
) -> std::io::Result<()> {
    let first: usize =
        request.range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
    let all = bytes.len();
    let part = |stream: &mut TcpStream, said: usize, first: usize, to: usize| {
        let status = if first > 0 { "206 Partial Content" } else { "200 OK" };
        let (length, end) = (all - first, all - 1);
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nETag: \"same\"\r\n\
             Content-Range: bytes {said}-{end}/{all}\r\nConnection: close\r\n\r\n"
        )?;
        stream.write_all(bytes.get(first..to).unwrap_or_default())
    };
    match fault {
        None => part(stream, first, first, all),
        Some(Fault::Cut(n)) => part(stream, first, first, (first + n).min(all)),
        Some(Fault::NoRange) => part(stream, 0, 0, all),
        Some(Fault::WrongRange) => part(stream, first + 1, first, all),
        Some(Fault::Status(status)) => reply(stream, &format!("{status} x"), &[], b""),
        Some(Fault::Short(n)) => reply(stream, "200 OK", &[], bytes.get(..n).unwrap_or_default()),
        Some(Fault::Piece(n)) => {
            let range = format!("Content-Range: bytes 0-{}/{all}", n - 1);
            let piece = bytes.get(..n).unwrap_or_default();
            reply(stream, "206 Partial Content", &[range], piece)
        }
        Some(Fault::Other(bytes)) => reply(stream, "200 OK", &[], &bytes),
        Some(Fault::Redirect(to)) => reply(stream, "302 Found", &[format!("Location: {to}")], b""),
        Some(Fault::Linked(sha256)) => {
            reply(stream, "200 OK", &[format!("X-Linked-Etag: \"{sha256}\"")], bytes)
        }
        Some(Fault::Silent) => {
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        }
    }
}
