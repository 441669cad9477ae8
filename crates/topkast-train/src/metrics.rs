//! `metrics.jsonl` and TensorBoard events: one record per logged step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::files;
use crate::tensorboard::EventWriter;

/// Writes both.
pub(crate) struct MetricsLog {
    lines: BufWriter<File>,
    events: EventWriter,
}

impl MetricsLog {
    /// Goes on with the metrics at `path`, of which those after `step` are dropped: a run that resumes makes them
    /// again. Events go to a new file in the same folder.
    pub(crate) fn open(path: &Path, step: u64) -> io::Result<Self> {
        if path.exists() {
            let kept: String = read_metrics(path)?
                .into_iter()
                .filter(|record| record["step"].as_u64().is_some_and(|at| at <= step))
                .map(|record| Value::Object(record).to_string() + "\n")
                .collect();
            files::replace_text(path, &kept)?;
        }
        let lines = BufWriter::new(OpenOptions::new().create(true).append(true).open(path)?);
        let dir = path.parent().unwrap_or(Path::new("."));
        Ok(Self { lines, events: EventWriter::create(dir)? })
    }

    /// Writes the `values` of `step`.
    pub(crate) fn record(&mut self, step: u64, epoch: f64, values: &[(&str, f64)]) -> io::Result<()> {
        let mut record = Map::new();
        record.insert("step".to_owned(), json!(step));
        record.insert("epoch".to_owned(), json!(epoch));
        for &(name, value) in values {
            record.insert(name.to_owned(), json!(value));
            self.events.scalar(step, name, value as f32)?;
        }
        writeln!(self.lines, "{}", Value::Object(record))?;
        self.lines.flush()?;
        self.events.flush()
    }
}

/// The records of a `metrics.jsonl`. A last line that a crash cut short is left out.
///
/// # Errors
/// If the file cannot be read, or a line other than the last is not a JSON object.
pub fn read_metrics(path: &Path) -> io::Result<Vec<Map<String, Value>>> {
    let text = fs::read_to_string(path)?;
    let lines: Vec<&str> = text.lines().collect();
    let mut records = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        match serde_json::from_str(line) {
            Ok(Value::Object(record)) => records.push(record),
            _ if number + 1 == lines.len() => {}
            _ => {
                let problem = format!("{}: line {} is not a JSON object", path.display(), number + 1);
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of a run that resumes is read and written again: found by the script that kills runs, `bench/kill.py`.
    #[test]
    fn resuming_leaves_every_digit_of_what_it_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        log.record(1, 0.1, &[("loss", 1.976_795_961_332_855_8), ("min", 0.011_400_651_465_798_045)]).unwrap();
        drop(log);
        let before = fs::read(&path).unwrap();
        drop(MetricsLog::open(&path, 1).unwrap());
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn resuming_drops_what_will_be_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        for step in [10, 20, 30] {
            log.record(step, 0.5, &[("loss", step as f64)]).unwrap();
        }
        drop(log);
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"step\": 4").unwrap();
        let mut log = MetricsLog::open(&path, 20).unwrap();
        log.record(25, 0.5, &[("loss", 1.0)]).unwrap();
        let steps: Vec<_> =
            read_metrics(&path).unwrap().iter().map(|record| record["step"].as_u64()).collect();
        assert_eq!(steps, [Some(10), Some(20), Some(25)]);
    }
}
