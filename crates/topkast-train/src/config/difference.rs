//! Whether two configurations describe the same run.

use std::fmt;

use toml::{Table, Value};

use super::Config;

/// A key that has one value in one configuration and another in the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key, as `--set` takes it.
    pub key: String,
    /// Its value in the first.
    pub first: String,
    /// Its value in the second.
    pub second: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {} there and {} here", self.key, self.first, self.second)
    }
}

impl Config {
    /// The first key that makes a run by `self` another one than by `other`. Threads, workers and how many checkpoints are kept do not:
    /// results are the same.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let comparable = |config: &Self| {
            let mut config = config.clone();
            config.train.threads = 0;
            config.data.workers = 0;
            config.train.keep_checkpoints = 1;
            Table::try_from(config).expect("a config is a TOML table")
        };
        first_difference("", &comparable(self), &comparable(other))
    }
}

fn first_difference(within: &str, first: &Table, second: &Table) -> Option<Difference> {
    // Every config writes all keys, so those of one are those of the other.
    first.iter().find_map(|(name, value)| {
        let key = format!("{within}{name}");
        match (value, second.get(name)) {
            (_, Some(other)) if value == other => None,
            (Value::Table(first), Some(Value::Table(second))) => {
                first_difference(&format!("{key}."), first, second)
            }
            (first, second) => {
                let second = second.map_or("missing".to_owned(), Value::to_string);
                Some(Difference { key, first: first.to_string(), second })
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_key_that_differs_and_overlooks_threads_and_workers() {
        let config = Config::default();
        let mut other = config.clone();
        other.train.threads = 7;
        other.data.workers = 3;
        other.train.keep_checkpoints = 5;
        assert_eq!(config.difference(&other), None);
        other.sparsity.forward = 0.95;
        let difference = config.difference(&other).unwrap();
        assert_eq!(difference.to_string(), "sparsity.forward is 0.9 there and 0.95 here");
        other = Config { seed: 2, ..Config::default() };
        assert_eq!(config.difference(&other).unwrap().key, "seed");
    }
}
