//! IDX files of images and labels, plain or packed.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::check_message;
use topkast_train::data::{images_from, labels_from};

fuzz_target!(|bytes: &[u8]| {
    match images_from(bytes, Path::new("images")) {
        Ok(images) => assert_eq!(images.pixels.len(), images.count * images.shape.features()),
        Err(error) => check_message(&error),
    }
    if let Err(error) = labels_from(bytes, Path::new("labels")) {
        check_message(&error);
    }
});
