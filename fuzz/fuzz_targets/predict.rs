//! What `predict` is given: PNG, JPEG or IDX files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::{check_message, file_of};
use topkast_train::data::{DataError, read_grey_image, read_images};

fuzz_target!(|bytes: &[u8]| {
    let path = file_of(bytes);
    match read_grey_image(&path, 5, 7) {
        Ok(pixels) => assert_eq!(pixels.len(), 35),
        Err(DataError::NotAnImage { .. }) => {
            if let Err(error) = read_images(&path) {
                check_message(&error);
            }
        }
        Err(error) => check_message(&error),
    }
});
