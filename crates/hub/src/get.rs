//! One file over the network, whole and right or not at all.
use std::io::Read;

use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use crate::network::{Limits, Patience, is_unreachable, part};
use crate::{Error, Progress, Result};

/// Most servers that send on to another.
const REDIRECTS: usize = 5;
/// Bytes between two reports.
const PIECE: usize = 1 << 16;

/// What is asked for.
pub(crate) struct Get<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) path: &'a str,
    pub(crate) token: Option<&'a str>,
    /// Most bytes that it may have.
    pub(crate) most: u64,
    pub(crate) limits: Limits,
}

/// Why a try failed.
enum Failure {
    /// It may go better in a moment.
    Passing(String),
    Final(Error),
}

/// What came so far, and of what.
#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// The server's mark of this very content.
    mark: Option<String>,
    /// SHA-256 that the hub knows of it.
    sha256: Option<String>,
}

impl Get<'_> {
    /// The file, as long as the server sends something or seems to be busy.
    pub(crate) fn bytes(&self, progress: &Progress<'_>) -> Result<Vec<u8>> {
        // Where it leads is looked at, and the token does not go there.
        let agent = self.limits.agent(self.endpoint, 0);
        let mut held = Held::default();
        let mut patience = Patience::new(&self.limits, 0);
        loop {
            match self.attempt(&agent, &mut held, progress) {
                Ok(()) => return self.checked(held),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why)) => {
                    if !patience.again(held.bytes.len() as u64) {
                        return Err(self.unavailable(&why));
                    }
                }
            }
        }
    }

    fn unavailable(&self, why: &str) -> Error {
        Error::Unavailable(format!("{}{}: {why}", self.endpoint, self.path))
    }

    fn corrupt(&self, why: &str) -> Error {
        Error::Corrupt(format!("{}{}: {why}", self.endpoint, self.path))
    }

    fn attempt(
        &self,
        agent: &Agent,
        held: &mut Held,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let mut url = format!("{}{}", self.endpoint, self.path);
        for _ in 0..=REDIRECTS {
            let response = self.ask(agent, &url, held)?;
            if let Some(sha256) = known_sha256(&response) {
                held.sha256 = Some(sha256);
            }
            let Some(next) = self.redirected(&response, &url)? else {
                return self.receive(response, held, progress);
            };
            url = next;
        }
        Err(Failure::Final(self.unavailable("it is sent on and on")))
    }

    fn ask(&self, agent: &Agent, url: &str, held: &Held) -> Result<Response<Body>, Failure> {
        let mut request = agent.get(url);
        if let Some(token) = self.token.filter(|_| origin(url) == origin(self.endpoint)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(mark) = held.mark.as_ref().filter(|_| !held.bytes.is_empty()) {
            let range = format!("bytes={}-", held.bytes.len());
            request = request.header(header::RANGE, range).header(header::IF_RANGE, mark);
        }
        request.call().map_err(|error| {
            if is_unreachable(&error) {
                Failure::Final(self.unavailable(&error.to_string()))
            } else {
                Failure::Passing(error.to_string())
            }
        })
    }

    /// Where the answer leads, if it leads elsewhere.
    fn redirected(&self, response: &Response<Body>, url: &str) -> Result<Option<String>, Failure> {
        if !response.status().is_redirection() {
            return Ok(None);
        }
        let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        let nowhere = || Failure::Final(self.unavailable("it is sent on to nowhere"));
        let to = to.ok_or_else(nowhere)?;
        let to = if to.starts_with("//") {
            format!("{}:{to}", url.split_once(':').map_or("https", |(scheme, _)| scheme))
        } else if to.starts_with('/') {
            format!("{}{to}", origin(url))
        } else {
            to.to_owned()
        };
        let secure = |url: &str| url.starts_with("https://");
        if !to.contains("://") || (secure(url) && !secure(&to)) {
            return Err(nowhere());
        }
        Ok(Some(to))
    }

    fn receive(
        &self,
        response: Response<Body>,
        held: &mut Held,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let final_status = |status: StatusCode| {
            let hint = match status.as_u16() {
                401 | 403 => "; it may need a token: set HF_TOKEN",
                _ => "",
            };
            Failure::Final(self.unavailable(&format!("status {status}{hint}")))
        };
        let total = match response.status() {
            StatusCode::OK => {
                held.bytes.clear();
                length(&response)
            }
            StatusCode::PARTIAL_CONTENT => {
                let first = held.bytes.len() as u64;
                match part(&response).filter(|(start, _)| first > 0 && *start == first) {
                    Some((_, Some(total))) => Some(total),
                    _ => return Err(held.forget("it sent another part than was asked for")),
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(held.forget("status 416")),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Err(Failure::Passing(format!("status {status}")));
            }
            status => return Err(final_status(status)),
        };
        if total.is_some_and(|total| total > self.most) {
            return Err(Failure::Final(self.too_large()));
        }
        let mark = response.headers().get(header::ETAG).and_then(|mark| mark.to_str().ok());
        held.mark = mark.filter(|mark| !mark.starts_with("W/")).map(str::to_owned);
        self.read(response, total, held, progress)
    }

    fn read(
        &self,
        response: Response<Body>,
        total: Option<u64>,
        held: &mut Held,
        progress: &Progress<'_>,
    ) -> Result<(), Failure> {
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE];
        loop {
            let read =
                body.read(&mut piece).map_err(|error| Failure::Passing(error.to_string()))?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            held.bytes.extend_from_slice(bytes);
            if held.bytes.len() as u64 > self.most {
                return Err(Failure::Final(self.too_large()));
            }
            progress(held.bytes.len() as u64, total);
        }
        match total {
            Some(total) if total != held.bytes.len() as u64 => Err(Failure::Passing(format!(
                "the connection ended after {} of {total} bytes",
                held.bytes.len()
            ))),
            _ => Ok(()),
        }
    }

    fn too_large(&self) -> Error {
        self.corrupt(&format!("more than the {} bytes that it may have", self.most))
    }

    fn checked(&self, held: Held) -> Result<Vec<u8>> {
        let start: String = held
            .bytes
            .iter()
            .take(200)
            .map(|byte| char::from(*byte).to_ascii_lowercase())
            .collect();
        if ["<!doctype html", "<html"].iter().any(|html| start.trim_start().starts_with(html)) {
            return Err(self.corrupt("an HTML page; a proxy or a login page answered"));
        }
        if let Some(wanted) = held.sha256 {
            let digest = Sha256::digest(&held.bytes);
            let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            if found != wanted {
                return Err(self.corrupt(&format!("sha256 {found}, and the hub says {wanted}")));
            }
        }
        Ok(held.bytes)
    }
}

impl Held {
    /// From the beginning.
    fn forget(&mut self, why: &str) -> Failure {
        *self = Self::default();
        Failure::Passing(why.to_owned())
    }
}

/// Scheme and host of a URL.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| start + at);
    url.get(..end).unwrap_or(url)
}

fn length(response: &Response<Body>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The SHA-256 that a hub says a large file has.
fn known_sha256(response: &Response<Body>) -> Option<String> {
    let tag = response.headers().get("x-linked-etag")?.to_str().ok()?.trim_matches('"');
    let hex = tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| tag.to_ascii_lowercase())
}
