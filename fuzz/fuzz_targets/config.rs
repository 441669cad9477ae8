//! Configs: what is accepted is written and read again as the same, and describes a network or says why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use topkast_fuzz::check_message;
use topkast_train::Config;

fuzz_target!(|text: &str| {
    match Config::from_text(text, "config") {
        Ok(config) => {
            let written = config.to_text();
            let again = Config::from_text(&written, "config").expect("what we wrote");
            assert_eq!(again.to_text(), written);
            assert_eq!(again.difference(&config), None);
            if let Err(error) = config.plans(&config.shape([3, 32, 32], 10)) {
                check_message(&error);
            }
        }
        Err(error) => check_message(&error),
    }
    let overrides: Vec<String> = text.lines().take(8).map(str::to_owned).collect();
    if let Err(error) = Config::load(None, &overrides) {
        check_message(&error);
    }
});
