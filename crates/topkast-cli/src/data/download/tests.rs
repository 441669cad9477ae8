//! Against a server of our own on this machine, which misbehaves as told.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::super::checksum::Checksum;
use super::*;

/// MD5 of [`content`].
const SUM: &str = "14a1802113ce2773fe316b5a05dd3645";
const SIZE: u64 = 300_000;

fn content() -> Vec<u8> {
    (0..SIZE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// What the server does with one connection, given what range it was asked from.
type Answer = Box<dyn FnMut(&mut TcpStream, Option<usize>) -> io::Result<()> + Send>;

/// Serves connections one after the other by these answers, the last one for ever; tells from where each was asked.
fn serve(mut answers: Vec<Answer>) -> (String, Arc<Mutex<Vec<Option<usize>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/some/where/", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "GET /some/where/file.bin HTTP/1.1");
            let head: Vec<String> =
                lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
            let range = head.iter().find_map(|line| {
                line.to_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
            });
            log.lock().unwrap().push(range);
            let last = answers.len() - 1;
            // A client that has enough hangs up.
            let _ = answers[number.min(last)](&mut stream, range);
        }
    });
    (base, asked)
}

/// All of it, or the part that is asked for, but hangs up after `most` bytes.
fn honest(most: usize) -> Answer {
    Box::new(move |stream, from| {
        let content = content();
        let head = match from {
            Some(from) => format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{SIZE}\r\nContent-Length: {}\r\n\r\n",
                SIZE - 1,
                content.len() - from
            ),
            None => format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"),
        };
        stream.write_all(head.as_bytes())?;
        let rest = &content[from.unwrap_or(0)..];
        stream.write_all(&rest[..most.min(rest.len())])
    })
}

/// The same answer, whatever is asked.
fn fixed(head: &str, body: Vec<u8>) -> Answer {
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    Box::new(move |stream, _| {
        stream.write_all(head.as_bytes())?;
        stream.write_all(&body)
    })
}

fn known(size: Option<u64>) -> KnownFile {
    KnownFile { name: "file.bin", size, checksum: Checksum::Md5(SUM) }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn fetch(&self, base: &str, size: Option<u64>) -> Result<Fetched, String> {
        Download::new(base, Duration::from_millis(1)).fetch(&known(size), self.0.path(), &mut |_, _| {})
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.0.path().join(name)).ok()
    }

    #[track_caller]
    fn has_it_all(&self) {
        assert!(self.read("file.bin") == Some(content()));
        assert!(self.read("file.bin.part").is_none());
    }
}

#[test]
fn a_file_comes_to_its_place_once() {
    for size in [Some(SIZE), None] {
        let (place, (base, asked)) = (Place::new(), serve(vec![honest(usize::MAX)]));
        assert_eq!(place.fetch(&base, size), Ok(Fetched::New));
        place.has_it_all();
        assert_eq!(place.fetch(&base, size), Ok(Fetched::Already));
        assert_eq!(*asked.lock().unwrap(), [None]);
    }
}

#[test]
fn connections_that_break_are_gone_on_from() {
    for size in [Some(SIZE), None] {
        let place = Place::new();
        let (base, asked) = serve(vec![honest(100_000), honest(0), honest(70_000), honest(usize::MAX)]);
        assert_eq!(place.fetch(&base, size), Ok(Fetched::New));
        place.has_it_all();
        assert_eq!(*asked.lock().unwrap(), [None, Some(100_000), Some(100_000), Some(170_000)]);
    }
}

#[test]
fn a_later_call_goes_on_where_one_gave_up() {
    let place = Place::new();
    let (base, asked) = serve(vec![honest(100_000), honest(0)]);
    let error = place.fetch(&base, Some(SIZE)).unwrap_err();
    assert!(
        error.contains("100000 of 300000 bytes")
            && error.contains("file.bin.part")
            && error.contains("--mirror"),
        "{error}"
    );
    assert_eq!(asked.lock().unwrap().len(), 1 + ATTEMPTS as usize);
    assert_eq!(place.read("file.bin.part").unwrap().len(), 100_000);
    let (base, asked) = serve(vec![honest(usize::MAX)]);
    assert_eq!(place.fetch(&base, Some(SIZE)), Ok(Fetched::New));
    place.has_it_all();
    assert_eq!(*asked.lock().unwrap(), [Some(100_000)]);
}

