//! Downloading a file so that whatever breaks off goes on from there, and nothing but the right file comes to its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, header};

use super::known::KnownFile;

/// Connections in a row that bring nothing before we give up.
const ATTEMPTS: u32 = 5;

/// The most bytes of a file whose size is not known.
const LIMIT: u64 = 4 << 30;

/// How a download ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// It is there now.
    New,
    /// It was there.
    Already,
    /// Something else of this name was there, and was left.
    Other,
}

/// Brings files from one place.
pub(super) struct Download<'a> {
    agent: Agent,
    /// What file names are added to.
    base: &'a str,
    /// Before a second attempt; twice as long before a third, and so on.
    pause: Duration,
}

/// Why one connection brought no more.
enum Broken {
    /// Another attempt may do better.
    Now(String),
    /// None will.
    ForGood(String),
}

impl<'a> Download<'a> {
    pub(super) fn new(base: &'a str, pause: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .http_status_as_error(false)
            .user_agent(concat!("topkast/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), base, pause }
    }

    /// Brings `file` into `folder`; `progress` is told how many of its bytes are there, of how many.
    pub(super) fn fetch(
        &self,
        file: &KnownFile,
        folder: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Fetched, String> {
        let path = folder.join(file.name);
        let io = |error: io::Error| format!("cannot write {}: {error}", path.display());
        if path.try_exists().map_err(io)? {
            let size = fs::metadata(&path).map_err(io)?.len();
            let right = file.size.is_none_or(|known| size == known)
                && file.checksum.mismatch(&path).map_err(io)?.is_none();
            return Ok(if right { Fetched::Already } else { Fetched::Other });
        }
        let part = part_of(&path);
        let url = format!("{}/{}", self.base.trim_end_matches('/'), file.name);
        let mut fruitless = 0;
        loop {
            let before = length(&part).map_err(io)?;
            if file.size == Some(before) {
                break;
            }
            let Err(broken) = self.go_on(&url, file, &part, progress) else { break };
            let why = match broken {
                Broken::ForGood(why) => return Err(format!("{url}: {why}")),
                Broken::Now(why) => why,
            };
            fruitless = if length(&part).map_err(io)? > before { 0 } else { fruitless + 1 };
            if fruitless == ATTEMPTS {
                return Err(format!(
                    "{url}: {why}; what has come is kept in {}: try again later, or name another place by --mirror",
                    part.display()
                ));
            }
            std::thread::sleep(self.pause * (1 << fruitless.min(4)) / 2);
        }
        if let Some(found) = file.checksum.mismatch(&part).map_err(io)? {
            fs::remove_file(&part).map_err(io)?;
            return Err(format!(
                "{url} has {found} where {} is known: it is another file, or was damaged on the way; nothing of it was kept",
                file.checksum
            ));
        }
        File::open(&part).and_then(|part| part.sync_all()).map_err(io)?;
        fs::rename(&part, &path).map_err(io)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(Fetched::New)
    }

    /// Adds to the part that there is what one connection brings, which is all that is missing unless it breaks. The part is never longer
    /// than the file is to be.
    fn go_on(
        &self,
        url: &str,
        file: &KnownFile,
        part: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Broken> {
        let local = |error: io::Error| Broken::ForGood(format!("cannot write {}: {error}", part.display()));
        let mut have = length(part).map_err(local)?;
        if have > file.size.unwrap_or(LIMIT) {
            fs::remove_file(part).map_err(local)?;
            have = 0;
        }
        let mut request = self.agent.get(url);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                Broken::ForGood(format!("{error}; check --mirror"))
            }
            _ => Broken::Now(error.to_string()),
        })?;
        let start = match response.status().as_u16() {
            200 => 0,
            206 if begins_at(&response) == Some(have) => have,
            // What we have may be of another file: from the start, then.
            206 | 416 => {
                fs::remove_file(part).map_err(local)?;
                return Err(Broken::Now(
                    "the server does not go on where the last connection broke off".to_owned(),
                ));
            }
            429 | 500..=599 => return Err(Broken::Now(format!("the server answers {}", response.status()))),
            _ => {
                let status = response.status();
                return Err(Broken::ForGood(format!(
                    "the server answers {status}; name another place by --mirror"
                )));
            }
        };
        let size =
            file.size.or_else(|| Some(start + content_length(&response)?)).filter(|&size| size <= LIMIT);
        let size = size.ok_or_else(|| {
            Broken::ForGood("the server does not tell how large it is, or more than 4 GiB".to_owned())
        })?;
        let mut options = OpenOptions::new();
        let mut sink =
            if start > 0 { options.append(true) } else { options.write(true).create(true).truncate(true) }
                .open(part)
                .map_err(local)?;
        let mut body = response.into_body().into_reader();
        let (mut done, mut buffer) = (start, vec![0; 1 << 16]);
        loop {
            let count = match body.read(&mut buffer) {
                Ok(0) if done < size => {
                    return Err(Broken::Now(format!("the connection ended after {done} of {size} bytes")));
                }
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) => return Err(Broken::Now(format!("after {done} of {size} bytes: {error}"))),
            };
            if done + count as u64 > size {
                drop(sink);
                fs::remove_file(part).map_err(local)?;
                let problem =
                    format!("has more than the {size} bytes that are known; nothing of it was kept");
                return Err(Broken::ForGood(problem));
            }
            sink.write_all(&buffer[..count]).map_err(local)?;
            done += count as u64;
            progress(done, size);
        }
    }
}

/// Where a file is while it is being downloaded.
fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// The place of the first byte that a partial answer has: `Content-Range: bytes FIRST-LAST/ALL`.
fn begins_at<T>(response: &Response<T>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

fn content_length<T>(response: &Response<T>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
