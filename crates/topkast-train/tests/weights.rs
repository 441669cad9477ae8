//! Files of given weights: what is begun with, what is refused and how, and what a run does without its file.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::fs;
use std::path::PathBuf;

use common::{Workplace, finish, given, restored, write_weights};
use counting::allocated_by;
use topkast_nn::ParameterMut;
use topkast_train::checkpoint::Checkpoint;
use topkast_train::{Trainer, layer_summaries, load_trained};

const MMAP: [&str; 2] = ["model.hidden=[6]", "sparsity.reservoir=mmap"];

/// The largest allocation that anything about a file of some kilobytes may make.
const BOUND: usize = 1 << 22;

type Given = Vec<(String, Vec<usize>, Vec<f32>)>;

/// A data set and a file of weights for 64-6-4.
struct Setting {
    place: Workplace,
    setting: String,
    path: PathBuf,
    tensors: Given,
}

impl Setting {
    fn new() -> Self {
        let place = Workplace::new();
        let setting = place.weights(&["model.hidden=[6]"]);
        let path = place.join("weights");
        let tensors = given(&mut place.trainer(&[&setting[..], MMAP[0], MMAP[1]]));
        Self { place, setting, path, tensors }
    }

    fn trainer(&self, overrides: &[&str]) -> Trainer {
        self.place.trainer(&[&[&self.setting[..], MMAP[0]], overrides].concat())
    }

    fn open(&self) -> Result<Trainer, String> {
        Trainer::new(self.place.config(&[&self.setting, MMAP[0], MMAP[1]])).map_err(|error| error.to_string())
    }

    /// How the file is refused, after its path.
    #[track_caller]
    fn refusal(&self) -> String {
        let message = self.open().map(drop).unwrap_err();
        assert!(!message.contains('\n'), "{message}");
        let rest = message.strip_prefix(&format!("{}: ", self.path.display())).map(str::to_owned);
        rest.unwrap_or_else(|| panic!("`{message}` does not begin with the path"))
    }

    #[track_caller]
    fn refusal_with(mut self, edit: impl FnOnce(&mut Given)) -> String {
        edit(&mut self.tensors);
        write_weights(&self.path, &self.tensors);
        self.refusal()
    }

    /// How the file is refused whose header is this JSON, followed by as many bytes.
    #[track_caller]
    fn refusal_of(&self, header: &str, data: usize) -> String {
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat();
        put(self, &bytes);
        self.refusal()
    }
}

/// Makes a new file in place of the one that is there and may be mapped.
fn put(setting: &Setting, bytes: &[u8]) {
    fs::remove_file(&setting.path).unwrap();
    fs::write(&setting.path, bytes).unwrap();
}

#[test]
fn every_method_begins_with_the_values_given() {
    let setting = Setting::new();
    let reservoirs = ["sparsity.reservoir=mmap", "sparsity.reservoir=dense"];
    for reservoir in reservoirs {
        assert_eq!(given(&mut setting.trainer(&[reservoir])), setting.tensors);
    }
    let all_dense = given(&mut setting.trainer(&["sparsity.method=dense"]));
    assert_eq!(all_dense, setting.tensors);
    // A mask needs no reservoir: the default will do.
    let mut masked = setting.trainer(&["sparsity.method=static"]);
    let mut seen = 0;
    masked.network().visit(&mut |name, parameter| {
        let ParameterMut::Sparse(weight) = parameter else { return };
        let (_, _, values) = setting.tensors.iter().find(|(other, _, _)| other == name).unwrap();
        weight.pattern().for_each_by_index(|index, entry| {
            assert_eq!(weight.parameter().values[entry].to_bits(), values[index as usize].to_bits());
            seen += 1;
        });
    });
    assert_eq!(seen, 76);
}

#[test]
fn biases_may_be_left_out() {
    let mut setting = Setting::new();
    assert!(setting.tensors.iter().any(|(name, _, values)| name == "hidden.0.bias" && values[0] != 0.0));
    setting.tensors.retain(|(name, _, _)| name != "hidden.0.bias");
    write_weights(&setting.path, &setting.tensors);
    let got = given(&mut setting.open().unwrap());
    for (name, _, values) in got {
        match setting.tensors.iter().find(|(other, _, _)| *other == name) {
            Some((_, _, want)) => assert_eq!(&values, want, "{name}"),
            None => assert_eq!(values, [0.0; 6], "{name}"),
        }
    }
}

