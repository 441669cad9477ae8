//! CIFAR: an archive, or the files that are in one; a byte of 0xff ends the training part.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::{check_message, empty_folder, file_of, put};
use topkast_train::data::{Kind, load};

fuzz_target!(|bytes: &[u8]| {
    let archive = file_of(bytes);
    let folder = empty_folder();
    for (name, part) in ["train.bin", "test.bin"].iter().zip(bytes.splitn(2, |&byte| byte == 0xff)) {
        put(&folder.join(name), part);
    }
    for kind in [Kind::Cifar10, Kind::Cifar100] {
        for path in [&archive, &folder] {
            match load(kind, path) {
                Ok(split) => assert!(split.train.len() > 0 && split.train.features() == 3072),
                Err(error) => check_message(&error),
            }
        }
    }
});
