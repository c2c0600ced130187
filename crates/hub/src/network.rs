//! Over the network with patience that ends: what every download here has in common.
use std::time::Duration;

use ureq::http::{Response, header};
use ureq::{Agent, Body, Timeout};

/// How often a server is asked that fails for a moment.
const TRIES: u32 = 5;

/// Waits that end a try.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a connection.
    pub connect: Duration,
    /// Between two pieces.
    pub silence: Duration,
    /// Before the second try; doubled for each one more.
    pub pause: Duration,
}

/// What is waited outside of tests.
pub const LIMITS: Limits = Limits {
    connect: Duration::from_secs(15),
    silence: Duration::from_secs(30),
    pause: Duration::from_millis(200),
};

impl Limits {
    /// A client that keeps to them, follows so many redirects, never out of an encrypted connection, and takes every status for an
    /// answer.
    #[must_use]
    pub fn agent(&self, url: &str, redirects: u32) -> Agent {
        Agent::config_builder()
            .https_only(url.starts_with("https://"))
            .http_status_as_error(false)
            .max_redirects(redirects)
            .max_redirects_will_error(redirects > 0)
            .timeout_resolve(Some(self.connect))
            .timeout_connect(Some(self.connect))
            .timeout_recv_response(Some(self.silence))
            .timeout_per_read(Some(self.silence))
            .user_agent(concat!("gumbel/", env!("CARGO_PKG_VERSION")))
            .build()
            .into()
    }
}

/// How often one more try is worth it.
#[derive(Clone, Debug)]
pub struct Patience {
    pause: Duration,
    failed: u32,
    most: u64,
}

impl Patience {
    /// Before the first try, with so many bytes there already.
    #[must_use]
    pub fn new(limits: &Limits, held: u64) -> Self {
        Self { pause: limits.pause, failed: 0, most: held }
    }

    /// After a try that failed for a moment and left so many bytes: waits, or says that it was the last one.
    ///
    /// Only bytes that were never there before are progress: a server that sends the same part again and again is left.
    #[must_use]
    pub fn again(&mut self, held: u64) -> bool {
        self.failed = if held > self.most { 1 } else { self.failed + 1 };
        self.most = self.most.max(held);
        if self.failed == TRIES {
            return false;
        }
        std::thread::sleep(self.pause * 2u32.pow(self.failed - 1));
        true
    }
}

/// Whether there is no network to the host, so that a second try only takes time.
#[must_use]
pub fn is_unreachable(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::BadUri(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(error) => {
            // The standard library has no kind for a name that cannot be resolved.
            error.kind() == std::io::ErrorKind::ConnectionRefused
                || error.to_string().starts_with("failed to lookup address")
        }
        _ => false,
    }
}

/// Where a part starts, and how long the whole is if that is said, by its header: `bytes 100-199/1000`.
#[must_use]
pub fn part(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (part, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((part.split('-').next()?.trim().parse().ok()?, total.trim().parse().ok()))
}

/// The host of a URL, to say who was asked.
#[must_use]
pub fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