#[test]
fn tensors_that_are_not_those_of_the_network() {
    let index = |all: &Given, name: &str| all.iter().position(|(other, _, _)| other == name).unwrap();
    let message = Setting::new().refusal_with(|all| drop(all.remove(index(all, "output.weight"))));
    assert_eq!(message, "there is no tensor `output.weight`; the network needs one of shape [4, 6]");
    let message = Setting::new().refusal_with(|all| {
        let at = index(all, "hidden.0.weight");
        all[at].1.swap(0, 1);
    });
    assert_eq!(message, "tensor `hidden.0.weight` has shape [64, 6] where the network has [6, 64]");
    let message = Setting::new().refusal_with(|all| {
        let at = index(all, "output.bias");
        all[at] = ("output.bias".to_owned(), vec![1, 4], vec![0.0; 4]);
    });
    assert_eq!(message, "tensor `output.bias` has shape [1, 4] where the network has [4]");
    for name in ["hidden.1.weight", "output", "momentum.bias"] {
        let message = Setting::new().refusal_with(|all| all.push((name.to_owned(), vec![1], vec![1.0])));
        let start = format!("tensor `{name}` belongs to no layer; there are hidden.0, output,");
        assert!(message.starts_with(&start), "{message}");
    }
}

#[test]
fn values_that_are_not_finite() {
    for (name, value, at) in [("hidden.0.weight", f32::NAN, 383), ("output.bias", f32::NEG_INFINITY, 0)] {
        let message = Setting::new().refusal_with(|all| {
            let (_, _, values) = all.iter_mut().find(|(other, _, _)| other == name).unwrap();
            values[at] = value;
        });
        let want = format!("tensor `{name}` holds {value} at element {at}; weights must be finite");
        assert_eq!(message, want);
    }
}

#[test]
fn headers_that_lie() {
    let setting = Setting::new();
    let weight = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"hidden.0.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    for (header, data) in [
        (weight("F32", "[6,64]", "[0,1536]"), 1535),
        (weight("F32", "[6,64]", "[0,1536]"), 1537),
        (weight("F32", "[6,64]", "[8,1544]"), 1544),
        (weight("F32", "[6,64]", "[1536,0]"), 1536),
        (weight("F32", "[6,64]", "[0,1532]"), 1532),
        (weight("F32", "[6,18446744073709551615]", "[0,1536]"), 1536),
        (weight("F32", "[4294967296,4294967296]", "[0,0]"), 0),
        (weight("F32", "[6,64]", "[0,18446744073709551615]"), 16),
        (weight("F32", "[6,-64]", "[0,1536]"), 1536),
        (weight("F33", "[6,64]", "[0,1536]"), 1536),
        ("[]".to_owned(), 0),
        ("{".to_owned(), 0),
    ] {
        let message = setting.refusal_of(&header, data);
        assert!(message.starts_with("not a whole safetensors file: "), "{header}: {message}");
    }
    let message = setting.refusal_of(&weight("F16", "[6,64]", "[0,768]"), 768);
    assert_eq!(message, "tensor `hidden.0.weight` has type F16; convert it to F32");
    // The header of this one ends where no f32 may begin.
    let header = weight("F32", "[6,64]", "[0,1536]");
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(4) + 1);
    let message = setting.refusal_of(&padded, 1536);
    assert!(message.starts_with("tensor `hidden.0.weight` is not at a multiple of 4 bytes; "), "{message}");
    for length in [u64::MAX, 1 << 40, 100_000_001, 9] {
        put(&setting, &[&length.to_le_bytes()[..], b"{}"].concat());
        assert!(setting.refusal().starts_with("not a whole safetensors file: "), "{length}");
    }
}

