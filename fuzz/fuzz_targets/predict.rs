//! What `predict` is given: PNG, JPEG or IDX files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::{check_message, file_of};
use topkast_train::data::{DataError, ImageShape, read_image, read_images};

fuzz_target!(|bytes: &[u8]| {
    let path = file_of(bytes);
    if let Ok(pixels) = read_image(&path, ImageShape::rgb(5, 7)) {
        assert_eq!(pixels.len(), 105);
    }
    match read_image(&path, ImageShape::grey(5, 7)) {
        Ok(pixels) => assert_eq!(pixels.len(), 35),
        Err(DataError::NotAnImage { .. }) => {
            if let Err(error) = read_images(&path) {
                check_message(&error);
            }
        }
        Err(error) => check_message(&error),
    }
});
