//! Texts: a file of bytes, and a folder of words whose parts a byte of 0xff separates.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::{check_message, empty_folder, file_of, put};
use topkast_train::text::{Kind, read};

fuzz_target!(|bytes: &[u8]| {
    match read(Kind::Bytes, &file_of(bytes)) {
        Ok(text) => assert!(text.train.len() >= text.validation.len() && text.test.len() > 0),
        Err(error) => check_message(&error),
    }
    let folder = empty_folder();
    let names = ["wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"];
    for (name, part) in names.iter().zip(bytes.splitn(3, |&byte| byte == 0xff)) {
        put(&folder.join(name), part);
    }
    if let Err(error) = read(Kind::Words, &folder) {
        check_message(&error);
    }
});
