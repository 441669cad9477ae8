//! `topkast data`

mod checksum;
mod download;
mod known;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use topkast_train::config::{DataConfig, DataKind};
use topkast_train::data::FolderCheck;
use topkast_train::{data, text};

use crate::failure::{Failure, print_line};
use download::{Download, Fetched};
use known::{KNOWN, KnownSet};

/// Data sets: list those known, download them, check what is there
#[derive(Subcommand)]
pub(crate) enum Command {
    List(List),
    Fetch(Fetch),
    Check(Check),
}

/// List the data sets that fetch knows, with their homes
#[derive(Args)]
#[command(after_help = "Example: topkast data list --json")]
pub(crate) struct List {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Download a data set from its official home, or a mirror
///
/// A download that breaks off goes on where it was, also when called again. A file comes to its place only when its size and, where
/// one is known, its checksum are right. Files that are there already are never touched.
#[derive(Args)]
#[command(after_help = "Example: topkast data fetch cifar10 --mirror http://mirror.example/cifar")]
pub(crate) struct Fetch {
    /// Name of the data set (see: topkast data list)
    name: String,
    /// Folder for its files [default: data/NAME]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Where to get the files instead: their names are added to this
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Print no progress
    #[arg(long)]
    quiet: bool,
}

/// Read all of a data set, and tell what it has
#[derive(Args)]
#[command(after_help = "Example: topkast data check fashion-mnist data/fashion-mnist")]
pub(crate) struct Check {
    /// What it is, as data.kind has it, or the name of a known data set
    kind: String,
    /// Its folder, of a text in bytes also the file [default: data/KIND]
    path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::List(arguments) => list(arguments),
        Command::Fetch(arguments) => fetch(arguments),
        Command::Check(arguments) => check(arguments),
    }
}

fn list(List { json }: &List) -> Result<(), Failure> {
    for set in &KNOWN {
        let bytes: Option<u64> = set.files.iter().map(|file| file.size).sum();
        if *json {
            let files: Vec<_> = set
                .files
                .iter()
                .map(|file| json!({ "name": file.name, "bytes": file.size, "checksum": file.checksum.to_string() }))
                .collect();
            let record = json!({ "name": set.name, "kind": set.kind, "home": set.home, "bytes": bytes, "files": files });
            print_line(record)?;
            continue;
        }
        print_line(format!("{}: {}", set.name, set.about))?;
        for file in set.files {
            let size = file.size.map_or_else(|| "size not known".to_owned(), |size| format!("{size} bytes"));
            print_line(format!("  {}{} ({size}, {})", set.home, file.name, file.checksum))?;
        }
    }
    Ok(())
}

fn known(name: &str) -> Result<&'static KnownSet, Failure> {
    KNOWN.iter().find(|set| set.name == name).ok_or_else(|| {
        let names: Vec<&str> = KNOWN.iter().map(|set| set.name).collect();
        Failure::BadInput(format!("there is no known data set `{name}`; there are {}", names.join(", ")))
    })
}

fn fetch(arguments: &Fetch) -> Result<(), Failure> {
    let set = known(&arguments.name)?;
    let folder = arguments.to.clone().unwrap_or_else(|| Path::new("data").join(set.name));
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::Failed(format!("cannot make {}: {error}", folder.display())))?;
    let base = arguments.mirror.as_deref().unwrap_or(set.home);
    let download = Download::new(base, Duration::from_secs(1));
    for file in set.files {
        let bar = (!arguments.quiet && std::io::stderr().is_terminal()).then(|| {
            let style = "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  {eta} left";
            let style = ProgressStyle::with_template(style).expect("a constant template");
            ProgressBar::new(0).with_style(style).with_message(file.name)
        });
        let mut progress = |bytes, size| {
            bar.iter().for_each(|bar| {
                bar.set_length(size);
                bar.set_position(bytes);
            });
        };
        let fetched = download.fetch(file, &folder, &mut progress);
        bar.iter().for_each(ProgressBar::finish_and_clear);
        let path = folder.join(file.name);
        let told = match fetched.map_err(Failure::Failed)? {
            Fetched::New => format!("{}: fetched ({})", path.display(), file.checksum),
            Fetched::Already => format!("{}: is there already", path.display()),
            Fetched::Other => format!(
                "{}: is there already, but is not the file of this name known here; left as it is (topkast data check {} tells \
                 whether it can be read)",
                path.display(),
                set.name
            ),
        };
        print_line(told)?;
    }
    Ok(())
}

fn check(arguments: &Check) -> Result<(), Failure> {
    let kind = match KNOWN.iter().find(|set| set.name == arguments.kind) {
        Some(set) => set.kind,
        None => kind_of(&arguments.kind)?,
    };
    let path = arguments.path.clone().unwrap_or_else(|| Path::new("data").join(&arguments.kind));
    let (told, record) = match kind {
        DataKind::Images(kind) => {
            let split = data::load(kind, &path)?;
            let shape = split.train.shape();
            let (train, test, classes) = (split.train.len(), split.test.len(), split.train.classes());
            let told = format!(
                "{train} training and {test} test images of {}x{}x{} in {classes} classes",
                shape.channels, shape.height, shape.width
            );
            let sizes = [shape.channels, shape.height, shape.width];
            (told, json!({ "train": train, "test": test, "classes": classes, "shape": sizes }))
        }
        DataKind::ImageFolder => {
            let FolderCheck { images: [train, val], classes, broken } = data::check_folder(&path)?;
            broken.iter().for_each(|problem| eprintln!("{problem}"));
            if !broken.is_empty() && !arguments.json {
                let (path, all, broken) = (path.display(), train + val, broken.len());
                return print_line(format!(
                    "{path}: {broken} of {all} images are broken; training leaves them out"
                ));
            }
            let told = format!("{train} training and {val} test images in {classes} classes");
            let broken = broken.len();
            (told, json!({ "train": train, "test": val, "classes": classes, "broken": broken }))
        }
        DataKind::Text(kind) => {
            let text = text::read(kind, &path)?;
            let [train, validation, test] = [&text.train, &text.validation, &text.test].map(text::Ids::len);
            let vocabulary = text.vocabulary.len();
            let told = format!(
                "{train} training, {validation} validation and {test} test tokens, {vocabulary} different ones"
            );
            let record =
                json!({ "train": train, "validation": validation, "test": test, "vocabulary": vocabulary });
            (told, record)
        }
    };
    if arguments.json { print_line(record) } else { print_line(format!("{}: whole; {told}", path.display())) }
}

/// The kind that configs call so.
fn kind_of(name: &str) -> Result<DataKind, Failure> {
    let config: Result<DataConfig, _> =
        topkast_train::config::parse(&format!("kind = {}", json!(name)), "data check");
    config.map(|config| config.kind).map_err(|error| Failure::BadInput(error.to_string()))
}
