//! The file itself: a safetensors container with a checksum over all of it.
//!
//! We write it ourselves: the library's own writer goes by way of a file of random name, which a crash would leave behind for ever.

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};

use crc32c::{crc32c, crc32c_append};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

/// The checksum is the metadata entry of this name: CRC-32C of the whole file with these eight digits, in hexadecimal, taken as zeros.
const CHECKSUM: &str = "crc32c";
const ZEROS: &str = "00000000";

/// Bytes before the header, which tell its length.
pub(super) const LENGTH: usize = size_of::<u64>();

/// A tensor on its way out: a vector.
pub(super) struct Tensor<'a> {
    pub(super) dtype: Dtype,
    pub(super) len: usize,
    /// Writes its elements.
    pub(super) write: Box<Elements<'a>>,
}

/// What writes elements to a sink.
type Elements<'a> = dyn Fn(&mut dyn Write) -> io::Result<()> + 'a;

impl Tensor<'_> {
    fn bytes(&self) -> usize {
        self.len * self.dtype.bitsize() / 8
    }
}

pub(super) type Named<'a> = Vec<(String, Tensor<'a>)>;

/// How many bytes the tensors and their names take at most, the metadata not counted.
pub(super) fn size(tensors: &Named<'_>) -> usize {
    // Of a header's entry, what is not the name: type, length, two offsets.
    const ENTRY: usize = 120;
    tensors.iter().map(|(name, tensor)| tensor.bytes() + name.len() + ENTRY).sum()
}

/// Writes the file to `sink`, which is at its start; the `metadata` with the checksum.
pub(super) fn write(
    mut tensors: Named<'_>,
    mut metadata: HashMap<String, String>,
    sink: &mut (impl Write + Seek),
) -> io::Result<()> {
    // Widest elements first keeps every tensor aligned.
    tensors.sort_by(|(a, left), (b, right)| right.dtype.cmp(&left.dtype).then(a.cmp(b)));
    let mut end = 0;
    let infos = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.bytes();
        let info = TensorInfo { dtype: tensor.dtype, shape: vec![tensor.len], data_offsets: (start, end) };
        (name.clone(), info)
    });
    metadata.insert(CHECKSUM.to_owned(), ZEROS.to_owned());
    let header = Metadata::new(Some(metadata), infos.collect()).expect("the offsets follow from the lengths");
    let mut header = serde_json::to_string(&header).expect("a header is plain data");
    let padding = header.len().next_multiple_of(8) - header.len();
    header.extend(std::iter::repeat_n(' ', padding));
    let digits = digits_in(header.as_bytes()).expect("just put there");
    let mut summed = Summed { sink, checksum: 0 };
    summed.write_all(&(header.len() as u64).to_le_bytes())?;
    summed.write_all(header.as_bytes())?;
    for (_, tensor) in &tensors {
        (tensor.write)(&mut summed)?;
    }
    let checksum = summed.checksum;
    sink.seek(SeekFrom::Start((LENGTH + digits) as u64))?;
    sink.write_all(format!("{checksum:08x}").as_bytes())
}

/// Whether the file has a checksum.
///
/// # Errors
/// If it has one, and it is not that of these `bytes`.
pub(super) fn check(bytes: &[u8], header: usize) -> Result<bool, String> {
    let Some(at) = digits_in(&bytes[LENGTH..LENGTH + header]).map(|at| LENGTH + at) else {
        return Ok(false);
    };
    let (told, found) = (&bytes[at..at + ZEROS.len()], checksum(bytes, at));
    if told != found.as_bytes() {
        let told = String::from_utf8_lossy(told);
        return Err(format!("its checksum is {found} where it says {told}: bytes have changed since"));
    }
    Ok(true)
}

/// Gives a checkpoint that was changed by other means, as tests do, the checksum that it has to have. One without is left as it is.
pub fn seal(bytes: &mut [u8]) {
    let Some(length) = bytes.first_chunk().map(|&length| u64::from_le_bytes(length)) else { return };
    let end = (LENGTH as u64).saturating_add(length).min(bytes.len() as u64) as usize;
    if let Some(at) = digits_in(&bytes[LENGTH..end]).map(|at| LENGTH + at) {
        let checksum = checksum(bytes, at);
        bytes[at..at + ZEROS.len()].copy_from_slice(checksum.as_bytes());
    }
}

/// The checksum of a file whose digits are `at` that place.
fn checksum(bytes: &[u8], at: usize) -> String {
    let sum = crc32c_append(crc32c(&bytes[..at]), ZEROS.as_bytes());
    format!("{:08x}", crc32c_append(sum, &bytes[at + ZEROS.len()..]))
}

/// Where in a header the checksum's digits are. Nothing else looks like it: the quotes of what is text in JSON are escaped.
fn digits_in(header: &[u8]) -> Option<usize> {
    let name = format!("\"{CHECKSUM}\":\"");
    let at = header.windows(name.len()).position(|window| window == name.as_bytes())? + name.len();
    (header.get(at + ZEROS.len()) == Some(&b'"')).then_some(at)
}

/// A sink that sums up what goes into it.
struct Summed<'a, W> {
    sink: &'a mut W,
    checksum: u32,
}

impl<W: Write> Write for Summed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.checksum = crc32c_append(self.checksum, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
