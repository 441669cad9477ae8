//! Checkpoints, opened as `eval` and `predict` do: as they are, and under a checksum that fits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::{check_message, file_of};
use topkast_train::checkpoint::seal;
use topkast_train::load_trained;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        if let Err(error) = load_trained(&file_of(&bytes)) {
            check_message(&error);
        }
        seal(&mut bytes);
    }
});
