//! A server of one file, that makes mistakes.
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A status and no file.
    Status(u16),
    /// The connection ends after so many bytes.
    Cut(usize),
    /// So many bytes, called the whole.
    Short(usize),
    /// Nothing at all.
    Silent,
    /// The whole where a part was asked for.
    NoRange,
    /// Another part than was asked for.
    WrongRange,
}

struct State {
    bytes: Vec<u8>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<Vec<String>>,
}

/// A server as long as the test runs.
pub(super) struct Mock {
    address: SocketAddr,
    state: Arc<State>,
}

impl Mock {
    /// Serves `bytes` whatever it is asked for; the first answers have these faults.
    pub(super) fn serve(bytes: &[u8], mut faults: Vec<Fault>) -> Self {
        faults.reverse();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            bytes: bytes.to_vec(),
            faults: Mutex::new(faults),
            requests: Mutex::default(),
        });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // A client that goes away is no concern of a server.
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Self { address, state }
    }

    /// The folder of the file.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Path and range of every request.
    pub(super) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (mut path, mut range) = (String::new(), String::new());
        for line in BufReader::new(stream.try_clone()?).lines() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("GET ") {
                path = rest.split(' ').next().unwrap_or_default().to_owned();
            }
            if line.to_ascii_lowercase().starts_with("range:") {
                range = line[6..].trim().to_owned();
            }
        }
        self.requests.lock().unwrap().push(format!("{path} {range}"));
        let fault = self.faults.lock().unwrap().pop();
        let first = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap_or(0);
        let (bytes, all) = (&self.bytes, self.bytes.len());
        let part = |stream: &mut TcpStream, said: usize, first: usize, to: usize| {
            let status = if first > 0 { "206 Partial Content" } else { "200 OK" };
            let end = all - 1;
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: bytes {said}-{end}/{all}\r\nConnection: close\r\n\r\n",
                all - first
            )?;
            stream.write_all(&bytes[first..to])
        };
        match fault {
            None => part(&mut stream, first, first, all),
            Some(Fault::Cut(n)) => part(&mut stream, first, first, (first + n).min(all)),
            Some(Fault::NoRange) => part(&mut stream, 0, 0, all),
            Some(Fault::WrongRange) => part(&mut stream, first + 1, first, all),
            Some(Fault::Status(status)) => {
                write!(
                    stream,
                    "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            }
            Some(Fault::Short(n)) => {
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {n}\r\nConnection: close\r\n\r\n"
                )?;
                stream.write_all(&bytes[..n])
            }
            Some(Fault::Silent) => {
                std::thread::sleep(Duration::from_secs(3));
                Ok(())
            }
        }
    }
}
