//! Language models in training: the same bits on any number of threads and after resuming, and what is refused.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::{Tensors, advance, assert_same, finish, tensors};
use tempfile::TempDir;
use topkast_nn::NetworkShape;
use topkast_train::checkpoint::Checkpoint;
use topkast_train::text::{Kind, Sampling, read};
use topkast_train::{Config, Metric, Outcome, Purpose, RunDir, Trainer, load_trained, read_metrics, run};

/// A folder with a text: sums and their results, which can be learnt.
struct Workplace {
    dir: TempDir,
    /// What a network of this text is set to.
    settings: Vec<String>,
}

impl Workplace {
    /// In bytes.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sums.txt");
        fs::write(&path, sums(0..400)).unwrap();
        let settings = vec!["data.kind=bytes".to_owned(), format!("data.path={}", path.display())];
        Self { dir, settings }
    }

    /// In words of which some are rare, for a network with an adaptive table.
    fn words() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (part, numbers) in [("train", 0..400), ("valid", 400..440), ("test", 440..480)] {
            let rare = |number| format!("rare words are {} and {} .\n", number % 37, number % 31);
            let text = format!(
                "{} .\n{}",
                sums(numbers.clone()).replace('.', " ."),
                numbers.map(rare).collect::<String>()
            );
            fs::write(dir.path().join(format!("{part}.txt")), text).unwrap();
        }
        let path = format!("data.path={}", dir.path().display());
        let settings =
            ["data.kind=words", &path, "model.adaptive_cutoffs=[6, 16]", "model.adaptive_div_value=2"];
        Self { settings: settings.map(str::to_owned).to_vec(), dir }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, overrides: &[&str]) -> Config {
        let base = [
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
        let own = self.settings.iter().map(String::as_str);
        let all = base.into_iter().chain(own).chain(overrides.iter().copied()).map(str::to_owned);
        Config::load(None, &all.collect::<Vec<_>>()).unwrap()
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

fn sums(numbers: std::ops::Range<u32>) -> String {
    let sum = |number| {
        let (a, b) = (number % 7, number * 5 % 9);
        format!("{a} and {b} are {}.\n", a + b)
    };
    numbers.map(sum).collect()
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
    let settings = ["train.steps=8", "model.width=72", "model.feed_forward=300", "model.dropout=0.1"];
    for place in [Workplace::new(), Workplace::words()] {
        let (losses, want) = place.trained(1, &settings);
        for threads in [2, 3] {
            let (other, got) = place.trained(threads, &settings);
            assert_eq!(other, losses, "losses on {threads} threads");
            assert_same(&got, &want, &format!("{threads} threads"));
        }
    }
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let (bytes, words) = (Workplace::new(), Workplace::words());
    let methods =
        ["top-kast", "set", "rigl", "pruning", "snip", "static", "dense"].map(|method| (&bytes, method));
    for (place, method) in
        methods.into_iter().chain([(&words, "top-kast"), (&words, "rigl"), (&words, "snip")])
    {
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
    let test = trainer.test().unwrap();
    let mut trained = load_trained(&place.path("end")).unwrap();
    assert_eq!(trained.score(&place.path("sums.txt")).unwrap().0, test);
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

/// Training, scoring and generating with an adaptive table, of which accuracies are not known.
#[test]
fn words_are_learnt_by_an_adaptive_table() {
    let place = Workplace::words();
    let config = place.config(&[
        "train.steps=300",
        "optimizer.lr=0.005",
        "train.evaluate_every=100",
        "train.log_every=100",
    ]);
    let before = Trainer::new(config.clone()).unwrap().validate().unwrap();
    let dir = RunDir::create(&place.path("run")).unwrap();
    let outcome = run(config, &dir, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let Outcome::Finished(summary) = outcome else { panic!("nobody stopped it") };
    let (perplexity, accuracies) =
        (summary.test_perplexity.unwrap(), [summary.test_accuracy, summary.validation_accuracy]);
    assert!(before.value() > 30.0 && perplexity < 5.0, "{} to {perplexity}", before.value());
    assert_eq!((summary.task_metric.as_str(), accuracies), ("test_perplexity", [None; 2]));
    let records = read_metrics(&dir.metrics()).unwrap();
    assert!(records.iter().any(|record| record.contains_key("validation_perplexity")), "{records:?}");
    assert!(
        !records.iter().flat_map(|record| record.keys()).any(|key| key.contains("accuracy")),
        "{records:?}"
    );

    let mut trained = load_trained(&dir.checkpoint()).unwrap();
    let (score, _) = trained.score(&place.path("")).unwrap();
    assert_eq!((score.value(), score.accuracy), (perplexity, None));
    assert_eq!(score.to_string(), format!("perplexity {perplexity:.2}"));
    let Purpose::LanguageModel(network) = trained.purpose() else { panic!("it was trained on a text") };
    let vocabulary = network.vocabulary();
    let prompt = vocabulary.encode("rare").unwrap();
    let next = network.generate(&prompt, Sampling::new(0.0, 0, 1.0).unwrap(), 1).take(2);
    assert_eq!(next.collect::<Vec<_>>(), vocabulary.encode("words are").unwrap());
}

/// Each cluster's numbers, and what they cost.
#[test]
fn an_adaptive_table_is_counted() {
    let place = Workplace::words();
    let dir = RunDir::create(&place.path("run")).unwrap();
    let config = place.config(&["sparsity.method=pruning", "sparsity.update_until=1"]);
    let tokens = Trainer::new(config.clone()).unwrap().network().outputs();
    let Outcome::Finished(summary) = run(config, &dir, &AtomicBool::new(false), &mut |_| {}).unwrap() else {
        panic!("nobody stopped it")
    };
    // Values, gradient, two moments and a count of steps, of biases, too, and nothing of what the layers after them need.
    let numbers = |rows: usize, width: usize, biases: usize| ((rows * width + biases) * 20) as u64;
    let rows = [6 + 2, 10, tokens - 16];
    let widths = [24, 12, 6];
    let want = (0..3).flat_map(|cluster| {
        let (rows, width) = (rows[cluster], widths[cluster]);
        [
            (format!("embedding.{cluster}"), [rows, width], numbers(rows, width, rows)),
            (format!("embedding.{cluster}.projection"), [24, width], numbers(24, width, 0)),
        ]
    });
    let got =
        summary.layers.iter().take(6).map(|layer| (layer.name.clone(), layer.shape, layer.training_bytes));
    assert_eq!(got.collect::<Vec<_>>(), want.collect::<Vec<_>>());
    assert_eq!(summary.layers[6].name, "layers.0.attention.query");
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
    refused(&["model.adaptive_cutoffs=[9, 9]"], "model.adaptive_cutoffs = [9, 9]: cut-off 9 must be above 9");
    refused(&["model.adaptive_cutoffs=[0]"], "cut-off 0 must be above 0");
    refused(&["model.adaptive_cutoffs=[-1]"], "model.adaptive_cutoffs=[-1]");
    refused(&["model.adaptive_cutoffs=[9, 99, 999, 9999, 99999]"], "cluster 5 has no width left: 256 / 4^5");
    refused(&["model.adaptive_div_value=0"], "model.adaptive_div_value = 0: must be from 1 to");
    refused(
        &["model.adaptive_cutoffs=[9]", "train.label_smoothing=0.1"],
        "train.label_smoothing = 0.1: must be 0 with model.adaptive_cutoffs",
    );
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

/// What the recipe says of itself.
#[test]
fn the_recipe_for_wikitext_is_of_the_papers_size() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/wikitext103-285m.toml");
    let config = Config::load(Some(&recipe), &[]).unwrap();
    let NetworkShape::TransformerXl(shape) = config.shape([1; 3], 267_735) else {
        panic!("{:?}", config.model)
    };
    let sparse: usize = shape.layers().iter().map(|(_, [rows, columns])| rows * columns).sum();
    assert_eq!((sparse, shape.embedding()), (245_366_784, Ok(38_587_210)));
    // Biases of linear layers; u and w; gains and biases of two norms.
    let biases: usize = shape.layers().iter().map(|(_, [rows, _])| rows).sum();
    assert_eq!(biases + shape.layers * 6 * shape.width, 294_912);
}