#[test]
fn a_server_without_ranges_sends_it_all_again() {
    let place = Place::new();
    let (base, _) = serve(vec![honest(100_000), fixed("200 OK", content())]);
    assert_eq!(place.fetch(&base, Some(SIZE)), Ok(Fetched::New));
    place.has_it_all();
}

#[test]
fn a_server_that_goes_on_elsewhere_is_not_believed() {
    for head in [
        "206 Partial Content\r\nContent-Range: bytes 7-299999/300000",
        "416 Range Not Satisfiable",
        "206 Partial Content",
    ] {
        let place = Place::new();
        let (base, asked) = serve(vec![honest(100_000), fixed(head, content()), honest(usize::MAX)]);
        assert_eq!(place.fetch(&base, Some(SIZE)), Ok(Fetched::New), "{head}");
        place.has_it_all();
        assert_eq!(*asked.lock().unwrap(), [None, Some(100_000), None], "{head}");
    }
}

#[test]
fn wrong_bytes_are_not_kept() {
    let mut wrong = content();
    wrong[12_345] ^= 1;
    for size in [Some(SIZE), None] {
        let (place, (base, _)) = (Place::new(), serve(vec![fixed("200 OK", wrong.clone())]));
        let error = place.fetch(&base, size).unwrap_err();
        assert!(error.contains(&format!("where MD5 {SUM} is known")), "{error}");
        assert!(place.read("file.bin").is_none() && place.read("file.bin.part").is_none());
    }
}

#[test]
fn a_file_that_is_too_long_is_not_kept() {
    let (place, (base, _)) = (Place::new(), serve(vec![fixed("200 OK", [content(), vec![0]].concat())]));
    let error = place.fetch(&base, Some(SIZE)).unwrap_err();
    assert!(error.contains("more than the 300000 bytes"), "{error}");
    assert!(place.read("file.bin").is_none() && place.read("file.bin.part").is_none());
}

#[test]
fn what_a_server_refuses_is_told() {
    let (place, (base, asked)) = (Place::new(), serve(vec![fixed("404 Not Found", Vec::new())]));
    let error = place.fetch(&base, Some(SIZE)).unwrap_err();
    assert!(error.contains("404") && error.contains("--mirror"), "{error}");
    assert_eq!(asked.lock().unwrap().len(), 1);
    let (base, _) = serve(vec![fixed("503 Service Unavailable", Vec::new()), honest(usize::MAX)]);
    assert_eq!(place.fetch(&base, Some(SIZE)), Ok(Fetched::New));
    let place = Place::new();
    for nonsense in ["no url", "ftp://example", "http://127.0.0.1:1"] {
        let error = place.fetch(nonsense, Some(SIZE)).unwrap_err();
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn another_file_of_that_name_is_left() {
    let (place, (base, asked)) = (Place::new(), serve(vec![honest(usize::MAX)]));
    fs::write(place.0.path().join("file.bin"), "mine").unwrap();
    assert_eq!(place.fetch(&base, Some(SIZE)), Ok(Fetched::Other));
    assert_eq!(place.read("file.bin").unwrap(), b"mine");
    assert!(asked.lock().unwrap().is_empty());
}

/// A part that is whole, of a download that was killed just before its end; and one that is longer than the file.
#[test]
fn parts_that_were_left_are_used_or_thrown_away() {
    for (part, asked_from) in [(content(), vec![]), ([content(), vec![1]].concat(), vec![None])] {
        let (place, (base, asked)) = (Place::new(), serve(vec![honest(usize::MAX)]));
        fs::write(place.0.path().join("file.bin.part"), part).unwrap();
        assert_eq!(place.fetch(&base, Some(SIZE)), Ok(Fetched::New));
        place.has_it_all();
        assert_eq!(*asked.lock().unwrap(), asked_from);
    }
}
