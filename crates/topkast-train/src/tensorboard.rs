//! Scalars for TensorBoard, written without it.
//!
//! An event file is a sequence of records, each framed by its length and two checksums; a record is a protocol buffer
//! of which three kinds of field are enough here.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An event file being written.
///
/// Records are buffered: [`flush`](Self::flush) makes them visible. Dropping the writer flushes it too, but cannot
/// report an error.
#[derive(Debug)]
pub struct EventWriter {
    file: BufWriter<File>,
    event: Vec<u8>,
    summary: Vec<u8>,
    value: Vec<u8>,
}

impl EventWriter {
    /// Creates a new event file in `dir`, named after the time and the host, and `dir` itself if need be. Files of
    /// earlier runs there stay; TensorBoard shows them as one.
    ///
    /// # Errors
    /// If the folder or the file cannot be made or written.
    pub fn create(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let file = create_new(dir)?;
        let mut writer =
            Self { file: BufWriter::new(file), event: Vec::new(), summary: Vec::new(), value: Vec::new() };
        writer.start_event();
        put_bytes(&mut writer.event, 3, b"brain.Event:2");
        writer.write_event()?;
        writer.flush()?;
        Ok(writer)
    }

    /// Adds the value of `tag` at `step`, stamped with the time now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f32) -> io::Result<()> {
        self.value.clear();
        put_bytes(&mut self.value, 1, tag.as_bytes());
        put_float(&mut self.value, 2, value);
        self.summary.clear();
        put_bytes(&mut self.summary, 1, &self.value);
        self.start_event();
        put_integer(&mut self.event, 2, step);
        put_bytes(&mut self.event, 5, &self.summary);
        self.write_event()
    }

    /// Hands everything so far to the operating system.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn start_event(&mut self) {
        self.event.clear();
        put_double(&mut self.event, 1, now().as_secs_f64());
    }

    fn write_event(&mut self) -> io::Result<()> {
        let length = (self.event.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked_crc(&length).to_le_bytes())?;
        self.file.write_all(&self.event)?;
        self.file.write_all(&masked_crc(&self.event).to_le_bytes())
    }
}

/// A file that was not there: a run resumed within the second must not overwrite what it continues.
fn create_new(dir: &Path) -> io::Result<File> {
    let name = format!("events.out.tfevents.{:010}.{}", now().as_secs(), host());
    let mut path: PathBuf = dir.join(&name);
    let mut copies = 0u32;
    loop {
        match File::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                copies += 1;
                path = dir.join(format!("{name}.{copies}"));
            }
            result => return result,
        }
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The name of this machine where it can be had cheaply and is fit for a file name.
fn host() -> String {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let sound = (1..=64).contains(&name.len()) && name.chars().all(fit);
    if sound { name.to_owned() } else { "topkast".to_owned() }
}

/// CRC-32C, masked as the record format wants it, since a checksum of data with checksums in it is weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// How a field's value is laid out: the low bits of its key.
#[repr(u8)]
enum Wire {
    Integer = 0,
    Double = 1,
    Bytes = 2,
    Float = 5,
}

fn put_key(out: &mut Vec<u8>, field: u8, wire: Wire) {
    out.push(field << 3 | wire as u8);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_integer(out: &mut Vec<u8>, field: u8, value: u64) {
    put_key(out, field, Wire::Integer);
    put_varint(out, value);
}

fn put_double(out: &mut Vec<u8>, field: u8, value: f64) {
    put_key(out, field, Wire::Double);
    out.extend(value.to_le_bytes());
}

fn put_float(out: &mut Vec<u8>, field: u8, value: f32) {
    put_key(out, field, Wire::Float);
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    put_key(out, field, Wire::Bytes);
    put_varint(out, value.len() as u64);
    out.extend(value);
}

#[cfg(test)]
mod tests;
