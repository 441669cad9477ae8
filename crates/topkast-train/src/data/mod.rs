//! Image data sets: reading them without trusting them, normalising them, and serving them in batches.
//!
//! The readers are total: whatever the bytes, they answer with the data or with a [`DataError`] that names the
//! file, what is wrong with it and what to do.

mod augment;
mod batches;
mod cifar;
mod dataset;
mod error;
mod folder;
mod idx;
mod image_file;
mod load;
mod names;
mod normalize;
mod order;
mod shape;
mod tar;
mod unpack;
mod whole_image;
mod zip;

pub use augment::{Augment, Views};
pub use batches::fill_batch;
pub(crate) use batches::fill_images;
pub use dataset::{Dataset, Images, Split};
pub use error::DataError;
pub(crate) use folder::{Broken, FileList, ImageFolder, Plan, SIZE_LIMIT, Source, Stream};
pub use folder::{FolderCheck, check_folder};
pub(crate) use folder::{evaluation_side, imagenet_normalizer, read_centre};
pub use idx::{IDX_LIMIT, images_from, labels_from, read_images, read_labels};
pub use image_file::read_grey_image;
pub use load::{Kind, class_names, load};
pub use normalize::Normalizer;
pub use order::Order;
pub use shape::{ImageShape, Layout};
pub use unpack::Packing;
#[cfg(test)]
pub(crate) use unpack::tests as unpack_tests;
pub(crate) use unpack::{Unpacked, open};
