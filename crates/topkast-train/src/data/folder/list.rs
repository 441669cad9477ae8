//! Which images there are.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::error::DataError;

/// The images of one part of a folder: classes and, within them, files sorted by name.
pub(crate) struct FileList {
    folder: PathBuf,
    classes: Vec<String>,
    names: Vec<Box<OsStr>>,
    /// Where the files of each class end.
    ends: Vec<usize>,
}

impl FileList {
    /// Lists the folders of `folder`, each a class, and their images: files named `*.jpg`, `*.jpeg` or `*.png`, whatever the case. What is
    /// hidden (its name begins with a dot) is left out. With `classes` these are the classes, of which some may be without images.
    ///
    /// # Errors
    /// If a folder cannot be read, there are no images, a class has none (where `classes` are not given), or one is none of `classes`.
    pub(super) fn read(folder: &Path, classes: Option<Vec<String>>) -> Result<Self, DataError> {
        let found = class_folders(folder)?;
        let all = classes.is_none();
        let classes = classes.unwrap_or_else(|| found.clone());
        if let Some(unknown) = found.iter().find(|name| !classes.contains(name)) {
            return Err(DataError::UnknownClass { path: folder.join(unknown) });
        }
        let mut list = Self { folder: folder.to_owned(), classes, names: Vec::new(), ends: Vec::new() };
        for class in &list.classes {
            let path = folder.join(class);
            if found.binary_search(class).is_ok() {
                let mut names = image_names(&path)?;
                if names.is_empty() && all {
                    return Err(DataError::NoImages { path });
                }
                names.sort_unstable();
                list.names.extend(names.into_iter().map(OsString::into_boxed_os_str));
            }
            list.ends.push(list.names.len());
        }
        if list.names.is_empty() || u32::try_from(list.names.len()).is_err() {
            return Err(DataError::NoImages { path: folder.to_owned() });
        }
        list.names.shrink_to_fit();
        Ok(list)
    }

    /// Number of images, at least 1.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// The names of the classes, in the order of their labels.
    pub(crate) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of an image.
    pub(crate) fn label(&self, image: usize) -> u32 {
        self.ends.partition_point(|&end| end <= image) as u32
    }

    /// Where an image is.
    pub(crate) fn path(&self, image: usize) -> PathBuf {
        self.folder.join(&self.classes[self.label(image) as usize]).join(&*self.names[image])
    }

    /// Differs where images are named otherwise or belong to other classes.
    pub(crate) fn checksum(&self) -> u32 {
        let mut checksum = 0;
        let mut add =
            |bytes: &[u8]| checksum = crc32c::crc32c_append(crc32c::crc32c_append(checksum, bytes), &[0]);
        self.classes.iter().for_each(|class| add(class.as_bytes()));
        self.names.iter().for_each(|name| add(name.as_encoded_bytes()));
        self.ends.iter().for_each(|end| add(&end.to_le_bytes()));
        checksum
    }
}

/// The names of the folders in `folder`, sorted.
fn class_folders(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut classes = Vec::new();
    for entry in entries(folder)? {
        let (name, path) = entry.map_err(|cause| failed(folder, cause))?;
        if path.is_dir() {
            classes.push(name.into_string().map_err(|_| DataError::ClassName { path })?);
        }
    }
    classes.sort_unstable();
    Ok(classes)
}

/// The names of the images in `folder`.
fn image_names(folder: &Path) -> Result<Vec<OsString>, DataError> {
    let mut names = Vec::new();
    for entry in entries(folder)? {
        let (name, _) = entry.map_err(|cause| failed(folder, cause))?;
        let extension = Path::new(&name).extension().unwrap_or_default();
        if ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            names.push(name);
        }
    }
    Ok(names)
}

/// What is in `folder` and not hidden.
fn entries(folder: &Path) -> Result<impl Iterator<Item = io::Result<(OsString, PathBuf)>>, DataError> {
    let entries = fs::read_dir(folder).map_err(|cause| failed(folder, cause))?;
    let visible = entries.map(|entry| entry.map(|entry| (entry.file_name(), entry.path())));
    Ok(visible
        .filter(|entry| !entry.as_ref().is_ok_and(|(name, _)| name.as_encoded_bytes().starts_with(b"."))))
}

fn failed(folder: &Path, cause: io::Error) -> DataError {
    if cause.kind() == io::ErrorKind::NotFound || cause.kind() == io::ErrorKind::NotADirectory {
        let mend = "set data.path to a folder with train/CLASS/*.jpg and val/CLASS/*.jpg (also .jpeg, .png)";
        return DataError::MissingFile { path: folder.to_owned(), mend };
    }
    DataError::Io { path: folder.to_owned(), cause }
}

#[cfg(test)]
mod tests;
