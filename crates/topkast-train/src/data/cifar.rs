//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their binary version.
//!
//! A file is a sequence of rows: the label (for CIFAR-100 the coarse label, then the fine one, which is what is learnt), then
//! the red, green and blue plane of 32×32 bytes each.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::dataset::{Dataset, Images, Split};
use super::error::DataError;
use super::shape::ImageShape;
use super::tar::Archive;
use super::unpack::{Unpacked, open};

/// The most rows that one part may have, many times those of the originals: 3 GB.
const ROWS_LIMIT: usize = 1_000_000;

/// Coarse labels of CIFAR-100.
const COARSE_CLASSES: usize = 20;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cifar {
    Ten,
    Hundred,
}

/// The training or the test part.
#[derive(Default)]
struct Part {
    labels: Vec<u32>,
    pixels: Vec<u8>,
}

impl Cifar {
    pub(super) const SHAPE: ImageShape = ImageShape { channels: 3, height: 32, width: 32 };

    fn classes(self) -> usize {
        match self {
            Self::Ten => 10,
            Self::Hundred => 100,
        }
    }

    /// Labels of a row, of which the last counts.
    fn labels(self) -> usize {
        match self {
            Self::Ten => 1,
            Self::Hundred => 2,
        }
    }

    /// The folder in the original archive, and where that archive is put.
    fn folder(self) -> &'static str {
        match self {
            Self::Ten => "cifar-10-batches-bin",
            Self::Hundred => "cifar-100-binary",
        }
    }

    fn archive(self) -> &'static str {
        match self {
            Self::Ten => "cifar-10-binary.tar.gz",
            Self::Hundred => "cifar-100-binary.tar.gz",
        }
    }

    /// The files of the training and the test part, in one of several ways to name them, the originals' first.
    fn names(self) -> &'static [(&'static [&'static str], &'static str)] {
        const PLAIN: (&[&str], &str) = (&["train.bin"], "test.bin");
        match self {
            Self::Ten => &[
                (
                    &[
                        "data_batch_1.bin",
                        "data_batch_2.bin",
                        "data_batch_3.bin",
                        "data_batch_4.bin",
                        "data_batch_5.bin",
                    ],
                    "test_batch.bin",
                ),
                PLAIN,
                (&["cifar10_train.bin"], "cifar10_test.bin"),
            ],
            Self::Hundred => &[PLAIN, (&["cifar100_train.bin"], "cifar100_test.bin")],
        }
    }

    fn mend(self) -> &'static str {
        match self {
            Self::Ten => {
                "set data.path to the archive cifar-10-binary.tar.gz (CIFAR-10, binary version), or to a folder that holds it or its files: \
                 data_batch_1.bin to data_batch_5.bin and test_batch.bin, or train.bin and test.bin"
            }
            Self::Hundred => {
                "set data.path to the archive cifar-100-binary.tar.gz (CIFAR-100, binary version), or to a folder that holds it or its files, \
                 train.bin and test.bin"
            }
        }
    }

    /// Reads the data set at `path`: a folder with its files, with the folder they come in, or with the archive; or the
    /// archive itself.
    pub(super) fn load(self, path: &Path) -> Result<Split, DataError> {
        if path.is_file() {
            return self.read_archive(path);
        }
        for folder in [path.to_owned(), path.join(self.folder())] {
            for (train, test) in self.names() {
                if train.iter().chain([test]).any(|name| folder.join(name).exists()) {
                    return self.read_files(&folder, train, test);
                }
            }
        }
        let archive = path.join(self.archive());
        if archive.exists() {
            return self.read_archive(&archive);
        }
        let (train, _) = self.names()[0];
        Err(DataError::MissingFile { path: path.join(train[0]), mend: self.mend() })
    }

    fn read_files(self, folder: &Path, train: &[&str], test: &str) -> Result<Split, DataError> {
        let read = |names: &[&str]| {
            let mut part = Part::default();
            for name in names {
                let path = folder.join(name);
                if !path.try_exists().unwrap_or(true) {
                    return Err(DataError::MissingFile { path, mend: self.mend() });
                }
                let mut bytes = Unpacked::new(open(&path)?, &path)?;
                self.read_rows(&mut bytes, &path, &mut part, |bytes, cause| bytes.error(cause))?;
            }
            self.dataset(part, folder.join(names[0]))
        };
        Ok(Split { train: read(train)?, test: read(&[test])? })
    }

    /// Reads the files of an archive wherever they are in it. They may come in any order: that of training images follows the names.
    fn read_archive(self, path: &Path) -> Result<Split, DataError> {
        let mut archive = Archive::new(Unpacked::new(open(path)?, path)?);
        let mut found: Vec<(String, Part)> = Vec::new();
        loop {
            let next =
                archive.next_file().map_err(|cause| DataError::Archive { path: path.into(), cause })?;
            let Some((name, mut content)) = next else { break };
            let short = name.rsplit('/').next().unwrap_or_default().to_owned();
            let wanted =
                self.names().iter().any(|(train, test)| train.contains(&short.as_str()) || *test == short);
            if wanted && !found.iter().any(|(name, _)| *name == short) {
                let mut part = Part::default();
                let inside = path.join(&name);
                self.read_rows(&mut content, &inside, &mut part, |_, cause| DataError::Archive {
                    path: path.into(),
                    cause,
                })?;
                found.push((short, part));
            }
        }
        archive.finish().map_err(|cause| DataError::Archive { path: path.into(), cause })?;
        let mut take = |name: &str| {
            let at = found.iter().position(|(found, _)| found == name)?;
            Some(found.swap_remove(at).1)
        };
        for (train, test) in self.names() {
            let Some(test_part) = take(test) else { continue };
            let mut all = Part::default();
            for name in *train {
                let part = take(name)
                    .ok_or_else(|| DataError::MissingFile { path: path.join(name), mend: self.mend() })?;
                all.labels.extend(part.labels);
                all.pixels.extend(part.pixels);
            }
            return Ok(Split {
                train: self.dataset(all, path.join(train[0]))?,
                test: self.dataset(test_part, path.join(test))?,
            });
        }
        let (_, test) = self.names()[0];
        Err(DataError::MissingFile { path: path.join(test), mend: self.mend() })
    }

    /// Adds the rows of a file, to its end.
    fn read_rows<R: Read>(
        self,
        reader: &mut R,
        path: &Path,
        part: &mut Part,
        failed: impl Fn(&R, std::io::Error) -> DataError,
    ) -> Result<(), DataError> {
        let labels = self.labels();
        let mut row = vec![0; labels + Self::SHAPE.features()];
        let before = part.labels.len();
        loop {
            let filled = read_full(reader, &mut row).map_err(|cause| failed(reader, cause))?;
            let rows = part.labels.len() - before;
            match filled {
                0 if rows == 0 => return Err(DataError::Empty.inside(path.into())),
                0 => return Ok(()),
                _ if filled < row.len() => {
                    let (row, rows) = (row.len() as u64, rows as u64);
                    let (expected, found) = (row * (rows + 1), row * rows + filled as u64);
                    return Err(DataError::Truncated { path: path.into(), expected, found });
                }
                _ if part.labels.len() == ROWS_LIMIT => {
                    return Err(DataError::Rows { path: path.into(), limit: ROWS_LIMIT });
                }
                _ => {}
            }
            for (&label, classes) in row[..labels].iter().rev().zip([self.classes(), COARSE_CLASSES]) {
                if usize::from(label) >= classes {
                    let label = label.into();
                    return Err(DataError::Label { sample: rows, label, classes }.inside(path.into()));
                }
            }
            part.labels.push(row[labels - 1].into());
            part.pixels.extend(&row[labels..]);
        }
    }

    fn dataset(self, Part { labels, pixels }: Part, path: PathBuf) -> Result<Dataset, DataError> {
        let images = Images { count: labels.len(), shape: Self::SHAPE, pixels };
        Dataset::new(images, labels, self.classes()).map_err(|error| error.inside(path))
    }
}

/// Fills `buffer` as far as there are bytes, and tells how far.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests;