#[test]
fn cut_anywhere_it_is_refused_and_what_is_damaged_takes_no_memory() {
    let setting = Setting::new();
    let whole = fs::read(&setting.path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut random = 1u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut accepted = 0;
    let ((), allocated) = allocated_by(|| {
        for length in (0..whole.len()).filter(|length| *length < header + 20 || length % 7 == 0) {
            put(&setting, &whole[..length]);
            assert!(setting.refusal().starts_with("not a whole safetensors file: "), "{length} bytes");
        }
        for round in 0..1000 {
            let mut bytes = whole.clone();
            let range = if round % 2 == 0 { header } else { whole.len() };
            for _ in 0..=draw(3) {
                bytes[draw(range)] ^= 1 << draw(8);
            }
            put(&setting, &bytes);
            if let Ok(mut trainer) = setting.open() {
                accepted += 1;
                // It may diverge, but says so.
                let _ = trainer.step();
            }
        }
    });
    assert!(accepted > 100, "only {accepted} got as far as training");
    assert!(allocated.largest < BOUND, "{allocated:?}");
}

#[test]
fn a_network_larger_than_the_file_takes_no_memory() {
    let setting = Setting::new();
    for method in ["dense", "static", "top-kast"] {
        let (method, hidden) = (format!("sparsity.method={method}"), "model.hidden=[60000000]");
        let config = setting.place.config(&[&setting.setting, MMAP[1], &method, hidden]);
        let (refused, allocated) = allocated_by(|| Trainer::new(config).map(drop));
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("has shape [6, 64] where the network has [60000000, 64]"), "{message}");
        assert!(allocated.largest < BOUND, "{allocated:?}");
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let mut setting = Setting::new();
    fs::remove_file(&setting.path).unwrap();
    let missing = setting.open().map(drop).unwrap_err();
    let start = format!("cannot read {}, which model.weights names", setting.path.display());
    assert!(missing.starts_with(&start) && missing.contains("No such file"), "{missing}");
    setting.setting = format!("model.weights={}", setting.place.join("").display());
    let folder = setting.open().map(drop).unwrap_err();
    assert!(folder.ends_with("it is not a file"), "{folder}");
}

/// Resuming needs the file that the run began with; scoring needs none.
#[test]
fn without_its_file_a_run_can_be_scored_but_not_resumed() {
    for overrides in [
        &["sparsity.reservoir=mmap", "optimizer.penalty=0.1"][..],
        &["sparsity.reservoir=dense"],
        &["sparsity.method=static"],
        &["sparsity.method=dense"],
    ] {
        let setting = Setting::new();
        let mut trainer = setting.trainer(overrides);
        finish(&mut trainer);
        let path = setting.place.join("state");
        trainer.save(&path, 0.0).unwrap();
        let config = trainer.config().clone();
        restored(config.clone(), &path);
        fs::remove_file(&setting.path).unwrap();
        let mut loaded = load_trained(&path).unwrap();
        assert_eq!(loaded.score(&setting.place.join("")).unwrap().0, trainer.test().unwrap());
        let layers = layer_summaries(&mut loaded.network, &config, &[]);
        assert_eq!(layers, layer_summaries(trainer.network(), &config, &[]));
        assert_eq!(layers[0].dormant > 0, overrides[0].contains("reservoir"));
        let gone = Trainer::new(config).map(drop).unwrap_err().to_string();
        assert!(gone.contains("which model.weights names (to resume needs it, too)"), "{gone}");
    }
}

/// What a checkpoint of a mapped weight holds is far less than the weight.
#[test]
fn a_checkpoint_shorter_than_the_weights_is_whole() {
    let place = Workplace::new();
    let sizes = ["model.hidden=[900, 900]", "sparsity.forward=0.99", "sparsity.backward=0.98"];
    let weights = place.weights(&sizes);
    let mut trainer = place.trainer(&[&sizes[..], &[&weights, "sparsity.reservoir=mmap"]].concat());
    let path = place.join("state");
    trainer.save(&path, 0.0).unwrap();
    let [checkpoint, file] = [&path, &place.join("weights")].map(|path| fs::metadata(path).unwrap().len());
    assert!(checkpoint < file / 4, "{checkpoint} bytes of {file}");
    load_trained(&path).unwrap();
}

#[test]
fn another_file_is_refused_by_what_differs() {
    let setting = Setting::new();
    let mut trainer = setting.open().unwrap();
    let path = setting.place.join("state");
    trainer.save(&path, 0.0).unwrap();
    let refusal = |tensors: &Given| {
        fs::remove_file(&setting.path).unwrap();
        write_weights(&setting.path, tensors);
        let checkpoint = Checkpoint::read(&path).unwrap();
        let restored = setting.open().unwrap().restore(&checkpoint, &path);
        restored.map_err(|error| error.to_string())
    };
    assert_eq!(refusal(&setting.tensors), Ok(()));
    let mut tensors = setting.tensors.clone();
    tensors[0].2[17] += 1e-3;
    let values = refusal(&tensors).unwrap_err();
    let want = format!(
        "{}: began with other weights than {} now holds: they differ in their values",
        path.display(),
        setting.path.display()
    );
    assert_eq!(values, want);
    let without = &setting.tensors[..setting.tensors.len() - 1].to_vec();
    assert!(refusal(without).unwrap_err().ends_with("differ in their size"));
}
