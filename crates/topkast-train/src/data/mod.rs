//! Image data sets: reading them without trusting them, normalising them, and serving them in batches.
//!
//! The readers are total: whatever the bytes, they answer with the data or with a [`DataError`] that names the
//! file, what is wrong with it and what to do.

mod batches;
mod dataset;
mod error;
mod idx;
mod image_file;
mod load;
mod normalize;
mod order;
mod unpack;
mod whole_image;
mod zip;

pub use batches::fill_batch;
pub use dataset::{Dataset, Split};
pub use error::DataError;
pub use idx::{IDX_LIMIT, Images, images_from, labels_from, read_images, read_labels};
pub use image_file::read_image;
pub use load::{Kind, class_names, load};
pub use normalize::Normalizer;
pub use order::Order;
pub use unpack::Packing;
#[cfg(test)]
pub(crate) use unpack::tests as unpack_tests;
pub(crate) use unpack::{Unpacked, open};
