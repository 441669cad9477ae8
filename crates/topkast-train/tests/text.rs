//! Language models in training: the same bits on any number of threads and after resuming, and what is refused.

mod common;

use std::fs;
use std::time::Duration;

use common::{Tensors, advance, assert_same, finish, tensors};
use tempfile::TempDir;
use topkast_train::checkpoint::Checkpoint;
use topkast_train::text::{Kind, Sampling, read};
use topkast_train::{Config, Metric, Purpose, Trainer, load_trained};

/// A folder with a text in bytes: sums and their results, which can be learnt.
struct Workplace(TempDir);

impl Workplace {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sums = (0..400).map(|number| {
            let (a, b) = (number % 7, number * 5 % 9);
            format!("{a} and {b} are {}.\n", a + b)
        });
        fs::write(dir.path().join("sums.txt"), sums.collect::<String>()).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, overrides: &[&str]) -> Config {
        let path = format!("data.path={}", self.path("sums.txt").display());
        let base = [
            "data.kind=bytes",
            &path,
            "model.kind=transformer-xl",
            "model.layers=2",
            "model.width=24",
            "model.heads=3",
            "model.feed_forward=40",
            "model.segment=10",
            "model.memory=13",
            "model.evaluation_memory=20",
            "sparsity.forward=0.8",
            "sparsity.backward=0.6",
            "sparsity.refresh_every=3",
            "optimizer.kind=adam",
            "optimizer.lr=0.01",
            "train.batch=4",
            "train.steps=12",
        ];
        let all: Vec<String> = base.iter().chain(overrides).map(|&setting| setting.to_owned()).collect();
        Config::load(None, &all).unwrap()
    }

    fn trainer(&self, overrides: &[&str]) -> Trainer {
        Trainer::new(self.config(overrides)).unwrap()
    }

    /// The losses of a whole run and its checkpoint, on this many threads.
    fn trained(&self, threads: usize, overrides: &[&str]) -> (Vec<u64>, Tensors) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainer = self.trainer(overrides);
            let losses = finish(&mut trainer);
            trainer.save(&self.path("end"), 0.0).unwrap();
            (losses, tensors(&self.path("end")))
        })
    }
}

/// Everything that training has: more passes than one over the text, so that memory is emptied in between, batches added up, dropout.
const ALL: [&str; 4] =
    ["train.accumulate=2", "model.dropout=0.1", "optimizer.clip_norm=0.5", "train.steps=120"];

/// What the parts of the network took was taken from the passes, not from elsewhere; and a text in memory is as good as a file.
#[test]
fn the_parts_of_a_step_are_parts_of_its_passes() {
    let place = Workplace::new();
    let overrides = ["train.accumulate=2"];
    let text = read(Kind::Bytes, &place.path("sums.txt")).unwrap();
    let mut in_memory = Trainer::with_text(place.config(&overrides), text).unwrap();
    let mut from_file = place.trainer(&overrides);
    for _ in 0..4 {
        let step = in_memory.step().unwrap();
        assert_eq!(step.loss.to_bits(), from_file.step().unwrap().loss.to_bits());
        let passes = step.phases.forward + step.phases.input_gradient + step.phases.weight_gradient;
        assert!(step.parts.linear > Duration::ZERO && step.parts.attention > Duration::ZERO);
        assert!(step.parts.linear + step.parts.attention < passes, "{step:?}");
    }
}

#[test]
fn threads_do_not_matter() {
    let place = Workplace::new();
    let settings = ["train.steps=8", "model.width=72", "model.feed_forward=300", "model.dropout=0.1"];
    let (losses, want) = place.trained(1, &settings);
    for threads in [2, 3] {
        let (other, got) = place.trained(threads, &settings);
        assert_eq!(other, losses, "losses on {threads} threads");
        assert_same(&got, &want, &format!("{threads} threads"));
    }
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let place = Workplace::new();
    for method in ["top-kast", "set", "rigl", "pruning", "snip", "static", "dense"] {
        let method = format!("sparsity.method={method}");
        let settings = [&ALL[..], &[&method]].concat();
        let (losses, want) = place.trained(2, &settings);
        // At the start, amid the first pass, and where the text begins again.
        for at in [0, 7, 90] {
            let mut trainer = place.trainer(&settings);
            advance(&mut trainer, at as u64);
            trainer.save(&place.path("middle"), 0.0).unwrap();
            // Scoring in between leaves no trace.
            trainer.validate().unwrap();
            let checkpoint = Checkpoint::read(&place.path("middle")).unwrap();
            let mut resumed =
                Trainer::resumed(place.config(&settings), &checkpoint, &place.path("middle")).unwrap();
            assert_eq!(finish(&mut resumed), losses[at..], "{method}, from {at} on");
            resumed.save(&place.path("got"), 0.0).unwrap();
            assert_same(&tensors(&place.path("got")), &want, &format!("{method}, from {at} on"));
            assert_eq!(finish(&mut trainer), losses[at..], "{method}, scored at {at}");
        }
    }
}

#[test]
fn it_learns_and_generates() {
    let place = Workplace::new();
    let mut trainer = place.trainer(&["train.steps=300", "optimizer.lr=0.005"]);
    let before = trainer.validate().unwrap();
    finish(&mut trainer);
    let after = trainer.validate().unwrap();
    assert_eq!(after.metric, Metric::BitsPerCharacter);
    assert!(after.value() < 1.5 && before.value() > 4.0, "{} to {}", before.value(), after.value());
    trainer.save(&place.path("end"), 0.0).unwrap();
    let test = trainer.test();
    let mut trained = load_trained(&place.path("end")).unwrap();
    assert_eq!(trained.score(&place.path("sums.txt")).unwrap(), test);
    let mut text = |temperature, seed| {
        let Purpose::LanguageModel(network) = trained.purpose() else { panic!("it was trained on a text") };
        let prompt = network.vocabulary().encode("3 and 4 ").unwrap();
        let sampling = Sampling::new(temperature, 0, 1.0).unwrap();
        let tokens: Vec<u8> =
            network.generate(&prompt, sampling, seed).take(40).map(|token| token as u8).collect();
        String::from_utf8_lossy(&tokens).into_owned()
    };
    let greedy = text(0.0, 1);
    assert!(greedy.starts_with("are "), "{greedy}");
    assert_eq!(text(0.0, 2), greedy);
    assert_eq!(text(1.0, 5), text(1.0, 5));
    assert_ne!(text(3.0, 5), text(3.0, 6));
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = Workplace::new();
    let refused = |overrides: &[&str], words: &str| {
        let path = format!("data.path={}", place.path("sums.txt").display());
        let settings = ["data.kind=bytes", &path, "model.kind=transformer-xl", "train.batch=2"];
        let all: Vec<String> = settings.iter().chain(overrides).map(|&setting| setting.to_owned()).collect();
        let error = Config::load(None, &all)
            .map_err(|error| error.to_string())
            .and_then(|config| Trainer::new(config).map(drop).map_err(|error| error.to_string()))
            .unwrap_err();
        assert!(error.contains(words) && !error.contains('\n'), "{overrides:?}: {error}");
    };
    refused(&["model.kind=mlp"], "takes model.kind = \"transformer-xl\"");
    refused(&["data.kind=idx"], "take model.kind = \"mlp\"");
    refused(&["data.kind=letters"], "`bytes`, `words`");
    refused(&["data.validation=0.1"], "data.validation");
    refused(&["model.hidden=[3]"], "unknown field `hidden`");
    refused(&["model.heads=3"], "must divide model.width");
    refused(&["model.heads=0"], "must divide model.width");
    refused(&["model.width=255"], "must be even");
    refused(&["model.segment=100000"], "too short for");
    refused(&["train.accumulate=0"], "train.accumulate");
    refused(&["sparsity.keep_dense=[\"hidden.0\"]"], "layers.0.attention.query");
}

/// `first` and `last` are the embedding, which is dense anyway; others go by name.
#[test]
fn layers_are_known_by_name() {
    let place = Workplace::new();
    let dense = |patterns: &str| -> usize {
        let mut trainer = place.trainer(&[&format!("sparsity.keep_dense={patterns}")]);
        14 - trainer.network().sparse_weights().len()
    };
    assert_eq!([dense("[]"), dense("[\"first\", \"last\"]")], [0, 0]);
    assert_eq!([dense("[\"*.attention.position\"]"), dense("[\"layers.1.*\"]")], [2, 7]);
}
